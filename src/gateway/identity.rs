//! What makes an attached server the same server, and its command the same command.

use super::names::sha256_hex;
use crate::domain::{McpServerDefinition, ServerTransport};
use serde_json::json;

/// The hash of what would be run: SHA-256 over the command, its arguments, its directory and the names of its variables (values may be
/// secrets that are rotated). A person accepts this hash. `None` for built-ins and URLs, which run nothing.
pub fn command_hash(definition: &McpServerDefinition) -> Option<String> {
    let ServerTransport::Stdio { command, args, env, cwd } = &definition.transport else { return None };
    let names: Vec<_> = env.keys().collect();
    let what = json!({ "command": command, "args": args, "cwd": cwd, "env": names });
    Some(sha256_hex(&[what.to_string().as_bytes()]))
}

/// Like [`command_hash`], for servers of every kind.
pub(super) fn identity(definition: &McpServerDefinition) -> String {
    match &definition.transport {
        ServerTransport::Http { url, .. } => sha256_hex(&[b"url", url.as_bytes()]),
        ServerTransport::Builtin { builtin, .. } => sha256_hex(&[b"builtin", builtin.as_bytes()]),
        ServerTransport::Stdio { .. } => command_hash(definition).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Name;
    use std::collections::BTreeMap;

    fn running(args: &[&str], env: &[(&str, &str)]) -> McpServerDefinition {
        McpServerDefinition {
            name: Name::new("s").unwrap(),
            file: String::new(),
            transport: ServerTransport::Stdio {
                command: "npx".into(),
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
                env: env.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect(),
                cwd: None,
            },
            target: Vec::new(),
            timeout_ms: None,
            disabled: false,
            tools: BTreeMap::new(),
        }
    }

    #[test]
    fn a_command_is_the_same_while_what_it_runs_is() {
        let hash = command_hash(&running(&["-y", "a"], &[("T", "1")])).unwrap();
        assert_eq!(command_hash(&running(&["-y", "a"], &[("T", "2")])).unwrap(), hash);
        assert_ne!(command_hash(&running(&["-y a"], &[("T", "1")])).unwrap(), hash);
        assert_ne!(command_hash(&running(&["-y", "a"], &[("U", "1")])).unwrap(), hash);
    }
}
