//! `secrets/local.key`: the API key whose principal is the owner of the home. Whoever can read the file is that person, so the file
//! must be readable by nobody else.

use super::private::read_private;
use super::{ApiKey, Home};
use crate::domain::Principal;
use crate::error::Result;
use subtle::ConstantTimeEq;

/// More than any key has.
const MOST_BYTES: u64 = 4096;

/// What the owner keeps of `local.key` to recognise it.
#[derive(Clone)]
pub struct LocalKey {
    id: String,
    digest: [u8; 32],
}

impl LocalKey {
    /// Reads the key of `home`. A file that others may read or write, or that belongs to someone else, is refused.
    pub fn load(home: &Home) -> Result<Self> {
        let path = home.local_key();
        let bytes = read_private(&path, MOST_BYTES)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let key = ApiKey::parse(text.trim()).map_err(|error| {
            super::misconfigured(format!("`{}`: {}", path.display(), error.message()))
                .hint("delete the file; the next start writes a new key")
        })?;
        Ok(Self { id: key.id().to_owned(), digest: key.digest() })
    }

    /// The local owner, when `bearer` is this key. Takes the same time for a wrong id and a wrong secret.
    pub fn authenticate(&self, bearer: &str) -> Option<Principal> {
        let presented = ApiKey::parse(bearer).ok()?;
        let same_id = presented.id().as_bytes().ct_eq(self.id.as_bytes());
        let same_secret = presented.digest().ct_eq(&self.digest);
        bool::from(same_id & same_secret).then(Principal::local_owner)
    }

    /// The part of the key that may be shown.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestHome;
    use super::*;
    use secrecy::ExposeSecret;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_of_a_new_home_is_the_local_owner() {
        let home = TestHome::created();
        let text = fs::read_to_string(home.local_key()).unwrap();
        let key = LocalKey::load(&home).unwrap();
        assert_eq!(key.authenticate(text.trim()), Some(Principal::local_owner()));
        let other = ApiKey::generate().unwrap().reveal();
        assert_eq!(key.authenticate(other.expose_secret()), None);
        assert_eq!(key.authenticate("nonsense"), None);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let home = TestHome::created();
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(home.local_key(), fs::Permissions::from_mode(mode)).unwrap();
            let error = LocalKey::load(&home).unwrap_err();
            assert_eq!(error.report().details.unwrap()["exit_code"], 78);
            assert!(error.hint_text().unwrap().starts_with("chmod 600"));
        }
        fs::set_permissions(home.local_key(), fs::Permissions::from_mode(0o400)).unwrap();
        LocalKey::load(&home).unwrap();
    }

    #[test]
    fn a_symlink_in_place_of_the_key_is_not_followed() {
        let home = TestHome::created();
        let elsewhere = home.root().join("elsewhere");
        fs::rename(home.local_key(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, home.local_key()).unwrap();
        assert!(LocalKey::load(&home).is_err());
    }

    #[test]
    fn a_damaged_key_is_named_with_its_file() {
        let home = TestHome::created();
        fs::write(home.local_key(), "stn_key_damaged").unwrap();
        assert!(LocalKey::load(&home).unwrap_err().message().contains("local.key"));
    }
}
