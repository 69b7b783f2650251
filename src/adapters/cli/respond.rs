//! `stn run respond RUN TEXT`: a decision by its word, and any other text as the answer to a question.

use super::failure::Failure;
use super::fields;
use super::output::Output;
use super::render;
use super::target::Target;
use crate::domain::Decision;
use crate::error::Result;
use crate::tools::ToolSpec;
use clap::{Arg, ArgMatches, Command};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The command.
pub(super) fn command(spec: &ToolSpec) -> Command {
    let about = "`retry`, `skip` or `result` for a call in doubt; any other text answers a question";
    // What a person or a tool says may begin with a hyphen, and is `-5` more often than an option.
    fields::command(spec, "respond", &["decision"])
        .mut_arg("answer", |answer| answer.allow_hyphen_values(true))
        .mut_arg("result", |result| result.allow_hyphen_values(true))
        .arg(
            Arg::new("decision")
                .value_name("DECISION|TEXT")
                .allow_negative_numbers(true)
                .conflicts_with("answer")
                .help(about),
        )
}

/// Answers, and shows the run.
pub(super) async fn run(target: &Target, output: Output, matches: &ArgMatches, spec: &ToolSpec) -> Result<u8, Failure> {
    let answered = target.call(spec.name, input(matches, spec)?).await?;
    render::show(output, spec.name, &answered)?;
    Ok(0)
}

fn input(matches: &ArgMatches, spec: &ToolSpec) -> Result<Map<String, Value>> {
    let mut input = fields::input(matches, spec)?;
    if let Some(text) = input.shift_remove("decision") {
        let field = if Decision::deserialize(&text).is_ok() { "decision" } else { "answer" };
        input.insert(field.to_owned(), text);
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;
    use serde_json::json;

    #[test]
    fn a_word_is_a_decision_or_an_answer_and_an_answer_by_name_is_always_one() {
        let table = tools::table();
        let spec = &table.get("run_respond").unwrap().spec;
        let read = |line: &str| {
            let matches = command(spec).try_get_matches_from(line.split('|')).map_err(|error| error.kind())?;
            Ok::<_, clap::error::ErrorKind>(Value::Object(input(&matches, spec).unwrap()))
        };
        assert_eq!(read("respond|1f3a|retry"), Ok(json!({ "run": "1f3a", "decision": "retry" })));
        assert_eq!(read("respond|1f3a|to the left"), Ok(json!({ "run": "1f3a", "answer": "to the left" })));
        assert_eq!(read("respond|1f3a|--answer|skip"), Ok(json!({ "run": "1f3a", "answer": "skip" })));
        let given = json!({ "run": "1f3a", "decision": "result", "result": "42", "step": 2 });
        assert_eq!(read("respond|1f3a|result|--result|42|--step|2"), Ok(given));
        assert!(read("respond|1f3a|left|--answer|right").is_err());
        assert_eq!(read("respond|1f3a|--answer|-5|--step|2"), Ok(json!({ "run": "1f3a", "answer": "-5", "step": 2 })));
        assert_eq!(read("respond|1f3a|-5.5|--step|2"), Ok(json!({ "run": "1f3a", "answer": "-5.5", "step": 2 })));
        let given = json!({ "run": "1f3a", "decision": "result", "result": "-n" });
        assert_eq!(read("respond|1f3a|result|--result|-n"), Ok(given));
        assert!(read("respond|1f3a|--anser|5").is_err(), "an option that isn't one is told");
    }
}
