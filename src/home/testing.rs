//! Temporary homes, and a stand-in for the owner's HTTP side, for this room's tests.

use super::{Handshake, Home, Layout, LocalListener, OwnerLock, OwnerMode, create};
use crate::domain::Timestamp;
use std::collections::BTreeMap;
use std::ops::Deref;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A home in a directory of its own, which goes when the value does.
pub(super) struct TestHome {
    home: Home,
    _directory: tempfile::TempDir,
}

impl TestHome {
    pub(super) fn missing() -> Self {
        Self::with(Layout::Home)
    }

    pub(super) fn missing_system() -> Self {
        Self::with(Layout::System)
    }

    pub(super) fn created() -> Self {
        let home = Self::missing();
        create(&home, &[]).unwrap();
        home
    }

    fn with(layout: Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"), layout, &BTreeMap::new()).unwrap();
        Self { home, _directory: directory }
    }

    /// The lock and the socket, taken by this process.
    pub(super) fn own(&self, mode: OwnerMode) -> (OwnerLock, LocalListener) {
        let lock = OwnerLock::try_acquire(self, mode, Timestamp::from_millis(0)).unwrap().unwrap();
        let listener = LocalListener::bind(self, &lock).unwrap();
        (lock, listener)
    }
}

impl Deref for TestHome {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

pub(super) fn handshake(schema: u32) -> Handshake {
    Handshake { version: "9.9.9".into(), schema, pid: std::process::id(), mode: OwnerMode::Background }
}

/// Reads a request's head and body; returns `method path`.
pub(super) async fn read_request(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head.split(" HTTP/").next().unwrap().to_owned()
}

/// Answers one request on one connection with `status` and `body`; returns `method path`.
pub(super) async fn answer(listener: &LocalListener, status: &str, body: &str) -> String {
    let mut stream = listener.accept_checked().await.unwrap();
    let request = read_request(&mut stream).await;
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    request
}

/// Answers every handshake until dropped.
pub(super) async fn answer_handshakes(listener: &LocalListener, schema: u32) {
    let body = serde_json::to_string(&handshake(schema)).unwrap();
    loop {
        answer(listener, "200 OK", &body).await;
    }
}
