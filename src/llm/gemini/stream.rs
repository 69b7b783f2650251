//! Chunks of `streamGenerateContent`, put together. The parts of all chunks, as they came, are what goes back later: an empty text may
//! carry a signature, and none may move. The end is that of the connection; a whole answer has a finish reason by then.

use super::super::body::{Assembly, BodyFault};
use super::super::counts::Tokens;
use super::super::error::{Fault, shown};
use super::super::names::NameMap;
use super::super::turn::{reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u32,
    /// Absent where nothing may be said.
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
    block_reason_message: Option<String>,
}

/// What counts for us in a part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

/// Cumulative; what a later chunk leaves out keeps its value.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    prompt_token_count: Option<Tokens>,
    tool_use_prompt_token_count: Option<Tokens>,
    cached_content_token_count: Option<Tokens>,
    candidates_token_count: Option<Tokens>,
    thoughts_token_count: Option<Tokens>,
}

/// A call that the model wrote so that Gemini couldn't read it: the answer is worth nothing, and the next try usually is better.
const MALFORMED_CALL: &str = "MALFORMED_FUNCTION_CALL";

/// One answer in the making.
pub(super) struct ContentAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// The length of the conversation so far, for calls without an id.
    position: usize,
    text: String,
    parts: Vec<String>,
    calls: Vec<ToolCall>,
    /// Prompt, tool use, cached, candidates, thoughts: as the wire counts them.
    counts: [i64; 5],
    reason: Option<String>,
    message: Option<String>,
    blocked: bool,
}

impl<'a> ContentAssembly<'a> {
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self {
            names,
            model,
            position,
            text: String::new(),
            parts: Vec::new(),
            calls: Vec::new(),
            counts: [0; 5],
            reason: None,
            message: None,
            blocked: false,
        }
    }

    fn chunk(&mut self, text: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let chunk: Chunk<'_> = serde_json::from_str(text).map_err(|cause| BodyFault::malformed("a chunk", &cause))?;
        if chunk.error.is_some() {
            return Err(BodyFault::Reported(Fault::parse(text)));
        }
        self.count(chunk.usage_metadata);
        if let Some(feedback) = chunk.prompt_feedback
            && let Some(reason) = feedback.block_reason
        {
            self.blocked = true;
            let told =
                feedback.block_reason_message.map(|message| format!(": {}", shown(&message))).unwrap_or_default();
            self.message = Some(format!("Gemini blocked the prompt ({}){told}", shown(&reason)));
        }
        for candidate in chunk.candidates.into_iter().flatten().filter(|candidate| candidate.index == 0) {
            self.candidate(candidate, sink)?;
        }
        Ok(())
    }

    fn candidate(&mut self, candidate: Candidate<'_>, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.part(part, sink)?;
        }
        self.message = candidate.finish_message.as_deref().map(shown).or(self.message.take());
        let Some(reason) = candidate.finish_reason.filter(|reason| !reason.is_empty()) else { return Ok(()) };
        if reason == MALFORMED_CALL {
            let told = self.message.take().map(|message| format!(": {message}")).unwrap_or_default();
            let fault =
                Fault::saying(format!("the model wrote a call that Gemini can't read ({MALFORMED_CALL}{told})"));
            return Err(BodyFault::Reported(fault));
        }
        self.reason = Some(reason);
        Ok(())
    }

    fn part(&mut self, raw: &RawValue, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let part: Part<'_> = serde_json::from_str(raw.get()).map_err(|cause| BodyFault::malformed("a part", &cause))?;
        self.parts.push(raw.get().to_owned());
        if let Some(text) = part.text.filter(|text| !part.thought && !text.is_empty()) {
            sink.text(&text);
            self.text.push_str(&text);
        }
        if let Some(call) = part.function_call {
            let arguments = call.args.map_or("{}", RawValue::get).to_owned();
            self.calls.push(ToolCall { id: call.id.unwrap_or_default(), name: self.names.ours(&call.name), arguments });
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<WireUsage>) {
        let Some(usage) = usage else { return };
        let fresh = [
            usage.prompt_token_count,
            usage.tool_use_prompt_token_count,
            usage.cached_content_token_count,
            usage.candidates_token_count,
            usage.thoughts_token_count,
        ];
        for (count, fresh) in self.counts.iter_mut().zip(fresh) {
            *count = fresh.map_or(*count, Tokens::get);
        }
    }

    fn usage(&self) -> Usage {
        let [prompt, tool_use, cached, candidates, thoughts] = self.counts;
        Usage {
            input_tokens: prompt + tool_use,
            cached_input_tokens: cached,
            // The wire's number leaves out what was thought.
            output_tokens: candidates + thoughts,
            reasoning_tokens: thoughts,
            cost_microusd: None,
        }
    }

    fn finish(&self, called: bool) -> Finish {
        match self.reason.as_deref() {
            None if self.blocked => Finish::Refusal,
            // The first is the real API's word also for calls; the second one that fakes of it have.
            None | Some("STOP" | "FUNCTION_CALL") => Finish::of(None, called),
            Some("MAX_TOKENS") => Finish::Length,
            Some("SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE") => Finish::Refusal,
            Some(other) => Finish::Other(shown(other).to_lowercase()),
        }
    }

    fn native(&self) -> Option<Native> {
        let blocks = RawValue::from_string(format!("[{}]", self.parts.join(","))).ok();
        let blocks = blocks.filter(|_| !self.parts.is_empty())?;
        Some(Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks })
    }
}

impl Assembly for ContentAssembly<'_> {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let data = event.data.trim();
        if !data.is_empty() && data != "[DONE]" {
            self.chunk(data, sink)?;
        }
        Ok(false)
    }

    /// One chunk, or a list of them, which is what the API streams where nobody asks for events.
    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let chunks: Vec<&RawValue> = match body.trim_start().starts_with('[') {
            true => serde_json::from_str(body).map_err(|cause| BodyFault::malformed("the answer", &cause))?,
            false => vec![serde_json::from_str(body).map_err(|cause| BodyFault::malformed("the answer", &cause))?],
        };
        for chunk in chunks {
            self.chunk(chunk.get(), sink)?;
        }
        match self.is_whole() {
            true => Ok(()),
            false => Err(BodyFault::Malformed("the answer has no candidate with a finish reason".to_owned())),
        }
    }

    fn is_whole(&self) -> bool {
        self.reason.is_some() || self.blocked
    }

    fn reply(mut self) -> TurnReply {
        let finish = self.finish(!self.calls.is_empty());
        // Results are matched with the parts by their order.
        let _renamed = with_ids(&mut self.calls, self.position);
        let (native, usage) = (self.native(), reported(self.usage()));
        TurnReply { text: self.text, calls: self.calls, native, usage, finish, notice: self.message, wire_attempts: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::test_server::{Transcript, read_in_pieces};
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> (Result<TurnReply, BodyFault>, Transcript) {
        let names = NameMap::new(["a.b"].into_iter());
        read_in_pieces(ContentAssembly::new(&names, "m", 3), text, 7)
    }

    fn stream(chunks: &[&str]) -> String {
        chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
    }

    const PARTS: [&str; 5] = [
        r#"{ "text":"aloud","thought":true }"#,
        r#"{"text":"Let me\u0020"}"#,
        r#"{"text":"look."}"#,
        r#"{"functionCall":{"name":"a_b","args":{"n": 1.00}}, "thoughtSignature":"Er/+=="}"#,
        r#"{"functionCall":{"id":"g2","name":"g"}}"#,
    ];

    fn chunks() -> Vec<String> {
        let chunk = |parts: &str, rest: &str| {
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}}{rest},"index":0}}],"usageMetadata":{{"promptTokenCount":115,"cachedContentTokenCount":100}},"modelVersion":"m"}}"#
            )
        };
        let last = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"","thoughtSignature":"last"}}]}},"finishReason":"STOP"}}],{}}}"#,
            r#""usageMetadata":{"promptTokenCount":115,"candidatesTokenCount":12,"thoughtsTokenCount":30}"#
        );
        vec![
            chunk(PARTS[0], ""),
            chunk(PARTS[1], ""),
            chunk(&format!("{},{}", PARTS[2], PARTS[3]), ""),
            chunk(PARTS[4], r#","newField":{"a":[]}"#),
            last,
        ]
    }

    #[test]
    fn every_part_is_kept_as_it_came_and_where_it_stood() {
        let chunks = chunks();
        let (reply, sink) = read(&stream(&chunks.iter().map(String::as_str).collect::<Vec<_>>()));
        let reply = reply.unwrap();
        let expected = format!(r#"[{},{{"text":"","thoughtSignature":"last"}}]"#, PARTS.join(","));
        assert_eq!(reply.native.unwrap().blocks.get(), expected);
        assert_eq!(reply.text, "Let me look.");
        assert_eq!(sink.deltas, ["Let me ", "look."], "what is thought aloud is not shown as text");
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        assert_eq!(reply.calls, [call("call_3_0", "a.b", "{\"n\": 1.00}"), call("g2", "g", "{}")]);
        assert_eq!(reply.finish, Finish::ToolCalls, "calls decide, not the stop reason");
        let usage = Usage {
            input_tokens: 115,
            cached_input_tokens: 100,
            output_tokens: 42,
            reasoning_tokens: 30,
            cost_microusd: None,
        };
        assert_eq!(reply.usage, Some(usage));
        let list = format!("[{}]", chunks.join(",\r\n"));
        assert_eq!(read(&list).0.unwrap().native.unwrap().blocks.get(), expected, "without events it is a list");
    }

    #[test]
    fn a_stream_that_ends_before_its_finish_reason_is_cut() {
        let chunks = chunks();
        let cut: Vec<&str> = chunks.iter().take(4).map(String::as_str).collect();
        assert_eq!(read(&stream(&cut)).0.unwrap_err(), BodyFault::Cut);
        assert!(matches!(read(&format!("[{}]", cut.join(","))).0, Err(BodyFault::Malformed(_))));
        assert_eq!(read("").0.unwrap_err(), BodyFault::Cut);
    }

    #[test]
    fn the_last_chunk_needs_no_empty_line_after_it() {
        let chunks = chunks();
        let text = stream(&chunks.iter().map(String::as_str).collect::<Vec<_>>());
        for end in ["\r\n", ""] {
            let reply = read(&format!("{}{end}", text.trim_end())).0.unwrap();
            assert_eq!(reply.finish, Finish::ToolCalls, "{end:?}");
        }
        assert_eq!(read(&text.trim_end()[..text.trim_end().len() - 3]).0.unwrap_err(), BodyFault::Cut);
    }

    #[test]
    fn a_blocked_prompt_is_a_refusal_that_says_why() {
        let blocked =
            r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}"#;
        for text in [stream(&[blocked]), blocked.to_owned()] {
            let reply = read(&text).0.unwrap();
            assert_eq!((reply.finish, reply.text.as_str()), (Finish::Refusal, ""));
            assert_eq!(reply.notice.as_deref(), Some("Gemini blocked the prompt (PROHIBITED_CONTENT)"));
            assert!(reply.native.is_none());
        }
    }

    #[test]
    fn what_gemini_says_of_a_refusal_is_told_on_one_line_and_not_at_any_length() {
        let long = format!("\u{1b}[31mred\nline {}", "y".repeat(2_000_000));
        let blocked = json!({ "promptFeedback": { "blockReason": long, "blockReasonMessage": long } });
        let ended = json!({ "candidates": [{ "finishReason": long, "finishMessage": long }] });
        for answer in [blocked, ended] {
            let reply = read(&answer.to_string()).0.unwrap();
            let notice = reply.notice.unwrap();
            assert!(notice.len() < 1_500 && notice.contains("[31mred line yyy"), "{} bytes", notice.len());
            assert!(!notice.contains(char::is_control), "{notice:?}");
            assert!(!matches!(reply.finish, Finish::Other(word) if word.len() > 700));
        }
    }

    #[test]
    fn every_finish_reason_has_its_meaning() {
        let finish = |reason: &str| {
            let chunk = json!({ "candidates": [{ "finishReason": reason, "finishMessage": "because" }] });
            let reply = read(&stream(&[&chunk.to_string()])).0.unwrap();
            assert_eq!(reply.notice.as_deref(), Some("because"));
            reply.finish
        };
        assert_eq!(finish("STOP"), Finish::Stop);
        assert_eq!(finish("MAX_TOKENS"), Finish::Length);
        for refused in ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"] {
            assert_eq!(finish(refused), Finish::Refusal, "{refused}");
        }
        assert_eq!(finish("UNEXPECTED_TOOL_CALL"), Finish::Other("unexpected_tool_call".into()));
    }

    #[test]
    fn a_call_that_gemini_cannot_read_and_errors_inside_the_stream_give_no_reply() {
        let malformed = r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"f(a=)"}]}"#;
        let read_of = |text: &str| match read(&stream(&[text])).0 {
            Err(BodyFault::Reported(fault)) => (fault.kind(None).as_str(), fault.message),
            other => panic!("{other:?}"),
        };
        let (kind, message) = read_of(malformed);
        assert!(kind == "server" && message.contains("f(a=)"), "{kind}: {message}");
        let exhausted = r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#;
        assert_eq!(read_of(exhausted), ("rate_limited", "slow down".to_owned()));
        assert!(matches!(read("[{\"error\":{\"message\":\"no\"}}]").0, Err(BodyFault::Reported(_))));
        assert!(matches!(read("data: {nonsense\n\n").0, Err(BodyFault::Malformed(_))));
    }
}
