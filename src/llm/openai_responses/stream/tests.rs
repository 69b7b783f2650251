use super::super::super::test_server::{Transcript, read_in_pieces};
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
    read_in_pieces(ResponseAssembly::new(&names, "m", 3), text, 7)
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
    assert_eq!((reply.text.as_str(), reply.finish, sink.deltas.concat().as_str()), ("hello", Finish::Stop, "hello"));
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
    let failed =
        ended("failed", &json!({ "status": "failed", "error": { "code": "server_error", "message": "overloaded" } }));
    for event in [flat, nested, &failed] {
        let read = read(&stream(&[event.to_owned()])).0;
        assert!(matches!(&read, Err(BodyFault::Reported(fault)) if fault.message == "overloaded"), "{read:?}");
    }
    assert!(matches!(read(r#"{"error":{"message":"no"}}"#).0, Err(BodyFault::Reported(_))));
    assert!(matches!(read("{}").0, Err(BodyFault::Malformed(_))));
    let all = answer();
    assert_eq!(read(&stream(&all[..all.len() - 1])).0.unwrap_err(), BodyFault::Cut);
}

/// As some servers tell of their items: without their places, by their ids.
fn unplaced(kind: &str, item: &str) -> String {
    format!(r#"{{"type":"response.output_item.{kind}","item":{item}}}"#)
}

fn unplaced_delta(kind: &str, of: &str, text: &str) -> String {
    json!({ "type": format!("response.{kind}.delta"), "item_id": of, "delta": text }).to_string()
}

fn completed(items: &[&str]) -> String {
    format!(r#"{{"type":"response.completed","response":{{"status":"completed","output":[{}]}}}}"#, items.join(","))
}

#[test]
fn text_whose_message_was_never_added_is_shown_once() {
    let events = [unplaced_delta("output_text", "msg_1", "Let me look."), unplaced("done", MESSAGE), completed(&[])];
    let (reply, sink) = read(&stream(&events));
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("Let me look.", "Let me look."));
}

#[test]
fn items_without_a_place_are_told_apart_and_count_once() {
    let begun = |call: &str| call.replace(r#""{\"n\": 1.00}""#, r#""""#);
    let events = [
        unplaced("added", r#"{"type":"reasoning","id":"rs_1","summary":[]}"#),
        unplaced("done", REASONING),
        unplaced("added", r#"{"type":"message","id":"msg_1","content":[]}"#),
        unplaced_delta("output_text", "msg_1", "Let me"),
        unplaced_delta("output_text", "msg_1", " look."),
        unplaced("done", MESSAGE),
        unplaced("added", &begun(CALL)),
        unplaced_delta("function_call_arguments", "fc_1", "{\"n\":"),
        unplaced("added", SECOND),
        unplaced_delta("function_call_arguments", "call_1", " 1.00}"),
        unplaced("done", CALL),
        unplaced("done", SECOND),
    ];
    let all = [REASONING, MESSAGE, CALL, SECOND];
    for last in [completed(&all), completed(&[])] {
        let (reply, sink) = read(&stream(&[events.as_slice(), &[last]].concat()));
        let reply = reply.unwrap();
        let calls: Vec<_> = reply.calls.iter().map(|call| (&*call.id, &*call.arguments)).collect();
        assert_eq!(calls, [("call_1", "{\"n\": 1.00}"), ("call_2", "{}")]);
        assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("Let me look.", "Let me look."));
        assert_eq!(reply.native.unwrap().blocks.get(), format!("[{}]", all.join(",")));
    }
}

#[test]
fn what_the_last_event_repeats_without_its_place_or_id_counts_once_and_what_only_it_has_is_taken() {
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"Now."}]}"#;
    let call = |id: &str| format!(r#"{{"type":"function_call","id":"{id}","name":"g","arguments":"{{}}"}}"#);
    let (streamed, renamed) = (call("a"), call("b"));
    let seen = [unplaced("added", message), unplaced("done", message), unplaced("done", &streamed)];
    for (last, calls) in [
        (completed(&[message, &streamed]), vec!["a"]),
        (completed(&[message, &renamed]), vec!["a"]),
        (completed(&[message, &streamed, &renamed]), vec!["a", "b"]),
        (completed(&[message, &renamed, &streamed]), vec!["a", "b"]),
    ] {
        let (reply, sink) = read(&stream(&[seen.as_slice(), std::slice::from_ref(&last)].concat()));
        let reply = reply.unwrap();
        assert_eq!(reply.calls.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), calls, "{last}");
        assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("Now.", "Now."), "{last}");
    }
}
