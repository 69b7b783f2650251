//! Prompts as people write them, and what is told of those that can't be read.

use super::super::keys::every_place_of;
use super::*;
use serde_json::json;

const FILE: &str = "agents/log-reader.prompt";

fn parse(text: &str) -> Result<AgentDefinition, FileProblem> {
    parse_prompt(&Name::new("log-reader").unwrap(), FILE, text.as_bytes())
}

fn problem(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn every_key_in_force_reaches_the_definition() {
    let text = r#"---
metadata: { name: "Log Reader", description: no, tags: [ops] }
model: openai/gpt-5.4-mini
max_steps: 8
timeout: 1h30m
plan: true
tools: [filesystem__read_text_file, "git__*", __search]
agents: [summarizer, "Cost Forecaster"]
input: { schema: { type: object, properties: { path: { type: string } }, required: [path] } }
output: { schema: { type: array, items: { type: string } } }
limits: { tokens: 200000, cost_usd: 0.30 }
retry: { on_in_doubt: skip }
---
{{role "system"}}
Read {{path}}.
"#;
    let agent = parse(text).unwrap();
    assert_eq!(agent.display_name.as_deref(), Some("Log Reader"));
    assert_eq!(agent.description.as_deref(), Some("no"));
    assert_eq!((agent.max_steps, agent.timeout_ms), (Some(8), Some(5_400_000)));
    assert_eq!(agent.tools, ["filesystem__read_text_file", "git__*", "__search"]);
    let agents: Vec<&str> = agent.agents.iter().map(Name::as_str).collect();
    assert_eq!(agents, ["summarizer", "cost-forecaster"]);
    assert_eq!(agent.input_schema.unwrap()["required"], json!(["path"]));
    assert_eq!((agent.plan, agent.output_schema.unwrap()["type"].clone()), (true, json!("array")));
    assert_eq!(agent.limits, Some(Limits { tokens: Some(200_000), cost_microusd: Some(300_000) }));
    assert_eq!(agent.on_in_doubt, OnInDoubt::Skip);
    assert_eq!(agent.prompt, "{{role \"system\"}}\nRead {{path}}.");
}

#[test]
fn an_empty_front_matter_is_an_agent_of_defaults_and_crlf_means_the_same_as_lf() {
    let agent = parse("---\nmetadata: { description: \"\" }\n---\nHello\nthere\n").unwrap();
    assert_eq!(agent.description, None);
    let agent = parse("---\n---\nHello\nthere\n").unwrap();
    assert_eq!((agent.model.clone(), agent.prompt.as_str()), (None, "Hello\nthere"));
    assert_eq!(parse("---\r\n---\r\nHello\r\nthere\r\n").unwrap(), agent);
}

#[test]
fn a_text_without_front_matter_is_the_prompt_of_an_agent_of_defaults() {
    let agent = parse("Hello\nthere\n").unwrap();
    assert_eq!(agent, parse("---\n---\nHello\nthere\n").unwrap());
    assert_eq!(parse("\u{feff}Hello\r\nthere\r\n").unwrap(), agent);
    assert_eq!(problem("fine\n{{#if x}}\nopen\n").split(": ").next(), Some("agents/log-reader.prompt:3:5"));
    assert_eq!(problem(" \n"), format!("{FILE}:1:1: the file is empty; write the prompt into it"));
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    assert_eq!(
        problem("---\nmodel: a/b\nmax_step: 3\n---\n"),
        format!("{FILE}:3:1: unknown key `max_step`; did you mean `max_steps`?")
    );
    assert_eq!(
        problem("---\nmetadata:\n  tag: [a]\n---\n"),
        format!("{FILE}:3:3: unknown key `metadata.tag`; did you mean `tags`?")
    );
}

#[test]
fn what_this_version_does_not_do_is_refused_and_never_ignored() {
    for line in ["approval: { destructive: ask }", "limits: { max_concurrent: 5 }", "retry: { max_attempts: 3 }"] {
        let problem = problem(&format!("---\nmodel: a/b\n{line}\n---\n"));
        assert!(problem.contains(":3:") && problem.contains("not supported by this version"), "{line}: {problem}");
    }
}

#[test]
fn picoschema_compiles_and_broken_schemas_are_refused_with_their_place() {
    let pico =
        parse("---\ninput:\n  schema:\n    topic: string, the topic\n    depth?: integer\n---\n{{topic}}\n").unwrap();
    let schema = pico.input_schema.unwrap();
    assert_eq!(
        (&schema["required"], &schema["properties"]["topic"]["description"]),
        (&json!(["topic"]), &json!("the topic"))
    );
    let typo = parse("---\ninput:\n  schema:\n    topic: strin, the topic\n---\n").unwrap_err();
    assert_eq!((typo.line, typo.column), (Some(4), Some(12)));
    assert_eq!(typo.message, "`input.schema.topic`: `strin` is no type of Picoschema; did you mean `string`?");
    let broken = parse("---\ninput:\n  schema:\n    type: object\n    properties:\n      a: { type: strin }\n---\n")
        .unwrap_err();
    assert_eq!((broken.line, broken.column), (Some(6), Some(18)));
    assert!(broken.message.starts_with("`input.schema.properties.a.type`: "), "{broken}");
    for text in ["---\ninput: { schema: { type: string } }\n---\n", "---\ninput: { schema: string }\n---\n"] {
        assert!(problem(text).contains("type: object"), "{}", problem(text));
    }
}

#[test]
fn limits_are_whole_tokens_and_exact_money() {
    let limits = |text: &str| parse(&format!("---\nlimits: {text}\n---\n")).map(|agent| agent.limits);
    let cost = |micros| Some(Limits { tokens: None, cost_microusd: Some(micros) });
    assert_eq!(limits("{ cost_usd: \"0.1\" }").unwrap(), cost(100_000));
    assert_eq!(limits("{ cost_usd: 0.000001 }").unwrap(), cost(1));
    assert_eq!(limits("{ cost_usd: 2 }").unwrap(), cost(2_000_000));
    for nothing in ["{}", "null", "{ tokens: null }"] {
        assert_eq!(limits(nothing).unwrap(), None);
    }
    for (wrong, why) in [
        ("{ tokens: 0 }", "`limits.tokens`: expected a whole number from 1"),
        ("{ tokens: 1.5 }", "whole number"),
        ("{ cost_usd: 0 }", "`limits.cost_usd`: with 0"),
        ("{ cost_usd: 0.0000001 }", "at most six decimals, found `0.0000001`"),
        ("{ cost_usd: -1 }", "found `-1`"),
        ("{ token: 5 }", "did you mean `tokens`"),
        ("5", "expected a map"),
    ] {
        let problem = limits(wrong).unwrap_err().to_string();
        assert!(problem.starts_with(&format!("{FILE}:2:")) && problem.contains(why), "{wrong}: {problem}");
    }
}

#[test]
fn a_template_that_speaks_of_the_task_is_given_it_beside_the_fields_of_its_picoschema() {
    let parsed = |body: &str| {
        let schema =
            parse(&format!("---\ninput: {{ schema: {{ topic: string }} }}\n---\n{body}\n")).unwrap().input_schema;
        schema.unwrap()["required"].clone()
    };
    assert_eq!(parsed("{{topic}}: {{userInput}}"), json!(["topic", "userInput"]));
    assert_eq!(parsed("{{topic}}"), json!(["topic"]));
}

#[test]
fn keys_of_the_go_station_are_taken_up_or_said_to_have_no_effect() {
    let text = "---\nmetadata: { name: A, max_steps: 7, app: finops }\nmodel: gpt-5-mini\nsandbox: python\nschedule: { cron: \"0 0 7 * * *\" }\n---\n";
    let warnings = RefCell::default();
    let agent = parse_warned(&Name::new("log-reader").unwrap(), FILE, text.as_bytes(), &warnings).unwrap();
    assert_eq!((agent.max_steps, agent.model.as_deref(), agent.schedule), (Some(7), Some("gpt-5-mini"), None));
    let told: Vec<String> = warnings.into_inner().iter().map(ToString::to_string).collect();
    let starts = [":5:1: `schedule` has no effect here", ":4:1: `sandbox` has no effect here", ":2:36: `metadata.app`"];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(&format!("{FILE}{start}")), "{told}");
    }
    let steps = |steps: &str| parse(&format!("---\nmetadata: {{ max_steps: {steps} }}\n---\n"));
    assert_eq!(steps("\"8\"").unwrap().max_steps, Some(8));
    for odd in ["\"0\"", "\"+8\"", "\" 8\"", "\"\"", "eight"] {
        assert!(steps(odd).unwrap_err().message.contains("a whole number from 1"), "{odd}");
    }
    let both = parse("---\nmetadata: { max_steps: 7 }\nmax_steps: 3\n---\n").unwrap();
    assert_eq!(both.max_steps, Some(3), "the key of the front matter wins");
}

#[test]
fn a_key_in_any_wrong_line_is_never_quoted() {
    const SECRET: &str = "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
    let mut refused = 0;
    for path in every_place_of(&KEYS) {
        for value in [SECRET.to_owned(), format!("[{SECRET}]"), format!("{{ {SECRET}: 1 }}")] {
            let yaml = path.iter().rev().fold(value, |inner, key| format!("{{ {key}: {inner} }}"));
            let text = format!("---\n{yaml}\n---\n{{{{role \"{SECRET}\"}}}}\n");
            let warnings = RefCell::default();
            let read = parse_warned(&Name::new("log-reader").unwrap(), FILE, text.as_bytes(), &warnings);
            let faulty = read.unwrap_err();
            assert!(!format!("{faulty:?}{warnings:?}").contains("Zm9v"), "{yaml}: {faulty:?}");
            refused += faulty.further.len();
        }
    }
    assert!(refused > 40, "{refused}");
    assert!(problem("---\ntimeout: 10 mn\n---\n").contains("`10 mn` is not a duration"));
}

#[test]
fn child_agents_are_names_each_once() {
    assert!(problem("---\nagents:\n  - a\n  - a\n---\n").contains(":4:5: `agents.1`: `a` is there twice"));
    assert!(problem("---\nagents: [a, \"!\"]\n---\n").contains("`agents.1`"));
    assert!(problem("---\nagents: summarizer\n---\n").contains("a list of texts"));
}

#[test]
fn a_plan_needs_a_turn_to_be_carried_out_and_an_output_schema_has_to_compile() {
    assert!(problem("---\nmax_steps: 1\nplan: true\n---\n").contains(":3:7: `plan`: "));
    assert!(problem("---\nplan: maybe\n---\n").contains("true or false"));
    let broken = problem("---\noutput:\n  schema: { type: strin }\n---\n");
    assert!(broken.contains(":3:") && broken.contains("`output.schema.type`"), "{broken}");
    let short = parse("---\noutput: { format: json, schema: \"string, the answer\" }\n---\n").unwrap();
    assert_eq!(short.output_schema, Some(json!({ "type": "string", "description": "the answer" })));
    let in_text = parse("---\noutput_schema: '{\"type\": \"object\"}'\n---\n").unwrap();
    assert_eq!(in_text.output_schema, Some(json!({ "type": "object" })));
    assert!(problem("---\noutput_schema: '{'\n---\n").contains(":2:16: `output_schema`: it is not valid JSON"));
    assert!(problem("---\noutput: { format: text, schema: string }\n---\n").contains("`output.format`"));
    assert!(problem("---\noutput: { schema: string }\noutput_schema: '{}'\n---\n").contains("keep one"));
    assert!(problem("---\noutput: { shema: {} }\n---\n").contains("did you mean `schema`"));
    for schema in ["", ", schema: string"] {
        let typo = problem(&format!("---\noutput: {{ format: jsno{schema} }}\n---\n"));
        assert!(typo.contains(":2:19: `output.format`: `jsno` is none of json, text"), "{typo}");
    }
}

#[test]
fn an_output_may_hold_the_parts_of_its_schema_itself() {
    let read = |output: &str| parse(&format!("---\noutput: {output}\n---\n")).map(|agent| agent.output_schema);
    let object = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] });
    for kind in ["type: object, ", ""] {
        let written = format!("{{ {kind}properties: {{ a: {{ type: string }} }}, required: [a] }}");
        assert_eq!(read(&written).unwrap(), Some(object.clone()));
    }
    assert_eq!(read("{ format: json, type: string }").unwrap(), Some(json!({ "type": "string" })));
    for (output, told) in [
        ("{ type: objekt }", ":2:17: `output.type`: `objekt` is none of"),
        ("{ type: object, properties: { a: { type: strin } } }", "`output.properties.a.type`: it is no valid"),
        ("{ type: object, schema: string }", "keep one"),
        ("{ required: [a] }", "needs `properties`"),
        ("{ type: object, format: text }", "a text has no schema"),
    ] {
        let problem = read(output).unwrap_err().to_string();
        assert!(problem.contains(told), "{output}: {problem}");
    }
}

#[test]
fn a_model_is_a_provider_and_a_model() {
    for bad in ["/gpt", "openai/", "\"openai/gpt 5\"", "\" openai/gpt\""] {
        let problem = parse(&format!("---\nmax_steps: 3\nmodel: {bad}\n---\n")).unwrap_err();
        assert!(problem.to_string().starts_with(&format!("{FILE}:3:8: `model`: ")), "{problem}");
        assert!(problem.hint.unwrap().contains("provider/model"));
    }
    assert_eq!(parse("---\nmodel: hub/org/m:1\n---\n").unwrap().model.as_deref(), Some("hub/org/m:1"));
}

#[test]
fn a_broken_template_names_its_line_in_the_file() {
    let found = parse("---\nmodel: a/b\n---\nfine\n{{#if x}}\nnever closed\n").unwrap_err();
    assert!(found.line.is_some_and(|line| line >= 4), "{found}");
}

#[test]
fn size_encoding_and_values_have_limits() {
    assert!(problem(&format!("---\n---\n{}", "x".repeat(MAX_PROMPT_BYTES))).contains("1 MiB"));
    let name = Name::new("x").unwrap();
    assert_eq!(parse_prompt(&name, FILE, b"---\nmodel: a/b\n\xff\n---\n").unwrap_err().line, Some(3));
    assert!(problem("---\nmax_steps: 0\n---\n").contains("from 1"));
    assert!(problem("---\ntimeout: soon\n---\n").contains("not a duration"));
    assert!(problem("---\ntools: [\"a b\"]\n---\n").contains("no tool name"));
    assert!(problem("---\nretry: { on_in_doubt: perhaps }\n---\n").contains("none of ask"));
    assert!(problem("---\nmodel: a/a\nmodel: b/b\n---\n").contains(":3:"));
}

#[test]
fn a_field_with_a_default_need_not_be_given_and_is_rendered_with_it() {
    let agent = |input: &str| parse(&format!("---\ninput:\n{input}\n---\nHello {{{{who}}}}!"));
    let rendered = |agent: &AgentDefinition, given: serde_json::Value| {
        let input = super::super::validate_input(&agent.effective_input_schema(), given).unwrap();
        template::render_agent(agent, &input).unwrap().messages[0].1.clone()
    };
    let short = agent("  schema: { who: string, style?: string }\n  default: { who: Guest }").unwrap();
    let schema = short.input_schema.clone().unwrap();
    assert_eq!((&schema["properties"]["who"]["default"], &schema["required"]), (&json!("Guest"), &json!([])));
    assert_eq!(rendered(&short, json!({})), "Hello Guest!");
    assert_eq!(rendered(&short, json!({ "who": "Ada" })), "Hello Ada!");
    let long = agent("  schema: { type: object, properties: { n: true }, required: [n] }\n  default: { who: G, n: 2 }");
    assert_eq!(rendered(&long.unwrap(), json!({})), "Hello G!");
    let without = agent("  default: { who: Guest }").unwrap();
    assert!(rendered(&without, json!("The task.")).contains("Hello Guest!"));
    for (input, told) in [
        ("  schema: { n: integer }\n  default: { n: secret-value }", ":4:17: `input.default.n`: "),
        ("  schema: { n: integer }\n  default: { m: 1 }", ":4:17: `input.default.m`: the schema has no field `m`"),
        ("  default: Guest", ":3:12: `input.default`: expected a map"),
    ] {
        let problem = agent(input).unwrap_err().to_string();
        assert!(problem.contains(told) && !problem.contains("secret-value"), "{problem}");
    }
}
