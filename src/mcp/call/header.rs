//! Text in HTTP headers, as the transport of 2026-07-28 wants it.

use reqwest::header::HeaderValue;

/// The value of a header that mirrors a part of the message: as it is when a header can carry it, else as `=?base64?...?=`.
pub(super) fn mirrored(text: &str) -> HeaderValue {
    let padded = text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']);
    let looks_wrapped = text.starts_with("=?base64?") && text.ends_with("?=");
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let wrap = padded || looks_wrapped || !printable;
    let value = if wrap { format!("=?base64?{}?=", base64(text.as_bytes())) } else { text.to_owned() };
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * position)) as usize & 63];
            text.push(if position <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_carry_is_wrapped() {
        assert_eq!(mirrored("get_weather"), "get_weather");
        assert_eq!(mirrored("ü"), "=?base64?w7w=?=");
        assert_eq!(mirrored(" a"), "=?base64?IGE=?=");
        assert_eq!(mirrored("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
        assert_eq!(base64(b"abc"), "YWJj");
    }
}
