//! The first use of a home: its directories, the sample files, the local owner's key. Doing it again changes nothing, several processes
//! may do it at once, and no file that exists is ever overwritten.

use super::api_key::ID_CHARS;
use super::private::refuse_exposed;
use super::{ApiKey, Home, Layout, failed, misconfigured};
use crate::error::{Error, Result};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

const PRIVATE_DIR: u32 = 0o700;
const SHARED_DIR: u32 = 0o755;
const PRIVATE_FILE: u32 = 0o600;
const SHARED_FILE: u32 = 0o644;

/// How a file is called that isn't whole yet, before an id.
const TEMPORARY: &str = ".new-";

/// How often a file is written again that somebody else has cleared away.
const MOST_ATTEMPTS: u32 = 5;

/// Makes `home` usable. The `samples` (paths relative to the home's configuration directory, and contents) are written only into a home
/// that has neither settings nor environments, so that samples which somebody deleted stay deleted. True when they were.
pub fn create(home: &Home, samples: &[(&str, &[u8])]) -> Result<bool> {
    create_on(home, samples, super::filesystem::network_kind)
}

fn create_on(
    home: &Home,
    samples: &[(&str, &[u8])],
    network_kind: impl FnOnce(&Path) -> Result<Option<&'static str>>,
) -> Result<bool> {
    home.refuse_network_filesystem(network_kind)?;
    create_directories(home)?;
    let secrets = home.secrets_dir();
    let facts = fs::symlink_metadata(&secrets).map_err(|cause| failed("examine", &secrets, cause))?;
    refuse_exposed(&secrets, &facts)?;
    clear_away(home, samples)?;
    let fresh = write_samples(home, samples)?;
    if !home.local_key().exists() {
        let key = ApiKey::generate()?.reveal();
        place(&home.local_key(), format!("{}\n", key.expose_secret()).as_bytes(), PRIVATE_FILE)?;
    }
    Ok(fresh)
}

fn create_directories(home: &Home) -> Result<()> {
    if home.layout() == Layout::Home {
        create_dir(home.root(), PRIVATE_DIR)?;
    }
    for private in
        [home.state_dir(), home.stores_dir(), home.secrets_dir(), home.audit_dir(), home.logs_dir(), home.cache_dir()]
    {
        create_dir(&private, PRIVATE_DIR)?;
    }
    create_dir(&home.environments_dir(), SHARED_DIR)
}

/// Removes what a first use that was cut off has left beside the files that it was about to place: among `secrets/` it is the second copy
/// of a key. Whoever is placing one right now writes it again.
fn clear_away(home: &Home, samples: &[(&str, &[u8])]) -> Result<()> {
    let mut places = BTreeSet::from([home.secrets_dir()]);
    for (relative, _) in samples {
        places.extend(inside_config(home, relative)?.parent().map(Path::to_path_buf));
    }
    for place in places {
        let entries = match fs::read_dir(&place) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|cause| failed("read", &place, cause))?,
        };
        let leftovers = entries.filter_map(std::result::Result::ok).filter(|entry| {
            entry.file_name().to_str().is_some_and(is_temporary) && entry.file_type().is_ok_and(|kind| kind.is_file())
        });
        for leftover in leftovers {
            // Somebody else may have been here first; and what can't be removed is no reason not to start.
            let _gone = fs::remove_file(leftover.path());
        }
    }
    Ok(())
}

fn create_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|cause| {
        let error = match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return failed("create", path, cause),
            io::ErrorKind::AlreadyExists => misconfigured(format!("`{}` is a file, not a directory", path.display())),
            _ => misconfigured(format!("can't create the directory `{}`: {cause}", path.display())),
        };
        error.hint("set STN_HOME to a directory that you may write to").source(cause)
    })
}

/// The marker makes an interrupted first use go on where it stopped: once a sample exists, the home no longer looks empty.
fn write_samples(home: &Home, samples: &[(&str, &[u8])]) -> Result<bool> {
    let marker = home.cache_dir().join("first-use");
    if !marker.exists() && !is_empty(home)? {
        return Ok(false);
    }
    place(&marker, b"", PRIVATE_FILE)?;
    for (relative, contents) in samples {
        let path = inside_config(home, relative)?;
        if let Some(parent) = path.parent() {
            create_dir(parent, SHARED_DIR)?;
        }
        place(&path, contents, SHARED_FILE)?;
    }
    match fs::remove_file(&marker) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", &marker, cause)),
        _ => Ok(true),
    }
}

/// Where a sample goes; an error for one that would leave the home, such as `../x`.
fn inside_config(home: &Home, relative: &str) -> Result<PathBuf> {
    let path = Path::new(relative);
    if relative.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::invalid_input(format!("`{relative}` is not a path inside the home")));
    }
    Ok(home.config_dir().join(path))
}

fn is_empty(home: &Home) -> Result<bool> {
    let environments = home.environments_dir();
    let mut entries = fs::read_dir(&environments).map_err(|cause| failed("read", &environments, cause))?;
    Ok(!home.station_yml().exists() && entries.next().is_none())
}

/// Writes `path` whole or not at all, and leaves it alone if it exists: a link, unlike a rename, never replaces.
pub(super) fn place(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let temporary = path.with_file_name(format!("{TEMPORARY}{}", ApiKey::generate()?.id()));
    let attempt = || write_new(&temporary, contents, mode).and_then(|()| fs::hard_link(&temporary, path));
    let mut placed = attempt();
    for _ in 0..MOST_ATTEMPTS {
        match &placed {
            // Another process, which is clearing away, took it for a leftover.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => placed = attempt(),
            _ => break,
        }
    }
    let _leftover = fs::remove_file(&temporary);
    match placed {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(failed("write", path, cause)),
        _ => Ok(()),
    }
}

/// Whether [`place`] names a file so while it isn't whole.
fn is_temporary(name: &str) -> bool {
    let is_id = |id: &str| id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.strip_prefix(TEMPORARY).is_some_and(is_id)
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestHome;
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    const SAMPLES: &[(&str, &[u8])] = &[
        ("station.yml", b"default_environment: default\n"),
        ("environments/default/agents/hello.prompt", b"Hello.\n"),
    ];

    #[test]
    fn a_home_that_can_t_be_one_is_a_matter_of_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let code = |error: Error| error.report().details.unwrap()["exit_code"].clone();
        let home = |root: &Path| Home::at(root, Layout::Home, &std::collections::BTreeMap::new());
        let refused = create(&home(&file).unwrap(), SAMPLES).unwrap_err();
        assert!(refused.message().ends_with("is a file, not a directory"), "{refused}");
        assert_eq!((code(refused), code(home(&file.join("inside")).unwrap_err())), (78.into(), 78.into()));
        let nowhere = create(&home(Path::new("/proc/nope")).unwrap(), SAMPLES).unwrap_err();
        assert!(nowhere.message().contains("`/proc/nope`"), "{nowhere}");
        assert_eq!(code(nowhere), 78);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn an_empty_home_gets_its_directories_samples_and_key() {
        let home = TestHome::missing();
        assert!(create(&home, SAMPLES).unwrap());
        assert_eq!(fs::read(home.root().join("environments/default/agents/hello.prompt")).unwrap(), b"Hello.\n");
        assert_eq!((mode(&home.secrets_dir()), mode(&home.local_key()), mode(home.root())), (0o700, 0o600, 0o700));
        let leftovers = fs::read_dir(home.root())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".new-"));
        assert_eq!(leftovers.count(), 0);
    }

    #[test]
    fn a_second_time_changes_nothing_and_brings_no_deleted_sample_back() {
        let home = TestHome::missing();
        create(&home, SAMPLES).unwrap();
        let key = fs::read(home.local_key()).unwrap();
        let agent = home.root().join("environments/default/agents/hello.prompt");
        fs::remove_file(&agent).unwrap();
        fs::write(home.station_yml(), "mine").unwrap();
        assert!(!create(&home, SAMPLES).unwrap());
        assert!(!agent.exists());
        assert_eq!(fs::read(home.station_yml()).unwrap(), b"mine");
        assert_eq!(fs::read(home.local_key()).unwrap(), key);
    }

    #[test]
    fn a_home_on_a_network_file_system_is_refused_untouched_unless_forced() {
        let nfs = |_: &Path| Ok(Some("NFS"));
        let home = TestHome::missing();
        let refused = create_on(&home, SAMPLES, nfs).unwrap_err();
        assert!(refused.message().contains("on a NFS file system"), "{refused}");
        assert!(!home.root().exists());
        let force = [("STN_FORCE_NETWORK_HOME".to_owned(), "1".to_owned())].into();
        assert!(create_on(&Home::at(home.root(), Layout::Home, &force).unwrap(), SAMPLES, nfs).unwrap());
    }

    #[test]
    fn an_interrupted_first_use_goes_on() {
        let home = TestHome::missing();
        create(&home, &SAMPLES[..1]).unwrap();
        fs::write(home.cache_dir().join("first-use"), "").unwrap();
        assert!(create(&home, SAMPLES).unwrap());
        assert!(home.root().join("environments/default/agents/hello.prompt").exists());
        assert!(!home.cache_dir().join("first-use").exists());
    }

    #[test]
    fn what_a_cut_off_first_use_left_is_cleared_away_and_nothing_that_only_looks_like_it() {
        let home = TestHome::missing();
        create(&home, SAMPLES).unwrap();
        let agents = home.root().join("environments/default/agents");
        let left = [home.secrets_dir().join(".new-0aZ9bY8cX7"), agents.join(".new-abcdefghij")];
        let kept =
            [agents.join(".new-agent"), agents.join(".new-abcdefghij.prompt"), home.root().join(".new-a_cdefghij")];
        left.iter().chain(&kept).for_each(|path| fs::write(path, "half").unwrap());
        assert!(!create(&home, SAMPLES).unwrap());
        assert_eq!(left.map(|path| path.exists()), [false; 2]);
        assert_eq!(kept.map(|path| path.exists()), [true; 3]);
    }

    #[test]
    fn many_first_uses_at_once_agree_on_one_key() {
        let home = TestHome::missing();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| create(&home, SAMPLES).unwrap());
            }
        });
        super::super::LocalKey::load(&home).unwrap();
        assert_eq!(fs::read_dir(home.secrets_dir()).unwrap().count(), 1);
    }

    #[test]
    fn a_secrets_directory_that_others_may_enter_is_refused() {
        let home = TestHome::created();
        fs::set_permissions(home.secrets_dir(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(create(&home, &[]).unwrap_err().hint_text().unwrap().starts_with("chmod 700"));
    }

    #[test]
    fn a_sample_outside_the_home_is_refused() {
        let home = TestHome::missing();
        assert!(create(&home, &[("../outside", b"")]).unwrap_err().message().contains("../outside"));
    }

    #[test]
    fn the_system_layout_keeps_keys_away_from_configuration() {
        let home = TestHome::missing_system();
        create(&home, SAMPLES).unwrap();
        assert!(home.root().join("config/environments/default/agents/hello.prompt").exists());
        assert!(home.root().join("data/secrets/local.key").exists());
        assert_eq!(mode(&home.root().join("config")), 0o755);
    }
}
