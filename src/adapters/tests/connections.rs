//! How many may be connected, and who of them stays.

use super::keys::key;
use crate::adapters::http::serve_at_most;
use crate::adapters::testing::TestStation;
use crate::config::Settings;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MOST: usize = 3;

/// The door over TCP, with places for three.
struct Door {
    test: TestStation,
    address: SocketAddr,
}

impl Door {
    async fn open(settings: Settings) -> Self {
        let test = TestStation::with(settings).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, clock) = (test.deps.tasks.clone(), test.deps.station.clock.clone());
        let serving = serve_at_most(MOST, listener, test.routers.tcp.clone(), tasks.clone(), clock);
        tasks.spawn("door", serving);
        Self { test, address }
    }

    async fn connect(&self) -> Caller {
        Caller(TcpStream::connect(self.address).await.unwrap())
    }

    /// Time passes, but less than ends a connection.
    fn later(&self) {
        self.test.clock.advance(Duration::from_millis(1));
    }
}

struct Caller(TcpStream);

impl Caller {
    /// The status of the answer to a request; `None` if the connection was closed.
    async fn asks(&mut self, path: &str, headers: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split_once('\r').unwrap().0.parse().unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        head.split(' ').nth(1)?.parse().ok()
    }

    async fn looks(&mut self) -> Option<u16> {
        self.asks("/healthz", "").await
    }

    async fn logs_in(&mut self, key: &str) -> Option<u16> {
        self.asks("/api/v1/agents", &format!("Authorization: Bearer {key}\r\nX-Forwarded-For: 192.0.2.1\r\n")).await
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}

#[tokio::test]
async fn who_has_a_key_gets_in_where_others_without_one_hold_all_places_and_the_one_that_was_idle_longest_leaves() {
    let door = Door::open(Settings::default()).await;
    let (_, secret) = key(&door.test, json!({ "name": "ci" })).await;
    let mut holders = Vec::new();
    for _ in 0..MOST {
        let mut holder = door.connect().await;
        assert_eq!(holder.looks().await, Some(200));
        holders.push(holder);
        door.later();
    }
    // The first one has asked last.
    assert_eq!(holders[0].looks().await, Some(200));
    door.later();
    // A wrong key is none.
    assert_eq!(holders[2].logs_in("wrong").await, Some(401));
    door.later();
    let mut owner = door.connect().await;
    assert_eq!(owner.logs_in(&door.test.key).await, Some(200));
    assert!(holders[1].is_closed().await);
    assert_eq!(holders[0].looks().await, Some(200));
    door.later();
    let mut other = door.connect().await;
    assert_eq!(other.logs_in(&secret).await, Some(200));
    assert!(holders[2].is_closed().await);
    assert_eq!((holders[0].looks().await, owner.looks().await), (Some(200), Some(200)));
}

#[tokio::test]
async fn who_has_shown_a_key_keeps_their_place_and_one_more_waits_for_one() {
    for behind_proxy in [false, true] {
        let mut settings = Settings::default();
        settings.http.behind_proxy = behind_proxy;
        let door = Door::open(settings).await;
        let mut known = Vec::new();
        for _ in 0..MOST {
            let mut caller = door.connect().await;
            assert_eq!(caller.logs_in(&door.test.key).await, Some(200));
            known.push(caller);
            door.later();
        }
        let mut further = door.connect().await;
        let mut waiting = Box::pin(further.looks());
        for caller in &mut known {
            let mut looks = Box::pin(caller.looks());
            let looked = tokio::select! {
                biased;
                _ = &mut waiting => panic!("there was no place"),
                looked = &mut looks => looked,
            };
            assert_eq!(looked, Some(200));
        }
        drop(known.pop());
        assert_eq!(waiting.await, Some(200));
    }
}
