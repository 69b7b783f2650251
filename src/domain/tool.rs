//! What calling a tool does to the world.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a call changes. Ordered: a later one contains the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Read,
    Write,
    Destructive,
}

impl Effect {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}

/// An effect with what stands beside it. The default is what an unknown tool is taken for: destructive, not idempotent, open to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolEffect {
    pub effect: Effect,
    /// Calling it twice with the same arguments and idempotency key is the same as calling it once.
    pub idempotent: bool,
    /// It reaches beyond the server's own data.
    pub open_world: bool,
    /// Said by a trusted source (built-in, catalogue, operator), not by a bare annotation. Only then may a call in flight be repeated.
    pub trusted: bool,
}

impl ToolEffect {
    /// The effect as far as somebody trusted says so: a server's own `read` counts as if it had said nothing.
    pub fn believed(self) -> Effect {
        if self.effect == Effect::Read && !self.trusted { Self::default().effect } else { self.effect }
    }

    /// Does somebody trusted say that a call changes nothing? A server's own word isn't enough.
    pub fn is_known_read(self) -> bool {
        self.believed() == Effect::Read
    }

    /// May a call that was cut off be made again without asking anybody?
    pub fn is_repeatable(self) -> bool {
        self.trusted && (self.effect == Effect::Read || self.idempotent)
    }
}

/// The tool with which a model asks a person. No attached tool can be called so.
pub const ASK_USER: &str = "ask_user";

/// What a child agent is called towards a model: `agent__` and its name. No server can be called `agent`.
pub const AGENT_PREFIX: &str = "agent__";

impl Default for ToolEffect {
    fn default() -> Self {
        Self { effect: Effect::Destructive, idempotent: false, open_world: true, trusted: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_word_makes_a_call_repeatable() {
        let annotated = ToolEffect { effect: Effect::Read, idempotent: true, open_world: false, trusted: false };
        assert!(!annotated.is_repeatable());
        assert!(ToolEffect { trusted: true, ..annotated }.is_repeatable());
        assert!(ToolEffect { effect: Effect::Write, trusted: true, ..annotated }.is_repeatable());
        assert!(!ToolEffect::default().is_repeatable());
    }
}
