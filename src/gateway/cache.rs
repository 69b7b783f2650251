//! What is remembered of a server between two lives of the station: its protocol and its tool definitions. Safe to delete.

use super::identity::identity;
use crate::domain::{McpServerDefinition, Name};
use crate::mcp::call::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::path::{Path, PathBuf};

/// The content of `<cache>/<environment>/<server>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Which program or address this was; another one under the same name makes it worthless.
    identity: String,
    pub(super) protocol: Protocol,
    pub(super) tools: Vec<Box<RawValue>>,
}

/// The cache of one environment.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn new(cache_dir: &Path, environment: &Name) -> Self {
        Self { dir: cache_dir.join(environment.as_str()) }
    }

    /// What is known of `server`, if anything is.
    pub(super) fn load(&self, server: &McpServerDefinition) -> Option<Remembered> {
        let text = std::fs::read(self.path(&server.name)).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.identity == identity(server)).then_some(remembered)
    }

    /// Keeps what `server` just said. That this fails only costs the next start some time.
    pub(super) async fn store(&self, server: &McpServerDefinition, protocol: Protocol, tools: Vec<Box<RawValue>>) {
        let remembered = Remembered { identity: identity(server), protocol, tools };
        let (dir, path, name) = (self.dir.clone(), self.path(&server.name), server.name.clone());
        let written = tokio::task::spawn_blocking(move || write(&dir, &path, &remembered)).await;
        if let Ok(Err(cause)) = written {
            tracing::warn!(server = %name, %cause, "the tool definitions can't be cached");
        }
    }

    fn path(&self, server: &Name) -> PathBuf {
        self.dir.join(format!("{server}.json"))
    }
}

fn write(dir: &Path, path: &Path, remembered: &Remembered) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, serde_json::to_vec(remembered)?)?;
    std::fs::rename(&temporary, path)
}
