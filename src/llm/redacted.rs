//! A provider behind the redactor, whatever its dialect: no model is told a secret, and none that a model says all the same goes further.

use super::{
    FailedAttempt, Finish, Message, Native, Provider, ProviderError, ToolCall, ToolDefinition, ToolResult, TurnLimits,
    TurnReply, TurnRequest, TurnSink,
};
use crate::redact::{RedactedStream, Redactor};
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;

/// Redacts what goes out and what comes back.
#[derive(Debug)]
pub struct Redacted {
    redactor: Redactor,
    provider: Arc<dyn Provider>,
}

impl Redacted {
    pub fn new(redactor: Redactor, provider: Arc<dyn Provider>) -> Self {
        Self { redactor, provider }
    }

    /// The last line of defence: what the request is made of has been redacted where it came in.
    fn request(&self, request: &TurnRequest) -> TurnRequest {
        let mut request = request.clone();
        let offered = offered(&request.tools);
        request.system = request.system.map(|text| self.redactor.string(text));
        request.messages = request.messages.into_iter().map(|message| self.message(message, &offered)).collect();
        for tool in &mut request.tools {
            tool.description = tool.description.take().map(|text| self.redactor.string(text));
            self.redactor.json_in_place(&mut tool.input_schema);
        }
        request
    }

    fn message(&self, message: Message, offered: &HashSet<String>) -> Message {
        match message {
            Message::User { text } => Message::User { text: self.redactor.string(text) },
            Message::Assistant { text, calls, native } => Message::Assistant {
                text: self.redactor.string(text),
                calls: self.calls(calls, offered),
                native: native.and_then(|native| self.native(native)),
            },
            Message::ToolResults(results) => Message::ToolResults(
                results
                    .into_iter()
                    .map(|result| ToolResult { content: self.redactor.string(result.content), ..result })
                    .collect(),
            ),
        }
    }

    /// The name of a tool that was offered is no word of the model's, and without it the call would be of nothing.
    fn calls(&self, calls: Vec<ToolCall>, offered: &HashSet<String>) -> Vec<ToolCall> {
        let call = |call: ToolCall| ToolCall {
            id: self.redactor.string(call.id),
            name: if offered.contains(&call.name) { call.name } else { self.redactor.string(call.name) },
            arguments: self.redactor.json_text(&call.arguments).into_owned(),
        };
        calls.into_iter().map(call).collect()
    }

    /// Blocks that would be changed are left out where they may be signed: then text and calls are written anew, as for another model.
    fn native(&self, native: Native) -> Option<Native> {
        let before = native.blocks.get().to_owned();
        let blocks = self.redactor.raw(native.blocks);
        let native = Native { blocks, ..native };
        (native.may_be_changed() || native.blocks.get() == before).then_some(native)
    }

    fn reply(&self, reply: TurnReply, offered: &HashSet<String>) -> TurnReply {
        TurnReply {
            text: self.redactor.string(reply.text),
            calls: self.calls(reply.calls, offered),
            native: reply.native.and_then(|native| self.native(native)),
            finish: match reply.finish {
                Finish::Other(word) => Finish::Other(self.redactor.string(word)),
                finish => finish,
            },
            notice: reply.notice.map(|notice| self.redactor.string(notice)),
            ..reply
        }
    }

    fn error(&self, error: ProviderError) -> ProviderError {
        ProviderError {
            message: self.redactor.string(error.message),
            hint: error.hint.map(|hint| self.redactor.string(hint)),
            ..error
        }
    }
}

fn offered(tools: &[ToolDefinition]) -> HashSet<String> {
    tools.iter().map(|tool| tool.name.clone()).collect()
}

#[async_trait]
impl Provider for Redacted {
    fn name(&self) -> &str {
        self.provider.name()
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        if self.redactor.is_empty() {
            return self.provider.turn(request, sink, limits).await;
        }
        let mut pieces = Pieces { redacted: self, stream: self.redactor.stream(), sink };
        let answered = self.provider.turn(&self.request(request), &mut pieces, limits).await;
        pieces.finish();
        match answered {
            Ok(reply) => Ok(self.reply(reply, &offered(&request.tools))),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        self.provider.models().await.map_err(|error| self.error(error))
    }
}

/// Text on its way to a sink, which sees no value that is split over pieces either.
struct Pieces<'s> {
    redacted: &'s Redacted,
    stream: RedactedStream,
    sink: &'s mut dyn TurnSink,
}

impl Pieces<'_> {
    fn tell(&mut self, text: &str) {
        if !text.is_empty() {
            self.sink.text(text);
        }
    }

    fn finish(&mut self) {
        let text = self.stream.finish_str();
        self.tell(&text);
    }
}

impl TurnSink for Pieces<'_> {
    fn text(&mut self, delta: &str) {
        let text = self.stream.push_str(delta);
        self.tell(&text);
    }

    fn failed(&mut self, attempt: &FailedAttempt) {
        let error = self.redacted.error(attempt.error.clone());
        self.sink.failed(&FailedAttempt { error, ..attempt.clone() });
    }

    fn restarted(&mut self) {
        let _void = self.stream.finish();
        self.sink.restarted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Effect;
    use crate::llm::ProviderErrorKind;
    use serde_json::json;
    use serde_json::value::RawValue;
    use std::sync::Mutex;
    use std::time::Duration;

    const SECRET: &str = "swordfish+42";

    fn refused() -> ProviderError {
        ProviderError {
            provider: "parrot".into(),
            model: "m".into(),
            status: None,
            kind: ProviderErrorKind::Auth,
            message: format!("wrong key {SECRET}"),
            hint: Some(format!("not {SECRET}")),
        }
    }

    /// Says what it was asked, in pieces of three bytes, and repeats the secret wherever a reply has room for it.
    #[derive(Debug, Default)]
    struct Parrot {
        asked: Mutex<Vec<TurnRequest>>,
        fails: bool,
    }

    #[async_trait]
    impl Provider for Parrot {
        fn name(&self) -> &str {
            "parrot"
        }

        async fn turn(
            &self,
            request: &TurnRequest,
            sink: &mut dyn TurnSink,
            _: &TurnLimits,
        ) -> Result<TurnReply, ProviderError> {
            self.asked.lock().unwrap().push(request.clone());
            sink.text("swordfi");
            sink.failed(&FailedAttempt { error: refused(), attempt: 1, most: 4, wait: Duration::ZERO });
            sink.restarted();
            for piece in format!("it is {SECRET}, swordfish").as_bytes().chunks(3) {
                sink.text(std::str::from_utf8(piece).unwrap());
            }
            if self.fails {
                return Err(refused());
            }
            Ok(TurnReply {
                text: format!("it is {SECRET}"),
                calls: vec![ToolCall {
                    id: "c1".into(),
                    name: "t".into(),
                    arguments: format!(r#"{{"n":1.0e2,"key":"{SECRET}"}}"#),
                }],
                native: Some(Native {
                    provider: "parrot".into(),
                    model: "m".into(),
                    blocks: RawValue::from_string(format!(r#"[ {{"thinking":"{SECRET}"}}]"#)).unwrap(),
                }),
                usage: Some(crate::domain::Usage::default()),
                finish: Finish::Other(SECRET.into()),
                notice: Some(SECRET.into()),
                wire_attempts: 1,
            })
        }

        async fn models(&self) -> Result<Vec<String>, ProviderError> {
            Ok(Vec::new())
        }
    }

    #[derive(Default)]
    struct Heard(String);

    impl TurnSink for Heard {
        fn text(&mut self, delta: &str) {
            self.0.push_str(delta);
        }

        fn failed(&mut self, attempt: &FailedAttempt) {
            self.0.push_str(&format!("({}; {})", attempt.error.message, attempt.error.hint.clone().unwrap()));
        }

        fn restarted(&mut self) {
            self.0.push('|');
        }
    }

    fn request() -> TurnRequest {
        TurnRequest {
            model: "m".into(),
            system: Some(SECRET.into()),
            messages: vec![
                Message::User { text: format!("remember {SECRET}") },
                Message::Assistant {
                    text: SECRET.into(),
                    calls: vec![ToolCall { id: "c0".into(), name: "t".into(), arguments: format!(r#"["{SECRET}"]"#) }],
                    native: None,
                },
                Message::ToolResults(vec![ToolResult {
                    call_id: "c0".into(),
                    name: "t".into(),
                    content: format!("TOKEN={SECRET}"),
                    is_error: false,
                }]),
            ],
            tools: vec![ToolDefinition {
                name: "t".into(),
                description: Some(format!("uses {SECRET}")),
                input_schema: json!({ "default": SECRET }),
                effect: Effect::Read,
            }],
            max_output_tokens: None,
            plan_allowed: false,
        }
    }

    async fn answered(fails: bool) -> (String, String, Result<TurnReply, ProviderError>) {
        let redactor = Redactor::default();
        redactor.add("development", "KEY", &SECRET.into());
        let parrot = Arc::new(Parrot { fails, ..Parrot::default() });
        let provider = Redacted::new(redactor, parrot.clone());
        let mut heard = Heard::default();
        let reply = provider.turn(&request(), &mut heard, &TurnLimits::default()).await;
        (heard.0, format!("{:?}", parrot.asked.lock().unwrap()), reply)
    }

    #[tokio::test]
    async fn a_model_is_told_no_secret_and_what_it_says_goes_on_without() {
        let (heard, asked, reply) = answered(false).await;
        assert!(!asked.contains(SECRET) && asked.matches("[redacted:KEY]").count() == 7, "{asked}");
        assert_eq!(heard, "(wrong key [redacted:KEY]; not [redacted:KEY])|it is [redacted:KEY], swordfish");
        let reply = reply.unwrap();
        assert_eq!(reply.text, "it is [redacted:KEY]");
        assert_eq!(reply.calls[0].arguments, r#"{"n":1.0e2,"key":"[redacted:KEY]"}"#);
        assert_eq!(reply.native, None, "changed blocks are no good to whoever made them");
        assert_eq!(reply.finish, Finish::Other("[redacted:KEY]".into()));
        assert_eq!(reply.notice.as_deref(), Some("[redacted:KEY]"));
    }

    #[test]
    fn a_call_keeps_the_name_of_a_tool_that_was_offered_and_no_other() {
        let redactor = Redactor::default();
        redactor.add("development", "WORD", &"postgres".into());
        let provider = Redacted::new(redactor, Arc::new(Parrot::default()));
        let offered = HashSet::from(["postgres__query".to_owned()]);
        let call = |name: &str| ToolCall { id: "c".into(), name: name.into(), arguments: "{}".into() };
        let calls = provider.calls(vec![call("postgres__query"), call("postgres__other")], &offered);
        assert_eq!(
            calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(),
            ["postgres__query", "[redacted:WORD]__other"]
        );
    }

    #[tokio::test]
    async fn blocks_that_were_signed_as_they_are_stay_so_or_are_left_out() {
        let redactor = Redactor::default();
        redactor.add("development", "KEY", &SECRET.into());
        let said = |dialect: &str, thought: &str| {
            let blocks = RawValue::from_string(format!(r#"[{{"thinking":"{thought}","signature":"Er=="}}]"#)).unwrap();
            let native = Native { provider: dialect.into(), model: "m".into(), blocks };
            Message::Assistant { text: "I have it".into(), calls: vec![], native: Some(native) }
        };
        let parrot = Arc::new(Parrot::default());
        let provider = Redacted::new(redactor, parrot.clone());
        let asked = |message: Message| {
            let request = TurnRequest { messages: vec![message], ..request() };
            let (provider, parrot) = (&provider, &parrot);
            async move {
                let _reply = provider.turn(&request, &mut Heard::default(), &TurnLimits::default()).await;
                match parrot.asked.lock().unwrap().pop().unwrap().messages.pop() {
                    Some(Message::Assistant { text, native, .. }) => (text, native),
                    other => panic!("{other:?}"),
                }
            }
        };
        for dialect in ["anthropic", "gemini", "openai_responses"] {
            let (text, native) = asked(said(dialect, "harmless")).await;
            assert_eq!((text.as_str(), native.is_some()), ("I have it", true), "{dialect}");
            let (text, native) = asked(said(dialect, SECRET)).await;
            assert_eq!((text.as_str(), native), ("I have it", None), "{dialect}: a changed block is refused");
        }
        let (_, native) = asked(said("openai_chat", SECRET)).await;
        assert!(native.unwrap().blocks.get().contains("[redacted:KEY]"), "nothing is signed there");
    }

    #[tokio::test]
    async fn a_providers_error_repeats_no_secret() {
        let (heard, _, reply) = answered(true).await;
        assert_eq!(heard, "(wrong key [redacted:KEY]; not [redacted:KEY])|it is [redacted:KEY], swordfish");
        let error = reply.unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            ("wrong key [redacted:KEY]", Some("not [redacted:KEY]"))
        );
    }
}
