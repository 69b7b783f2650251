//! Files of the home's cache, which may be deleted at any time.

use super::{ApiKey, Home, failed};
use crate::error::Result;
use std::fs;

/// Makes sure that the file at this path below the cache has this content: whole or not at all, and untouched where it has it already.
pub fn keep_in_cache(home: &Home, relative: &str, contents: &[u8]) -> Result<()> {
    let path = home.cache_dir().join(relative);
    if fs::read(&path).is_ok_and(|found| found == contents) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|cause| failed("create", folder, cause))?;
    }
    let temporary = path.with_file_name(format!(".new-{}", ApiKey::generate()?.id()));
    let placed = fs::write(&temporary, contents).and_then(|()| fs::rename(&temporary, &path));
    placed.map_err(|cause| {
        let _leftover = fs::remove_file(&temporary);
        failed("write", &path, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestHome;
    use super::*;

    #[test]
    fn a_file_of_the_cache_is_made_again_and_replaced_when_it_is_another() {
        let home = TestHome::created();
        let path = home.cache_dir().join("schemas/a.json");
        for contents in [&b"one"[..], b"two"] {
            keep_in_cache(&home, "schemas/a.json", contents).unwrap();
            assert_eq!(fs::read(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
