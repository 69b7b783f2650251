//! What a turn is made of, the same for every dialect.

use super::error::{ProviderError, shown};
use super::{ollama, openai_chat};
use crate::domain::{Effect, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A tool as the model is offered it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// The model-facing name, normally already at most 64 characters of `[a-zA-Z0-9_-]`; another is mapped on the wire and back.
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments, as the server wrote it; every request sends a cleaned copy.
    pub input_schema: Value,
    /// What calling it does, as far as somebody trusted says so. Models aren't told; the offline rules go by it.
    pub effect: Effect,
}

/// One entry of the conversation, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    User {
        text: String,
    },
    Assistant {
        text: String,
        calls: Vec<ToolCall>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        native: Option<Native>,
    },
    /// The results of the calls of the assistant message before it, in the order of the calls.
    ToolResults(Vec<ToolResult>),
}

/// A provider's own content blocks, kept byte for byte so that they can go back unchanged and in place.
///
/// They mean something only to the dialect and model that made them; a request to another one leaves them out and uses the text and
/// the calls beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Native {
    /// The dialect that made it, such as `anthropic`.
    pub provider: String,
    /// The model that made it.
    pub model: String,
    /// The blocks, in the dialect's own JSON.
    pub blocks: Box<RawValue>,
}

impl Native {
    /// Is it nothing but text that nobody has signed? All other dialects take back only what they gave.
    pub(super) fn may_be_changed(&self) -> bool {
        [openai_chat::DIALECT, ollama::DIALECT].contains(&self.provider.as_str())
    }

    /// The blocks' JSON text, if they were made by this dialect and model.
    pub(super) fn for_model(&self, dialect: &str, model: &str) -> Option<&RawValue> {
        (self.provider == dialect && self.model == model).then_some(&*self.blocks)
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.provider == other.provider && self.model == other.model && self.blocks.get() == other.blocks.get()
    }
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique within the turn; results name it.
    pub id: String,
    /// The name as it was offered.
    pub name: String,
    /// The arguments as they came: JSON text, which may be malformed, no object, or not fit the schema.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments as the object that some dialects demand, in their own bytes. What is none is wrapped, so that the model sees what it
    /// wrote.
    pub(super) fn arguments_as_object(&self) -> serde_json::Result<Box<RawValue>> {
        object_of(&self.arguments)
    }
}

/// Gives calls without an id of their own, or with that of another, one that is made of the `position` in the conversation. Whether any
/// had to get one: then the provider's own blocks can't go back, because results would name calls that aren't in them.
pub(super) fn with_ids(calls: &mut [ToolCall], position: usize) -> bool {
    let given: HashSet<String> = calls.iter().map(|call| call.id.clone()).collect();
    let (mut taken, mut changed) = (HashSet::new(), false);
    for (number, call) in calls.iter_mut().enumerate() {
        if call.id.is_empty() || taken.contains(&call.id) {
            let mut made = (number..).map(|number| format!("call_{position}_{number}"));
            call.id = made.find(|id| !given.contains(id) && !taken.contains(id)).unwrap_or_default();
            changed = true;
        }
        taken.insert(call.id.clone());
    }
    changed
}

/// The JSON text of arguments: one dialect has it in a string, the other as an object, and servers of each send it as the other does.
pub(super) fn argument_text(raw: &RawValue) -> String {
    match serde_json::from_str::<Option<String>>(raw.get()) {
        Ok(text) => text.unwrap_or_default(),
        Err(_) => raw.get().to_owned(),
    }
}

/// Is it the JSON text of an object?
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, Value>>(text).is_ok()
}

/// See [`ToolCall::arguments_as_object`].
pub(super) fn object_of(arguments: &str) -> serde_json::Result<Box<RawValue>> {
    if is_object(arguments) {
        return RawValue::from_string(arguments.trim().to_owned());
    }
    to_raw_value(&json!({ "INVALID_JSON": arguments }))
}

/// What a call came to, for the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    pub call_id: String,
    pub name: String,
    pub content: String,
    pub is_error: bool,
}

impl ToolResult {
    /// The content, which begins with `Error` if the call failed: for dialects without a mark for that.
    pub(super) fn text_that_says_so(&self) -> Cow<'_, str> {
        let says_so = self.content.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"));
        match self.is_error && !says_so {
            true => Cow::Owned(format!("Error: {}", self.content)),
            false => Cow::Borrowed(self.content.as_str()),
        }
    }
}

/// The question of one turn.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRequest {
    /// The provider's own id of the model.
    pub model: String,
    pub system: Option<String>,
    pub messages: Vec<Message>,
    pub tools: Vec<ToolDefinition>,
    /// Absent = the provider's limit, or the default of the dialect where it needs one.
    pub max_output_tokens: Option<u32>,
    /// May `call <tool> {json}` lines of the user's input be obeyed? Only the offline rules look at it, and only a person's own
    /// direct call may set it: text that came from elsewhere must not command.
    pub plan_allowed: bool,
}

/// The answer of one turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnReply {
    pub text: String,
    pub calls: Vec<ToolCall>,
    /// To be given back with this reply's [`Message::Assistant`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// Tokens; `None` where the provider reported none. `cost_microusd` stays absent, prices are not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    pub finish: Finish,
    /// Something the person should know that is no part of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// Requests that were sent for this reply; more than 1 after retries, 0 without a network.
    pub wire_attempts: u32,
}

/// What a provider `counted`, if it did: a call that took nothing was not counted, whether its server left the numbers out or sent zeros.
pub(super) fn reported(counted: Usage) -> Option<Usage> {
    (counted.input_tokens > 0 || counted.output_tokens > 0).then_some(counted)
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Stop,
    /// It waits for the results of its calls.
    ToolCalls,
    /// The output limit cut it off; the last call may be unfinished, its arguments then aren't valid JSON.
    Length,
    /// The model or the provider's filter declined.
    Refusal,
    /// In the provider's word, a reason that nobody here knows: the answer may not be whole.
    Other(String),
}

impl Finish {
    /// What a provider's `word` for the end means, whatever its dialect: compatible servers have words of their own. An answer that
    /// `called` asks for calls; without a word it ended as it should.
    pub(super) fn of(word: Option<&str>, called: bool) -> Self {
        match word {
            Some("length" | "max_tokens" | "max_output_tokens" | "model_context_window_exceeded") => Self::Length,
            Some("content_filter" | "refusal") => Self::Refusal,
            None
            | Some(
                "stop" | "tool_calls" | "function_call" | "end_turn" | "stop_sequence" | "tool_use" | "eos"
                | "eos_token",
            ) => match called {
                true => Self::ToolCalls,
                false => Self::Stop,
            },
            Some(other) => Self::Other(shown(other)),
        }
    }

    /// The answer ended as the model meant it to; else its last call may be unfinished.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Stop | Self::ToolCalls)
    }
}

/// An attempt at a turn that failed and is made again.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// As the turn's own would be, if it were given up.
    pub error: ProviderError,
    /// Attempts made so far, and how many are made at most.
    pub attempt: u32,
    pub most: u32,
    /// The time until the next one.
    pub wait: Duration,
}

/// Receives text while it is written.
pub trait TurnSink: Send {
    /// More text of the answer.
    fn text(&mut self, delta: &str);

    /// Nothing comes for a while: an attempt failed, and the next one begins after a wait.
    fn failed(&mut self, attempt: &FailedAttempt);

    /// What was received so far is void; the turn starts again.
    fn restarted(&mut self);
}

/// Until when a turn may take, and how it is called off.
#[derive(Debug, Clone, Default)]
pub struct TurnLimits {
    /// For the whole turn, retries and their waits included.
    pub deadline: Option<Timestamp>,
    pub cancel: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_where_it_ended_with_a_word_that_says_so() {
        for word in ["stop", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "eos", "eos_token"]
        {
            assert_eq!(Finish::of(Some(word), false), Finish::Stop, "{word}");
            assert_eq!(Finish::of(Some(word), true), Finish::ToolCalls, "calls decide, not the word: {word}");
        }
        for called in [false, true] {
            assert!(Finish::of(None, called).is_whole());
            for word in
                ["length", "max_tokens", "content_filter", "refusal", "pause_turn", "insufficient_system_resource"]
            {
                assert!(!Finish::of(Some(word), called).is_whole(), "{word}");
            }
            assert_eq!(Finish::of(Some("pause_turn"), called), Finish::Other("pause_turn".into()));
        }
    }

    #[test]
    fn native_blocks_survive_storage_byte_for_byte() {
        let blocks = r#"[ {"type":"thinking","thinking":"\u00e9","signature":"A=="} , {"n":1.0e2}]"#;
        let native = Native {
            provider: "anthropic".into(),
            model: "m".into(),
            blocks: RawValue::from_string(blocks.into()).unwrap(),
        };
        let message = Message::Assistant { text: String::new(), calls: vec![], native: Some(native) };
        let stored = serde_json::to_string(&message).unwrap();
        let back: Message = serde_json::from_str(&stored).unwrap();
        assert_eq!(back, message);
        assert!(stored.contains(blocks));
    }
}
