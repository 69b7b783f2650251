//! A corpus of files as people write them: whatever is edited, only the lines of the edited key differ.

use super::*;
use crate::config::parse_duration;
use crate::domain::{AgentDefinition, Limits};
use serde_json::json;

const FILE: &str = "agents/x.prompt";

fn parse(text: &str) -> AgentDefinition {
    parse_prompt(&Name::new("x").unwrap(), FILE, text.as_bytes()).unwrap()
}

fn update(text: &str, patch: &AgentPatch) -> Result<String> {
    update_prompt(&Name::new("x").unwrap(), FILE, text, patch)
}

/// The lines that only one of the texts has, prefixed with `-` and `+`; common lines must keep their order.
fn diff(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let minus = old[..old.len() - end].iter().map(|line| format!("-{}", line.trim_end_matches('\n')));
    minus.chain(new[..new.len() - end].iter().map(|line| format!("+{}", line.trim_end_matches('\n')))).collect()
}

/// The lines, with their ends, that belong to none of the keys that `patch` changes. A line belongs to the key that it begins or goes on
/// with, a section's first line to all keys of the section, the line of a flow map at the root to all keys, the body to `prompt`.
fn others<'a>(text: &'a str, patch: &AgentPatch) -> Vec<&'a str> {
    let changes = patch.changes().unwrap();
    let (mut path, mut marks): (Vec<(usize, &str)>, usize) = (Vec::new(), 0);
    let is_other = |line: &&'a str| {
        let (word, indent) = (line.trim(), line.len() - line.trim_start_matches(' ').len());
        let is_mark = line.trim_end() == "---";
        marks += usize::from(is_mark);
        if marks > 1 {
            return is_mark || patch.prompt.is_none();
        }
        if is_mark || word.is_empty() || word.starts_with('#') {
            return true;
        }
        if word.starts_with('{') {
            return changes.is_empty();
        }
        let is_item = word.starts_with('-');
        path.retain(|(at, _)| *at < indent || is_item && *at == indent);
        if let Some((key, _)) = word.split_once(':').filter(|_| !is_item) {
            path.push((indent, key));
        }
        let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
        !changes.iter().any(|(changed, _)| keys.starts_with(changed) || changed.starts_with(&keys))
    };
    text.split_inclusive('\n').filter(is_other).collect()
}

/// What `old` says, with the patch.
fn patched(mut old: AgentDefinition, patch: &AgentPatch) -> AgentDefinition {
    fn set<T: Clone>(value: &mut T, new: &Option<T>) {
        *value = new.clone().unwrap_or_else(|| value.clone());
    }
    set(&mut old.display_name, &patch.display_name);
    set(&mut old.description, &patch.description);
    set(&mut old.tags, &patch.tags.clone().map(Option::unwrap_or_default));
    set(&mut old.model, &patch.model);
    set(&mut old.max_steps, &patch.max_steps);
    set(&mut old.timeout_ms, &patch.timeout.clone().map(|text| text.map(|text| parse_duration(&text).unwrap())));
    set(&mut old.plan, &patch.plan.map(Option::unwrap_or_default));
    set(&mut old.output_schema, &patch.output_schema);
    set(&mut old.agents, &patch.agents.clone().map(Option::unwrap_or_default));
    set(&mut old.tools, &patch.tools.clone().map(Option::unwrap_or_default));
    set(&mut old.input_schema, &patch.input_schema);
    if let Some(new) = patch.limits {
        let (before, new) =
            (old.limits.unwrap_or_default(), new.unwrap_or(LimitsPatch { tokens: Some(None), cost_usd: Some(None) }));
        let tokens = new.tokens.map_or(before.tokens, |tokens| tokens.map(i64::from));
        let cost_microusd = new.cost_usd.map_or(before.cost_microusd, |cost| cost.map(Usd::micros));
        old.limits = Limits { tokens, cost_microusd }.if_any();
    }
    set(&mut old.on_in_doubt, &patch.on_in_doubt.map(Option::unwrap_or_default));
    set(&mut old.retry, &patch.on_in_doubt.map(|new| new.map(|new| json!({ "on_in_doubt": new }))));
    set(&mut old.prompt, &patch.prompt);
    old
}

fn model(text: &str) -> AgentPatch {
    AgentPatch { model: Some(Some(text.to_owned())), ..AgentPatch::default() }
}

fn limits(tokens: Option<Option<u32>>, cost_micros: Option<Option<i64>>) -> LimitsPatch {
    LimitsPatch { tokens, cost_usd: cost_micros.map(|cost| cost.map(Usd::from_micros)) }
}

const COMMENTED: &str = r#"---
# An agent.
metadata: { name: "Log Reader", tags: [ops] } # flow
model:   openai/a   # the cheap one

# limits
max_steps: 8
tools:
  - a__b   # first
  - "c__*"
# the end
---
Body {{userInput}}
"#;
const BLOCK: &str = r#"---
metadata:
  name: Lögleser 日本
  # why
  description: |
    Reads logs.
    ---
    | a | b |
input:
  schema:
    type: object
    properties:
      userInput: { type: string }   # wide
tools:
- a__b
- c__d
retry: {}
---
Hi
"#;
const FLOW_ROOT: &str = "---\n{ model: a/m, max_steps: 3 } # one line\n---\nHi\n";
const EMPTY: &str = "---\n---\nHi\n";
const ONLY_COMMENT: &str = "---\n# nothing yet\n---\nHi\n";
const FLOW_NULLS: &str = "---\n{ model, max_steps: }\n---\nHi\n";
const NULLS: &str = "---\nmodel:\nmetadata:   # to do\ntools: []\n---\nHi\n";

#[test]
fn a_scalar_changes_in_its_line_alone_and_keeps_its_comment() {
    let new = update(COMMENTED, &model("anthropic/b")).unwrap();
    assert_eq!(
        diff(COMMENTED, &new),
        ["-model:   openai/a   # the cheap one", "+model:   anthropic/b   # the cheap one"]
    );
    let new = update(FLOW_ROOT, &model("b/c:")).unwrap();
    assert_eq!(
        diff(FLOW_ROOT, &new),
        ["-{ model: a/m, max_steps: 3 } # one line", "+{ model: \"b/c:\", max_steps: 3 } # one line"]
    );
}

#[test]
fn a_missing_key_is_inserted_where_its_section_ends() {
    let patch = AgentPatch { description: Some(Some("Reads: logs".into())), ..AgentPatch::default() };
    let new = update(COMMENTED, &patch).unwrap();
    assert_eq!(
        diff(COMMENTED, &new)[1],
        "+metadata: { name: \"Log Reader\", tags: [ops], description: \"Reads: logs\" } # flow"
    );
    let tags = AgentPatch { tags: Some(Some(vec!["no".into(), "ops".into()])), ..AgentPatch::default() };
    assert_eq!(diff(BLOCK, &update(BLOCK, &tags).unwrap()), ["+  tags: [\"no\", ops]"]);
    assert_eq!(diff(BLOCK, &update(BLOCK, &model("a/m")).unwrap()), ["+model: a/m"]);
    assert_eq!(diff(EMPTY, &update(EMPTY, &patch).unwrap()), ["+metadata: { description: \"Reads: logs\" }"]);
    assert_eq!(diff(ONLY_COMMENT, &update(ONLY_COMMENT, &model("a/m")).unwrap()), ["+model: a/m"]);
    let retry = AgentPatch { on_in_doubt: Some(Some(OnInDoubt::Skip)), ..AgentPatch::default() };
    assert_eq!(diff(BLOCK, &update(BLOCK, &retry).unwrap()), ["-retry: {}", "+retry: { on_in_doubt: skip }"]);
}

#[test]
fn keys_without_a_value_get_one() {
    assert_eq!(diff(NULLS, &update(NULLS, &model("a/m")).unwrap()), ["-model:", "+model: a/m"]);
    assert_eq!(diff(FLOW_NULLS, &update(FLOW_NULLS, &model("a/m")).unwrap())[1], "+{ model: a/m, max_steps: }");
    let patch = AgentPatch { description: Some(Some("x".into())), ..AgentPatch::default() };
    assert_eq!(
        diff(NULLS, &update(NULLS, &patch).unwrap()),
        ["-metadata:   # to do", "+metadata: { description: x }   # to do"]
    );
}

#[test]
fn block_lists_and_maps_stay_blocks() {
    let tools = |names: &[&str]| AgentPatch {
        tools: Some(Some(names.iter().map(|name| (*name).to_owned()).collect())),
        ..AgentPatch::default()
    };
    let new = update(COMMENTED, &tools(&["x__y", "z__*"])).unwrap();
    assert_eq!(diff(COMMENTED, &new), ["-  - a__b   # first", "-  - \"c__*\"", "+  - x__y", "+  - \"z__*\""]);
    let new = update(BLOCK, &tools(&["x__y"])).unwrap();
    assert_eq!(diff(BLOCK, &new), ["-- a__b", "-- c__d", "+- x__y"]);
    assert_eq!(diff(BLOCK, &update(BLOCK, &tools(&[])).unwrap()), ["-- a__b", "-- c__d", "+  []"]);
    let schema = json!({ "type": "object", "properties": { "path": { "type": "string" } }, "required": ["path"] });
    let patch = AgentPatch { input_schema: Some(Some(schema)), ..AgentPatch::default() };
    let expected =
        ["-      userInput: { type: string }   # wide", "+      path: { type: string }", "+    required: [path]"];
    assert_eq!(diff(BLOCK, &update(BLOCK, &patch).unwrap()), expected);
}

#[test]
fn a_block_scalar_is_replaced_as_a_whole() {
    let patch = AgentPatch { description: Some(Some("two\nlines".into())), ..AgentPatch::default() };
    let expected =
        ["-  description: |", "-    Reads logs.", "-    ---", "-    | a | b |", "+  description: \"two\\nlines\""];
    assert_eq!(diff(BLOCK, &update(BLOCK, &patch).unwrap()), expected);
}

#[test]
fn limits_are_given_and_taken_each_by_itself() {
    let patch = |new| AgentPatch { limits: Some(new), ..AgentPatch::default() };
    let with = update(EMPTY, &patch(Some(limits(Some(Some(5)), Some(Some(1)))))).unwrap();
    assert_eq!(parse(&with).limits, Some(Limits { tokens: Some(5), cost_microusd: Some(1) }), "{with}");
    let cheaper = update(&with, &patch(Some(limits(None, Some(Some(500_000)))))).unwrap();
    assert!(diff(EMPTY, &cheaper).contains(&"+limits: { tokens: 5, cost_usd: 0.5 }".to_owned()), "{cheaper}");
    let one = update(&cheaper, &patch(Some(limits(Some(None), None)))).unwrap();
    assert_eq!(parse(&one).limits, Some(Limits { tokens: None, cost_microusd: Some(500_000) }), "{one}");
    assert_eq!(parse(&update(&one, &patch(None)).unwrap()).limits, None);
    let none = update(&one, &patch(Some(limits(None, Some(None))))).unwrap();
    assert_eq!(none, update(EMPTY, &AgentPatch::default()).unwrap(), "the last one takes the section along");
    let block = "---\nmodel: a/b\nlimits:\n  tokens: 5\n---\nHi.\n";
    let none = update(block, &patch(Some(limits(Some(None), None)))).unwrap();
    assert_eq!(none, "---\nmodel: a/b\n---\nHi.\n");
    let block = block.replace("limits:\n", "limits:\n  # as agreed\n");
    let none = update(&block, &patch(Some(limits(Some(None), None)))).unwrap();
    assert_eq!(none, "---\nmodel: a/b\nlimits:\n  # as agreed\n---\nHi.\n");
}

#[test]
fn null_removes_a_key_and_nothing_else() {
    let patch = AgentPatch { model: Some(None), ..AgentPatch::default() };
    assert_eq!(diff(COMMENTED, &update(COMMENTED, &patch).unwrap()), ["-model:   openai/a   # the cheap one"]);
    assert_eq!(diff(FLOW_ROOT, &update(FLOW_ROOT, &patch).unwrap())[1], "+{ max_steps: 3 } # one line");
    assert_eq!(update(EMPTY, &patch).unwrap(), EMPTY);
    let patch = AgentPatch { max_steps: Some(None), ..AgentPatch::default() };
    assert_eq!(diff(FLOW_ROOT, &update(FLOW_ROOT, &patch).unwrap())[1], "+{ model: a/m } # one line");
    let patch = AgentPatch { description: Some(None), ..AgentPatch::default() };
    assert_eq!(diff(BLOCK, &update(BLOCK, &patch).unwrap()).len(), 4);
    let patch = AgentPatch { tools: Some(None), ..AgentPatch::default() };
    assert_eq!(diff(BLOCK, &update(BLOCK, &patch).unwrap()), ["-tools:", "-- a__b", "-- c__d"]);
}

#[test]
fn crlf_files_stay_crlf() {
    let patch = AgentPatch { prompt: Some("new\nbody".into()), timeout: Some(Some("10m".into())), ..model("b/m") };
    for text in [COMMENTED, BLOCK, EMPTY, ONLY_COMMENT, NULLS] {
        let new = update(&text.replace('\n', "\r\n"), &patch).unwrap();
        assert_eq!(new.matches('\n').count(), new.matches("\r\n").count(), "{new:?}");
        assert_eq!(new.replace("\r\n", "\n"), update(text, &patch).unwrap());
    }
}

#[test]
fn every_patch_on_every_file_changes_its_own_lines_alone_and_the_definition_by_exactly_the_patch() {
    let patches = [
        model("x/y"),
        AgentPatch { model: Some(None), max_steps: Some(Some(9)), ..AgentPatch::default() },
        AgentPatch { display_name: Some(Some("Ä: \"q\"".into())), tags: Some(None), ..AgentPatch::default() },
        AgentPatch {
            tools: Some(Some(vec!["a__*".into()])),
            prompt: Some("P {{userInput}}".into()),
            ..AgentPatch::default()
        },
        AgentPatch {
            on_in_doubt: Some(Some(OnInDoubt::Fail)),
            timeout: Some(Some("90".into())),
            ..AgentPatch::default()
        },
        AgentPatch {
            plan: Some(Some(true)),
            agents: Some(Some(vec![Name::new("summarizer").unwrap()])),
            output_schema: Some(Some(json!({ "type": "object", "required": ["n"] }))),
            ..AgentPatch::default()
        },
        AgentPatch { limits: Some(Some(limits(Some(Some(200_000)), Some(Some(300_000))))), ..AgentPatch::default() },
        AgentPatch { limits: Some(None), ..AgentPatch::default() },
        AgentPatch { input_schema: Some(None), description: Some(Some("no".into())), ..AgentPatch::default() },
    ];
    let files = [COMMENTED, BLOCK, FLOW_ROOT, FLOW_NULLS, EMPTY, ONLY_COMMENT, NULLS];
    for text in files.iter().flat_map(|text| [(*text).to_owned(), text.replace('\n', "\r\n")]) {
        for patch in &patches {
            let new = update(&text, patch).unwrap_or_else(|error| panic!("{text}\n{patch:?}\n{error}"));
            assert_eq!(others(&new, patch), others(&text, patch), "{patch:?}");
            assert_eq!(parse(&new), patched(parse(&text), patch), "{text}");
            assert_eq!(update(&new, patch).unwrap(), new, "applying a patch twice is applying it once");
            for comment in text.split('#').skip(1).filter_map(|rest| rest.lines().next()) {
                let is_inside_replaced = comment.contains("first") && patch.tools.is_some()
                    || comment.contains("cheap") && patch.model == Some(None)
                    || comment.contains("wide") && patch.input_schema.is_some();
                assert!(is_inside_replaced || new.contains(comment), "lost {comment:?} in\n{new}");
            }
        }
    }
}

const FLOW_LINES: &str = r#"---
metadata: {
  # above name
  name: A, # behind name
  # above description
  description: B, # behind description
  # above tags
  tags: [x] # behind tags
}
model: a/m
---
Hi
"#;

#[test]
fn a_key_that_goes_from_a_map_of_several_lines_takes_no_comment_of_a_neighbour_with_it() {
    let name = AgentPatch { display_name: Some(None), ..AgentPatch::default() };
    let description = AgentPatch { description: Some(None), ..AgentPatch::default() };
    let tags = AgentPatch { tags: Some(None), ..AgentPatch::default() };
    for (patch, gone) in [
        (&name, "  name: A, # behind name\n"),
        (&description, "  description: B, # behind description\n"),
        (&tags, "  tags: [x] # behind tags\n"),
    ] {
        for newline in ["\n", "\r\n"] {
            let text = FLOW_LINES.replace('\n', newline);
            assert_eq!(update(&text, patch).unwrap(), text.replace(&gone.replace('\n', newline), ""), "{patch:?}");
        }
    }
    let shared = |metadata: &str, patch: &AgentPatch| {
        let new = update(&format!("---\nmetadata: {metadata}\n---\nHi\n"), patch).unwrap();
        new["---\nmetadata: ".len()..new.len() - "\n---\nHi\n".len()].to_owned()
    };
    for (metadata, patch, left) in [
        ("{ name: A, # n\n  description: B, # d\n  tags: [x] }", &name, "{ # n\n  description: B, # d\n  tags: [x] }"),
        ("{ name: A, # n\n  description: B, # d\n  tags: [x] }", &tags, "{ name: A, # n\n  description: B, # d\n   }"),
        ("{ name: A, description: B, # b\n  tags: [x], }", &description, "{ name: A, # b\n  tags: [x], }"),
        (
            "{ name: A\n  # of description\n  , description: B\n  , tags: [x] }",
            &name,
            "{ \n  # of description\n  description: B\n  , tags: [x] }",
        ),
        ("{ name: A, description: B, }", &description, "{ name: A }"),
    ] {
        assert_eq!(shared(metadata, patch), left, "{metadata}");
    }
    // The last one takes its section along.
    assert_eq!(update("---\nmetadata: { description: B, }\n---\nHi\n", &description).unwrap(), "---\n---\nHi\n");
}

#[test]
fn the_prompt_alone_leaves_the_front_matter_untouched() {
    let patch = AgentPatch { prompt: Some("{{role \"system\"}}\nNew.\n".into()), ..AgentPatch::default() };
    let new = update(COMMENTED, &patch).unwrap();
    assert_eq!(new, COMMENTED.replace("Body {{userInput}}\n", "{{role \"system\"}}\nNew.\n\n"));
    assert_eq!(update("---\nmodel: a/m\n---", &patch).unwrap(), "---\nmodel: a/m\n---\n{{role \"system\"}}\nNew.\n\n");
}

#[test]
fn a_file_without_front_matter_gets_one_when_it_has_something_to_say() {
    let prompt = |text: &str| AgentPatch { prompt: Some(text.into()), ..AgentPatch::default() };
    assert_eq!(update("Hi\nthere", &model("b/m")).unwrap(), "---\nmodel: b/m\n---\nHi\nthere");
    assert_eq!(update("\u{feff}Hi\r\n", &model("b/m")).unwrap(), "\u{feff}---\r\nmodel: b/m\r\n---\r\nHi\r\n");
    assert_eq!(update("Hi\n", &prompt("New")).unwrap(), "New\n");
    assert_eq!(update("Hi\n", &AgentPatch::default()).unwrap(), "Hi\n");
    let nothing = AgentPatch { tags: Some(None), ..AgentPatch::default() };
    assert_eq!(update("Hi\n", &nothing).unwrap(), "Hi\n");
    // A prompt that would be read as front matter needs one before it.
    assert_eq!(update("Hi\n", &prompt("---\nmodel: x\n---\n")).unwrap(), "---\n---\n---\nmodel: x\n---\n\n");
    assert_eq!(update("Hi\n", &prompt("")).unwrap(), "---\n---\n\n");
}

#[test]
fn whatever_a_file_says_an_edit_does_the_patch_or_refuses() {
    let pieces = [
        "---\n", "#", ": ", "- ", "{", "}", "[", "\"", "|\n", "ä", "\t", "\r\n", "  ", "&a ", "*a", "!t ", "<<: ",
        "? ", "{{", "~",
    ];
    // A fixed sequence (Knuth's MMIX constants), so that a failure comes back.
    let mut seed: u64 = 42;
    let mut below = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % limit
    };
    let patch = AgentPatch { tags: Some(None), description: Some(Some("x".into())), ..model("b/m") };
    let mut done = 0;
    for round in 0..1_500 {
        let mut text = [COMMENTED, BLOCK, FLOW_ROOT, NULLS][round % 4].to_owned();
        for _ in 0..=below(2) {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            text.insert_str(ends[below(ends.len())], pieces[below(pieces.len())]);
        }
        let Ok(new) = update(&text, &patch) else { continue };
        let definition = parse(&new);
        assert_eq!(
            (definition.model.as_deref(), definition.description.as_deref()),
            (Some("b/m"), Some("x")),
            "{text}"
        );
        done += 1;
    }
    assert!(done > 300, "only {done} edits were done");
}

#[test]
fn long_and_awkward_values_survive() {
    let long = format!("{}: # \u{2028} \"{}\"", "ä".repeat(5_000), "-".repeat(5_000));
    let patch = AgentPatch { description: Some(Some(long.clone())), ..AgentPatch::default() };
    for text in [COMMENTED, BLOCK, FLOW_ROOT, EMPTY, NULLS] {
        let new = update(text, &patch).unwrap();
        let definition = parse(&new);
        assert_eq!(definition.description.as_ref(), Some(&long));
    }
}

#[test]
fn aliases_anchors_and_merge_keys_on_the_way_are_refused_with_the_reason() {
    let description = AgentPatch { description: Some(Some("x".into())), ..AgentPatch::default() };
    for (text, patch, reason) in [
        ("---\nmodel: &m a\nmetadata: { name: *m }\n---\n", model("b/m"), "anchor"),
        ("---\nmetadata: { name: &n a }\nmodel: *n\n---\n", model("b/m"), "alias"),
        ("---\nmetadata: &m { name: a }\ninput: {}\n---\n", description.clone(), "anchored"),
        ("---\nmetadata: { <<: { name: a }, tags: [b] }\n---\n", description, "merge key"),
        ("---\nmodel: !!str a\n---\n", model("b/m"), "tag"),
    ] {
        let error = update(text, &patch).unwrap_err();
        assert!(error.message().contains(reason) && error.message().contains(FILE), "{text}: {error}");
    }
}

#[test]
fn a_result_that_would_not_load_is_refused() {
    let schema = AgentPatch { input_schema: Some(Some(json!({ "type": "string" }))), ..AgentPatch::default() };
    assert!(update(COMMENTED, &schema).unwrap_err().message().contains("type: object"));
    let prompt = AgentPatch { prompt: Some("{{#if x}}".into()), ..AgentPatch::default() };
    assert!(update(COMMENTED, &prompt).is_err());
    let timeout = AgentPatch { timeout: Some(Some("soon".into())), ..AgentPatch::default() };
    assert!(update(COMMENTED, &timeout).unwrap_err().message().contains("not a duration"));
    assert!(update("---\nno end", &model("a/m")).is_err());
}

#[test]
fn a_new_file_has_its_keys_in_order_and_quotes_where_they_are_needed() {
    let patch = AgentPatch {
        display_name: Some(Some("Log Reader".into())),
        description: Some(Some("no".into())),
        tags: Some(Some(vec!["ops".into()])),
        model: Some(Some("openai/gpt-5.4-mini".into())),
        max_steps: Some(Some(8)),
        timeout: Some(Some("10m".into())),
        plan: Some(Some(false)),
        output_schema: Some(Some(json!({ "type": "object" }))),
        tools: Some(Some(vec!["filesystem__*".into()])),
        agents: None,
        input_schema: None,
        limits: Some(Some(limits(Some(Some(200_000)), Some(Some(500_000))))),
        on_in_doubt: Some(Some(OnInDoubt::Ask)),
        prompt: Some("{{role \"system\"}}\nYou read logs.".into()),
    };
    let text = new_prompt(&Name::new("log-reader").unwrap(), FILE, &patch).unwrap();
    let expected = r#"---
metadata: { name: Log Reader, description: "no", tags: [ops] }
model: openai/gpt-5.4-mini
max_steps: 8
timeout: "10m"
plan: false
tools: ["filesystem__*"]
output: { schema: { type: object } }
limits: { tokens: 200000, cost_usd: 0.5 }
retry: { on_in_doubt: ask }
---
{{role "system"}}
You read logs.
"#;
    assert_eq!(text, expected);
}
