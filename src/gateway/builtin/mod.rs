//! Servers that are compiled into Station. They follow the same rules as any attached server, save that their word on effects is trusted.
//!
//! A new one is a folder here, a variant of [`Builtin`], and its name in [`Builtin::start`].

pub mod filesystem;

use crate::error::{Error, Result};
use filesystem::Filesystem;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A running built-in server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Builtin {
    Filesystem(Arc<Filesystem>),
}

impl Builtin {
    /// Starts the built-in `name`. Relative directories start at the workspace, and no directory means the workspace itself; nothing else
    /// inside the home is reachable.
    pub(super) fn start(name: &str, args: &[String], home: &Path, workspace: &Path) -> Result<Self> {
        match name {
            "filesystem" => {
                let mut roots: Vec<PathBuf> = args.iter().map(|root| directory(root, workspace)).collect();
                if roots.is_empty() {
                    roots.push(workspace.to_owned());
                }
                let server = Filesystem::new(roots, Some(home.to_owned()), Some(workspace.to_owned()))?;
                Ok(Self::Filesystem(Arc::new(server)))
            }
            unknown => Err(Error::invalid_input(format!("there is no built-in server `{unknown}`"))
                .hint("use `filesystem`, or attach a server by `command` or `url`")
                .field("builtin")),
        }
    }

    pub(super) fn tools(&self) -> Vec<Box<RawValue>> {
        match self {
            Self::Filesystem(_) => Filesystem::tools(),
        }
    }

    /// Calls a tool off the async threads. A call that has begun runs to its end, also when its caller goes away: every one is bounded.
    pub(super) async fn call(&self, tool: &str, arguments: Box<RawValue>) -> Result<Box<RawValue>> {
        let (server, tool) = (self.clone(), tool.to_owned());
        let work = tokio::task::spawn_blocking(move || match server {
            Self::Filesystem(server) => server.call(&tool, &arguments),
        });
        work.await.map_err(|cause| Error::internal("a built-in server failed").source(cause))?
    }
}

/// The directory that an argument means: `~` is the user's home, and a relative path starts at the workspace. Without its `.` components, as
/// people are shown it.
fn directory(argument: &str, workspace: &Path) -> PathBuf {
    workspace.join(filesystem::expanded(argument)).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_relative_to_the_workspace_or_the_users_home() {
        let workspace = Path::new("/w");
        let user = std::env::home_dir().unwrap();
        for (argument, expected) in [
            ("./a/./b", PathBuf::from("/w/a/b")),
            ("/a/b", PathBuf::from("/a/b")),
            ("~", user.clone()),
            ("~/a", user.join("a")),
            ("a~/b", PathBuf::from("/w/a~/b")),
            ("~other/a", PathBuf::from("/w/~other/a")),
        ] {
            assert_eq!(directory(argument, workspace), expected, "{argument}");
        }
    }
}
