//! What names one request.

use std::fmt;
use std::sync::Arc;

/// Names one request over HTTP: in its answer, in the log and in audit rows. The outermost layer of the listener makes it and puts it into the
/// request's extensions, for whatever answers. Ours alone: a caller's own is not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// 64 bits, as sixteen hex digits: enough to find one request in a log.
    pub fn new(bits: u64) -> Self {
        Self(format!("{bits:016x}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
