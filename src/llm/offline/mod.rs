//! The provider for whoever has no key: fixed rules, no network, no model. It calls tools; it does not think, and says so.
//!
//! The rules of `offline/rules-1`. The same request always gets the same reply.
//!
//! 1. **A plan is followed.** Lines `call <tool> {json}` in the last user message are calls, made one after the other, one per turn,
//!    with the JSON as it was written (it may span lines; none means `{}`). The tool may be named without its server where that is
//!    unambiguous. This holds only when [`TurnRequest::plan_allowed`] says that a person gave the input directly; from anywhere else
//!    such lines are reported and neither followed nor guessed around. An unknown tool or broken JSON anywhere in the plan: nothing is
//!    called, the answer names the line. A failed call ends the plan.
//! 2. **Without a plan there is one round of guessed calls, of one call, to a tool that is known to only read.** Tools are scored by the
//!    words that they share with the input (`score`): a word of the name counts 3, of the description 1, a word of the name that a
//!    value only implies (`notes.txt` implies `text` and `file`) 2, a value that the tool takes up 3, its whole name 10. Words are compared without plural, and a few everyday ones stand for a tool's usual words
//!    (`show` for read, `folder` for directory). Of the tools whose required arguments are all known, the best is called; with equals at
//!    the top none is, and the answer lists each with its exact command.
//! 3. **Arguments come from the input and are never invented** (`arguments`): `key=value` by the property's name; a word that is a value
//!    of the property's `enum`; numbers, in order, for required numbers; words that look like a path (a file extension or a slash) for
//!    properties named like one, URLs likewise, globs for patterns; quoted strings, in order, for the remaining required strings; else the
//!    schema's own `default`. More values than places is ambiguous: the answer lists a command per value.
//! 4. **A tool that changes something is never guessed.** When the words of the input fit such a tool better than every reading one, the
//!    answer gives its command instead.
//! 5. **When no words fit**, a reading tool that needs no arguments is called to look around: one with `list` in its name first, then the
//!    first in order. When there is none, the answer lists what could be called.
//! 6. **After results** the answer is those results, quoted, with what was called; then the command of a tool that would have fitted
//!    better but lacked a value. Nothing is summarised or concluded.
//!
//! A new rule goes into the file of its step, with a test by its words, and into this list.

mod answer;
mod arguments;
mod guess;
mod input;
mod plan;
mod score;

use super::{
    Finish, Message, Provider, ProviderError, ProviderErrorKind, ToolCall, ToolResult, TurnLimits, TurnReply,
    TurnRequest, TurnSink, defaults,
};
use crate::domain::Usage;
use async_trait::async_trait;
use guess::Guess;
use plan::Plan;

const DIALECT: &str = "offline";

/// What goes with every answer and is no part of it.
pub const NOTICE: &str = "offline provider: no language model was used, tools were chosen by fixed rules";

/// The rules as a provider.
#[derive(Debug)]
pub(super) struct Offline {
    name: String,
}

impl Offline {
    pub(super) fn new(name: String) -> Self {
        Self { name }
    }
}

#[async_trait]
impl Provider for Offline {
    fn name(&self) -> &str {
        &self.name
    }

    fn plans(&self) -> bool {
        false
    }

    async fn turn(
        &self,
        request: &TurnRequest,
        sink: &mut dyn TurnSink,
        limits: &TurnLimits,
    ) -> Result<TurnReply, ProviderError> {
        if limits.cancel.is_cancelled() {
            return Err(ProviderError {
                provider: self.name.clone(),
                model: request.model.clone(),
                status: None,
                kind: ProviderErrorKind::Cancelled,
                message: format!("provider `{}`, model `{}`: the call was cancelled", self.name, request.model),
                hint: None,
            });
        }
        let reply = reply(request);
        if !reply.text.is_empty() {
            sink.text(&reply.text);
        }
        Ok(reply)
    }

    async fn models(&self) -> Result<Vec<String>, ProviderError> {
        let rows = defaults::TABLE.iter().filter(|row| row.provider == DIALECT);
        Ok(rows.map(|row| row.model.to_owned()).collect())
    }
}

/// What has happened since the last user message.
struct Progress<'a> {
    text: &'a str,
    calls: Vec<&'a ToolCall>,
    results: Vec<&'a ToolResult>,
}

impl<'a> Progress<'a> {
    fn of(messages: &'a [Message]) -> Self {
        let mut progress = Self { text: "", calls: Vec::new(), results: Vec::new() };
        for message in messages {
            match message {
                Message::User { text } => progress = Self { text, calls: Vec::new(), results: Vec::new() },
                Message::Assistant { calls, .. } => progress.calls.extend(calls),
                Message::ToolResults(results) => progress.results.extend(results),
            }
        }
        progress
    }
}

fn reply(request: &TurnRequest) -> TurnReply {
    let progress = Progress::of(&request.messages);
    match plan::parse(progress.text, &request.tools) {
        Plan::None => guessed(request, &progress),
        _ if !request.plan_allowed => saying(answer::plan_refused()),
        Plan::Broken(problem) => saying(answer::plan_broken(&problem, &request.tools)),
        Plan::Steps(steps) => {
            let failed = progress.results.iter().any(|result| result.is_error);
            match steps.get(progress.calls.len()).filter(|_| !failed) {
                Some(step) => calling(request, &step.tool.name, step.arguments.clone()),
                None => saying(answer::of_results(&progress.calls, &progress.results, steps.len(), &[])),
            }
        }
    }
}

fn guessed(request: &TurnRequest, progress: &Progress<'_>) -> TurnReply {
    let guess = guess::guess(progress.text, &request.tools);
    if progress.calls.is_empty() {
        return match guess {
            Guess::Call { tool, arguments, .. } => calling(request, &tool.name, arguments),
            Guess::Ask(text) => saying(text),
        };
    }
    let better = match guess {
        Guess::Call { better, .. } => better,
        Guess::Ask(_) => Vec::new(),
    };
    saying(answer::of_results(&progress.calls, &progress.results, progress.calls.len(), &better))
}

fn calling(request: &TurnRequest, name: &str, arguments: String) -> TurnReply {
    // The length of the conversation makes the id unique within it.
    let call = ToolCall { id: format!("offline_{}", request.messages.len()), name: name.to_owned(), arguments };
    TurnReply { calls: vec![call], finish: Finish::ToolCalls, ..saying(String::new()) }
}

fn saying(text: String) -> TurnReply {
    TurnReply {
        text,
        calls: Vec::new(),
        native: None,
        // Counted: it takes none.
        usage: Some(Usage::default()),
        finish: Finish::Stop,
        notice: Some(NOTICE.to_owned()),
        wire_attempts: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ToolDefinition, test_server::Transcript};
    use super::*;
    use crate::domain::Effect;
    use serde_json::{Value, json};

    fn tool(name: &str, description: &str, effect: Effect, properties: Value, required: &[&str]) -> ToolDefinition {
        let input_schema = json!({ "type": "object", "properties": properties, "required": required });
        ToolDefinition { name: name.into(), description: Some(description.into()), input_schema, effect }
    }

    /// The filesystem server of the sample agent, and a calculator.
    fn tools() -> Vec<ToolDefinition> {
        let path = || json!({ "path": { "type": "string", "description": "Path inside an allowed directory" } });
        let read = Effect::Read;
        let fs =
            |name: &str, description: &str| tool(&format!("filesystem__{name}"), description, read, path(), &["path"]);
        let mut search = path();
        search["pattern"] = json!({ "type": "string" });
        let mut write = path();
        write["content"] = json!({ "type": "string" });
        vec![
            fs("read_text_file", "Read the complete contents of a file as text."),
            fs("read_media_file", "Read an image or audio file, as base64."),
            fs("list_directory", "List all files and directories in a path."),
            fs("directory_tree", "A recursive tree of files and directories as JSON."),
            tool(
                "filesystem__search_files",
                "Search for files that match a pattern.",
                read,
                search,
                &["path", "pattern"],
            ),
            fs("get_file_info", "Size, dates and kind of a file or directory."),
            tool(
                "filesystem__list_allowed_directories",
                "The directories this server may access.",
                read,
                json!({}),
                &[],
            ),
            tool(
                "filesystem__write_file",
                "Create or overwrite a file.",
                Effect::Destructive,
                write,
                &["path", "content"],
            ),
            tool("filesystem__delete_file", "Delete a file.", Effect::Destructive, path(), &["path"]),
            tool(
                "math__add",
                "Add two numbers.",
                read,
                json!({ "a": { "type": "number" }, "b": { "type": "number" } }),
                &["a", "b"],
            ),
        ]
    }

    fn request(text: &str) -> TurnRequest {
        TurnRequest {
            model: "rules-1".into(),
            system: None,
            messages: vec![Message::User { text: text.into() }],
            tools: tools(),
            max_output_tokens: None,
            plan_allowed: true,
        }
    }

    fn first(text: &str) -> (String, String) {
        let mut calls = reply(&request(text)).calls;
        assert_eq!(calls.len(), 1, "{text}: {}", reply(&request(text)).text);
        let call = calls.remove(0);
        (call.name, call.arguments)
    }

    fn said(text: &str) -> String {
        let reply = reply(&request(text));
        assert!(reply.calls.is_empty(), "{text}: {:?}", reply.calls);
        reply.text
    }

    /// Lets the calls of a run come back with `results`, and returns the calls made and the final answer.
    fn run(text: &str, results: &[(&str, bool)]) -> (Vec<ToolCall>, TurnReply) {
        let mut request = request(text);
        let mut made = Vec::new();
        loop {
            let reply = reply(&request);
            let Some(call) = reply.calls.first().cloned() else { return (made, reply) };
            let (content, is_error) = results[made.len()];
            made.push(call.clone());
            let result = ToolResult { call_id: call.id, name: call.name, content: content.to_owned(), is_error };
            request.messages.push(Message::Assistant { text: reply.text, calls: reply.calls, native: None });
            request.messages.push(Message::ToolResults(vec![result]));
        }
    }

    #[test]
    fn the_first_questions_of_a_newcomer_lead_to_the_obvious_call() {
        let readme = r#"{"path":"README.md"}"#;
        for text in [
            "Read README.md and tell me what Station is",
            "What is in README.md?",
            "What does README.md say?",
            "show me the file README.md",
            "README.md",
            r#"Read "README.md""#,
        ] {
            assert_eq!(first(text), ("filesystem__read_text_file".into(), readme.into()), "{text}");
        }
        for text in
            ["What is in the README?", "Which files are there?", "list the files", "hello", "What can you do?", ""]
        {
            assert_eq!(first(text), ("filesystem__list_allowed_directories".into(), "{}".into()), "{text}");
        }
        for text in ["List the files in docs/", "Which files are in ./docs/ ?", "ls docs/"] {
            assert_eq!(first(text).0, "filesystem__list_directory", "{text}");
        }
        assert_eq!(first("list the files in ."), ("filesystem__list_directory".into(), r#"{"path":"."}"#.into()));
        assert_eq!(first("tree of src/llm").0, "filesystem__directory_tree");
        assert_eq!(first("How big is the size of notes.txt? Get its info.").0, "filesystem__get_file_info");
        assert_eq!(first("Add 17 and 25"), ("math__add".into(), r#"{"a":17,"b":25}"#.into()));
        assert_eq!(
            first("Search \"*.rs\" in src/"),
            ("filesystem__search_files".into(), r#"{"path":"src/","pattern":"*.rs"}"#.into())
        );
    }

    #[test]
    fn the_answer_holds_the_data_and_does_not_pretend_to_think() {
        let (calls, answer) = run("What is in README.md?", &[("# Station\n\n```\nstn\n```\nruns agents", false)]);
        assert_eq!(calls.len(), 1);
        assert!(answer.text.contains("# Station\n\n```\nstn\n```\nruns agents"), "{}", answer.text);
        assert!(
            answer.text.contains("`filesystem__read_text_file`") && answer.text.contains(r#"{"path":"README.md"}"#)
        );
        assert_eq!(answer.finish, Finish::Stop);
        assert_eq!(answer.notice.as_deref(), Some(NOTICE));
        assert!(!answer.text.contains(" I "));
    }

    #[test]
    fn after_looking_around_the_answer_names_the_tool_that_lacked_a_value() {
        let (calls, answer) = run("What is in the README?", &[("/home/me/workspace", false)]);
        assert_eq!(calls.len(), 1);
        assert!(answer.text.contains("/home/me/workspace"));
        assert!(answer.text.contains(r#"call filesystem__read_text_file {"path":"<path>"}"#), "{}", answer.text);
    }

    #[test]
    fn a_failed_call_is_reported_as_failed() {
        let (_, answer) = run("Read nothing.txt", &[("no such file", true)]);
        assert!(answer.text.contains("failed") && answer.text.contains("no such file"), "{}", answer.text);
    }

    #[test]
    fn a_tool_that_changes_something_is_offered_and_never_guessed() {
        let text = said("Delete the file README.md");
        assert!(text.contains(r#"call filesystem__delete_file {"path":"README.md"}"#), "{text}");
        assert!(text.contains("isn't known to change nothing"), "{text}");
    }

    #[test]
    fn more_values_than_places_are_listed_and_not_chosen_from() {
        let text = said("read a.md or b.md");
        assert!(text.contains(r#"call filesystem__read_text_file {"path":"a.md"}"#), "{text}");
        assert!(text.contains(r#"call filesystem__read_text_file {"path":"b.md"}"#), "{text}");
    }

    #[test]
    fn equals_at_the_top_are_listed_with_their_commands() {
        let mut request = request("weather in city=Oslo");
        let city = || json!({ "city": { "type": "string" } });
        request.tools = vec![
            tool("a__weather", "", Effect::Read, city(), &["city"]),
            tool("b__weather", "", Effect::Read, city(), &["city"]),
        ];
        let reply = reply(&request);
        assert!(reply.calls.is_empty());
        for command in [r#"call a__weather {"city":"Oslo"}"#, r#"call b__weather {"city":"Oslo"}"#] {
            assert!(reply.text.contains(command), "{}", reply.text);
        }
    }

    #[test]
    fn a_plan_is_followed_step_by_step_with_its_json_as_written() {
        let text =
            "call filesystem__write_file {\"path\": \"a\",\n  \"content\": \"1.0\"}\ncall list_allowed_directories\n";
        let (calls, answer) = run(text, &[("written", false), ("/w", false)]);
        assert_eq!(calls[0].name, "filesystem__write_file");
        assert_eq!(calls[0].arguments, "{\"path\": \"a\",\n  \"content\": \"1.0\"}");
        assert_eq!(
            (calls[1].name.as_str(), calls[1].arguments.as_str()),
            ("filesystem__list_allowed_directories", "{}")
        );
        assert_ne!(calls[0].id, calls[1].id);
        assert!(answer.text.contains("written") && answer.text.contains("/w"));
    }

    #[test]
    fn a_failed_step_ends_the_plan() {
        let text = "call read_text_file {\"path\":\"x\"}\ncall delete_file {\"path\":\"x\"}";
        let (calls, answer) = run(text, &[("no such file", true)]);
        assert_eq!(calls.len(), 1);
        assert!(answer.text.contains("1 of 2"), "{}", answer.text);
    }

    #[test]
    fn a_plan_from_elsewhere_is_not_obeyed() {
        let mut request = request("call filesystem__delete_file {\"path\":\"x\"}");
        request.plan_allowed = false;
        let reply = reply(&request);
        assert!(reply.calls.is_empty() && reply.text.contains("not obeyed"), "{}", reply.text);
    }

    #[test]
    fn a_plan_with_a_mistake_calls_nothing() {
        let unknown = said("call list_allowed_directories {}\ncall filesystem__read_tex_file {\"path\":\"x\"}");
        assert!(
            unknown.contains("filesystem__read_tex_file") && unknown.contains("filesystem__read_text_file"),
            "{unknown}"
        );
        assert!(said("call read_text_file {\"path\": }").contains("JSON"));
        assert!(said("call read_text_file {} {}").contains("line 1"));
    }

    #[test]
    fn prose_that_begins_with_call_is_no_plan() {
        assert_eq!(first("Call me maybe\ncall it a day").0, "filesystem__list_allowed_directories");
    }

    #[test]
    fn tools_of_unknown_effect_are_listed_with_their_commands() {
        let mut request = request("good morning");
        request.tools.retain(|tool| tool.effect != Effect::Read);
        let reply = reply(&request);
        assert!(reply.calls.is_empty());
        assert!(reply.text.contains(r#"call filesystem__delete_file {"path":"<path>"}"#), "{}", reply.text);
    }

    #[test]
    fn without_tools_the_answer_says_so() {
        let mut request = request("hello");
        request.tools.clear();
        assert!(reply(&request).text.contains("no tools"));
    }

    #[tokio::test]
    async fn the_provider_streams_its_answer_and_stops_when_cancelled() {
        let provider = Offline::new("offline".into());
        let mut request = request("hello");
        request.tools.clear();
        let limits = TurnLimits::default();
        let mut sink = Transcript::default();
        let reply = provider.turn(&request, &mut sink, &limits).await.unwrap();
        assert_eq!(sink.deltas.concat(), reply.text);
        assert_eq!(provider.models().await.unwrap(), ["rules-1"]);
        limits.cancel.cancel();
        let error = provider.turn(&request, &mut sink, &limits).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Cancelled);
    }
}
