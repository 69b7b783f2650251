//! Bytes in hexadecimal (RFC 4648, base16), in small letters.

use std::fmt::Write;

/// `bytes`, two digits each.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that `text` writes, in digits of either case; `None` where it writes none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        assert_eq!((to_hex(&[0, 15, 0xa0]), from_hex("000fA0")), ("000fa0".to_owned(), Some(vec![0, 15, 0xa0])));
        assert_eq!((to_hex(&[]), from_hex("")), (String::new(), Some(vec![])));
        for wrong in ["0", "0g", "é0", " 00"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
