//! Places where a build with the feature `failpoints` can be made to break, to prove what then holds. Any other build has nothing of them.
//!
//! `STN_FAILPOINTS=tool.result=panic,run.turn=panic@3` panics when the result of an attached tool arrives for the first time, and when a
//! run begins its third turn. A panic quotes what is at hand at its place, as the worst of programs would: nothing of that may get past
//! the redactor. A build without failpoints refuses the variable, as it does any that it doesn't know.

#[cfg(feature = "failpoints")]
mod armed;
#[cfg(feature = "failpoints")]
pub use armed::{VARIABLE, arm};

/// A place that can be made to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// `act`: a tool of the table has been asked for, with arguments that hold.
    Act,
    /// `server.start`: an attached server is about to be started, with all that its process is given.
    ServerStart,
    /// `tool.result`: the result of an attached tool has come, and nothing has looked at it.
    ToolResult,
    /// `run.turn`: a run begins a turn.
    RunTurn,
    /// `model.request`: a request to a model is about to leave, with its key.
    ModelRequest,
    /// `store.journal`: steps of a run are being written, inside the transaction.
    StoreJournal,
}

impl Failpoint {
    /// All of them, with their names.
    #[cfg(feature = "failpoints")]
    const ALL: [(Self, &'static str); 6] = [
        (Self::Act, "act"),
        (Self::ServerStart, "server.start"),
        (Self::ToolResult, "tool.result"),
        (Self::RunTurn, "run.turn"),
        (Self::ModelRequest, "model.request"),
        (Self::StoreJournal, "store.journal"),
    ];

    /// Breaks here, if that was asked for. A panic quotes what `at_hand` gives.
    #[cfg(not(feature = "failpoints"))]
    #[inline]
    pub fn reach(self, _at_hand: impl FnOnce() -> String) {}
}
