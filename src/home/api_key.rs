//! The format of API keys: `stn_key_<id10>_<secret43><crc6>`, all base62. The id finds the key, the secret (256 bits) proves it,
//! and the CRC-32 of all before it lets a typo or a scanner's false positive be refused without looking anything up. Scanners find keys
//! by `stn_key_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}`.

use crate::error::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub(super) const ID_CHARS: usize = 10;
const SECRET_CHARS: usize = 43;
const CRC_CHARS: usize = 6;

/// What stands for the digest of a key that is kept nowhere.
const NOBODY: [u8; 32] = [0; 32];

/// A key in the clear. It is shown once, and only its id and [`ApiKey::digest`] are kept.
pub struct ApiKey {
    id: String,
    secret: SecretString,
}

/// A key's id and the digest of the secret that was shown with it.
#[derive(Clone)]
pub struct KeyProof {
    id: String,
    digest: [u8; 32],
}

impl ApiKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self { id: random_base62(ID_CHARS)?, secret: random_base62(SECRET_CHARS)?.into() })
    }

    /// The key that `text` spells. The error says what is wrong with its form and never repeats the text.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::unauthenticated(format!("the key is not valid: {reason}"))
                .hint("a key looks like `stn_key_<id>_<secret>`; copy it whole")
        };
        let mut parts = text.splitn(4, '_');
        if parts.next() != Some("stn") {
            return Err(wrong("it doesn't start with `stn_`"));
        }
        if parts.next() != Some("key") {
            return Err(wrong("its kind is unknown"));
        }
        let id = parts.next().filter(|id| is_base62(id, ID_CHARS)).ok_or_else(|| wrong("its id has the wrong form"))?;
        let tail = parts.next().filter(|tail| is_base62(tail, SECRET_CHARS + CRC_CHARS));
        let (secret, crc) = tail.ok_or_else(|| wrong("its length is wrong"))?.split_at(SECRET_CHARS);
        if crc != checksum(&text[..text.len() - CRC_CHARS]) {
            return Err(wrong("its checksum doesn't match"));
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned().into() })
    }

    /// The part that may be shown, logged and looked up.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 of the secret, which is what a station keeps. The secret has 256 random bits, so a slow hash would add nothing.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose_secret().as_bytes()).into()
    }

    /// What whoever keeps keys needs to know of it.
    pub fn proof(&self) -> KeyProof {
        KeyProof { id: self.id.clone(), digest: self.digest() }
    }

    /// The whole text, to be shown or written once.
    pub fn reveal(&self) -> SecretString {
        let body = format!("stn_key_{}_{}", self.id, self.secret.expose_secret());
        format!("{body}{}", checksum(&body)).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stn_key_{}_[hidden]", self.id)
    }
}

impl KeyProof {
    /// The id of the key that it is to prove.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the secret is the one that `kept` is the digest of. Takes the same way for a key that nobody keeps as for a wrong secret.
    pub fn holds(&self, kept: Option<&[u8; 32]>) -> bool {
        self.holds_by(kept, |one, other| one.ct_eq(other))
    }

    fn holds_by(&self, kept: Option<&[u8; 32]>, compare: impl FnOnce(&[u8; 32], &[u8; 32]) -> Choice) -> bool {
        let is_kept = Choice::from(u8::from(kept.is_some()));
        bool::from(compare(&self.digest, kept.unwrap_or(&NOBODY)) & is_kept)
    }
}

impl fmt::Debug for KeyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proof of {}", self.id)
    }
}

fn is_base62(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [ALPHABET[0]; CRC_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

/// `chars` base62 digits, each equally likely: bytes that would favour some digits are thrown away.
fn random_base62(chars: usize) -> Result<String> {
    const FAIR: u8 = 248;
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes)
            .map_err(|cause| Error::internal("the operating system gives no randomness").source(cause.to_string()))?;
        let digits =
            bytes.into_iter().filter(|byte| *byte < FAIR).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(digits.take(chars - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_published_form_and_is_read_back() {
        let key = ApiKey::generate().unwrap();
        let text = key.reveal();
        let parts: Vec<&str> = text.expose_secret().split('_').collect();
        assert_eq!((parts[0], parts[1], parts[2].len(), parts[3].len()), ("stn", "key", 10, 49));
        let back = ApiKey::parse(text.expose_secret()).unwrap();
        assert_eq!((back.id(), back.digest()), (key.id(), key.digest()));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_secret_are_compared_alike_and_neither_proves_anything() {
        let (key, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        for (kept, expected) in [(None, false), (Some(other.digest()), false), (Some(key.digest()), true)] {
            let mut compared = Vec::new();
            let proved = key.proof().holds_by(kept.as_ref(), |one, other| {
                compared.push((*one, other.len()));
                one.ct_eq(other)
            });
            assert_eq!((proved, compared), (expected, vec![(key.digest(), 32)]));
        }
        // A digest that happens to be the stand-in's is kept by nobody.
        assert!(!key.proof().holds_by(None, |_, _| Choice::from(1)));
    }

    #[test]
    fn every_single_typo_is_found_by_the_checksum() {
        let text = ApiKey::generate().unwrap().reveal();
        let text = text.expose_secret();
        for at in 8..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "a typo at {at} was accepted");
        }
    }

    #[test]
    fn the_checksum_is_the_one_other_tools_compute() {
        // The check value of CRC-32 in every catalogue.
        assert_eq!(checksum("123456789"), "3jZRME"); // 0xCBF43926 in base 62
    }

    #[test]
    fn neither_errors_nor_debug_output_show_a_secret() {
        let key = ApiKey::generate().unwrap();
        let text = key.reveal();
        let secret = &text.expose_secret()[19..];
        assert!(!format!("{key:?}").contains(&secret[..8]));
        let error = ApiKey::parse(&text.expose_secret()[..60]).unwrap_err();
        assert!(!format!("{error:?}").contains(&secret[..8]));
    }

    #[test]
    fn text_of_another_form_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "start"),
            ("sk-123", "start"),
            ("stn_foo_0123456789_x", "kind"),
            ("stn_key_short_x", "id"),
            ("stn_key_0123456789_x", "length"),
            ("stn_key_0123456789_é", "length"),
        ] {
            let error = ApiKey::parse(text).unwrap_err();
            assert!(error.message().contains(reason), "{text}: {error}");
        }
    }
}
