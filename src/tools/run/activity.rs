//! What a run is doing, in a few words, for whoever waits for it at any door.

use crate::domain::{Event, EventType};
use serde_json::Value;

/// What `event` says that the run is doing now. `None` for one that changes nothing about it.
pub fn activity(event: &Event) -> Option<String> {
    let data = &event.data;
    Some(match event.r#type {
        EventType::RunQueued => "queued".to_owned(),
        EventType::RunStarted => "started".to_owned(),
        EventType::StepStarted => doing(data.get("step")?),
        EventType::StepProgress => text(data, "message")?.to_owned(),
        EventType::StepCompleted | EventType::StepFailed => "working".to_owned(),
        EventType::RunWaiting => {
            format!("waiting ({})", text(data, "waiting_for").unwrap_or_default().replace('_', " "))
        }
        _ => return None,
    })
}

fn doing(step: &Value) -> String {
    let name = text(step, "name").unwrap_or_default();
    match text(step, "kind") {
        Some("model") if name == "plan" => "planning".to_owned(),
        Some("model") => format!("asking {name}"),
        _ => name.to_owned(),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_run_does_is_told_in_words_and_never_as_the_name_of_an_event() {
        let told = |kind: &str, data: Value| {
            let run = "0195f3a3-c000-8001-8000-000000000001";
            let at = "2026-01-01T00:00:00Z";
            let event = json!({ "run_id": run, "epoch": 1, "seq": 1, "type": kind, "at": at, "data": data });
            activity(&serde_json::from_value(event).unwrap())
        };
        let step = |kind: &str, name: &str| json!({ "step": { "kind": kind, "name": name } });
        assert_eq!(told("step.started", step("model", "fake/m1")).as_deref(), Some("asking fake/m1"));
        assert_eq!(told("step.started", step("model", "plan")).as_deref(), Some("planning"));
        assert_eq!(told("step.started", step("tool", "count__slow")).as_deref(), Some("count__slow"));
        assert_eq!(told("run.waiting", json!({ "waiting_for": "in_doubt" })).as_deref(), Some("waiting (in doubt)"));
        for silent in ["usage.updated", "run.completed", "run.rewound"] {
            assert_eq!(told(silent, json!({})), None, "{silent}");
        }
    }
}
