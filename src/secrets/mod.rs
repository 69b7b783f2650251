//! What is kept encrypted: values that are written and never read back by anybody but the child, header or provider that needs them.
//!
//! `envelope` seals one record, `root` is `secrets/root.json` and the keys that come from it, `source` says where the key itself comes
//! from. `keyring` is the data keys and records of one environment, `values` what they hold, for whoever needs one at the last hop. Here
//! belongs whatever touches key material; where records are kept is the store's.

pub mod envelope;
mod keyring;
mod root;
mod source;
mod values;

pub use keyring::{Secrets, refuse_without_root};
pub use root::Unlocked;
pub use source::{Ask, FILE_VARIABLES, nobody_to_ask};
pub use values::Values;

use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, Home, misconfigured};
use envelope::Key;
use root::Root;
use secrecy::SecretString;
use source::{Found, Material};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// More than a root file has.
const MOST_ROOT_BYTES: u64 = 16 * 1024;

/// The keys of `home`, once its key is known to be the right one; `None` where it has no root yet. Changes nothing. Exit code 78, with the
/// file named and the fix, for a wrong or missing key and for key material that others can get at. Blocks: a passphrase is stretched, unless
/// whoever started this process has done that.
pub fn unlock(
    home: &Home,
    variables: &BTreeMap<String, String>,
    ask: Ask,
    stretched: Option<Stretched>,
) -> Result<Option<Unlocked>> {
    let Some(root) = read_root(home)? else { return Ok(None) };
    // Where it doesn't fit, the home has got another root since.
    if let Some(Stretched(first)) = stretched
        && let Some(unlocked) = root.opened_by(&first)?
    {
        return Ok(Some(unlocked));
    }
    open(home, &root, source::of_root(home, root.kdf, variables, ask)?).map(Some)
}

/// Refuses what [`unlock`] would refuse, for a process that is to be started. If a passphrase was stretched for that, it needn't be again.
pub fn check(home: &Home, variables: &BTreeMap<String, String>, ask: Ask) -> Result<Option<Stretched>> {
    let Some(root) = read_root(home)? else { return Ok(None) };
    let found = source::of_root(home, root.kdf, variables, ask)?;
    let first = root.first_key(&found.material)?;
    match root.opened_by(&first)? {
        None => Err(not_the_one(home, &found)),
        Some(_) => Ok(matches!(found.material, Material::Passphrase(_)).then_some(Stretched(first))),
    }
}

/// A passphrase, stretched for one home, on its way to the process that opens it: over a pipe, for neither arguments nor variables nor
/// files keep it to themselves. Wiped when dropped, never printed.
#[derive(Debug)]
pub struct Stretched(Key);

impl Stretched {
    /// As it goes over the pipe.
    pub fn bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.bytes().to_vec())
    }

    /// What comes from the pipe; `None` if that is nothing of the kind.
    pub fn read(mut pipe: impl Read) -> Option<Self> {
        let mut key = Key::from_slice(&[0; 32])?;
        pipe.read_exact(key.bytes_mut()).ok()?;
        Some(Self(key))
    }
}

/// Whether the secrets of `home` are under a passphrase that `variables` don't name, so that a person has to be asked for it.
pub fn asks_a_person(home: &Home, variables: &BTreeMap<String, String>) -> Result<bool> {
    let is_under_passphrase = read_root(home)?.is_some_and(|root| root.kdf == root::Kdf::Pbkdf2HmacSha256);
    Ok(is_under_passphrase && !source::is_named(variables))
}

/// Refuses, before anything of a new `home` is made, a key or passphrase named by the environment that it can't be made with. Whatever has
/// a root or a store is no new home.
pub fn check_new(home: &Home, variables: &BTreeMap<String, String>) -> Result<()> {
    if has_root(home) || home.control_db().exists() {
        return Ok(());
    }
    source::of_new_root(variables).map(drop)
}

/// A passphrase for a new home, of a length that can be used.
#[derive(Debug)]
pub struct NewPassphrase(Found);

impl NewPassphrase {
    /// The text of a file of the owner's, without one line break at its end.
    pub fn from_file(path: &Path) -> Result<Self> {
        source::passphrase_file(path).map(Self)
    }

    /// What a person has typed.
    pub fn typed(text: SecretString) -> Result<Self> {
        source::typed(text).map(Self)
    }
}

/// Gives `home` its root: for `passphrase`, else for the key or passphrase that the environment names, else for a key that is written to
/// `secrets/master.key`. A root that is there stays; then what is given must be its key. Several processes may do this at once. Blocks.
pub fn create(
    home: &Home,
    variables: &BTreeMap<String, String>,
    passphrase: Option<NewPassphrase>,
) -> Result<Unlocked> {
    let given = match passphrase {
        Some(NewPassphrase(found)) => Some(found),
        None => source::of_new_root(variables)?,
    };
    let known = read_root(home)?.map(|root| root.kdf);
    if let (Some(Found { material: Material::Passphrase(_), .. }), Some(root::Kdf::None)) = (&given, known) {
        let root = home.root_key();
        return Err(misconfigured(format!("the secrets of this home are under a key already (`{}`)", root.display()))
            .hint("a passphrase is chosen when a home is new: leave it out, or make another home"));
    }
    let found = match given {
        Some(found) => found,
        None => own_key(home)?,
    };
    if let Some(root) = read_root(home)? {
        return open(home, &root, found);
    }
    let (own, unlocked) = Root::create(&found.material)?;
    home::place_private(&home.root_key(), &own.to_bytes()?)?;
    // Somebody else may have been faster: what stands there counts.
    let root = read_root(home)?.ok_or_else(|| Error::internal("the root that was just written is gone"))?;
    if root == own { Ok(unlocked) } else { open(home, &root, found) }
}

/// Whether `home` has a root.
pub fn has_root(home: &Home) -> bool {
    home.root_key().symlink_metadata().is_ok()
}

fn own_key(home: &Home) -> Result<Found> {
    let key = Zeroizing::new(*Key::random()?.bytes());
    home::place_private(&home.master_key(), &key[..])?;
    source::of_root(home, root::Kdf::None, &BTreeMap::new(), nobody_to_ask)
}

fn read_root(home: &Home) -> Result<Option<Root>> {
    let path = home.root_key();
    match home::read_private(&path, MOST_ROOT_BYTES) {
        Ok(bytes) => Root::parse(&path, &bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(home: &Home, root: &Root, found: Found) -> Result<Unlocked> {
    root.opened_by(&root.first_key(&found.material)?)?.ok_or_else(|| not_the_one(home, &found))
}

fn not_the_one(home: &Home, found: &Found) -> Error {
    misconfigured(format!("{} is not the one that this home's secrets are under", found.from)).hint(format!(
        "give the one that the home was made with, or restore `{}` from the backup that belongs to this one",
        home.root_key().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Layout;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn who_is_handed_what_was_stretched_needs_no_passphrase_unless_the_root_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        home::create(&home, &[]).unwrap();
        let path = directory.path().join("passphrase");
        let variables = BTreeMap::from([("STN_PASSPHRASE_FILE".to_owned(), path.to_str().unwrap().to_owned())]);
        fs::write(&path, "correct horse battery").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let made = create(&home, &variables, None).unwrap();
        let nothing = BTreeMap::new();
        let stretched = check(&home, &variables, nobody_to_ask).unwrap().unwrap();
        let piped = Stretched::read(&stretched.bytes()[..]);
        let unlocked = unlock(&home, &nothing, nobody_to_ask, piped).unwrap().unwrap();
        assert_eq!(unlocked.wrap().bytes(), made.wrap().bytes());
        let of_another = Stretched::read(&[7; 32][..]);
        let unasked = unlock(&home, &nothing, nobody_to_ask, of_another).unwrap_err();
        assert!(unasked.message().contains("nobody is here to be asked"), "{unasked}");
        assert!(Stretched::read(&[7; 31][..]).is_none());
    }
}
