//! Responses events, put together. An item counts as it is when it is done: what is encrypted in it may still be incomplete when it is
//! added. Its JSON text is kept, and goes back later.

use super::super::body::{Assembly, BodyFault};
use super::super::counts::{Tokens, count};
use super::super::error::Fault;
use super::super::names::NameMap;
use super::super::turn::{reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    output_index: usize,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    /// Text in the events that matter here.
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status: Option<String>,
    #[serde(borrow)]
    output: Option<Vec<&'a RawValue>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
    incomplete_details: Option<Incomplete>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<Tokens>,
    output_tokens: Option<Tokens>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<Tokens>,
}

/// What counts for us in an output item: of a kind that nobody here knows, that there is one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    r#type: String,
    id: Option<String>,
    call_id: Option<String>,
    name: String,
    arguments: Option<String>,
    content: Option<Vec<Part>>,
}

/// Text, where it is a text: parts of other kinds may have anything under these names.
#[derive(Deserialize)]
struct Part {
    text: Option<Value>,
    refusal: Option<Value>,
}

/// The kinds of items whose fields are read.
const A_MESSAGE: &str = "message";
const A_CALL: &str = "function_call";

/// An item in the making.
#[derive(Debug, Default)]
struct Draft {
    /// As it was added, for what never gets done.
    added: String,
    done: Option<String>,
    /// Text that was shown so far.
    shown: String,
    arguments: String,
}

/// One answer in the making.
pub(super) struct ResponseAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// The length of the conversation so far, for calls without an id.
    position: usize,
    drafts: BTreeMap<usize, Draft>,
    /// The message whose text was shown last.
    showing: Option<usize>,
    refused: bool,
    usage: Usage,
    /// The word for an end before its time.
    ended: Option<String>,
}

impl<'a> ResponseAssembly<'a> {
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self {
            names,
            model,
            position,
            drafts: BTreeMap::new(),
            showing: None,
            refused: false,
            usage: Usage::default(),
            ended: None,
        }
    }

    /// Shows more text of a message; a second message begins after an empty line.
    fn show(&mut self, index: usize, text: &str, sink: &mut dyn TurnSink) {
        if text.is_empty() {
            return;
        }
        if self.showing.is_some_and(|last| last != index) {
            sink.text(BETWEEN);
        }
        self.showing = Some(index);
        self.drafts.entry(index).or_default().shown.push_str(text);
        sink.text(text);
    }

    fn done(&mut self, index: usize, raw: &RawValue, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let item = read(raw.get())?;
        let text = item.text();
        self.refused |= item.content.iter().flatten().any(|part| part.refusal.as_ref().is_some_and(Value::is_string));
        let draft = self.drafts.entry(index).or_default();
        draft.done = Some(raw.get().to_owned());
        let unseen = text.strip_prefix(draft.shown.as_str()).unwrap_or_default().to_owned();
        self.show(index, &unseen, sink);
        Ok(())
    }

    /// Takes the response as it is at its end.
    fn response(&mut self, raw: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let response: Response<'_> =
            serde_json::from_str(raw).map_err(|cause| BodyFault::malformed("the response", &cause))?;
        if let Some(error) = &response.error {
            return Err(BodyFault::Reported(Fault::from_value(error)));
        }
        let status = response.status.unwrap_or_default();
        if status == "failed" {
            return Err(BodyFault::Reported(Fault::saying("the response failed, and no reason was given".into())));
        }
        let output = response.output;
        if status.is_empty() && output.is_none() {
            return Err(BodyFault::Malformed("the answer has no output".to_owned()));
        }
        for (index, item) in output.into_iter().flatten().enumerate() {
            if self.drafts.get(&index).is_none_or(|draft| draft.done.is_none()) {
                self.done(index, item, sink)?;
            }
        }
        self.usage = response.usage.map(Usage::from).unwrap_or_default();
        let reason = response.incomplete_details.and_then(|details| details.reason);
        self.ended = reason.or(match status.as_str() {
            "" | "completed" => None,
            _ => Some(status),
        });
        Ok(())
    }

    fn finish(&self, called: bool) -> Finish {
        match Finish::of(self.ended.as_deref(), called) {
            Finish::Stop if self.refused => Finish::Refusal,
            finish => finish,
        }
    }

    /// Whole or not at all: calls without what was thought before them would be refused.
    fn native(&self) -> Option<Native> {
        let items: Option<Vec<&str>> = self.drafts.values().map(|draft| draft.done.as_deref()).collect();
        let items = items.filter(|items| !items.is_empty())?;
        let blocks = RawValue::from_string(format!("[{}]", items.join(","))).ok()?;
        Some(Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks })
    }
}

/// What stands between the texts of two messages.
const BETWEEN: &str = "\n\n";

impl Assembly for ResponseAssembly<'_> {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let data = event.data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(false);
        }
        let reported = || Err(BodyFault::Reported(Fault::parse(data)));
        if event.event == "error" {
            return reported();
        }
        let said: Event<'_> = serde_json::from_str(data).map_err(|cause| BodyFault::malformed("an event", &cause))?;
        let index = said.output_index;
        match (said.r#type.as_str(), said.item, said.delta, said.response) {
            ("error", ..) => return reported(),
            ("response.completed" | "response.incomplete" | "response.failed", _, _, Some(response)) => {
                self.response(response.get(), sink)?;
                return Ok(true);
            }
            ("response.output_item.added", Some(item), ..) => {
                self.drafts.entry(index).or_default().added = item.get().to_owned();
            }
            ("response.output_item.done", Some(item), ..) => self.done(index, item, sink)?,
            ("response.output_text.delta" | "response.refusal.delta", _, Some(delta), _) => {
                self.show(index, &text_of(delta), sink);
            }
            ("response.function_call_arguments.delta", _, Some(delta), _) => {
                self.drafts.entry(index).or_default().arguments.push_str(&text_of(delta));
            }
            // What is thought aloud, searches, and whatever is added to the API later.
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        self.response(body, sink)
    }

    fn reply(self) -> TurnReply {
        let items: Vec<Item> = self.drafts.values().map(Draft::item).collect();
        let finish = self.finish(items.iter().any(Item::is_call));
        // No arguments at all means none are needed, unless the answer ended before its time.
        let is_whole = finish.is_whole();
        let calls = items.iter().filter(|item| item.is_call()).map(|item| {
            let arguments = item.arguments.clone().unwrap_or_default();
            let none_needed = is_whole && arguments.trim().is_empty();
            ToolCall {
                id: item.call_id.clone().or_else(|| item.id.clone()).unwrap_or_default(),
                name: self.names.ours(&item.name),
                arguments: if none_needed { "{}".to_owned() } else { arguments },
            }
        });
        let mut calls: Vec<ToolCall> = calls.collect();
        let renamed = with_ids(&mut calls, self.position);
        let texts: Vec<String> = items.iter().map(Item::text).filter(|text| !text.is_empty()).collect();
        let native = self.native().filter(|_| !renamed);
        TurnReply {
            text: texts.join(BETWEEN),
            calls,
            native,
            usage: reported(self.usage),
            finish,
            notice: None,
            wire_attempts: 1,
        }
    }
}

impl Draft {
    /// As it is, or as far as it came.
    fn item(&self) -> Item {
        if let Some(done) = &self.done {
            return read(done).unwrap_or_default();
        }
        let mut item = read(&self.added).unwrap_or_default();
        if item.is_call() {
            item.arguments = Some(self.arguments.clone());
        } else if !self.shown.is_empty() {
            item.content = Some(vec![Part { text: Some(self.shown.clone().into()), refusal: None }]);
        }
        item
    }
}

impl Item {
    fn is_call(&self) -> bool {
        self.r#type == A_CALL
    }

    /// What a message says or declines to say; nothing of what was thought.
    fn text(&self) -> String {
        let parts = self.content.iter().flatten().filter(|_| self.r#type == A_MESSAGE);
        let text = |part: &Option<Value>| part.as_ref().and_then(Value::as_str).map(str::to_owned);
        parts.filter_map(|part| text(&part.text).or_else(|| text(&part.refusal))).collect()
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            input_tokens: count(wire.input_tokens),
            cached_input_tokens: count(wire.input_tokens_details.and_then(|details| details.cached_tokens)),
            output_tokens: count(wire.output_tokens),
            reasoning_tokens: count(wire.output_tokens_details.and_then(|details| details.reasoning_tokens)),
            cost_microusd: None,
        }
    }
}

fn read(item: &str) -> Result<Item, BodyFault> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: Option<Value>,
    }
    let malformed = |cause| BodyFault::malformed("an output item", &cause);
    let kind: Kind = serde_json::from_str(item).map_err(malformed)?;
    match kind.r#type.as_ref().and_then(Value::as_str).unwrap_or_default() {
        A_MESSAGE | A_CALL => serde_json::from_str(item).map_err(malformed),
        other => Ok(Item { r#type: other.to_owned(), ..Item::default() }),
    }
}

fn text_of(delta: &RawValue) -> String {
    serde_json::from_str(delta.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::super::body::Body;
    use super::super::super::test_server::Transcript;
    use super::*;
    use serde_json::json;

    const REASONING: &str =
        r#"{ "id":"rs_1", "type":"reasoning","summary":[],"encrypted_content":"gAAA\u00e9/+==","n":1.0e2 }"#;
    const MESSAGE: &str = r#"{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Let me look.","annotations":[]}]}"#;
    const CALL: &str =
        r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"a_b","arguments":"{\"n\": 1.00}"}"#;
    const SECOND: &str =
        r#"{"type":"function_call","id":"fc_2","call_id":"call_2","name":"g","arguments":"","status":"completed"}"#;

    fn read(text: &str) -> (Result<TurnReply, BodyFault>, Transcript) {
        let names = NameMap::new(["a.b"].into_iter());
        let mut body = Body::new(ResponseAssembly::new(&names, "m", 3));
        let mut sink = Transcript::default();
        for chunk in text.as_bytes().chunks(7) {
            match body.push(chunk, &mut sink) {
                Ok(true) => break,
                Ok(false) => {}
                Err(fault) => return (Err(fault), sink),
            }
        }
        (body.finish(&mut sink), sink)
    }

    fn stream(events: &[String]) -> String {
        events.iter().map(|event| format!("event: whatever\ndata: {event}\n\n")).collect()
    }

    fn item(kind: &str, index: usize, item: &str) -> String {
        format!(r#"{{"type":"response.output_item.{kind}","output_index":{index},"item":{item},"sequence_number":1}}"#)
    }

    fn delta(kind: &str, index: usize, text: &str) -> String {
        json!({ "type": format!("response.{kind}.delta"), "output_index": index, "delta": text }).to_string()
    }

    fn ended(kind: &str, response: &Value) -> String {
        json!({ "type": format!("response.{kind}"), "response": response }).to_string()
    }

    /// Reasoning whose cipher text is incomplete when it is added, a message and two calls.
    fn answer() -> Vec<String> {
        vec![
            r#"{"type":"response.created","response":{"status":"in_progress","output":[]}}"#.to_owned(),
            item("added", 0, r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gA"}"#),
            delta("reasoning_summary_text", 0, "aloud"),
            r#"{"type":"response.new_thing","delta":{"a":1}}"#.to_owned(),
            item("done", 0, REASONING),
            item("added", 1, r#"{"type":"message","id":"msg_1","content":[]}"#),
            delta("output_text", 1, "Let me"),
            delta("output_text", 1, " look."),
            item("done", 1, MESSAGE),
            item("added", 2, r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"a_b","arguments":""}"#),
            delta("function_call_arguments", 2, "{\"n\":"),
            item("done", 2, CALL),
            item("done", 3, SECOND),
            ended(
                "completed",
                &json!({ "status": "completed", "output": [], "error": null, "incomplete_details": null, "usage": {
                    "input_tokens": 115, "input_tokens_details": { "cached_tokens": 100 },
                    "output_tokens": 42, "output_tokens_details": { "reasoning_tokens": 30 } } }),
            ),
        ]
    }

    #[test]
    fn every_item_is_kept_as_it_is_when_it_is_done() {
        let (reply, sink) = read(&stream(&answer()));
        let reply = reply.unwrap();
        assert_eq!(reply.native.unwrap().blocks.get(), format!("[{REASONING},{MESSAGE},{CALL},{SECOND}]"));
        assert_eq!((reply.text.as_str(), reply.finish), ("Let me look.", Finish::ToolCalls));
        assert_eq!(sink.deltas, ["Let me", " look."], "what is thought aloud is not shown as text");
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        assert_eq!(reply.calls, [call("call_1", "a.b", "{\"n\": 1.00}"), call("call_2", "g", "{}")]);
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
    fn calls_without_an_id_of_their_own_get_one_and_go_back_written_anew() {
        let call = |id: &str| format!(r#"{{"type":"function_call","call_id":"{id}","name":"g","arguments":"{{}}"}}"#);
        for given in [["", ""], ["c", "c"]] {
            let events = [
                item("done", 0, &call(given[0])),
                item("done", 1, &call(given[1])),
                ended("completed", &json!({ "status": "completed" })),
            ];
            let reply = read(&stream(&events)).0.unwrap();
            let ids: Vec<&str> = reply.calls.iter().map(|call| call.id.as_str()).collect();
            assert!(ids[0] != ids[1] && ids.iter().all(|id| !id.is_empty()), "{ids:?}");
            assert!(reply.native.is_none(), "results would be matched with the wrong call");
        }
    }

    #[test]
    fn an_answer_that_reached_its_limit_says_so_and_its_call_stays_visibly_unfinished() {
        let events = [
            item("done", 0, REASONING),
            item("added", 1, r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"g","arguments":""}"#),
            delta("function_call_arguments", 1, "{\"n\":"),
            ended(
                "incomplete",
                &json!({ "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" } }),
            ),
        ];
        let reply = read(&stream(&events)).0.unwrap();
        assert_eq!((reply.finish, reply.calls[0].arguments.as_str()), (Finish::Length, "{\"n\":"));
        assert!(reply.native.is_none(), "half of the items can't go back");
        let finish = |reason: &str| {
            let details = json!({ "status": "incomplete", "incomplete_details": { "reason": reason } });
            read(&stream(&[ended("incomplete", &details)])).0.unwrap().finish
        };
        assert_eq!(finish("content_filter"), Finish::Refusal);
        assert_eq!(finish("steered"), Finish::Other("steered".into()));
    }

    #[test]
    fn what_only_the_last_event_has_is_taken_from_there() {
        let output = format!(r#"{{"status":"completed","output":[{REASONING},{MESSAGE}]}}"#);
        let (reply, sink) = read(&stream(&[format!(r#"{{"type":"response.completed","response":{output}}}"#)]));
        let reply = reply.unwrap();
        assert_eq!(reply.native.unwrap().blocks.get(), format!("[{REASONING},{MESSAGE}]"));
        assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("Let me look.", "Let me look."));
        let (whole, sink) = read(&output);
        assert_eq!(whole.unwrap().native.unwrap().blocks.get(), format!("[{REASONING},{MESSAGE}]"));
        assert_eq!(sink.deltas.concat(), "Let me look.");
    }

    #[test]
    fn items_and_parts_of_unknown_kinds_are_kept_and_not_read() {
        let unknown = r#"{"type":"new_call","id":5,"call_id":[],"name":{},"content":"text","arguments":{"n": 1.00}}"#;
        let no_kind = r#"{"type":{"new":1},"content":7}"#;
        let message = r#"{"type":"message","content":[{"type":"new","text":{"a":1},"refusal":[]},{"type":"output_text","text":"hello"}]}"#;
        let events = [
            item("added", 0, unknown),
            item("done", 0, unknown),
            item("done", 1, no_kind),
            item("done", 2, message),
            ended("completed", &json!({ "status": "completed" })),
        ];
        let (reply, sink) = read(&stream(&events));
        let reply = reply.unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.finish, sink.deltas.concat().as_str()),
            ("hello", Finish::Stop, "hello")
        );
        assert!(reply.calls.is_empty());
        assert_eq!(reply.native.unwrap().blocks.get(), format!("[{unknown},{no_kind},{message}]"));
    }

    #[test]
    fn two_messages_are_told_apart() {
        let message = |text: &str| json!({ "type": "message", "content": [{ "type": "output_text", "text": text }] });
        let events = [
            delta("output_text", 0, "First."),
            item("done", 0, &message("First.").to_string()),
            delta("output_text", 1, "Sec"),
            item("done", 1, &message("Second.").to_string()),
            ended("completed", &json!({ "status": "completed" })),
        ];
        let (reply, sink) = read(&stream(&events));
        assert_eq!(reply.unwrap().text, "First.\n\nSecond.");
        assert_eq!(sink.deltas.concat(), "First.\n\nSecond.");
    }

    #[test]
    fn a_refusal_is_text_with_its_own_finish() {
        let message = json!({ "type": "message", "content": [{ "type": "refusal", "refusal": "I can't." }] });
        let events = [
            delta("refusal", 0, "I can't."),
            item("done", 0, &message.to_string()),
            ended("completed", &json!({ "status": "completed" })),
        ];
        let reply = read(&stream(&events)).0.unwrap();
        assert_eq!((reply.text.as_str(), reply.finish), ("I can't.", Finish::Refusal));
    }

    #[test]
    fn errors_inside_a_stream_are_reported_and_a_cut_one_is_no_answer() {
        let flat = r#"{"type":"error","code":"server_error","message":"overloaded","param":null,"sequence_number":3}"#;
        let nested = r#"{"type":"error","error":{"code":"rate_limit_exceeded","message":"overloaded"}}"#;
        let failed = ended(
            "failed",
            &json!({ "status": "failed", "error": { "code": "server_error", "message": "overloaded" } }),
        );
        for event in [flat, nested, &failed] {
            let read = read(&stream(&[event.to_owned()])).0;
            assert!(matches!(&read, Err(BodyFault::Reported(fault)) if fault.message == "overloaded"), "{read:?}");
        }
        assert!(matches!(read(r#"{"error":{"message":"no"}}"#).0, Err(BodyFault::Reported(_))));
        assert!(matches!(read("{}").0, Err(BodyFault::Malformed(_))));
        let all = answer();
        assert_eq!(read(&stream(&all[..all.len() - 1])).0.unwrap_err(), BodyFault::Cut);
    }
}
