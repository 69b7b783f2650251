//! Messages events, put together. Every block is written once, when the message is complete; that JSON text is what goes back later.

use super::super::body::{Assembly, BodyFault};
use super::super::counts::Tokens;
use super::super::error::{Fault, shown};
use super::super::names::NameMap;
use super::super::turn::{object_of, reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    r#type: String,
    index: Option<usize>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    delta: Option<Delta>,
    message: Option<Start>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<WireUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    citation: Option<Value>,
    stop_reason: Option<String>,
    stop_details: Option<StopDetails>,
}

#[derive(Deserialize)]
struct StopDetails {
    explanation: Option<String>,
}

/// A whole message, as servers send it that don't stream.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
    stop_reason: Option<String>,
    stop_details: Option<StopDetails>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

/// Cumulative; what a later event leaves out keeps its value.
#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<Tokens>,
    cache_read_input_tokens: Option<Tokens>,
    cache_creation_input_tokens: Option<Tokens>,
    output_tokens: Option<Tokens>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<Tokens>,
}

/// A block in the making: how it began, and what was added to which of its fields.
#[derive(Debug, Default)]
struct Draft {
    began: String,
    text: String,
    thinking: String,
    signature: String,
    json: String,
    citations: Vec<Value>,
}

/// One answer in the making.
pub(super) struct MessageAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// The length of the conversation so far, for calls without an id.
    position: usize,
    drafts: BTreeMap<usize, Draft>,
    /// Input, cache reads, cache writes, output, thinking: as the wire counts them.
    counts: [i64; 5],
    stop: Option<String>,
    explanation: Option<String>,
}

impl<'a> MessageAssembly<'a> {
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self { names, model, position, drafts: BTreeMap::new(), counts: [0; 5], stop: None, explanation: None }
    }

    fn count(&mut self, usage: Option<WireUsage>) {
        let Some(usage) = usage else { return };
        let thinking = usage.output_tokens_details.and_then(|details| details.thinking_tokens);
        let fresh = [
            usage.input_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            usage.output_tokens,
            thinking,
        ];
        for (count, fresh) in self.counts.iter_mut().zip(fresh) {
            *count = fresh.map_or(*count, Tokens::get);
        }
    }

    fn begin(&mut self, index: usize, block: &RawValue, sink: &mut dyn TurnSink) {
        let began = block.get().to_owned();
        let fields: Map<String, Value> = serde_json::from_str(&began).unwrap_or_default();
        if fields.get("type").is_some_and(|kind| kind == "text") {
            show(field(&fields, "text"), sink);
        }
        self.drafts.insert(index, Draft { began, ..Draft::default() });
    }

    fn add(&mut self, index: usize, delta: Delta, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let draft = self.drafts.get_mut(&index);
        let draft = draft.ok_or_else(|| BodyFault::Malformed(format!("block {index} goes on without having begun")))?;
        if let Some(text) = delta.text {
            show(&text, sink);
            draft.text.push_str(&text);
        }
        draft.thinking.push_str(&delta.thinking.unwrap_or_default());
        draft.signature.push_str(&delta.signature.unwrap_or_default());
        draft.json.push_str(&delta.partial_json.unwrap_or_default());
        draft.citations.extend(delta.citation);
        Ok(())
    }

    fn stopped(&mut self, reason: Option<String>, details: Option<StopDetails>) {
        self.stop = reason.or(self.stop.take());
        let explanation = details.and_then(|details| details.explanation);
        self.explanation = explanation.as_deref().map(shown).or(self.explanation.take());
    }

    fn usage(&self) -> Usage {
        let [input, read, written, output, thinking] = self.counts;
        Usage {
            // The wire's number leaves out what came from or went to the cache.
            input_tokens: input + read + written,
            cached_input_tokens: read,
            output_tokens: output,
            reasoning_tokens: thinking,
            cost_microusd: None,
        }
    }
}

impl Assembly for MessageAssembly<'_> {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        if event.event == "error" {
            return Err(BodyFault::Reported(Fault::parse(&event.data)));
        }
        let data: Event<'_> =
            serde_json::from_str(&event.data).map_err(|cause| BodyFault::malformed("an event", &cause))?;
        match (data.r#type.as_str(), data.index) {
            ("error", _) => return Err(BodyFault::Reported(Fault::parse(&event.data))),
            ("message_stop", _) => return Ok(true),
            ("message_start", _) => self.count(data.message.and_then(|message| message.usage)),
            ("content_block_start", Some(index)) => {
                if let Some(block) = data.content_block {
                    self.begin(index, block, sink);
                }
            }
            ("content_block_delta", Some(index)) => self.add(index, data.delta.unwrap_or_default(), sink)?,
            ("message_delta", _) => {
                self.count(data.usage);
                let delta = data.delta.unwrap_or_default();
                self.stopped(delta.stop_reason, delta.stop_details);
            }
            // Pings, block ends, and whatever is added to the API later.
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let whole: Whole<'_> =
            serde_json::from_str(body).map_err(|cause| BodyFault::malformed("the answer", &cause))?;
        if whole.error.is_some() {
            return Err(BodyFault::Reported(Fault::parse(body)));
        }
        let content = whole.content.ok_or_else(|| BodyFault::Malformed("the answer has no content".to_owned()))?;
        for (index, block) in content.into_iter().enumerate() {
            self.begin(index, block, sink);
        }
        self.count(whole.usage);
        self.stopped(whole.stop_reason, whole.stop_details);
        Ok(())
    }

    fn reply(mut self) -> TurnReply {
        let blocks: Vec<Finished> = std::mem::take(&mut self.drafts).into_values().filter_map(Draft::finish).collect();
        let finish = Finish::of(self.stop.as_deref(), blocks.iter().any(|block| block.call.is_some()));
        // No arguments at all means none are needed, unless the answer ended before its time.
        let is_whole = finish.is_whole();
        let json = blocks.iter().map(|block| block.json.as_str()).collect::<Vec<_>>().join(",");
        let native = RawValue::from_string(format!("[{json}]")).ok().filter(|_| !blocks.is_empty());
        let native = native.map(|blocks| Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks });
        let mut reply = TurnReply {
            text: String::new(),
            calls: Vec::new(),
            native,
            usage: reported(self.usage()),
            finish,
            notice: self.explanation,
            wire_attempts: 1,
        };
        for block in blocks {
            reply.text.push_str(&block.text);
            reply.calls.extend(block.call.map(|call| {
                let none_needed = is_whole && call.arguments.trim().is_empty();
                let arguments = if none_needed { "{}".to_owned() } else { call.arguments };
                ToolCall { id: call.id, name: self.names.ours(&call.name), arguments }
            }));
        }
        if with_ids(&mut reply.calls, self.position) {
            reply.native = None;
        }
        reply
    }
}

/// A complete block: its JSON text and what it means to us.
struct Finished {
    json: String,
    text: String,
    call: Option<ToolCall>,
}

impl Draft {
    /// `None` for an empty text, which the API sends but doesn't take back.
    fn finish(self) -> Option<Finished> {
        let mut fields: Map<String, Value> = serde_json::from_str(&self.began).unwrap_or_default();
        let kind = field(&fields, "type").to_owned();
        let call = (kind == "tool_use").then(|| ToolCall {
            id: field(&fields, "id").to_owned(),
            name: field(&fields, "name").to_owned(),
            arguments: self.arguments(),
        });
        let touched = [&self.text, &self.thinking, &self.signature].iter().any(|added| !added.is_empty())
            || !self.citations.is_empty();
        for (name, added) in [("text", &self.text), ("thinking", &self.thinking), ("signature", &self.signature)] {
            if !added.is_empty() {
                let whole = format!("{}{added}", field(&fields, name));
                fields.insert(name.to_owned(), Value::String(whole));
            }
        }
        if !self.citations.is_empty() {
            fields.insert("citations".to_owned(), Value::Array(self.citations));
        }
        let text = if kind == "text" { field(&fields, "text").to_owned() } else { String::new() };
        if kind == "text" && text.trim().is_empty() {
            return None;
        }
        let json = match (self.json.trim().is_empty(), touched) {
            (false, _) => with_input(&fields, &self.json),
            (true, true) => Value::Object(fields).to_string(),
            (true, false) => self.began,
        };
        Some(Finished { json, text, call })
    }

    /// The arguments as they came; a call that came whole has them in the block it began with.
    fn arguments(&self) -> String {
        #[derive(Deserialize)]
        struct Began<'a> {
            #[serde(borrow)]
            input: Option<&'a RawValue>,
        }
        if !self.json.trim().is_empty() {
            return self.json.clone();
        }
        let input = serde_json::from_str::<Began<'_>>(&self.began).ok().and_then(|began| began.input);
        input.map(RawValue::get).filter(|input| *input != "{}").unwrap_or_default().to_owned()
    }
}

/// The block with its `input` as it was streamed, number for number.
fn with_input(fields: &Map<String, Value>, json: &str) -> String {
    let input = object_of(json).map_or_else(|_| "{}".to_owned(), |input| input.get().to_owned());
    let others = fields.iter().filter(|(name, _)| *name != "input");
    let mut members: Vec<_> = others.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    members.push(format!("\"input\":{input}"));
    format!("{{{}}}", members.join(","))
}

fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn show(text: &str, sink: &mut dyn TurnSink) {
    if !text.is_empty() {
        sink.text(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_server::{Transcript, read_in_pieces};
    use super::*;

    fn read(text: &str) -> (Result<TurnReply, BodyFault>, Transcript) {
        let names = NameMap::new(["a.b"].into_iter());
        read_in_pieces(MessageAssembly::new(&names, "m", 3), text, 11)
    }

    fn stream(events: &[&str]) -> String {
        events.iter().map(|data| format!("event: whatever\ndata: {data}\n\n")).collect()
    }

    const THINKING: [&str; 19] = [
        r#"{"type":"message_start","message":{"id":"msg","usage":{"input_tokens":10,"cache_read_input_tokens":100,"cache_creation_input_tokens":5,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"First \"A\".\n"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Then B/é."}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq/+9=="}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{ "type":"redacted_thinking", "data":"\u0045m9=" }}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Looking."}}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t1","name":"a_b","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"n\": 1.0"}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"0}"}}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{},"caller":{"type":"direct"}}}"#,
        r#"{"type":"content_block_delta","index":9,"future":true,"delta":{"type":"x"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":42,"output_tokens_details":{"thinking_tokens":30}}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    fn thinking() -> String {
        stream(&THINKING.iter().copied().filter(|event| !event.contains("future")).collect::<Vec<_>>())
    }

    #[test]
    fn blocks_keep_their_order_their_signature_and_their_bytes() {
        let (reply, sink) = read(&thinking());
        let reply = reply.unwrap();
        let expected = concat!(
            r#"[{"type":"thinking","thinking":"First \"A\".\nThen B/é.","signature":"Eq/+9=="},"#,
            r#"{ "type":"redacted_thinking", "data":"\u0045m9=" },"#,
            r#"{"type":"text","text":"Looking."},"#,
            r#"{"type":"tool_use","id":"t1","name":"a_b","input":{"n": 1.00}},"#,
            r#"{"type":"tool_use","id":"t2","name":"g","input":{},"caller":{"type":"direct"}}]"#,
        );
        assert_eq!(reply.native.unwrap().blocks.get(), expected);
        assert_eq!(reply.text, "Looking.");
        assert_eq!(sink.deltas, ["Looking."], "thinking is not shown as text");
        assert_eq!(reply.finish, Finish::ToolCalls);
    }

    #[test]
    fn calls_and_usage_come_out_in_our_terms() {
        let reply = read(&thinking()).0.unwrap();
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        assert_eq!(reply.calls, [call("t1", "a.b", "{\"n\": 1.00}"), call("t2", "g", "{}")]);
        let usage = Usage {
            input_tokens: 115,
            cached_input_tokens: 100,
            output_tokens: 42,
            reasoning_tokens: 30,
            cost_microusd: None,
        };
        assert_eq!(reply.usage, Some(usage));
    }

    #[test]
    fn a_call_of_an_answer_that_ended_before_its_time_stays_visibly_unfinished() {
        let arguments = |reason: &str| {
            let ended = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}}}}"#);
            let began = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
            let text = stream(&[began, &ended, r#"{"type":"message_stop"}"#]);
            read(&text).0.unwrap().calls.remove(0).arguments
        };
        for reason in ["max_tokens", "refusal", "pause_turn"] {
            assert_eq!(arguments(reason), "", "{reason}");
        }
        assert_eq!(arguments("tool_use"), "{}");
    }

    #[test]
    fn calls_without_an_id_of_their_own_get_one_and_go_back_written_anew() {
        for given in [["", ""], ["t", "t"]] {
            let call = |index: usize| {
                let id = given[index];
                format!(
                    r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}}}"#
                )
            };
            let stop = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#;
            let reply = read(&stream(&[&call(0), &call(1), stop, r#"{"type":"message_stop"}"#])).0.unwrap();
            let ids: Vec<&str> = reply.calls.iter().map(|call| call.id.as_str()).collect();
            assert!(ids[0] != ids[1] && ids.iter().all(|id| !id.is_empty()), "{ids:?}");
            assert!(reply.native.is_none(), "results would be matched with the wrong call");
        }
    }

    #[test]
    fn malformed_arguments_are_carried_and_wrapped_for_the_way_back() {
        let text = stream(&[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\": "}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":1}}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let reply = read(&text).0.unwrap();
        assert_eq!(reply.calls[0].arguments, "{\"a\": ");
        assert_eq!(reply.finish, Finish::Length);
        let blocks = reply.native.unwrap().blocks;
        assert_eq!(blocks.get(), r#"[{"type":"tool_use","id":"t","name":"f","input":{"INVALID_JSON":"{\"a\": "}}]"#);
    }

    #[test]
    fn a_stream_that_ends_early_or_with_an_error_gives_no_reply() {
        let whole = thinking();
        let cut = whole.split("event: whatever\ndata: {\"type\":\"message_stop\"").next().unwrap();
        assert_eq!(read(cut).0.unwrap_err(), BodyFault::Cut);
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert!(matches!(read(&stream(&[error])).0, Err(BodyFault::Reported(fault)) if fault.message == "Overloaded"));
        assert!(matches!(read(&format!("event: error\ndata: {error}\n\n")).0, Err(BodyFault::Reported(_))));
        assert!(matches!(read(&stream(&[THINKING[16]])).0, Err(BodyFault::Malformed(_))));
    }

    #[test]
    fn a_plain_json_body_keeps_the_bytes_of_its_blocks() {
        let blocks = r#"{"type":"thinking","thinking":"","signature":"s"},{ "type":"text","text":"hi\u0021" },{"type":"tool_use","id":"t","name":"f","input":{"a":1e2}}"#;
        let body = format!(
            r#"{{"type":"message","content":[{blocks}],"stop_reason":"tool_use","usage":{{"input_tokens":3,"output_tokens":4}}}}"#
        );
        let (reply, sink) = read(&body);
        let reply = reply.unwrap();
        assert_eq!(reply.native.unwrap().blocks.get(), format!("[{blocks}]"));
        assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("hi!", "hi!"));
        assert_eq!(reply.calls[0].arguments, r#"{"a":1e2}"#);
        assert_eq!(reply.usage.unwrap().input_tokens, 3);
        assert!(matches!(
            read(r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#).0,
            Err(BodyFault::Reported(_))
        ));
    }

    #[test]
    fn a_refusal_says_why_beside_the_answer() {
        let text = stream(&[
            r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"category":"x","explanation":"policy"}}}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let reply = read(&text).0.unwrap();
        assert_eq!((reply.finish, reply.notice.as_deref()), (Finish::Refusal, Some("policy")));
        assert!(reply.native.is_none());
    }
}
