//! Progress of a call, as the server tells it.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One progress notification.
#[derive(Debug, Clone)]
pub struct Progress {
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
    /// The params as they came; only `progressToken` is ours and must be replaced before they are passed on.
    pub params: Box<RawValue>,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "progressToken")]
    token: u64,
    #[serde(default)]
    progress: f64,
    #[serde(default)]
    total: Option<f64>,
    #[serde(default)]
    message: Option<String>,
}

impl Progress {
    /// The id of the request that the notification belongs to (our tokens are request ids), and what it says.
    pub(super) fn read(params: &RawValue) -> Option<(u64, Self)> {
        let read: Params = serde_json::from_str(params.get()).ok()?;
        let progress =
            Self { progress: read.progress, total: read.total, message: read.message, params: params.to_owned() };
        Some((read.token, progress))
    }
}
