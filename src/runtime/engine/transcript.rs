//! The conversation that a model is sent: the prompt, then every finished turn. Pure.

use super::history::{CallState, History, ModelState, Turn};
use crate::config::{MessageRole, Rendered};
use crate::llm::{Message, ToolResult};

/// Messages for the next model call. A turn without a reply, which is the one being asked for, adds nothing.
pub(super) fn messages(prompt: &Rendered, history: &History) -> Vec<Message> {
    let mut messages: Vec<Message> = prompt.messages.iter().map(|(role, text)| said(*role, text)).collect();
    for turn in &history.turns {
        add(turn, &mut messages);
    }
    messages
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
        history.begin_model();
        assert_eq!(messages(&prompt, &history).len(), 2);
        let finish = Finish::ToolCalls;
        history.reply(Reply { text: "hm".into(), tool_calls: calls.clone(), finish, notice: None, native: None });
        history.begin_call();
        history.begin_call();
        for (at, content) in [(1, "second"), (0, "first")] {
            let shown = Shown { content: content.into(), is_error: at == 1 };
            history.call_mut(at).unwrap().state = CallState::Done(shown);
        }
        history.begin_model();
        let result = |id: &str, content: &str, is_error| ToolResult {
            call_id: id.into(),
            name: "t".into(),
            content: content.into(),
            is_error,
        };
        assert_eq!(
            messages(&prompt, &history),
            vec![
                Message::User { text: "q".into() },
                Message::Assistant { text: "so far".into(), calls: vec![], native: None },
                Message::Assistant { text: "hm".into(), calls, native: None },
                Message::ToolResults(vec![result("a", "first", false), result("b", "second", true)]),
            ]
        );
    }
}
