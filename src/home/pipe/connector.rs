//! How the pipe reaches an owner.

use super::super::{Home, LocalStream, SpawnOwner, attach_or_spawn};
use crate::clock::SharedClock;
use crate::error::Result;
use std::future::Future;
use tokio::io::{AsyncRead, AsyncWrite};

/// The name of the pipe's protocol in `Upgrade`: lines of JSON-RPC, as MCP over stdio.
pub const PROTOCOL: &str = "stn-stdio";

/// Gives connections, one after the other. The seam at which tests put an owner of theirs.
pub trait Connector: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin;

    /// A new connection to whoever owns the home now.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Stream>> + Send;
}

/// What a client asks of its session; all optional.
#[derive(Debug, Clone, Default)]
pub struct StdioOptions {
    /// The environment that the session is bound to.
    pub environment: Option<String>,
    /// Which tools are listed: a view, or `all`.
    pub tools: Option<String>,
    /// The role that the session is limited to.
    pub role: Option<String>,
    /// Further headers of the upgrade request.
    pub headers: Vec<(String, String)>,
}

impl StdioOptions {
    /// `/local/stdio` with the options as its query.
    fn path(&self) -> String {
        let options = [("environment", &self.environment), ("tools", &self.tools), ("role", &self.role)];
        let query: Vec<String> = options
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(value.as_deref()?))))
            .collect();
        if query.is_empty() { "/local/stdio".to_owned() } else { format!("/local/stdio?{}", query.join("&")) }
    }
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Connects to the owner of a home over its socket, starting one in the background when there is none.
#[derive(Debug)]
pub struct OwnerConnector {
    pub home: Home,
    pub schema: u32,
    pub clock: SharedClock,
    pub spawn: SpawnOwner,
    pub options: StdioOptions,
}

impl Connector for OwnerConnector {
    type Stream = LocalStream;

    async fn connect(&mut self) -> Result<LocalStream> {
        let client = attach_or_spawn(&self.home, self.schema, &self.clock, &self.spawn).await?;
        let headers: Vec<(&str, &str)> =
            self.options.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.upgrade(&self.options.path(), PROTOCOL, &headers).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::OwnerMode;
    use super::super::super::testing::{TestHome, answer, handshake, read_request};
    use super::*;
    use crate::clock::SystemClock;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn options_become_a_query_in_which_nothing_can_break_out() {
        assert_eq!(StdioOptions::default().path(), "/local/stdio");
        let options = StdioOptions {
            environment: Some("staging".into()),
            tools: Some("a&role=admin é".into()),
            ..StdioOptions::default()
        };
        assert_eq!(options.path(), "/local/stdio?environment=staging&tools=a%26role%3Dadmin%20%C3%A9");
    }

    #[tokio::test]
    async fn the_owner_is_asked_to_switch_to_lines() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Background);
        let mut connector = OwnerConnector {
            home: home.clone(),
            schema: 3,
            clock: SystemClock::shared(),
            spawn: SpawnOwner::this_program(BTreeMap::new(), |_, _| Ok(None)).unwrap(),
            options: StdioOptions {
                role: Some("viewer".into()),
                headers: vec![("x-variables".into(), "A".into())],
                ..StdioOptions::default()
            },
        };
        let owner = async {
            answer(&listener, "200 OK", &serde_json::to_string(&handshake(3)).unwrap()).await;
            let mut stream = listener.accept_checked().await.unwrap();
            assert_eq!(read_request(&mut stream).await, "GET /local/stdio?role=viewer");
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: stn-stdio\r\n\r\n{}\n";
            stream.write_all(head.as_bytes()).await.unwrap();
        };
        let (stream, ()) = tokio::join!(connector.connect(), owner);
        let mut text = String::new();
        stream.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "{}\n");
    }
}
