//! aimock, a fake of several providers' APIs that others wrote: <https://github.com/CopilotKit/aimock>.

use super::http::Http;
use super::peers;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running aimock, killed when dropped.
pub struct Aimock {
    child: Child,
    /// Without a path.
    pub url: String,
    _fixtures: TempDir,
}

impl Aimock {
    /// Answers by `fixtures`, in pieces of five characters, so that tool arguments come in parts.
    pub fn start(fixtures: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("fixtures.json"), fixtures.to_string()).unwrap();
        let mut child = Command::new(peers::node())
            .arg(peers::npm(".bin/llmock"))
            .args(["--port", "0", "--strict", "--chunk-size", "5", "--fixtures"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let from = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "aimock ended:\n{said}");
            if let Some((_, url)) = said[from..].split_once("listening on ") {
                break url.trim().to_owned();
            }
        };
        // Nobody reads it further, but a full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, url, _fixtures: directory }
    }

    /// Where the requests arrived, one after the other.
    pub fn paths(&self) -> Vec<String> {
        let journal = Http::anonymous(&self.url).get("/__aimock/journal").with(200).json();
        let path = |entry: &Value| entry["path"].as_str().unwrap().split('?').next().unwrap().to_owned();
        journal.as_array().unwrap_or_else(|| panic!("no list: {journal}")).iter().map(path).collect()
    }

    /// How many requests had this as their user's message.
    pub fn requests(&self, message: &str) -> usize {
        let journal = Http::anonymous(&self.url).get("/__aimock/journal").with(200).json();
        let said = |entry: &&Value| {
            let messages = entry["body"]["messages"].as_array().unwrap();
            messages.iter().any(|said| said["role"] == "user" && said["content"].to_string().contains(message))
        };
        journal.as_array().unwrap_or_else(|| panic!("no list: {journal}")).iter().filter(said).count()
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
