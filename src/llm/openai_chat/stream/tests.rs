use super::super::super::test_server::{Transcript, read_in_pieces};
use super::*;

fn read(text: &str) -> (Result<TurnReply, BodyFault>, Transcript) {
    let names = NameMap::new(["a.b"].into_iter());
    read_in_pieces(ChatAssembly::new(&names, "m", 3), text, 7)
}

fn stream(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

fn calls(deltas: &[Value]) -> Vec<ToolCall> {
    let chunks: Vec<_> =
        deltas.iter().map(|calls| json!({ "choices": [{ "index": 0, "delta": { "tool_calls": calls } }] })).collect();
    read(&stream(&chunks)).0.unwrap().calls
}

#[test]
fn a_recorded_answer_with_parallel_calls_is_put_together() {
    let text = concat!(
        ": keep-alive\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"Let "},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"me look."},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"a_b","arguments":""}}]}}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"ci"}}]}}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","function":{"name":"other","arguments":"{\"n\""}}]}}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ty\": \"Paris\"}"}}]}}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":":1.0}"}}]}}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "\n\n",
        r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        "\n\n",
        "data: [DONE]\n\n",
    );
    let (reply, sink) = read(text);
    let reply = reply.unwrap();
    assert_eq!(reply.text, "Let me look.");
    assert_eq!(sink.deltas, ["Let ", "me look."]);
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    assert_eq!(reply.calls, [call("call_1", "a.b", r#"{"city": "Paris"}"#), call("call_2", "other", r#"{"n":1.0}"#)]);
    assert_eq!(reply.finish, Finish::ToolCalls);
    let usage =
        Usage { input_tokens: 20, cached_input_tokens: 5, output_tokens: 7, reasoning_tokens: 2, cost_microusd: None };
    assert_eq!(reply.usage, Some(usage));
}

#[test]
fn calls_are_told_apart_however_a_server_marks_them() {
    let whole = |id: Value, name: &str| json!({ "id": id, "function": { "name": name, "arguments": "{}" } });
    let names = |calls: Vec<ToolCall>| calls.into_iter().map(|call| (call.id, call.name)).collect::<Vec<_>>();
    let two = [("x".to_owned(), "f".to_owned()), ("y".to_owned(), "g".to_owned())];
    assert_eq!(names(calls(&[json!([whole(json!("x"), "f"), whole(json!("y"), "g")])])), two);
    assert_eq!(names(calls(&[json!([whole(json!("x"), "f")]), json!([whole(json!("y"), "g")])])), two);
    let mut same_index = [whole(json!("x"), "f"), whole(json!("y"), "g")];
    same_index.iter_mut().for_each(|call| call["index"] = json!(0));
    assert_eq!(names(calls(&[json!(same_index)])), two);
    let made = names(calls(&[json!([whole(json!(null), "f"), whole(json!(null), "g")])]));
    assert_eq!(made, [("call_3_0".to_owned(), "f".to_owned()), ("call_3_1".to_owned(), "g".to_owned())]);
}

#[test]
fn a_fragment_without_a_name_belongs_to_its_index_whatever_its_id() {
    let fragment = |index: Value, id: &str, name: Value, arguments: &str| {
        let function = json!({ "name": name, "arguments": arguments });
        json!([{ "index": index, "id": id, "function": function }])
    };
    for (first, second) in [(json!(0), json!(1)), (json!(null), json!(null))] {
        let made = calls(&[
            fragment(first.clone(), "id-1", json!("f"), ""),
            fragment(first.clone(), "id-2", json!(null), "{\"a\""),
            fragment(first, "id-3", json!(""), ":1}"),
            fragment(second.clone(), "id-4", json!("g"), "{"),
            fragment(second, "id-5", json!(null), "}"),
        ]);
        let made: Vec<_> = made.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
        assert_eq!(made, [("id-1", "f", "{\"a\":1}"), ("id-4", "g", "{}")]);
    }
}

#[test]
fn two_whole_calls_under_one_id_are_two() {
    let whole = |name: &str, arguments: &str| json!({ "id": "call_0", "type": "function", "function": { "name": name, "arguments": arguments } });
    let message =
        json!({ "content": null, "tool_calls": [whole("f", "{\"a\":1}"), whole("f", "{\"a\":2}"), whole("g", "")] });
    let body = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }] });
    let made = read(&body.to_string()).0.unwrap().calls;
    let told: Vec<_> = made.iter().map(|call| (&*call.name, &*call.arguments)).collect();
    assert_eq!(told, [("f", "{\"a\":1}"), ("f", "{\"a\":2}"), ("g", "{}")]);
    assert!(made[0].id != made[1].id && made[1].id != made[2].id, "{made:?}");
    let repeated = [json!([whole("f", "{\"a\":")]), json!([whole("f", "1}")]), json!([whole("f", "")])];
    let made = calls(&repeated);
    assert_eq!((made.len(), &*made[0].arguments), (1, "{\"a\":1}"), "id and name in every fragment");
}

#[test]
fn arguments_are_carried_as_they_came() {
    let of = |arguments: Value| {
        calls(&[json!([{ "index": 0, "id": "x", "function": { "name": "f", "arguments": arguments } }])])[0]
            .arguments
            .clone()
    };
    assert_eq!(of(json!("{\"a\": 1,}")), "{\"a\": 1,}");
    assert_eq!(of(json!("")), "{}");
    assert_eq!(of(json!(null)), "{}");
    assert_eq!(of(json!({ "a": 1 })), "{\"a\":1}");
}

#[test]
fn a_call_of_an_answer_that_ended_before_its_time_stays_visibly_unfinished() {
    let arguments = |reason: &str| {
        let call = json!({ "tool_calls": [{ "index": 0, "id": "x", "function": { "name": "f" } }] });
        let chunk = json!({ "choices": [{ "delta": call, "finish_reason": reason }] });
        read(&stream(&[chunk])).0.unwrap().calls.remove(0).arguments
    };
    for reason in ["length", "content_filter", "insufficient_system_resource"] {
        assert_eq!(arguments(reason), "", "{reason}");
    }
    assert_eq!(arguments("tool_calls"), "{}");
}

#[test]
fn a_stream_that_ends_without_its_marker_is_whole_if_the_model_had_finished_and_else_cut() {
    let ended = |finish_reason: Value| {
        let said = json!({ "choices": [{ "delta": { "content": "so far" }, "finish_reason": finish_reason }] });
        read(stream(&[said]).trim_end().trim_end_matches("data: [DONE]")).0
    };
    assert_eq!(ended(json!("stop")).unwrap().text, "so far");
    assert_eq!(ended(json!("length")).unwrap().finish, Finish::Length);
    for unfinished in [json!(null), json!("")] {
        assert_eq!(ended(unfinished).unwrap_err(), BodyFault::Cut);
    }
    assert_eq!(read("").0.unwrap_err(), BodyFault::Cut);
}

#[test]
fn an_end_marker_before_any_answer_is_no_answer() {
    for chunks in [&[][..], &[json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 0 } })]] {
        assert!(
            matches!(read(&stream(chunks)).0, Err(BodyFault::Reported(fault)) if fault.message.contains("no choices"))
        );
    }
    let said_nothing = json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] });
    assert_eq!(read(&stream(&[said_nothing])).0.unwrap().text, "", "the model may have nothing to say");
}

#[test]
fn an_error_inside_the_stream_is_reported() {
    let text = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    assert!(matches!(read(text).0, Err(BodyFault::Reported(fault)) if fault.message == "overloaded"));
    assert!(matches!(read("data: {nonsense\n\n").0, Err(BodyFault::Malformed(_))));
    assert!(matches!(read("<html>hello</html>").0, Err(BodyFault::Malformed(_))));
}

#[test]
fn a_plain_json_body_is_as_good_as_a_stream() {
    let body = json!({ "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hi",
        "reasoning_content": "hm", "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] } }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2 } });
    let (reply, sink) = read(&format!(" \n{body:#}"));
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), sink.deltas.concat().as_str()), ("hi", "hi"));
    assert_eq!(reply.finish, Finish::ToolCalls, "calls decide, not the stop reason");
    assert_eq!(reply.native.unwrap().blocks.get(), r#"{"reasoning_content":"hm"}"#);
    assert_eq!(reply.usage.unwrap().output_tokens, 2);
    assert!(matches!(read(r#"{"error":{"message":"no"}}"#).0, Err(BodyFault::Reported(_))));
    assert!(matches!(read("{}").0, Err(BodyFault::Malformed(_))));
}

#[test]
fn an_answer_that_nobody_counted_has_no_usage() {
    let said = json!({ "choices": [{ "delta": { "content": "hi" }, "finish_reason": "stop" }] });
    for usage in [json!(null), json!({}), json!({ "prompt_tokens": 0, "completion_tokens": 0 })] {
        let last = json!({ "choices": [], "usage": usage });
        assert_eq!(read(&stream(&[said.clone(), last])).0.unwrap().usage, None, "{usage}");
    }
    assert_eq!(read(&stream(&[said])).0.unwrap().usage, None);
    let whole = json!({ "choices": [{ "message": { "content": "hi" }, "finish_reason": "stop" }] });
    assert_eq!(read(&whole.to_string()).0.unwrap().usage, None);
}

#[test]
fn a_refusal_is_text_with_its_own_finish() {
    let reply = read(&stream(&[json!({ "choices": [{ "delta": { "refusal": "I can't." } }] })])).0.unwrap();
    assert_eq!((reply.text.as_str(), reply.finish), ("I can't.", Finish::Refusal));
}
