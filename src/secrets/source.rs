//! Where the key comes from: the first of these that there is.
//!
//! 1. the systemd credential `stn-master-key` (`$CREDENTIALS_DIRECTORY/stn-master-key`): a key, or a passphrase where the root wants one,
//! 2. the file that `STN_MASTER_KEY_FILE` names: a key,
//! 3. the file that `STN_PASSPHRASE_FILE` names, or a person at a terminal: a passphrase,
//! 4. `secrets/master.key`: a key, written with the home where nothing else is given.
//!
//! A key is 32 raw bytes, or those in 64 hexadecimal digits or in base64. Neither is ever given on a command line or as the value of a
//! variable: both are there for others to read.

use super::envelope::Key;
use super::root::Kdf;
use crate::domain::{counted, from_hex};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, Home, misconfigured};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names the file with the key.
const MASTER_KEY_FILE: &str = "STN_MASTER_KEY_FILE";
/// Names the file with the passphrase.
const PASSPHRASE_FILE: &str = "STN_PASSPHRASE_FILE";
/// The variables that name a file. Whoever hands them on to a process in another directory has to make the paths absolute.
pub const FILE_VARIABLES: [&str; 2] = [MASTER_KEY_FILE, PASSPHRASE_FILE];
/// Set by systemd for a service with credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "stn-master-key";

/// Bytes that a passphrase has.
const SHORTEST: usize = 12;
const LONGEST: usize = 1024;
/// More than any file with a key or a passphrase has.
const MOST_BYTES: u64 = LONGEST as u64 + 2;

/// Asks the person at the terminal for the passphrase; `None` where there is none to ask.
pub type Ask = fn() -> Result<Option<SecretString>>;

/// For whoever has no terminal.
pub fn nobody_to_ask() -> Result<Option<SecretString>> {
    Ok(None)
}

/// What a root's key is made from.
#[derive(Debug)]
pub(super) enum Material {
    Key(Key),
    Passphrase(SecretString),
}

/// A key or passphrase, and where it came from in words.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) material: Material,
    pub(super) from: String,
}

/// What the process's environment names.
#[derive(Debug, Default)]
struct Named {
    credential: Option<PathBuf>,
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

impl Named {
    fn read(variables: &BTreeMap<String, String>) -> Self {
        let path = |name: &str| variables.get(name).filter(|value| !value.trim().is_empty()).map(PathBuf::from);
        let credential = path(CREDENTIALS_DIRECTORY).map(|directory| directory.join(CREDENTIAL));
        Self {
            credential: credential.filter(|path| path.symlink_metadata().is_ok()),
            key_file: path(MASTER_KEY_FILE),
            passphrase_file: path(PASSPHRASE_FILE),
        }
    }
}

/// Whether the environment names any.
pub(super) fn is_named(variables: &BTreeMap<String, String>) -> bool {
    let Named { credential, key_file, passphrase_file } = Named::read(variables);
    credential.or(key_file).or(passphrase_file).is_some()
}

/// What a root of this kind is opened with. Exit code 78 where it is missing, or what is named is something else.
pub(super) fn of_root(home: &Home, kdf: Kdf, variables: &BTreeMap<String, String>, ask: Ask) -> Result<Found> {
    let named = Named::read(variables);
    let root = home.root_key();
    match (kdf, named) {
        (Kdf::None, Named { credential: Some(path), .. }) => credential_key(&path),
        (Kdf::None, Named { key_file: Some(path), .. }) => key_file(&path),
        (Kdf::None, Named { passphrase_file: Some(_), .. }) => Err(misconfigured(format!(
            "{PASSPHRASE_FILE} is set, and the secrets of this home are under a key, not under a passphrase (`{}`)",
            root.display()
        ))
        .hint(format!("unset {PASSPHRASE_FILE}"))),
        (Kdf::None, _) => own_key(home),
        (Kdf::Pbkdf2HmacSha256, Named { credential: Some(path), .. }) => credential_passphrase(&path),
        (Kdf::Pbkdf2HmacSha256, Named { key_file: Some(_), .. }) => Err(misconfigured(format!(
            "{MASTER_KEY_FILE} is set, and the secrets of this home are under a passphrase, not under a key (`{}`)",
            root.display()
        ))
        .hint(format!("unset {MASTER_KEY_FILE}, and give the passphrase's file in {PASSPHRASE_FILE}"))),
        (Kdf::Pbkdf2HmacSha256, Named { passphrase_file: Some(path), .. }) => passphrase_file(&path),
        (Kdf::Pbkdf2HmacSha256, _) => match ask()? {
            Some(passphrase) => typed(passphrase),
            None => {
                Err(misconfigured("the secrets of this home are under a passphrase, and nobody is here to be asked")
                    .hint(format!(
                        "run `stn serve` in a terminal, or name a file with it (mode 0600) in {PASSPHRASE_FILE}"
                    )))
            }
        },
    }
}

/// What a new root is made for, by what the environment names; `None`: nothing, so that a key is to be written.
pub(super) fn of_new_root(variables: &BTreeMap<String, String>) -> Result<Option<Found>> {
    match Named::read(variables) {
        Named { credential: Some(path), .. } => {
            let bytes = home::read_checked(&path, MOST_BYTES, refuse_exposed_credential)?;
            let hint = "for a passphrase, make the home with `stn init --passphrase-file FILE` first";
            key(&path, &bytes).map_err(|error| error.hint(hint)).map(Some)
        }
        Named { key_file: Some(path), .. } => key_file(&path).map(Some),
        Named { passphrase_file: Some(path), .. } => passphrase_file(&path).map(Some),
        _ => Ok(None),
    }
}

/// The passphrase in a file of the owner's, without one line break at its end.
pub(super) fn passphrase_file(path: &Path) -> Result<Found> {
    let bytes = home::read_private(path, MOST_BYTES).map_err(|error| missing(error, path))?;
    passphrase(path, &bytes)
}

fn credential_passphrase(path: &Path) -> Result<Found> {
    let bytes = home::read_checked(path, MOST_BYTES, refuse_exposed_credential)?;
    passphrase(path, &bytes)
}

fn passphrase(path: &Path, bytes: &[u8]) -> Result<Found> {
    let from = format!("`{}`", path.display());
    let text = std::str::from_utf8(bytes)
        .map_err(|_| misconfigured(format!("the passphrase in {from} is not UTF-8")).hint("write it as UTF-8 text"))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Found {
        material: checked(SecretString::from(text), &format!(" in {from}"))?,
        from: format!("the passphrase in {from}"),
    })
}

/// The passphrase that a person has typed.
pub(super) fn typed(passphrase: SecretString) -> Result<Found> {
    Ok(Found { material: checked(passphrase, "")?, from: "the passphrase".into() })
}

/// A passphrase of a length that can be used.
fn checked(passphrase: SecretString, place: &str) -> Result<Material> {
    let length = passphrase.expose_secret().len();
    if !(SHORTEST..=LONGEST).contains(&length) {
        let bytes = counted(length, "byte");
        let message = format!("the passphrase{place} has {bytes}; it needs {SHORTEST} to {LONGEST}");
        return Err(misconfigured(message).hint("take several words: whoever has the files can try guesses for years"));
    }
    Ok(Material::Passphrase(passphrase))
}

fn own_key(home: &Home) -> Result<Found> {
    let path = home.master_key();
    let bytes = home::read_private(&path, MOST_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => misconfigured(format!("`{}` is missing, and no other key is given", path.display()))
            .hint(format!("restore it from a backup, or name the key's file in {MASTER_KEY_FILE}")),
        _ => error,
    })?;
    key(&path, &bytes)
}

fn key_file(path: &Path) -> Result<Found> {
    let bytes = home::read_private(path, MOST_BYTES).map_err(|error| missing(error, path))?;
    key(path, &bytes)
}

fn credential_key(path: &Path) -> Result<Found> {
    key(path, &home::read_checked(path, MOST_BYTES, refuse_exposed_credential)?)
}

fn missing(error: Error, path: &Path) -> Error {
    match error.kind() {
        ErrorKind::NotFound => misconfigured(format!("`{}` doesn't exist", path.display()))
            .hint("correct the path in the variable or the flag that names it"),
        ErrorKind::PermissionDenied => misconfigured(error.message().to_owned()),
        _ => error,
    }
}

/// systemd gives the file to the service's user, or leaves it to root with that user in its access list, which shows as a group's right.
fn refuse_exposed_credential(path: &Path, facts: &Metadata) -> Result<()> {
    let by_system = facts.uid() == 0 && facts.mode() & 0o037 == 0;
    if by_system { Ok(()) } else { home::refuse_exposed(path, facts) }
}

fn key(path: &Path, bytes: &[u8]) -> Result<Found> {
    let text = || std::str::from_utf8(bytes).ok().map(str::trim);
    let written = || from_hex(text()?).or_else(|| from_base64(text()?)).map(Zeroizing::new);
    let key = Key::from_slice(bytes).or_else(|| Key::from_slice(&written()?));
    let key = key.ok_or_else(|| {
        misconfigured(format!("`{}` holds no key: a key is 32 bytes, raw, in hexadecimal or in base64", path.display()))
            .hint("make one with `openssl rand -hex 32`")
    })?;
    Ok(Found { material: Material::Key(key), from: format!("the key in `{}`", path.display()) })
}

/// RFC 4648, section 4, with padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        bits = bits << 6 | DIGITS.iter().position(|known| *known == digit)? as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Layout;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Site {
        directory: tempfile::TempDir,
        home: Home,
    }

    fn site() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        home::create(&home, &[]).unwrap();
        Site { directory, home }
    }

    impl Site {
        fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn find(&self, kdf: Kdf, variables: &[(&str, &Path)]) -> Result<Found> {
            let variables =
                variables.iter().map(|(name, path)| ((*name).to_owned(), path.to_str().unwrap().to_owned())).collect();
            of_root(&self.home, kdf, &variables, nobody_to_ask)
        }
    }

    fn bytes(found: &Found) -> [u8; 32] {
        let Material::Key(key) = &found.material else { panic!("no key") };
        *key.bytes()
    }

    #[test]
    fn a_key_is_raw_hexadecimal_or_base64() {
        let site = site();
        let raw: [u8; 32] = std::array::from_fn(|at| at as u8);
        let hex: String = raw.iter().map(|byte| format!("{byte:02X}")).collect();
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
        for (name, text) in [("raw", &raw[..]), ("hex", hex.as_bytes()), ("base64", base64.as_bytes())] {
            let path = site.file(name, text, 0o600);
            assert_eq!(bytes(&site.find(Kdf::None, &[(MASTER_KEY_FILE, &path)]).unwrap()), raw, "{name}");
        }
        for bad in [&b"short"[..], &[0; 31], &[0; 33], b"", &hex.as_bytes()[1..]] {
            let path = site.file("bad", bad, 0o600);
            let error = site.find(Kdf::None, &[(MASTER_KEY_FILE, &path)]).unwrap_err();
            assert!(error.message().contains("holds no key"), "{error}");
        }
    }

    #[test]
    fn the_order_is_credential_then_key_file_then_the_homes_own() {
        let site = site();
        let credentials = site.directory.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let key_file = site.file("key", &[2; 32], 0o400);
        let own = site.home.master_key();
        home::place_private(&own, &[3; 32]).unwrap();
        let all = [("CREDENTIALS_DIRECTORY", credentials.as_path()), (MASTER_KEY_FILE, key_file.as_path())];
        assert_eq!(bytes(&site.find(Kdf::None, &all).unwrap()), [2; 32], "the credential isn't there yet");
        site.file("credentials/stn-master-key", &[1; 32], 0o400);
        assert_eq!(bytes(&site.find(Kdf::None, &all).unwrap()), [1; 32]);
        assert_eq!(bytes(&site.find(Kdf::None, &[]).unwrap()), [3; 32]);
        fs::remove_file(&own).unwrap();
        let error = site.find(Kdf::None, &[]).unwrap_err();
        assert!(error.message().contains("master.key") && error.message().contains("missing"), "{error}");
    }

    #[test]
    fn key_material_that_others_can_get_at_or_that_is_a_link_is_refused_with_the_fix() {
        let site = site();
        let code = |error: &Error| error.report().details.unwrap()["exit_code"].clone();
        for mode in [0o644, 0o640, 0o604, 0o602] {
            let path = site.file("key", &[1; 32], mode);
            let error = site.find(Kdf::None, &[(MASTER_KEY_FILE, &path)]).unwrap_err();
            assert!(error.hint_text().unwrap().starts_with("chmod 600"), "{error}");
            assert_eq!(code(&error), 78);
            let error = site.find(Kdf::Pbkdf2HmacSha256, &[(PASSPHRASE_FILE, &path)]).unwrap_err();
            assert!(error.hint_text().unwrap().starts_with("chmod 600"), "{error}");
        }
        let target = site.file("target", &[1; 32], 0o600);
        let link = site.directory.path().join("link");
        std::os::unix::fs::symlink(target, &link).unwrap();
        let error = site.find(Kdf::None, &[(MASTER_KEY_FILE, &link)]).unwrap_err();
        assert!(error.message().contains("symlink") && code(&error) == 78, "{error}");
        let nowhere = site.find(Kdf::None, &[(MASTER_KEY_FILE, Path::new("/nowhere"))]).unwrap_err();
        assert!(nowhere.message().contains("`/nowhere` doesn't exist") && code(&nowhere) == 78, "{nowhere}");
        let directory = site.find(Kdf::None, &[(MASTER_KEY_FILE, site.directory.path())]).unwrap_err();
        assert!(directory.message().contains("is not a file"), "{directory}");
    }

    #[test]
    fn a_passphrase_has_twelve_bytes_at_least_and_loses_one_line_break() {
        let site = site();
        let found = |text: &str| {
            let path = site.file("passphrase", text.as_bytes(), 0o600);
            site.find(Kdf::Pbkdf2HmacSha256, &[(PASSPHRASE_FILE, &path)])
        };
        for (written, expected) in
            [("twelve bytes", "twelve bytes"), ("twelve bytes\n", "twelve bytes"), ("eleven byte\n\n", "eleven byte\n")]
        {
            let Material::Passphrase(passphrase) = found(written).unwrap().material else { panic!("no passphrase") };
            assert_eq!(passphrase.expose_secret(), expected);
        }
        let short = found("eleven byte\n").unwrap_err();
        assert!(short.message().contains("has 11 bytes; it needs 12 to 1024"), "{short}");
        assert!(!short.to_string().contains("eleven"));
        found(&"x".repeat(1024)).unwrap();
        assert!(found(&"x".repeat(1025)).unwrap_err().message().contains("has 1025 bytes"));
        assert!(found(&"x".repeat(5000)).unwrap_err().message().contains("more than"));
    }

    #[test]
    fn a_key_where_a_passphrase_is_wanted_is_refused_and_the_other_way_round() {
        let site = site();
        let path = site.file("file", &[b'x'; 32], 0o600);
        let error = site.find(Kdf::Pbkdf2HmacSha256, &[(MASTER_KEY_FILE, &path)]).unwrap_err();
        assert!(error.message().starts_with("STN_MASTER_KEY_FILE is set"), "{error}");
        let error = site.find(Kdf::None, &[(PASSPHRASE_FILE, &path)]).unwrap_err();
        assert!(error.message().starts_with("STN_PASSPHRASE_FILE is set"), "{error}");
        let error = site.find(Kdf::Pbkdf2HmacSha256, &[]).unwrap_err();
        assert!(error.message().contains("nobody is here to be asked"), "{error}");
    }
}
