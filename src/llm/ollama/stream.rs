//! Lines of JSON, put together. Calls come whole, their arguments as an object, on newer servers with an id.

use super::super::body::{Assembly, BodyFault, Framing};
use super::super::counts::Tokens;
use super::super::error::Fault;
use super::super::names::NameMap;
use super::super::turn::{argument_text, reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use super::request::Kept;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

#[derive(Deserialize)]
struct Line {
    message: Option<Said>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<Tokens>,
    eval_count: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<Called>>,
}

#[derive(Deserialize)]
struct Called {
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: String,
    arguments: Option<Box<RawValue>>,
}

/// One answer in the making.
pub(super) struct LinesAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// Distinguishes ids made here from those of earlier turns.
    position: usize,
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    usage: Usage,
    finish: Option<String>,
}

impl<'a> LinesAssembly<'a> {
    /// `position` is the length of the conversation so far.
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self {
            names,
            model,
            position,
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            usage: Usage::default(),
            finish: None,
        }
    }

    fn call(&mut self, called: Called) {
        let arguments = called.function.arguments.as_deref().map(argument_text).filter(|text| !text.trim().is_empty());
        self.calls.push(ToolCall {
            id: called.id.unwrap_or_default(),
            name: self.names.ours(&called.function.name),
            arguments: arguments.unwrap_or_else(|| "{}".to_owned()),
        });
    }

    fn native(&self) -> Option<Native> {
        let kept = (!self.thinking.is_empty()).then(|| Kept { thinking: self.thinking.clone() })?;
        Some(Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks: to_raw_value(&kept).ok()? })
    }
}

impl Assembly for LinesAssembly<'_> {
    const FRAMING: Framing = Framing::Lines;

    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let line: Line = serde_json::from_str(&event.data).map_err(|cause| BodyFault::malformed("a line", &cause))?;
        if line.error.is_some() {
            return Err(BodyFault::Reported(Fault::parse(&event.data)));
        }
        if let Some(said) = line.message {
            self.thinking.push_str(said.thinking.as_deref().unwrap_or_default());
            if let Some(text) = said.content.filter(|text| !text.is_empty()) {
                sink.text(&text);
                self.text.push_str(&text);
            }
            said.tool_calls.into_iter().flatten().for_each(|called| self.call(called));
        }
        self.usage.input_tokens = line.prompt_eval_count.map_or(self.usage.input_tokens, Tokens::get);
        self.usage.output_tokens = line.eval_count.map_or(self.usage.output_tokens, Tokens::get);
        self.finish = line.done_reason.or(self.finish.take());
        Ok(line.done)
    }

    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let event = SseEvent { data: body.to_owned(), ..SseEvent::default() };
        match self.event(&event, sink)? {
            true => Ok(()),
            false => Err(BodyFault::Cut),
        }
    }

    fn reply(mut self) -> TurnReply {
        // Neither an id nor thinking is bound to the other: what is kept goes back beside whatever the calls are called.
        let _renamed = with_ids(&mut self.calls, self.position);
        TurnReply {
            finish: Finish::of(self.finish.as_deref(), !self.calls.is_empty()),
            native: self.native(),
            text: self.text,
            calls: self.calls,
            usage: reported(self.usage),
            notice: None,
            wire_attempts: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ProviderErrorKind;
    use super::super::super::test_server::{Transcript, read_in_pieces};
    use super::*;

    fn read(text: &str) -> (Result<TurnReply, BodyFault>, Transcript) {
        let names = NameMap::new(["a.b"].into_iter());
        read_in_pieces(LinesAssembly::new(&names, "m", 3), text, 7)
    }

    const ANSWER: &str = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"Two "},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"cities."},"done":false}"#,
        "\r\n\n",
        r#"{"model":"m","message":{"role":"assistant","content":"Let "},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":"me look.","tool_calls":[{"function":{"index":0,"name":"a_b","arguments":{"city": "Paris"}}},{"id":"x","function":{"name":"other","arguments":"{\"n\":1.0}"}}]},"done":false,"later":1}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"id":"x","function":{"name":"other"}}]},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":20,"eval_count":7}"#,
    );

    #[test]
    fn a_recorded_answer_with_parallel_calls_is_put_together() {
        for end in ["\n", "", "\n{\"never\":\"read\"}\n"] {
            let (reply, sink) = read(&format!("{ANSWER}{end}"));
            let reply = reply.unwrap();
            assert_eq!(
                (reply.text.as_str(), sink.deltas),
                ("Let me look.", vec!["Let ".to_owned(), "me look.".into()])
            );
            let calls: Vec<_> = reply.calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
            assert_eq!(
                calls,
                [
                    ("call_3_0", "a.b", r#"{"city": "Paris"}"#),
                    ("x", "other", r#"{"n":1.0}"#),
                    ("call_3_2", "other", "{}"),
                ],
                "an id that comes twice names only the first"
            );
            assert_eq!(reply.finish, Finish::ToolCalls, "calls decide, not the stop reason");
            assert_eq!(reply.native.unwrap().blocks.get(), r#"{"thinking":"Two cities."}"#);
            let usage = reply.usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens), (20, 7));
        }
    }

    #[test]
    fn an_id_that_is_made_here_is_none_that_the_server_gives() {
        let text = r#"{"message":{"tool_calls":[{"function":{"name":"a_b"}},{"id":"call_3_0","function":{"name":"a_b"}}]},"done":true}"#;
        let reply = read(text).0.unwrap();
        let ids: Vec<_> = reply.calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call_3_1", "call_3_0"]);
    }

    #[test]
    fn an_answer_without_its_last_line_is_cut() {
        let half = "{\"message\":{\"role\":\"assistant\",\"content\":\"half\"},\"done\":false}\n";
        assert_eq!(read(half).0.unwrap_err(), BodyFault::Cut);
        assert_eq!(read("").0.unwrap_err(), BodyFault::Cut);
        assert!(matches!(read(&format!("{half}{{\"mess")).0, Err(BodyFault::Malformed(_) | BodyFault::Cut)));
    }

    #[test]
    fn an_error_after_a_good_beginning_is_reported_by_its_status() {
        let good = "{\"message\":{\"role\":\"assistant\",\"content\":\"half\"},\"done\":false}\n";
        for (error, kind) in [
            (r#"{"error":"model runner has unexpectedly stopped"}"#, ProviderErrorKind::Server),
            (r#"{"error":"slow down","status":429}"#, ProviderErrorKind::RateLimited),
            (r#"{"error":"no","status_code":400}"#, ProviderErrorKind::BadRequest),
        ] {
            match read(&format!("{good}{error}\n")).0 {
                Err(BodyFault::Reported(fault)) => assert_eq!(fault.kind(None), kind, "{error}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(read("<html>hello</html>\n").0, Err(BodyFault::Malformed(_))));
    }

    #[test]
    fn an_answer_that_filled_the_context_is_no_whole_one() {
        let text = r#"{"message":{"content":"so far"},"done":true,"done_reason":"length"}"#;
        let reply = read(text).0.unwrap();
        assert_eq!((reply.finish, reply.usage), (Finish::Length, None), "nobody counted");
    }
}
