//! The conversation that a model is sent: the prompt, then every finished turn. Pure.

use super::history::{CallState, History, ModelState, Turn};
use super::output::Contract;
use super::pinned::PinnedTools;
use crate::config::{MessageRole, Rendered};
use crate::llm::{Message, ToolResult};

/// What a model is told after its plan.
const CARRY_OUT: &str = "Now carry out this plan. Change it where what you find asks for it.";

/// Messages for the next model call. A turn without a reply, which is the one being asked for, adds nothing. `output` is what the answer
/// has to be; an answer that isn't the last word didn't fit, and is followed by what was wrong with it.
pub(super) fn messages(
    prompt: &Rendered,
    history: &History,
    tools: &PinnedTools,
    output: Option<&Contract>,
) -> Vec<Message> {
    let mut messages: Vec<Message> = prompt.messages.iter().map(|(role, text)| said(*role, text)).collect();
    if history.turns.first().is_some_and(|turn| turn.model.plan) {
        ask(&mut messages, plan_first(tools));
    }
    for (at, turn) in history.turns.iter().enumerate() {
        add(turn, &mut messages);
        let ModelState::Replied(reply) = &turn.model.state else { continue };
        match output {
            _ if turn.model.plan => ask(&mut messages, CARRY_OUT.to_owned()),
            Some(output) if reply.tool_calls.is_empty() && at + 1 < history.turns.len() => {
                ask(&mut messages, output.repair(&reply.text, reply.notice.as_deref()));
            }
            _ => {}
        }
    }
    messages
}

/// Appended to a message of the user's, where that is the last: many models want the two sides to alternate.
fn ask(messages: &mut Vec<Message>, request: String) {
    match messages.last_mut() {
        Some(Message::User { text }) => *text = format!("{text}\n\n{request}"),
        _ => messages.push(Message::User { text: request }),
    }
}

/// The tools are told by name, because none is offered yet.
fn plan_first(tools: &PinnedTools) -> String {
    let names: Vec<&str> = tools.names().collect();
    let with =
        if names.is_empty() { String::new() } else { format!(" and with which of your tools ({})", names.join(", ")) };
    format!(
        "First make a plan, and do nothing else yet: say briefly in which steps{with} you will do this. No tool can be called in this turn."
    )
}

fn said(role: MessageRole, text: &str) -> Message {
    match role {
        MessageRole::User => Message::User { text: text.to_owned() },
        MessageRole::Assistant => Message::Assistant { text: text.to_owned(), calls: Vec::new(), native: None },
    }
}

fn add(turn: &Turn, messages: &mut Vec<Message>) {
    let ModelState::Replied(reply) = &turn.model.state else { return };
    messages.push(Message::Assistant {
        text: reply.text.clone(),
        calls: reply.tool_calls.clone(),
        native: reply.native.clone(),
    });
    let results: Vec<ToolResult> = reply
        .tool_calls
        .iter()
        .zip(&turn.calls)
        .filter_map(|(call, step)| match &step.state {
            CallState::Done(shown) => Some(ToolResult {
                call_id: call.id.clone(),
                name: call.name.clone(),
                content: shown.content.clone(),
                is_error: shown.is_error,
            }),
            CallState::Started | CallState::InDoubt | CallState::ToRetry => None,
        })
        .collect();
    if !results.is_empty() {
        messages.push(Message::ToolResults(results));
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Reply;
    use super::super::shown::Shown;
    use super::*;
    use crate::llm::{Finish, ToolCall};

    #[test]
    fn results_follow_their_calls_in_the_order_of_the_calls_whichever_came_first() {
        let prompt = Rendered {
            system: Some("s".into()),
            messages: vec![(MessageRole::User, "q".into()), (MessageRole::Assistant, "so far".into())],
        };
        let call = |id: &str| ToolCall { id: id.into(), name: "t".into(), arguments: "{}".into() };
        let calls = vec![call("a"), call("b")];
        let mut history = History::default();
        history.begin_model(false);
        assert_eq!(messages(&prompt, &history, &PinnedTools::default(), None).len(), 2);
        let finish = Finish::ToolCalls;
        history.reply(Reply {
            text: "hm".into(),
            tool_calls: calls.clone(),
            finish,
            notice: None,
            wire_attempts: None,
            native: None,
        });
        history.begin_call();
        history.begin_call();
        for (at, content) in [(1, "second"), (0, "first")] {
            let shown = Shown { content: content.into(), is_error: at == 1 };
            history.call_mut(at).unwrap().state = CallState::Done(shown);
        }
        history.begin_model(false);
        let result = |id: &str, content: &str, is_error| ToolResult {
            call_id: id.into(),
            name: "t".into(),
            content: content.into(),
            is_error,
        };
        assert_eq!(
            messages(&prompt, &history, &PinnedTools::default(), None),
            vec![
                Message::User { text: "q".into() },
                Message::Assistant { text: "so far".into(), calls: vec![], native: None },
                Message::Assistant { text: "hm".into(), calls, native: None },
                Message::ToolResults(vec![result("a", "first", false), result("b", "second", true)]),
            ]
        );
    }

    #[test]
    fn a_plan_and_an_answer_that_does_not_fit_are_part_of_the_conversation_and_the_sides_alternate() {
        let prompt = Rendered { system: None, messages: vec![(MessageRole::User, "q".into())] };
        let contract = Contract::new(&serde_json::json!({ "type": "integer" })).unwrap();
        let reply = |text: &str| Reply {
            text: text.into(),
            tool_calls: vec![],
            finish: Finish::Stop,
            notice: None,
            wire_attempts: None,
            native: None,
        };
        let mut history = History::default();
        history.begin_model(true);
        let told = |history: &History| {
            let messages = messages(&prompt, history, &PinnedTools::default(), Some(&contract));
            messages
                .iter()
                .map(|message| match message {
                    Message::User { text } => ("user", text.clone()),
                    Message::Assistant { text, .. } => ("assistant", text.clone()),
                    Message::ToolResults(_) => ("tool", String::new()),
                })
                .collect::<Vec<_>>()
        };
        let first = told(&history);
        assert!(first.len() == 1 && first[0].1.starts_with("q\n\nFirst make a plan"), "{first:?}");
        history.reply(reply("think, then say"));
        history.begin_model(true);
        history.reply(reply("seven"));
        assert_eq!(told(&history).len(), 4, "nothing is wrong with the last word until another is asked for");
        history.begin_model(true);
        let all = told(&history);
        let sides: Vec<&str> = all.iter().map(|(side, _)| *side).collect();
        assert_eq!(sides, ["user", "assistant", "user", "assistant", "user"]);
        assert_eq!((all[1].1.as_str(), all[2].1.as_str()), ("think, then say", CARRY_OUT));
        assert!(all[4].1.contains("no JSON"), "{all:?}");
    }
}
