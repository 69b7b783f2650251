//! The built-in `filesystem` beside the official `@modelcontextprotocol/server-filesystem`: the same calls on equal trees, through one
//! station. Where both differ on purpose, the reason stands with it: most of them in [`DIFFERENCES`].

use crate::support::home::{Serve, TestHome, within};
use crate::support::http::Http;
use crate::support::peers;
use crate::support::station::TestStation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const OFFICIAL: &str = "@modelcontextprotocol/server-filesystem/dist/index.js";

/// Two equal trees, each with its server.
struct Pair {
    home: TestHome,
    _serve: Serve,
    http: Http,
    roots: [(&'static str, PathBuf); 2],
}

fn plant(root: &Path) {
    fs::create_dir_all(root.join("logs/old")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    let lines: String = (1..=40).map(|n| format!("line {n}\n")).collect();
    for (name, text) in [
        ("a.txt", "one\ntwo\nthree"),
        ("code.rs", "fn main() {\n    if x {\n        one();\n    }\n}\n"),
        ("empty.txt", ""),
        ("fence.md", "```\ncode\n```\n"),
        ("lines.txt", lines.as_str()),
        ("logs/app.log", "boom\n"),
        ("logs/old/app.log", "old\n"),
        ("logs/old/x.txt", "x"),
        ("ü.txt", "grün\u{1f332}\n"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    fs::write(root.join("big.bin"), vec![7; 1_234_567]).unwrap();
    for name in ["pic.PNG", "sound.mp3", "data.bin"] {
        fs::write(root.join(name), [0, 159, 146, 150, 255]).unwrap();
    }
    symlink("a.txt", root.join("link")).unwrap();
    symlink(root.join("lines.txt"), root.join("absolute")).unwrap();
    symlink("nowhere", root.join("dangling.txt")).unwrap();
    // As macOS spells it; whoever asks for it types one letter.
    fs::write(root.join("cafe\u{301}.txt"), "decomposed").unwrap();
}

impl Pair {
    fn new() -> Self {
        let home = TestHome::with_agent("worker", "");
        let base = home.beside().canonicalize().unwrap();
        let roots = [("official", base.join("one/root")), ("own", base.join("two/root"))];
        for (_, root) in &roots {
            plant(root);
        }
        let official = json!({ "command": peers::node(), "args": [peers::npm(OFFICIAL), roots[0].1] });
        let own = json!({ "builtin": "filesystem", "args": [roots[1].1] });
        home.write_servers("development", &json!({ "official": official, "own": own }));
        let serve = home.serve();
        let http = Http::new(&home, &serve);
        Self { home, _serve: serve, http, roots }
    }

    /// What both answer, with `@` in the arguments and in the answers for the root of each.
    fn ask(&self, tool: &str, arguments: &Value) -> [Value; 2] {
        self.roots.each_ref().map(|(server, root)| {
            let root = root.to_str().unwrap();
            let arguments: Value = serde_json::from_str(&arguments.to_string().replace('@', root)).unwrap();
            let path = format!("/api/v1/tools/{server}__{tool}/call");
            let answer = self.http.post(&path, &json!({ "arguments": arguments })).with(200).json();
            serde_json::from_str(&answer.to_string().replace(root, "@")).unwrap()
        })
    }

    /// Both answer the same, to the letter.
    fn same(&self, tool: &str, arguments: Value) {
        let [official, own] = self.ask(tool, &arguments);
        assert_ne!(official["isError"], true, "{tool} {arguments}: {official}");
        assert_eq!(own, official, "{tool} {arguments}");
    }

    /// Both answer with the same lines; the official server doesn't sort, so the order may be any.
    fn same_lines(&self, tool: &str, arguments: Value) {
        let [official, own] = self.ask(tool, &arguments).map(|answer| {
            let text = answer["structuredContent"]["content"].as_str().unwrap();
            assert_eq!(answer["content"][0]["text"], text, "{tool} {arguments}");
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        });
        assert_eq!(own, official, "{tool} {arguments}");
    }

    /// Both refuse. The words may be others: ours name what the caller wrote, and the way out.
    fn refused(&self, tool: &str, arguments: Value) {
        for answer in self.ask(tool, &arguments) {
            assert_eq!(answer["isError"], true, "{tool} {arguments}: {answer}");
        }
    }

    /// Every file below a root with its bytes, and every directory and link.
    fn trees(&self) -> [BTreeMap<PathBuf, Vec<u8>>; 2] {
        self.roots.each_ref().map(|(_, root)| {
            let (mut tree, mut open) = (BTreeMap::new(), vec![root.clone()]);
            while let Some(dir) = open.pop() {
                for entry in fs::read_dir(dir).unwrap() {
                    let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
                    let bytes = if kind.is_file() { fs::read(&path).unwrap() } else { format!("{kind:?}").into() };
                    tree.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
                    open.extend(kind.is_dir().then_some(path));
                }
            }
            tree
        })
    }
}

/// The tree in a result, by name on each level: the official server doesn't sort.
fn sorted(answer: &Value) -> Value {
    fn by_name(entries: &Value) -> Value {
        let mut entries = entries.as_array().unwrap().clone();
        entries.sort_by_key(|entry| entry["name"].to_string());
        for entry in &mut entries {
            if entry["children"].is_array() {
                entry["children"] = by_name(&entry["children"]);
            }
        }
        Value::Array(entries)
    }
    by_name(&serde_json::from_str(answer["structuredContent"]["content"].as_str().unwrap()).unwrap())
}

/// A schema without what is said in words, and with whole numbers as numbers: the official server takes half lines too.
fn shape(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            // Lines are counted from zero.
            let silent = ["description", "$schema", "minimum"];
            let kept = fields.iter().filter(|(name, value)| !silent.contains(&name.as_str()) || value.is_object());
            let mut shaped: serde_json::Map<_, _> = kept.map(|(name, value)| (name.clone(), shape(value))).collect();
            // The same as saying nothing.
            shaped.retain(|name, value| name != "required" || *value != json!([]));
            Value::Object(shaped)
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(kind) if kind == "integer" => json!("number"),
        other => other.clone(),
    }
}

#[test]
fn the_built_in_filesystem_has_the_tools_and_schemas_of_the_official_one() {
    let pair = Pair::new();
    let tools = |server: &str| {
        within(&format!("the tools of {server}"), || {
            let listed = pair.home.json(&["tool", "list", "--server", server])["items"].as_array().unwrap().clone();
            let named = listed
                .into_iter()
                .map(|tool| (tool["name"].as_str().unwrap().split_once("__").unwrap().1.to_owned(), tool));
            Some(named.collect::<BTreeMap<_, _>>()).filter(|tools| !tools.is_empty())
        })
    };
    let (mut official, own) = (tools("official"), tools("own"));
    // Deprecated there in favour of `read_text_file`; a second name for it would only cost each model its place.
    assert!(official.remove("read_file").is_some());
    assert_eq!(own.keys().collect::<Vec<_>>(), official.keys().collect::<Vec<_>>());
    for (name, tool) in own {
        let twin = &official[&name];
        assert_eq!(tool["title"], twin["title"], "{name}");
        assert_eq!(shape(&tool["input_schema"]), shape(&twin["input_schema"]), "{name}");
        // The same effect, and of the built-in it is trusted: it decides what is repeated after a crash.
        assert_eq!(tool["effect"], twin["effect"], "{name}");
        assert_eq!((&tool["effect_trusted"], &twin["effect_trusted"]), (&json!(true), &json!(false)), "{name}");
    }
}

/// A schema that says nothing of fields that it doesn't name: the official server closes its results, and ours may say more one day.
fn open(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !["additionalProperties", "$schema"].contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), open(value))).collect()
        }
        Value::Array(items) => items.iter().map(open).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn what_the_tools_say_of_their_effects_and_of_their_results_is_what_the_official_ones_say() {
    let station = TestStation::open().await;
    let root = station.path().parent().unwrap().join("root");
    fs::create_dir(&root).unwrap();
    let official = json!({ "command": peers::node(), "args": [peers::npm(OFFICIAL), root] });
    let own = json!({ "builtin": "filesystem", "args": [root] });
    let servers = json!({ "mcpServers": { "official": official, "own": own } });
    station.write("environments/development/pair.json", &servers.to_string());
    station.call("environment_sync", json!({ "environment": "development" })).await.unwrap();
    let environment = station.app.station.environments.named("development").unwrap();
    let catalog = environment.gateway.catalog(Duration::from_secs(60)).await;
    let definitions = |server: &str| -> BTreeMap<String, Value> {
        let tools = catalog.tools.iter().filter(|tool| tool.server == *server && tool.tool != "read_file");
        tools.map(|tool| (tool.tool.clone(), serde_json::from_str(tool.definition.get()).unwrap())).collect()
    };
    let (official, own) = (definitions("official"), definitions("own"));
    assert_eq!(own.len(), 13);
    assert_eq!(own.keys().collect::<Vec<_>>(), official.keys().collect::<Vec<_>>());
    for (name, definition) in &own {
        let mut annotations = definition["annotations"].clone();
        if annotations["readOnlyHint"] == true {
            // Beyond what is said there: a read is made again after a crash.
            assert_eq!(annotations.as_object_mut().unwrap().remove("idempotentHint"), Some(json!(true)), "{name}");
        }
        assert_eq!(annotations, official[name]["annotations"], "{name}");
        let mut results = [definition, &official[name]].map(|definition| open(&definition["outputSchema"]));
        results.iter_mut().for_each(Value::sort_all_objects);
        let [own, official] = results;
        assert_eq!(own, official, "{name}");
    }
}

#[test]
fn reads_lists_and_searches_answer_as_the_official_ones() {
    let pair = Pair::new();
    for path in ["@/a.txt", "a.txt", "@/logs/../a.txt", "ü.txt", "empty.txt", "link", "absolute", "caf\u{e9}.txt"] {
        pair.same("read_text_file", json!({ "path": path }));
    }
    for count in [1, 3, 100] {
        pair.same("read_text_file", json!({ "path": "@/lines.txt", "head": count }));
        pair.same("read_text_file", json!({ "path": "@/a.txt", "tail": count }));
    }
    for lines in [json!({ "head": 0 }), json!({ "tail": 0 }), json!({ "head": 0, "tail": 2 }), json!({ "head": 2.0 })] {
        let mut arguments = lines;
        arguments["path"] = json!("@/a.txt");
        pair.same("read_text_file", arguments);
    }
    // A file that ends with a line feed has no empty last line here, as with `tail`; the official server counts one.
    let [official, own] = pair.ask("read_text_file", &json!({ "path": "lines.txt", "tail": 2 }));
    assert_eq!(official["content"][0]["text"], "line 40\n");
    assert_eq!(own["content"][0]["text"], "line 39\nline 40");
    pair.same("read_multiple_files", json!({ "paths": ["@/a.txt", "ü.txt", "@/lines.txt"] }));
    for file in ["pic.PNG", "sound.mp3", "data.bin"] {
        pair.same("read_media_file", json!({ "path": format!("@/{file}") }));
    }
    for path in ["@", "@/logs", "@/empty"] {
        pair.same_lines("list_directory", json!({ "path": path }));
        pair.same_lines("list_directory_with_sizes", json!({ "path": path, "sortBy": "size" }));
    }
    for sort_by in ["name", "size"] {
        pair.same("list_directory_with_sizes", json!({ "path": "@/logs/old", "sortBy": sort_by }));
    }
    for exclude in [json!([]), json!(["old"]), json!(["*.log"]), json!(["**/*.log"]), json!(["logs/**"])] {
        let [official, own] = pair.ask("directory_tree", &json!({ "path": "@/logs", "excludePatterns": exclude }));
        assert_eq!(sorted(&own), sorted(&official), "{exclude}");
        pair.same_lines("search_files", json!({ "path": "@", "pattern": "**/*.log", "excludePatterns": exclude }));
    }
    for pattern in ["*.txt", "**/*.{log,txt}", "**", "logs/*", "logs/**", "nothing*", "[a-c]*", "*", ""] {
        pair.same_lines("search_files", json!({ "path": "@", "pattern": pattern }));
    }
    for start in ["logs", "logs/", "./logs"] {
        pair.same_lines("search_files", json!({ "path": start, "pattern": "**/*.log" }));
    }
    pair.same("list_allowed_directories", json!({}));
    let [official, own] = pair.ask("get_file_info", &json!({ "path": "big.bin" })).map(|answer| {
        // Times are of the tree, and ours are RFC 3339.
        let lines = answer["content"][0]["text"].as_str().unwrap().lines().map(str::to_owned);
        let timed = ["created", "modified", "accessed"];
        lines.filter(|line| !timed.iter().any(|word| line.starts_with(word))).collect::<Vec<_>>()
    });
    assert_eq!(own, official);
}

#[test]
fn changes_answer_and_act_as_the_official_ones() {
    let pair = Pair::new();
    let edit = |path: &str, edits: &[(&str, &str)], dry_run: bool| {
        let edits: Vec<Value> = edits.iter().map(|(old, new)| json!({ "oldText": old, "newText": new })).collect();
        pair.same("edit_file", json!({ "path": path, "edits": edits, "dryRun": dry_run }));
    };
    edit("@/a.txt", &[("two", "2"), ("three", "3\n4")], true);
    edit("@/a.txt", &[("two", "2"), ("three", "3\n4")], false);
    edit("@/lines.txt", &[("line 3\n", ""), ("line 20\n", "$&\nnew\n"), ("line 39\n", "x"), ("line 9", "ü")], false);
    edit("@/code.rs", &[("if x {\n  one();\n}", "if y {\n    two();\n    three();\n}")], false);
    edit("@/fence.md", &[("code", "````\nmore")], false);
    edit("@/empty.txt", &[("", "first\n")], false);
    edit("@/logs/app.log", &[], false);
    pair.same("write_file", json!({ "path": "@/new.txt", "content": "new\r\n" }));
    pair.same("write_file", json!({ "path": "link", "content": "through the link" }));
    pair.same("write_file", json!({ "path": "absolute", "content": "through the other link" }));
    pair.same("write_file", json!({ "path": "@/caf\u{e9}.txt", "content": "no twin" }));
    pair.same("write_file", json!({ "path": "n".repeat(255), "content": "long" }));
    pair.same(
        "edit_file",
        json!({ "path": "a.txt", "edits": [{ "oldText": "through", "newText": "by", "why": "shorter" }] }),
    );
    for path in ["@/x/y/z", "@/x", "empty"] {
        pair.same("create_directory", json!({ "path": path }));
    }
    pair.same("move_file", json!({ "source": "@/new.txt", "destination": "@/x/y/moved.txt" }));
    pair.same("move_file", json!({ "source": "@/logs", "destination": "@/x/logs" }));
    let [official, own] = pair.trees();
    assert_eq!(own, official);

    pair.refused("move_file", json!({ "source": "@/a.txt", "destination": "@/ü.txt" }));
    pair.refused("move_file", json!({ "source": "@/none", "destination": "@/some" }));
    pair.refused("edit_file", json!({ "path": "@/a.txt", "edits": [{ "oldText": "2", "newText": "" }, { "oldText": "none", "newText": "" }] }));
    pair.refused("write_file", json!({ "path": "@/no/where", "content": "" }));
    pair.refused("write_file", json!({ "path": "dangling.txt", "content": "" }));
    pair.refused("move_file", json!({ "source": "@/a.txt", "destination": "caf\u{e9}.txt" }));
    pair.refused("create_directory", json!({ "path": "@/a.txt" }));
    pair.refused("read_multiple_files", json!({ "paths": [] }));
    for path in ["@/../other", "/etc/passwd", "C:\\x", "none", "x"] {
        pair.refused("read_text_file", json!({ "path": path }));
    }
    assert_eq!(pair.trees(), [official, own], "what is refused changes nothing");
}

/// Where the official server loses something, ours doesn't.
#[test]
fn line_endings_links_and_other_bytes_survive_where_the_official_server_loses_them() {
    let pair = Pair::new();
    for (_, root) in &pair.roots {
        fs::write(root.join("dos.txt"), "one\r\ntwo\r\n").unwrap();
        fs::write(root.join("latin1.txt"), b"caf\xe9 one\n").unwrap();
    }
    let edits = json!([{ "oldText": "one", "newText": "1" }]);
    pair.same("edit_file", json!({ "path": "@/dos.txt", "edits": edits }));
    pair.ask("edit_file", &json!({ "path": "@/latin1.txt", "edits": edits }));
    // There a link's target is moved, and the link left pointing to nothing.
    pair.same("move_file", json!({ "source": "@/link", "destination": "@/moved" }));
    let [official, own] = pair.trees();
    let bytes = |tree: &BTreeMap<PathBuf, Vec<u8>>, name: &str| tree.get(Path::new(name)).cloned();
    assert_eq!(bytes(&official, "dos.txt").unwrap(), b"1\ntwo\n");
    assert_eq!(bytes(&own, "dos.txt").unwrap(), b"1\r\ntwo\r\n");
    assert_eq!(bytes(&official, "latin1.txt").unwrap(), "caf\u{fffd} 1\n".as_bytes());
    assert_eq!(bytes(&own, "latin1.txt").unwrap(), b"caf\xe9 one\n");
    assert_eq!((bytes(&official, "a.txt"), bytes(&own, "a.txt").is_some()), (None, true));
}

/// A call that both answer otherwise.
struct Difference {
    tool: &'static str,
    arguments: &'static str,
    /// What is in the text of each; an error has `error: ` in front.
    official: &'static str,
    own: &'static str,
    /// What ours is good for.
    why: &'static str,
}

/// What else differs, in the order in which it is called. Not here, because the official server would wait for ever, need much memory, or
/// say another thing on each machine: what isn't a regular file can't be read; a file of more than 10 MiB isn't read as a whole, nor one of
/// more than 5 MiB as media; lists end after 10,000 entries and 32 directories; all lists are sorted; times are RFC 3339; names are padded by
/// their characters, not by UTF-16 units.
const DIFFERENCES: &[Difference] = &[
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "nothing/../a.txt" }"#,
        official: "one\ntwo",
        own: "error: ENOENT",
        why: "`..` is resolved as the system does it: behind a link, the text of a path says nothing about what is above",
    },
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "a.txt/" }"#,
        official: "one\ntwo",
        own: "error: ENOTDIR",
        why: "the same: what ends with a slash is a directory",
    },
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "up/root/a.txt" }"#,
        official: "one\ntwo",
        own: "error: Access denied",
        why: "a handle isn't left, also where the path would come back: that is what makes it safe against races",
    },
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "latin1.txt" }"#,
        official: "caf\u{fffd}",
        own: "isn't UTF-8 text",
        why: "a note, in a block of its own, that what is shown isn't what is there",
    },
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "a.txt", "head": null }"#,
        official: "error: MCP error -32602",
        own: "one\ntwo",
        why: "clients fill in `null` for what they don't mean",
    },
    Difference {
        tool: "read_text_file",
        arguments: r#"{ "path": "a.txt", "head": -1 }"#,
        official: "",
        own: "error: Invalid arguments for read_text_file: -1 isn't a whole number of lines",
        why: "nothing is guessed",
    },
    Difference {
        tool: "read_media_file",
        arguments: r#"{ "path": "[1].bin" }"#,
        official: "/%5B1%5D.bin",
        own: "/[1].bin",
        why: "the URL standard leaves brackets in paths as they are",
    },
    Difference {
        tool: "list_directory_with_sizes",
        arguments: r#"{ "path": "out" }"#,
        official: "Combined size: 6 B",
        own: "Combined size: 0 B",
        why: "what a link to the outside leads to isn't looked at",
    },
    Difference {
        tool: "list_directory_with_sizes",
        arguments: r#"{ "path": "names" }"#,
        official: "a",
        own: "B",
        why: "names are sorted by their bytes, which is the same order on every machine",
    },
    Difference {
        tool: "search_files",
        arguments: r#"{ "path": "logs", "pattern": "APP" }"#,
        official: "No matches found",
        own: "/logs/app.log",
        why: "a pattern without wildcards is a part of a name in any case, which is what is meant by it",
    },
    Difference {
        tool: "search_files",
        arguments: r#"{ "path": "names", "pattern": "!B" }"#,
        official: "/names/a",
        own: "No matches found",
        why: "one way to leave out is enough: `excludePatterns`",
    },
    Difference {
        tool: "search_files",
        arguments: r#"{ "path": "names", "pattern": "+(a|x)*" }"#,
        official: "/names/a",
        own: "No matches found",
        why: "of globs there are `*`, `**`, `?`, `[...]` and `{...}`, not what bash adds; a bound on the work of a match needs that",
    },
    Difference {
        tool: "search_files",
        arguments: r#"{ "path": "names", "pattern": "[[:lower:]]" }"#,
        official: "/names/a",
        own: "No matches found",
        why: "the same",
    },
    Difference {
        tool: "edit_file",
        arguments: r#"{ "path": "returns.txt", "edits": [{ "oldText": "y", "newText": "z" }] }"#,
        official: "\n x\n-y\n+z\n",
        own: "\n x\r\n-y\n+z\n",
        why: "a carriage return before a line's end is a part of the line; there each look at the text takes one away",
    },
    Difference {
        tool: "write_file",
        arguments: r#"{ "path": "LONGEST", "content": "twice" }"#,
        official: "error: ENAMETOOLONG",
        own: "Successfully wrote",
        why: "the temporary name needn't have the name of the file in it",
    },
    Difference {
        tool: "create_directory",
        arguments: r#"{ "path": "nothing/../new" }"#,
        official: "Successfully created",
        own: "error: nothing/../new: `..` follows a directory that doesn't exist",
        why: "as above",
    },
    Difference {
        tool: "move_file",
        arguments: r#"{ "source": "dangling.txt", "destination": "dangling2.txt" }"#,
        official: "error: Parent directory does not exist",
        own: "Successfully moved",
        why: "a link is moved itself, wherever it leads",
    },
    Difference {
        tool: "move_file",
        arguments: r#"{ "source": "out/secret", "destination": "secret" }"#,
        official: "error: Access denied",
        own: "Successfully moved",
        why: "the same",
    },
];

#[test]
fn every_other_difference_from_the_official_one_is_meant() {
    let pair = Pair::new();
    let longest = "n".repeat(255);
    for (_, root) in &pair.roots {
        let outside = root.parent().unwrap().join("outside");
        fs::write(&outside, "SECRET").unwrap();
        fs::create_dir(root.join("names")).unwrap();
        fs::create_dir(root.join("out")).unwrap();
        for (name, text) in [
            ("latin1.txt", &b"caf\xe9\n"[..]),
            ("[1].bin", b"\xff"),
            ("returns.txt", b"x\r\r\ny\n"),
            ("names/a", b""),
            ("names/B", b""),
            (&longest, b"once"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        symlink("..", root.join("up")).unwrap();
        symlink(&outside, root.join("out/secret")).unwrap();
    }
    for Difference { tool, arguments, official, own, why } in DIFFERENCES {
        let arguments: Value = serde_json::from_str(&arguments.replace("LONGEST", &longest)).unwrap();
        let answers = pair.ask(tool, &arguments).map(|answer| {
            let blocks = answer["content"].as_array().unwrap().iter();
            let texts = blocks.map(|block| block["text"].as_str().map_or_else(|| block.to_string(), str::to_owned));
            let text = texts.collect::<Vec<_>>().join("\n");
            if answer["isError"] == true { format!("error: {text}") } else { text.replace("[FILE] ", "") }
        });
        for (told, expected) in answers.iter().zip([official, own]) {
            // An order shows in what comes first, and all else somewhere in the text.
            let found = if arguments["path"] == "names" && *tool == "list_directory_with_sizes" {
                told.starts_with(expected)
            } else {
                told.contains(expected)
            };
            assert!(found, "{tool} {arguments} ({why}): {expected:?} isn't in {told:?}");
        }
        assert_ne!(answers[0], answers[1], "{tool} {arguments}: no difference");
    }
}

/// One root that doesn't exist, before one that does.
#[test]
fn a_missing_root_is_told_where_the_official_server_goes_on_without_it() {
    let home = TestHome::with_agent("worker", "");
    let base = home.beside().canonicalize().unwrap();
    let (missing, root) = (base.join("missing"), base.join("root"));
    plant(&root);
    let official = json!({ "command": peers::node(), "args": [peers::npm(OFFICIAL), missing, root] });
    let own = json!({ "builtin": "filesystem", "args": [missing, root] });
    home.write_servers("development", &json!({ "official": official, "own": own }));
    let serve = home.serve();
    let http = Http::new(&home, &serve);
    let call = |server: &str| {
        http.post(&format!("/api/v1/tools/{server}__list_allowed_directories/call"), &json!({ "arguments": {} }))
    };
    let told = call("official").with(200).json();
    assert_eq!(told["content"][0]["text"], format!("Allowed directories:\n{}", root.display()));
    // Relative paths start at the first root: without it they would silently mean something else.
    let refused = call("own");
    assert!(refused.status >= 400, "{}", refused.body);
    assert!(refused.body.contains(&format!("root `{}`", missing.display())), "{}", refused.body);
}
