//! The house rules that a compiler can't see: who imports whom, where SQL and doors may be, how large a file may grow.

use crate::support::source::{Source, sources};
use std::collections::BTreeSet;

/// The rooms by layer, lowest first. A room imports from lower layers only; `app` and `main` import anything.
const LAYERS: [&[&str]; 8] = [
    &["domain"],
    &["error", "clock", "events", "failpoint", "redact", "lifecycle"],
    &["home", "net", "process", "telemetry"],
    &["config", "store", "secrets", "mcp", "llm"],
    &["gateway"],
    &["tools"],
    &["runtime", "adapters"],
    &["app"],
];

/// Rooms of one layer that may see each other all the same, and why.
const BESIDE: [(&str, &str, &str); 3] = [
    ("secrets", "store", "secrets are rows"),
    ("lifecycle", "clock", "stopping waits for a while"),
    ("events", "redact", "events are a sink"),
];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// `src/llm/mod.rs` is in room `llm`, `src/clock.rs` in room `clock`.
fn room(source: &Source) -> &str {
    let below = source.path.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The rooms that a file names with `crate::<room>`.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = source.without_tests().lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::").map(|(at, found)| line[at + found.len()..].to_owned()).collect::<Vec<_>>()
    })
    .inspect(|rest| assert!(!rest.starts_with('{'), "{}: name one room per `use crate::` line", source.path))
    .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>())
    .filter(|room| layer(room).is_some())
    .collect()
}

#[test]
fn every_room_imports_lower_layers_only() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let room = room(&source);
        if matches!(room, "lib" | "main" | "app") {
            continue;
        }
        let own = layer(room).unwrap_or_else(|| panic!("{} is in no layer: add its room to LAYERS", source.path));
        for other in imports(&source) {
            let allowed = BESIDE.iter().any(|(from, to, _)| *from == room && *to == other);
            if other != room && layer(&other).unwrap() >= own && !allowed {
                wrong.push(format!("{}: `{room}` may not import `{other}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What may be named where: a word, and the folders (or files) that may use it.
const PLACES: [(&str, &[&str]); 8] = [
    ("rusqlite", &["src/store/sqlite"]),
    ("axum", &["src/adapters", "src/mcp/serve"]),
    ("clap", &["src/adapters/cli"]),
    ("rmcp", &["src/mcp/serve"]),
    ("indicatif", &["src/adapters/cli"]),
    // Schemas of others are bounded there; the other place compiles our own.
    ("validator_for", &["src/domain/json_schema/mod.rs", "src/tools/table.rs"]),
    ("io::stdout", &["src/adapters/cli/output.rs", "src/adapters/cli/stdio.rs"]),
    ("unsafe {", &["src/process.rs", "src/process", "src/home"]),
];

#[test]
fn sql_doors_protocols_and_stdout_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        for (word, places) in PLACES {
            let mut lines = source.without_tests().lines().enumerate();
            let allowed = places.iter().any(|place| source.path.starts_with(place));
            if let Some((at, _)) = lines.find(|(_, line)| !line.trim_start().starts_with("//") && names(line, word))
                && !allowed
            {
                wrong.push(format!("{}:{}: `{word}` belongs to {}", source.path, at + 1, places.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The line names `word` as code, not inside a longer word or a string.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, found)| {
        let before = line[..at].chars().next_back();
        let after = line[at + found.len()..].chars().next();
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '`' || c == '"');
        !joined(before) && (!joined(after) || word == "unsafe {")
    })
}

/// What the protocol and the providers may know of the domain: nothing of agents and runs.
const PLAIN_WORDS: [&str; 7] = ["Effect", "Name", "Principal", "PrincipalKind", "PrincipalRef", "Timestamp", "Usage"];

#[test]
fn the_protocol_and_the_providers_know_nothing_of_agents_and_runs() {
    let mut wrong = Vec::new();
    for source in [sources("src/mcp"), sources("src/llm")].concat() {
        let code = source.without_tests();
        let named = code.split("crate::domain::").skip(1).map(|rest| {
            let of_a_list = rest.strip_prefix('{').and_then(|list| list.split('}').next());
            of_a_list.unwrap_or_else(|| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
        });
        let words = named.flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty());
        wrong.extend(words.filter(|word| !PLAIN_WORDS.contains(word)).map(|word| format!("{}: {word}", source.path)));
    }
    wrong.retain(|found| !found.contains("/tests/"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_grows_past_eight_hundred_lines() {
    let long: Vec<String> = sources("src")
        .iter()
        .map(|source| (source.without_tests().lines().count(), &source.path))
        .filter(|(lines, _)| *lines > 800)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "look for the second room in:\n{}", long.join("\n"));
}

#[test]
fn main_is_a_few_lines() {
    let lines = sources("src").iter().find(|source| source.path == "src/main.rs").unwrap().text.lines().count();
    assert!(lines < 40, "src/main.rs has {lines} lines");
}

#[test]
fn every_test_file_is_part_of_the_binary() {
    let main = include_str!("main.rs");
    for source in sources("tests/it") {
        let below = source.path.strip_prefix("tests/it/").unwrap();
        if below.contains('/') || below == "main.rs" {
            continue;
        }
        let line = format!("mod {};", below.trim_end_matches(".rs"));
        assert!(main.contains(&line), "tests/it/main.rs lacks `{line}`");
    }
}
