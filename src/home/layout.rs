//! Where everything of a home lies. Paths only: nothing here touches a file, except to resolve symlinks in the root.

use crate::domain::{Name, to_hex};
use crate::error::Result;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path that fits into `sockaddr_un` beside its terminating zero, in bytes.
const SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The root of a station in production.
const SYSTEM_ROOT: &str = "/opt/station";

/// How a home spreads its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Everything in one directory.
    Home,
    /// `config`, `data`, `logs` and `backup` side by side, as packages and containers mount them (`STN_LAYOUT=system`).
    System,
}

/// A home: its root and the way to each of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    layout: Layout,
    socket: PathBuf,
    /// `STN_FORCE_NETWORK_HOME=1`: locks are trusted wherever the home lies.
    trusts_network: bool,
}

impl Home {
    /// The home that these environment variables name: `$STN_HOME`, else `/opt/station` with `STN_LAYOUT=system`, else
    /// `$XDG_CONFIG_HOME/station`, else `~/.config/station`.
    pub fn resolve(environment: &BTreeMap<String, String>) -> Result<Self> {
        let layout = match set(environment, "STN_LAYOUT") {
            None | Some("home") => Layout::Home,
            Some("system") => Layout::System,
            Some(other) => {
                return Err(super::misconfigured(format!("STN_LAYOUT is `{other}`, which is no layout"))
                    .hint("unset STN_LAYOUT, or set it to `home` or `system`"));
            }
        };
        Self::at(&root_of(layout, environment)?, layout, environment)
    }

    /// The home at `root`, which may be relative and need not exist. The environment decides only where a socket goes whose path
    /// would be too long beside the other files, and whether a network file system is accepted.
    pub fn at(root: &Path, layout: Layout, environment: &BTreeMap<String, String>) -> Result<Self> {
        let resolved = std::path::absolute(root).and_then(|absolute| without_symlinks(&absolute));
        let root = resolved.map_err(|cause| {
            super::misconfigured(format!("`{}` can't be the home: {cause}", root.display()))
                .hint("set STN_HOME to a directory that you may write to")
                .source(cause)
        })?;
        let trusts_network = set(environment, "STN_FORCE_NETWORK_HOME") == Some("1");
        let mut home = Self { root, layout, socket: PathBuf::new(), trusts_network };
        home.socket = socket_path(&home.state_dir(), environment);
        Ok(home)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What people edit and keep in git: settings and environments.
    pub fn config_dir(&self) -> PathBuf {
        self.part("config")
    }

    /// What the station writes: stores, keys, audit, lock and socket.
    pub fn state_dir(&self) -> PathBuf {
        self.part("data")
    }

    /// `station.yml`.
    pub fn station_yml(&self) -> PathBuf {
        self.config_dir().join("station.yml")
    }

    /// The directory of all environments.
    pub fn environments_dir(&self) -> PathBuf {
        self.config_dir().join("environments")
    }

    /// What people edit of one environment.
    pub fn environment_dir(&self, environment: &Name) -> PathBuf {
        self.environments_dir().join(environment.as_str())
    }

    /// The agent definitions of one environment.
    pub fn agents_dir(&self, environment: &Name) -> PathBuf {
        self.environment_dir(environment).join("agents")
    }

    /// What the sample agent's filesystem server sees.
    pub fn workspace_dir(&self, environment: &Name) -> PathBuf {
        self.environment_dir(environment).join("workspace")
    }

    /// The control store.
    pub fn control_db(&self) -> PathBuf {
        self.state_dir().join("station.db")
    }

    /// The stores of the environments. `station` is no environment's name, so that the system layout can keep them beside the
    /// control store.
    pub fn stores_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The store of one environment.
    pub fn data_db(&self, environment: &Name) -> PathBuf {
        self.stores_dir().join(format!("{environment}.db"))
    }

    /// Key material; mode 0700.
    pub fn secrets_dir(&self) -> PathBuf {
        self.state_dir().join("secrets")
    }

    /// The local owner's key; mode 0600.
    pub fn local_key(&self) -> PathBuf {
        self.secrets_dir().join("local.key")
    }

    /// What says how the key to all secrets is made and recognised; mode 0600.
    pub fn root_key(&self) -> PathBuf {
        self.secrets_dir().join("root.json")
    }

    /// The key to all secrets, where neither a passphrase nor another file is; mode 0600.
    pub fn master_key(&self) -> PathBuf {
        self.secrets_dir().join("master.key")
    }

    /// Audit lines.
    pub fn audit_dir(&self) -> PathBuf {
        self.state_dir().join("audit")
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Where the background owner logs.
    pub fn background_log(&self) -> PathBuf {
        self.logs_dir().join("background.log")
    }

    /// Tool schemas and scratch; safe to delete.
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir().join("cache")
    }

    /// The owner's lock.
    pub fn lock(&self) -> PathBuf {
        self.state_dir().join("station.lock")
    }

    /// The owner's socket: beside the lock, or in a private directory for sockets when that path would be too long.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// An error when the home lies on NFS, SMB or FUSE, where locks and the stores' shared memory can't be trusted, unless
    /// `STN_FORCE_NETWORK_HOME=1` insists. `kind_of` tells what a path lies on.
    pub(super) fn refuse_network_filesystem(
        &self,
        kind_of: impl FnOnce(&Path) -> Result<Option<&'static str>>,
    ) -> Result<()> {
        if self.trusts_network {
            return Ok(());
        }
        let path = self.state_dir();
        kind_of(&path)?.map_or(Ok(()), |kind| Err(super::filesystem::refusal(&path, kind)))
    }

    fn part(&self, name: &str) -> PathBuf {
        match self.layout {
            Layout::Home => self.root.clone(),
            Layout::System => self.root.join(name),
        }
    }
}

fn root_of(layout: Layout, environment: &BTreeMap<String, String>) -> Result<PathBuf> {
    if let Some(root) = set(environment, "STN_HOME") {
        return Ok(root.into());
    }
    if layout == Layout::System {
        return Ok(SYSTEM_ROOT.into());
    }
    // The XDG specification has relative paths ignored.
    if let Some(config) = set(environment, "XDG_CONFIG_HOME").filter(|path| Path::new(path).is_absolute()) {
        return Ok(Path::new(config).join("station"));
    }
    set(environment, "HOME").map(|home| Path::new(home).join(".config/station")).ok_or_else(|| {
        super::misconfigured("no home directory: none of STN_HOME, XDG_CONFIG_HOME and HOME is set")
            .hint("set STN_HOME")
    })
}

fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// `path` with the symlinks of its existing part resolved, so that all spellings of a home agree on its socket, before and after
/// the home is created.
fn without_symlinks(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(cause), Some(parent), Some(name)) if cause.kind() == io::ErrorKind::NotFound => {
            Ok(without_symlinks(parent)?.join(name))
        }
        (resolved, _, _) => resolved,
    }
}

fn socket_path(state_dir: &Path, environment: &BTreeMap<String, String>) -> PathBuf {
    let beside_lock = state_dir.join("station.sock");
    if fits(&beside_lock) {
        return beside_lock;
    }
    let name = format!("stn-{}.sock", short_hash(state_dir));
    let private = format!("stn-{}", nix::unistd::geteuid());
    let runtime = set(environment, "XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let scratch = set(environment, "TMPDIR").map(|path| Path::new(path).join(&private));
    [runtime, scratch]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(&name))
        .find(|path| fits(path))
        .unwrap_or_else(|| Path::new("/tmp").join(private).join(name))
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_BYTES
}

/// Sixteen hex digits that tell homes apart.
pub(super) fn short_hash(path: &Path) -> String {
    to_hex(&Sha256::digest(path.as_os_str().as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn root(pairs: &[(&str, &str)]) -> PathBuf {
        Home::resolve(&environment(pairs)).unwrap().root().to_owned()
    }

    #[test]
    fn the_first_variable_that_names_a_home_wins() {
        let all = [("STN_HOME", "/stn-a"), ("XDG_CONFIG_HOME", "/stn-b"), ("HOME", "/stn-c")];
        assert_eq!(root(&all), Path::new("/stn-a"));
        assert_eq!(root(&all[1..]), Path::new("/stn-b/station"));
        assert_eq!(root(&all[2..]), Path::new("/stn-c/.config/station"));
        assert_eq!(root(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/stn-c")]), Path::new("/stn-c/.config/station"));
        assert!(Home::resolve(&environment(&[("STN_HOME", "")])).unwrap_err().message().contains("STN_HOME"));
    }

    #[test]
    fn the_system_layout_spreads_the_same_files_over_three_directories() {
        let home = Home::resolve(&environment(&[("STN_LAYOUT", "system")])).unwrap();
        let staging = Name::new("staging").unwrap();
        assert_eq!(home.agents_dir(&staging), Path::new("/opt/station/config/environments/staging/agents"));
        assert_eq!(home.control_db(), Path::new("/opt/station/data/station.db"));
        assert_eq!(home.data_db(&staging), Path::new("/opt/station/data/staging.db"));
        assert_eq!(home.local_key(), Path::new("/opt/station/data/secrets/local.key"));
        assert_eq!(home.logs_dir(), Path::new("/opt/station/logs"));
        assert_eq!(home.socket(), Path::new("/opt/station/data/station.sock"));
    }

    #[test]
    fn an_unknown_layout_is_an_error_that_names_it() {
        let error = Home::resolve(&environment(&[("STN_LAYOUT", "sytem"), ("HOME", "/stn-c")])).unwrap_err();
        assert!(error.message().contains("`sytem`"));
    }

    #[test]
    fn the_plain_layout_keeps_everything_in_the_root() {
        let home = Home::resolve(&environment(&[("STN_HOME", "/stn-a")])).unwrap();
        let name = Name::new("default").unwrap();
        assert_eq!(home.station_yml(), Path::new("/stn-a/station.yml"));
        assert_eq!(home.data_db(&name), Path::new("/stn-a/data/default.db"));
        assert_eq!(home.lock(), Path::new("/stn-a/station.lock"));
    }

    #[test]
    fn a_socket_whose_path_would_be_too_long_moves_to_the_runtime_directory() {
        let long = format!("/{}", "x".repeat(110));
        let with = |pairs: &[(&str, &str)]| {
            let mut all = vec![("STN_HOME", long.as_str())];
            all.extend_from_slice(pairs);
            Home::resolve(&environment(&all)).unwrap().socket().to_owned()
        };
        let runtime = with(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("TMPDIR", "/scratch")]);
        assert_eq!(runtime.parent().unwrap(), Path::new("/run/user/7"));
        let uid = nix::unistd::geteuid();
        assert_eq!(with(&[("TMPDIR", "/scratch")]).parent().unwrap(), Path::new(&format!("/scratch/stn-{uid}")));
        let elsewhere = with(&[("XDG_RUNTIME_DIR", &long), ("TMPDIR", &long)]);
        assert_eq!(elsewhere.parent().unwrap(), Path::new(&format!("/tmp/stn-{uid}")));
        assert!(fits(&elsewhere));
    }

    #[test]
    fn all_spellings_of_a_home_are_one_before_and_after_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        let before = Home::at(&link.join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        std::fs::create_dir(directory.path().join("home")).unwrap();
        let after = Home::at(&directory.path().join("home"), Layout::Home, &BTreeMap::new()).unwrap();
        assert_eq!(before, after);
    }
}
