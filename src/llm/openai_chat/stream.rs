//! Chat Completions chunks, put together. Tolerant where compatible servers differ: whole calls in one chunk, calls without an index or
//! an id, several calls under one index or one id, a new id in every fragment, arguments as an object, content as a list of parts, no
//! end marker.

use super::super::body::{Assembly, BodyFault};
use super::super::counts::{Tokens, count};
use super::super::error::Fault;
use super::super::names::NameMap;
use super::super::turn::{argument_text, is_object, reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    /// In a whole body it is called `message`.
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<Value>,
    refusal: Option<String>,
    reasoning_content: Option<Value>,
    reasoning: Option<Value>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<Tokens>,
    completion_tokens: Option<Tokens>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<Tokens>,
}

const NO_CHOICES: &str = "the answer has no choices";

#[derive(Debug, Default)]
struct Draft {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    /// Is the call whole, so that `name` and `arguments` are those of the next? Some servers repeat the name in every fragment, also in
    /// one that adds nothing.
    fn ends_before(&self, name: &str, arguments: &str) -> bool {
        let adds = self.name != name || !arguments.trim().is_empty();
        // Cheaper first: the arguments come in many pieces.
        adds && self.arguments.trim_end().ends_with('}') && is_object(&self.arguments)
    }
}

/// One answer in the making.
pub(super) struct ChatAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// Distinguishes ids made here from those of earlier turns.
    position: usize,
    text: String,
    /// The field that thinking came in, and the thinking.
    reasoning: Option<(&'static str, String)>,
    calls: Vec<Draft>,
    usage: Usage,
    /// A choice came, be it one that says nothing.
    answered: bool,
    finish: Option<String>,
    refused: bool,
}

impl<'a> ChatAssembly<'a> {
    /// `position` is the length of the conversation so far.
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self {
            names,
            model,
            position,
            text: String::new(),
            reasoning: None,
            calls: Vec::new(),
            usage: Usage::default(),
            answered: false,
            finish: None,
            refused: false,
        }
    }

    fn chunk(&mut self, text: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let chunk: Chunk = serde_json::from_str(text).map_err(|cause| BodyFault::malformed("a chunk", &cause))?;
        if let Some(error) = &chunk.error {
            return Err(BodyFault::Reported(Fault::from_value(error)));
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage.into();
        }
        let choices = chunk.choices.unwrap_or_default();
        self.answered |= !choices.is_empty();
        for choice in choices.into_iter().filter(|choice| choice.index == 0) {
            if let Some(delta) = choice.delta {
                self.delta(delta, sink);
            }
            self.finish = choice.finish_reason.filter(|reason| !reason.is_empty()).or(self.finish.take());
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta, sink: &mut dyn TurnSink) {
        let content = delta.content.as_ref().map(text_of).unwrap_or_default();
        let refusal = delta.refusal.unwrap_or_default();
        self.refused |= !refusal.is_empty();
        for piece in [content, refusal] {
            if !piece.is_empty() {
                sink.text(&piece);
                self.text.push_str(&piece);
            }
        }
        for (field, value) in [("reasoning_content", delta.reasoning_content), ("reasoning", delta.reasoning)] {
            self.think(field, value.as_ref().and_then(Value::as_str).unwrap_or_default());
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call);
        }
    }

    /// Servers that send both fields send the same text twice, so the first field is kept.
    fn think(&mut self, field: &'static str, text: &str) {
        if text.is_empty() {
            return;
        }
        let (kept, thoughts) = self.reasoning.get_or_insert_with(|| (field, String::new()));
        if *kept == field {
            thoughts.push_str(text);
        }
    }

    fn call(&mut self, delta: CallDelta) {
        let id = delta.id.unwrap_or_default();
        let (name, arguments) =
            delta.function.map(|function| (function.name.unwrap_or_default(), function.arguments)).unwrap_or_default();
        let arguments = arguments.as_deref().map(argument_text).unwrap_or_default();
        let slot = match self.begun(delta.index, &id, &name, &arguments) {
            Some(slot) => slot,
            None => {
                self.calls.push(Draft { index: delta.index, ..Draft::default() });
                self.calls.len() - 1
            }
        };
        let Some(draft) = self.calls.get_mut(slot) else { return };
        if draft.id.is_empty() {
            draft.id = id;
        }
        if draft.name.is_empty() {
            draft.name = name;
        }
        draft.arguments.push_str(&arguments);
    }

    /// The draft that a fragment goes on with; `None`: it begins a call. A call begins with its name, so a fragment without one goes on
    /// whatever its id: some servers make a new id for every fragment.
    fn begun(&self, index: Option<u64>, id: &str, name: &str, arguments: &str) -> Option<usize> {
        let last = |is_it: &dyn Fn(&Draft) -> bool| self.calls.iter().rposition(is_it);
        let same_id = |draft: &Draft| !id.is_empty() && draft.id == id;
        match (index, name) {
            (Some(_), "") => last(&|draft| draft.index == index),
            // A second name and id under the same index is a second call.
            (Some(_), _) => last(&|draft| draft.index == index).filter(|at| {
                let is_it =
                    |draft: &Draft| id.is_empty() || draft.id.is_empty() || draft.name.is_empty() || same_id(draft);
                self.calls.get(*at).is_some_and(is_it)
            }),
            (None, "") => last(&same_id).or_else(|| self.calls.len().checked_sub(1)),
            // What comes after whole arguments is another call, be it under the same id.
            (None, _) => {
                last(&same_id).filter(|at| !self.calls.get(*at).is_some_and(|draft| draft.ends_before(name, arguments)))
            }
        }
    }

    /// A refusal has no word of its own in this dialect.
    fn finish(&self, called: bool) -> Finish {
        match Finish::of(self.finish.as_deref(), called) {
            Finish::Stop if self.refused => Finish::Refusal,
            finish => finish,
        }
    }

    fn native(&self) -> Option<Native> {
        let (field, thoughts) = self.reasoning.as_ref()?;
        let blocks = serde_json::value::to_raw_value(&json!({ *field: thoughts })).ok()?;
        Some(Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks })
    }
}

impl Assembly for ChatAssembly<'_> {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let data = event.data.trim();
        if data == "[DONE]" && !self.answered {
            // A server that fails in the middle ends so; the next try usually is better.
            return Err(BodyFault::Reported(Fault::saying(NO_CHOICES.to_owned())));
        }
        if data == "[DONE]" {
            return Ok(true);
        }
        if !data.is_empty() {
            self.chunk(data, sink)?;
        }
        Ok(false)
    }

    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        self.chunk(body, sink)?;
        match self.answered {
            true => Ok(()),
            false => Err(BodyFault::Malformed(NO_CHOICES.to_owned())),
        }
    }

    /// Some servers leave the end marker out; the reason for the end is the model's last word.
    fn is_whole(&self) -> bool {
        self.finish.is_some()
    }

    fn reply(mut self) -> TurnReply {
        let drafts = std::mem::take(&mut self.calls);
        let finish = self.finish(!drafts.is_empty());
        // No arguments at all means none are needed, unless the answer ended before its time.
        let is_whole = finish.is_whole();
        let none_needed = |arguments: &str| is_whole && arguments.trim().is_empty();
        let calls = drafts.into_iter().map(|draft| {
            let arguments = if none_needed(&draft.arguments) { "{}".to_owned() } else { draft.arguments };
            ToolCall { id: draft.id, name: self.names.ours(&draft.name), arguments }
        });
        let mut calls: Vec<ToolCall> = calls.collect();
        let _renamed = with_ids(&mut calls, self.position);
        let native = self.native();
        TurnReply {
            text: self.text,
            calls,
            native,
            usage: reported(self.usage),
            finish,
            notice: None,
            wire_attempts: 1,
        }
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            input_tokens: count(wire.prompt_tokens),
            cached_input_tokens: count(wire.prompt_tokens_details.and_then(|details| details.cached_tokens)),
            output_tokens: count(wire.completion_tokens),
            reasoning_tokens: count(wire.completion_tokens_details.and_then(|details| details.reasoning_tokens)),
            cost_microusd: None,
        }
    }
}

/// Content is text or a list of parts, of which the text parts count.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
