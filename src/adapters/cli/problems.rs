//! How the faults of files are mended: told on stderr, beside the table on stdout that says what they are. What has no effect has no row
//! of its own there, and is told here as well.

use super::output::Output;
use crate::config::{FileProblem, Severity};
use serde_json::Value;

/// Every warning in a tool's output, and the hint of every fault, with the place that it is for.
pub(super) fn tell(output: Output, value: &Value) {
    for line in hints(value) {
        output.note(line);
    }
}

fn hints(value: &Value) -> Vec<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let of_item = |item: Value| item.get("problem").cloned().into_iter().chain(list(&item, "warnings"));
    let of_items = list(value, "items").into_iter().flat_map(of_item);
    let of_environments =
        list(value, "environments").into_iter().flat_map(|environment| list(&environment, "problems"));
    let found = of_items.chain(list(value, "problems")).chain(of_environments);
    let mut lines = Vec::new();
    for problem in found.filter_map(|problem| serde_json::from_value::<FileProblem>(problem).ok()) {
        if problem.severity == Severity::Warning {
            lines.extend(Some(format!("warning: {problem}")).filter(|line| !lines.contains(line)));
        }
        let place = problem.line.map_or_else(|| problem.file.clone(), |line| format!("{}:{line}", problem.file));
        lines.extend(problem.hint.map(|hint| format!("hint: {place}: {hint}")).filter(|line| !lines.contains(line)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_hint_is_told_once_and_with_its_place() {
        let problem = json!({ "file": "a.prompt", "line": 3, "message": "no", "hint": "do" });
        let fileless = json!({ "file": "b.json", "message": "no", "hint": "do that" });
        let synced = json!({ "items": [{ "problem": problem }, { "problem": problem }, { "name": "x" }] });
        assert_eq!(hints(&synced), ["hint: a.prompt:3: do"]);
        let idle = json!({ "file": "a.prompt", "line": 2, "message": "no effect", "severity": "warning" });
        assert_eq!(hints(&json!({ "items": [{ "warnings": [idle, idle] }] })), ["warning: a.prompt:2: no effect"]);
        let status = json!({ "environments": [{ "problems": [problem, fileless] }, { "problems": [] }] });
        assert_eq!(hints(&status), ["hint: a.prompt:3: do", "hint: b.json: do that"]);
        assert!(hints(&json!({ "problem": "no model", "problems": [{ "file": "c", "message": "no" }] })).is_empty());
    }
}
