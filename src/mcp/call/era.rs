//! Which protocol a server speaks. Two eras exist: with a handshake (2024-11-05 to 2025-11-25), and stateless (2026-07-28), in which
//! every request says for itself what it is. The newer one is tried first, as the newer specification asks.

use super::connection::{ConnectError, Inner, Link, RequestOptions, Sent};
use super::error::{CallError, RpcError};
use super::object::RawObject;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;

/// The stateless version.
const MODERN: &str = "2026-07-28";
/// The versions with a handshake; the first is the one we ask for.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// How long a server on stdio may be silent on `server/discover` before it is taken for one that ignores what it doesn't know.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(10);

const UNSUPPORTED_VERSION: i64 = -32022;
/// Codes that only a modern server sends: header mismatch and missing client capability.
const MODERN_CODES: [i64; 2] = [-32020, -32021];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    Legacy,
    Modern,
}

/// What a server speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub era: Era,
    pub version: String,
}

impl Protocol {
    /// The newest version with a handshake.
    pub fn legacy() -> Self {
        Self { era: Era::Legacy, version: LEGACY[0].to_owned() }
    }

    /// The stateless version.
    pub fn modern() -> Self {
        Self { era: Era::Modern, version: MODERN.to_owned() }
    }

    /// Adds what a request of this era carries in `_meta`. A caller's own word on its capabilities stays.
    pub(super) fn stamp(&self, meta: &mut RawObject) {
        if self.era == Era::Modern {
            meta.set_default("io.modelcontextprotocol/protocolVersion", &self.version.as_str().into());
            meta.set_default("io.modelcontextprotocol/clientCapabilities", &json!({}));
            meta.set_default("io.modelcontextprotocol/clientInfo", &client_info());
        }
    }
}

fn client_info() -> Value {
    json!({ "name": "station", "version": env!("CARGO_PKG_VERSION") })
}

/// The outcome of a handshake or a discovery: what every later request goes by.
#[derive(Debug, Clone)]
pub(super) struct Agreement {
    pub(super) protocol: Protocol,
    /// Over HTTP, in the legacy era, where the server makes one.
    pub(super) session: Option<String>,
    /// The server announces changes of its tools.
    pub(super) tells_changes: bool,
}

impl Agreement {
    /// What is known of a modern server before it has said anything.
    fn modern() -> Self {
        Self { protocol: Protocol::modern(), session: None, tells_changes: false }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Introduction {
    #[serde(default)]
    protocol_version: Option<String>,
    #[serde(default)]
    supported_versions: Vec<String>,
    #[serde(default)]
    capabilities: Value,
}

impl Introduction {
    fn read(result: &RawValue) -> Result<Self, CallError> {
        serde_json::from_str(result.get()).map_err(|cause| CallError::Malformed(cause.to_string()))
    }

    fn tells_changes(&self) -> bool {
        self.capabilities["tools"]["listChanged"] == Value::Bool(true)
    }
}

/// What `server/discover` tells about a server.
enum Discovered {
    Modern(Agreement),
    /// It has to be asked with `initialize`.
    NotModern,
    /// It said nothing in time; it may still be starting.
    Silent,
    Failed(CallError),
}

impl Inner {
    /// Finds out what the server speaks and makes the handshake if it wants one.
    pub(super) async fn agree(
        &self,
        remembered: Option<&Protocol>,
        timeout: Duration,
    ) -> Result<Agreement, ConnectError> {
        let failed = |error| ConnectError { error, retry_as: None };
        if remembered.is_some_and(|protocol| protocol.era == Era::Legacy) {
            match self.initialize(Some(timeout)).await {
                // It may have been updated since.
                Err(CallError::Rpc(_)) => {}
                outcome => return outcome.map_err(failed),
            }
        }
        match self.discover(timeout.min(DISCOVER_PATIENCE)).await {
            Discovered::Modern(agreement) => Ok(agreement),
            Discovered::NotModern => self.initialize(Some(timeout)).await.map_err(failed),
            Discovered::Silent => match self.initialize(Some(timeout)).await {
                Err(CallError::Rpc(refusal)) => match self.discover(timeout).await {
                    Discovered::Modern(agreement) => Ok(agreement),
                    _ => Err(failed(CallError::Rpc(refusal))),
                },
                outcome => outcome.map_err(failed),
            },
            Discovered::Failed(error) => {
                let retry_as = matches!((&self.link, &error), (Link::Stdio(_), CallError::Closed(_)));
                Err(ConnectError { error, retry_as: retry_as.then(Protocol::legacy) })
            }
        }
    }

    async fn discover(&self, timeout: Duration) -> Discovered {
        let options = RequestOptions { timeout: Some(timeout), ..RequestOptions::default() };
        let modern = Agreement::modern();
        match self.ask(&modern, "server/discover", RawObject::new(), &options).await {
            Ok(result) => match Introduction::read(&result) {
                Ok(found) if found.supported_versions.iter().any(|version| version == MODERN) => {
                    Discovered::Modern(Agreement { tells_changes: found.tells_changes(), ..modern })
                }
                _ => Discovered::NotModern,
            },
            Err(CallError::Rpc(RpcError { code, .. })) if MODERN_CODES.contains(&code) => Discovered::Modern(modern),
            Err(CallError::Rpc(RpcError { code: UNSUPPORTED_VERSION, message, data }))
                if !offers_legacy(data.as_deref()) =>
            {
                Discovered::Failed(CallError::Rpc(RpcError { code: UNSUPPORTED_VERSION, message, data }))
            }
            // The credential is refused, not the protocol.
            Err(error @ CallError::Status { status: 401 | 403 | 407 | 429, .. }) => Discovered::Failed(error),
            Err(CallError::Rpc(_) | CallError::Status { .. } | CallError::Malformed(_)) => Discovered::NotModern,
            Err(CallError::TimedOut(_)) => Discovered::Silent,
            Err(error) => Discovered::Failed(error),
        }
    }

    /// The handshake of the legacy era. What it agrees on isn't in force yet: one that is given up halfway has changed nothing.
    pub(super) async fn initialize(&self, timeout: Option<Duration>) -> Result<Agreement, CallError> {
        let params = RawObject::new()
            .with("protocolVersion", &LEGACY[0].into())
            .with("capabilities", &json!({}))
            .with("clientInfo", &client_info());
        let options = RequestOptions { timeout, ..RequestOptions::default() };
        let shaking_hands = async {
            let answer = self.send(None, "initialize", params, &options, &Sent::default()).await?;
            let found = Introduction::read(&answer.result)?;
            let tells_changes = found.tells_changes();
            let version = found.protocol_version.unwrap_or_default();
            if !LEGACY.contains(&version.as_str()) {
                let reason = format!("the server wants protocol version `{version}`, which is unknown");
                return Err(CallError::Malformed(reason));
            }
            let protocol = Protocol { era: Era::Legacy, version };
            let agreement = Agreement { protocol, session: answer.session, tells_changes };
            self.tell(&agreement, "notifications/initialized").await;
            Ok(agreement)
        };
        self.limited(&options, shaking_hands).await
    }
}

/// Whether the data of a refused version names one with a handshake.
fn offers_legacy(data: Option<&RawValue>) -> bool {
    let data: Value = data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    let supported = data["supported"].as_array();
    supported.is_none_or(|list| list.iter().any(|version| LEGACY.iter().any(|legacy| version == legacy)))
}
