//! Server files as people and other programs write them, and what is told of those that can't be read.

use super::super::keys::every_place_of;
use super::*;

fn parse(text: &str) -> ServersFile {
    let process = BTreeMap::from([("ROOT".to_owned(), "/data \"x\"".to_owned())]);
    parse_servers(
        "environments/dev/servers.json",
        text,
        &VariableScope { process: &process, file: Ok(&BTreeMap::new()) },
    )
}

fn definition(text: &str) -> Result<McpServerDefinition, FileProblem> {
    let mut file = parse(&format!("{{\"mcpServers\": {{\n\"s\": {text}}}}}"));
    assert!(file.problems.is_empty(), "{:?}", file.problems);
    file.servers.remove(0).definition
}

#[test]
fn the_three_transports_are_read_with_their_variables() {
    let found =
        definition("{ \"builtin\": \"filesystem\", \"args\": [\"{{ .ROOT }}/a\"], \"timeout\": \"30s\" }").unwrap();
    let args = vec!["/data \"x\"/a".to_owned()];
    assert_eq!(found.transport, ServerTransport::Builtin { builtin: "filesystem".into(), args });
    assert_eq!(found.timeout_ms, Some(30_000));
    let found = definition(
        "{ \"command\": \"npx\", \"args\": [\"-y\"], \"env\": { \"A\": \"{{ .ROOT | upper }}\" }, \"cwd\": \"w\" }",
    )
    .unwrap();
    let ServerTransport::Stdio { env, cwd, .. } = found.transport else { panic!("not stdio") };
    assert_eq!((&env["A"], cwd.as_deref()), (&"/DATA \"X\"".into(), Some("w")));
    let found =
        definition("{ \"url\": \"https://x/mcp\", \"headers\": { \"X-A\": \"b\" }, \"disabled\": true }").unwrap();
    assert!(found.disabled && matches!(found.transport, ServerTransport::Http { .. }));
}

#[test]
fn what_other_clients_write_beside_is_taken_where_it_is_true() {
    let file = parse(
        r#"{ "templates": { "T": { "required": true } }, "mcpServers": {
  "a": { "type": "stdio", "command": "x", "autoApprove": ["*"] },
  "b": { "type": "http", "url": "https://x" }, "c": { "transport": "streamable-http", "url": "https://x" },
  "d": { "type": "sse", "url": "https://x" } } }"#,
    );
    assert!(file.problems.is_empty() && file.servers.iter().all(|server| server.definition.is_ok()), "{file:?}");
    let told: Vec<_> = file.warnings.iter().map(|warning| (warning.line, warning.message.as_str())).collect();
    let expected = [(1, "`templates` has no effect"), (2, "`mcpServers.a.autoApprove` has no"), (4, "streamable HTTP")];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((line, message), (at, part)) in told.into_iter().zip(expected) {
        assert!(line == Some(at) && message.contains(part), "{message}");
    }
    for (text, part) in [
        ("{ \"type\": \"http\", \"command\": \"x\" }", "of the kind `http` has a `url`"),
        ("{ \"transport\": \"stdio\", \"url\": \"https://x\" }", "of the kind `stdio` has a `command`"),
        ("{ \"type\": \"stdio\", \"builtin\": \"filesystem\" }", "has a `command`"),
        ("{ \"type\": \"htpp\", \"url\": \"https://x\" }", "`mcpServers.s.type`: `htpp` is none of stdio, http"),
    ] {
        let problem = definition(text).unwrap_err();
        assert!(problem.message.contains(part) && problem.line == Some(2), "{text}: {problem}");
    }
}

#[test]
fn the_operators_word_on_tools_is_kept() {
    let found = definition(
        "{ \"url\": \"https://x\", \"tools\": { \"lookup\": { \"effect\": \"read\", \"idempotent\": true } } }",
    )
    .unwrap();
    let expected = ToolOverride { effect: Some(Effect::Read), idempotent: Some(true), open_world: None };
    assert_eq!(found.tools["lookup"], expected);
    let problem = definition("{ \"url\": \"https://x\", \"tools\": { \"a\": { \"effect\": \"reed\" } } }").unwrap_err();
    assert!(problem.message.contains("did you mean `read`?"), "{problem}");
}

#[test]
fn one_broken_server_leaves_the_others_alone() {
    let file = parse(
        r#"{ "servers": {
  "a": { "command": "x", "args": ["{{ secret.TOKEN }}"] },
  "b": { "command": "{{ .NONE }}" },
  "Other Name": { "command": "x" },
  "__": { "command": "x" },
  "c": { "command": "ok" } } }"#,
    );
    let secret = file.servers[0].definition.clone().unwrap_err();
    assert_eq!((secret.key.as_deref(), secret.line), (Some("servers.a"), Some(2)));
    assert!(secret.message.contains("`TOKEN` can't stand here"), "{secret}");
    let missing = file.servers[1].definition.clone().unwrap_err().to_string();
    assert!(
        missing.starts_with("environments/dev/servers.json:3:")
            && missing.contains("`NONE`")
            && missing.contains("server `b`"),
        "{missing}"
    );
    assert_eq!((file.problems[0].line, file.warnings[0].line), (Some(5), Some(4)));
    assert!(file.warnings[0].message.contains("`other-name`"), "{}", file.warnings[0]);
    assert!(file.servers[2].definition.is_ok() && file.servers[3].definition.is_ok());
}

#[test]
fn secrets_are_referred_to_in_env_and_headers_and_nowhere_else() {
    let found = definition("{ \"url\": \"https://x\", \"headers\": { \"Authorization\": \"Bearer {{ secret.T }}\" } }")
        .unwrap();
    assert!(found.transport.uses_secret("T") && !found.transport.uses_secret("U"));
    assert!(!server_hash(&found).is_empty() && !format!("{found:?}").contains("{{"));
    let env = definition("{ \"command\": \"x\", \"env\": { \"A\": \"{{ secret.T }}-{{ .ROOT }}\" } }").unwrap();
    assert!(env.transport.uses_secret("T"));
    for text in [
        "{ \"command\": \"{{ secret.T }}\" }",
        "{ \"command\": \"x\", \"args\": [\"a\", \"{{ secret.T }}\"] }",
        "{ \"command\": \"x\", \"cwd\": \"{{ secret.T }}\" }",
        "{ \"url\": \"https://x/{{ secret.T }}\" }",
        "{ \"builtin\": \"filesystem\", \"args\": [\"{{ secret.T }}\"] }",
    ] {
        let problem = definition(text).unwrap_err();
        assert!(problem.message.contains("the secret `T` can't stand here") && problem.line == Some(2), "{problem}");
        assert!(problem.hint.unwrap().contains("`env` or `headers`"));
    }
}

#[test]
fn a_disabled_server_needs_no_variables() {
    assert!(definition("{ \"command\": \"{{ .NONE }}\", \"disabled\": true }").is_ok());
    assert!(definition("{ \"url\": \"{{ .NONE }}\", \"disabled\": true }").is_ok());
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    for (text, part) in [
        ("{ \"comand\": \"x\" }", "did you mean `command`?"),
        ("{ \"command\": \"x\", \"sandbox\": \"strict\" }", "`mcpServers.s.sandbox` is not supported by this version"),
        ("{ \"command\": \"x\", \"url\": \"http://y\" }", "only one of"),
        ("{ \"args\": [] }", "needs one of"),
        ("{ \"url\": \"http://y\", \"env\": { \"a\": \"b\" } }", "`env` doesn't go with `url`"),
        ("{ \"url\": \"ftp://y\" }", "`mcpServers.s.url`: `ftp://y` is no http or https URL"),
        ("{ \"url\": \"http://y/mcp\" }", "`mcpServers.s.url`: `http://y` is plain http to another machine"),
        ("{ \"command\": \"x\", \"args\": [1] }", "expected a text, found a number"),
        ("{ \"builtin\": \"filesystme\" }", "`mcpServers.s.builtin`: there is no built-in server `filesystme`"),
        ("{ \"url\": \"https://y\", \"headers\": { \"A\": \"b\\nc\" } }", "the value of `A` has a line break"),
        ("{ \"url\": \"https://y\", \"headers\": { \"A b\": \"c\" } }", "`A b` can't be the name of a header"),
        ("{ \"url\": \"https://y\", \"headers\": { \"Host\": \"c\" } }", "`host` is for the station to say"),
        ("{ \"url\": \"https://y\", \"headers\": { \"X-a\": \"b\", \"x-A\": \"c\" } }", "are the same header"),
        ("{ \"command\": \"x\", \"args\": [\"a\\u0000\"] }", "`mcpServers.s.args`: it has a NUL character"),
        ("{ \"command\": \"x\", \"env\": { \"A\": \"\\u0000\" } }", "`mcpServers.s.env`: it has a NUL character"),
        ("{ \"command\": \"x\", \"timeout\": \"soon\" }", "not a duration"),
        ("{ \"command\": \"x\", \"env\": { \"A=B\": \"c\" } }", "`mcpServers.s.env`: `A=B` can't be a name"),
        ("{ \"command\": \"x\", \"env\": { \"{{ .ROOT }}\": \"c\" } }", "`{{ .ROOT }}` can't be a name here"),
    ] {
        let problem = definition(text).unwrap_err();
        assert!(problem.message.contains(part) && problem.line == Some(2), "{text}: {problem}");
    }
    let sent = definition("{ \"url\": \"https://y\", \"headers\": { \"A\": \"b\\tc é\" } }");
    assert!(sent.is_ok(), "{sent:?}");
}

#[test]
fn a_key_in_any_wrong_line_is_never_quoted() {
    const KEY: &str = "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
    let mut refused = 0;
    for path in every_place_of(&FILE_KEYS) {
        for value in [format!("\"{KEY}\""), format!("[\"{KEY}\"]"), format!("{{ \"{KEY}\": \"{{{{ {KEY}\" }}")] {
            let text = path.iter().rev().fold(value, |inner, key| format!("{{ \"{key}\": {inner} }}"));
            let ServersFile { servers, problems, warnings } = parse(&text);
            let faults: Vec<_> = servers.into_iter().filter_map(|server| server.definition.err()).collect();
            let told = format!("{faults:?}{problems:?}{warnings:?}");
            assert!(!told.contains("Zm9v") && !told.contains("zm9v"), "{text}: {told}");
            refused += faults.len() + problems.len();
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn a_file_of_very_many_servers_is_read_in_a_time_that_grows_with_it() {
    let server = |at: usize| format!("\"s{at}\": {{ \"command\": \"x\" }}");
    let many: Vec<_> = (0..20_000).map(server).chain(["\"S7\": { \"url\": \"https://x\" }".to_owned()]).collect();
    let file = parse(&format!("{{ \"mcpServers\": {{ {} }} }}", many.join(", ")));
    let broken: Vec<_> = file.servers.iter().filter_map(|entry| entry.definition.as_ref().err()).collect();
    assert_eq!((file.servers.len(), broken.len()), (20_000, 1));
    assert!(broken[0].message.contains("would be called `s7`") && broken[0].column.is_some_and(|at| at > 500_000));
}

#[test]
fn a_file_that_does_not_parse_is_one_problem_with_its_place() {
    let file = parse("{ \"mcpServers\": {\n \"a\": { \"command\": } } }");
    assert_eq!((file.servers.len(), file.problems[0].line), (0, Some(2)));
    assert!(parse("{ \"mcpservers\": {} }").problems[0].message.contains("did you mean `mcpServers`?"));
    assert!(
        parse("{ \"servers\": { \"a\": { \"url\": \"http://x\" } }, \"mcpServers\": {} }").problems[0]
            .message
            .contains("keep one")
    );
}
