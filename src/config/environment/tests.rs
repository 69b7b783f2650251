use super::super::plan::{KnownAgent, PlanAction, PlanKind, plan};
use super::super::revision::in_force_hash;
use super::*;
use crate::domain::AgentState;

const PROMPT: &str = "---\nmodel: a/b\n---\nHi {{userInput}}\n";

fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("agents")).unwrap();
    for (name, text) in files {
        fs::write(home.path().join(name), text).unwrap();
    }
    home
}

fn load(home: &tempfile::TempDir) -> EnvironmentFiles {
    load_environment(home.path(), "environments/development", &BTreeMap::new(), &Promised::new()).unwrap()
}

#[test]
fn a_broken_file_never_stops_the_others() {
    let home = home(&[
        ("agents/b.prompt", PROMPT),
        ("agents/a.prompt", "---\nmodle: x\n---\n"),
        ("agents/notes.txt", "no agent"),
        ("variables.yml", "ROOT: /data\n"),
        ("one.json", "{ \"mcpServers\": { \"files\": { \"builtin\": \"filesystem\", \"args\": [\"{{ .ROOT }}\"] } } }"),
        ("two.json", "{ nonsense"),
    ]);
    let files = load(&home);
    let names: Vec<_> = files.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let broken = files.agents[0].definition.clone().unwrap_err();
    assert!(broken.to_string().starts_with("environments/development/agents/a.prompt:2:1: "), "{broken}");
    assert!(files.agents[1].definition.is_ok() && files.servers[0].definition.is_ok());
    assert_eq!(files.problems[0].file, "environments/development/two.json");
    assert!(files.problems[0].message.starts_with("not valid JSON: "), "{}", files.problems[0]);
    assert_eq!(files.agents[1].revision, revision_of(PROMPT.as_bytes()));
}

#[test]
fn the_hash_changes_with_every_file_and_with_nothing_else() {
    let home = home(&[("agents/a.prompt", PROMPT), ("variables.yml", "A: 1\n"), ("s.json", "{}")]);
    let hash = || in_force_hash(&load(&home), &[]);
    assert_eq!(hash(), hash());
    for (name, text) in
        [("variables.yml", "A: 2\n"), ("s.json", "{ }"), ("agents/a.prompt", "---\n---\n"), ("agents/b.prompt", PROMPT)]
    {
        let before = hash();
        fs::write(home.path().join(name), text).unwrap();
        assert_ne!(hash(), before, "{name}");
    }
}

#[test]
fn tools_that_mean_agents_are_children_and_the_unclear_ones_are_told_with_their_place() {
    let tools = "---\ntools:\n  - fs__read\n  - __agent_log_reader\n  - __agent_two_b\n  - __agent_none\n---\n";
    let home = home(&[
        ("agents/caller.prompt", tools),
        ("agents/Log Reader.prompt", PROMPT),
        ("agents/two-b.prompt", PROMPT),
        ("agents/two_b.prompt", PROMPT),
    ]);
    let caller = load(&home).agents.into_iter().find(|agent| agent.name == "caller").unwrap();
    let definition = caller.definition.unwrap();
    assert_eq!(definition.agents, [Name::new("log-reader").unwrap()]);
    assert_eq!(definition.tools, ["fs__read", "__agent_two_b", "__agent_none"]);
    let told: Vec<String> = caller.warnings.iter().map(ToString::to_string).collect();
    let file = "environments/development/agents/caller.prompt";
    assert_eq!(
        told,
        [
            format!("{file}:5:5: `tools.2`: `__agent_two_b` may mean any of two-b, two_b"),
            format!("{file}:6:5: `tools.3`: `__agent_none` means no agent of this environment"),
        ]
    );
    fs::write(home.path().join("agents/Log Reader.prompt"), "---\ntools: [__agent_caller]\n---\n").unwrap();
    let circle = load(&home).agents.into_iter().find(|agent| agent.name == "caller").unwrap();
    assert!(circle.definition.unwrap_err().message.contains("in a circle"));
}

#[test]
fn a_file_that_collides_with_the_one_in_force_changes_no_hash() {
    for (first, second) in [("Two Words", "two-words"), ("two-words", "Two Words")] {
        let home = home(&[(&format!("agents/{first}.prompt"), PROMPT), ("agents/other.prompt", PROMPT)]);
        let before = load(&home);
        let known = before.agents.iter().map(|agent| KnownAgent {
            name: agent.name.clone(),
            revision: agent.revision.clone(),
            state: AgentState::Ok,
            file: agent.file.clone(),
            agents: Vec::new(),
        });
        let known: Vec<KnownAgent> = known.collect();
        fs::write(home.path().join(format!("agents/{second}.prompt")), "---\n---\nanother").unwrap();
        let after = load(&home);
        assert!(after.agents.iter().any(|agent| agent.definition.is_err()));
        assert_eq!(in_force_hash(&after, &known), in_force_hash(&before, &known), "{first}");
    }
}

#[test]
fn an_agents_directory_that_can_not_be_looked_at_is_an_error_and_no_empty_one() {
    let home = home(&[("file", "")]);
    let promised = Promised::new();
    let mut files = load(&home);
    let mut agents = |root: PathBuf| {
        let reader = Reader { root, shown: "environments/development", promised: &promised };
        reader.agents(&mut files)
    };
    agents(home.path().to_owned()).unwrap();
    // Below a file nothing can be looked up, whoever asks.
    let problem = agents(home.path().join("file")).unwrap_err();
    assert!(problem.to_string().starts_with("environments/development/agents: it is no directory"), "{problem}");
}

#[test]
fn an_odd_agents_directory_is_a_problem_and_its_servers_and_known_agents_stay() {
    let outside = tempfile::tempdir().unwrap();
    let servers = "{ \"mcpServers\": { \"files\": { \"builtin\": \"filesystem\" } } }";
    let home = home(&[("agents/a.prompt", PROMPT), ("s.json", servers)]);
    let before = load(&home);
    let known = [KnownAgent {
        name: before.agents[0].name.clone(),
        revision: before.agents[0].revision.clone(),
        state: AgentState::Ok,
        file: before.agents[0].file.clone(),
        agents: Vec::new(),
    }];
    fs::rename(home.path().join("agents"), home.path().join("old")).unwrap();
    for (target, reason) in [
        (outside.path(), "out of its environment"),
        (Path::new("missing"), "doesn't exist"),
        (Path::new("s.json"), "is no directory"),
    ] {
        std::os::unix::fs::symlink(target, home.path().join("agents")).unwrap();
        let after = load(&home);
        let problem = after.agents_unread.clone().unwrap();
        assert!(problem.message.contains(reason) && after.problems == [problem.clone()], "{problem:?}");
        assert_eq!(after.servers.len(), 1);
        assert_eq!(in_force_hash(&after, &known), in_force_hash(&before, &known), "{reason}");
        let items = plan(&after, &known, &[]).items;
        let agent = items.iter().find(|item| item.kind == PlanKind::Agent).unwrap();
        assert_eq!((agent.action, &agent.problem), (PlanAction::Error, &Some(problem)));
        fs::remove_file(home.path().join("agents")).unwrap();
    }
}

#[test]
fn a_workspace_that_is_no_directory_is_a_problem_and_a_missing_one_is_none() {
    let home = home(&[("file", "")]);
    assert_eq!(load(&home).problems, []);
    for (target, reason) in [("missing", "doesn't exist"), ("file", "no directory")] {
        std::os::unix::fs::symlink(target, home.path().join("workspace")).unwrap();
        let problems = load(&home).problems;
        assert!(problems[0].to_string().starts_with("environments/development/workspace: "), "{problems:?}");
        assert!(problems[0].message.contains(reason), "{problems:?}");
        fs::remove_file(home.path().join("workspace")).unwrap();
    }
}

#[test]
fn other_names_load_under_a_slug_and_a_collision_names_both() {
    let home = home(&[("agents/Cost Forecaster.prompt", PROMPT)]);
    let files = load(&home);
    assert_eq!(files.agents[0].name.as_str(), "cost-forecaster");
    assert_eq!(files.agents[0].definition.as_ref().unwrap().display_name.as_deref(), Some("Cost Forecaster"));
    fs::write(home.path().join("agents/cost-forecaster.prompt"), PROMPT).unwrap();
    let files = load(&home);
    let problem = files.agents[0].definition.clone().unwrap_err();
    assert_eq!(files.agents.len(), 1);
    assert!(problem.message.contains("Cost Forecaster.prompt") && problem.message.contains("cost-forecaster.prompt"));
}

#[test]
fn a_file_whose_name_an_agent_can_have_is_that_agent_and_no_other() {
    let names = ["a--b", "a-b", "foo", "foo-", "foo_"];
    let files: Vec<_> = names.map(|name| format!("agents/{name}.prompt")).into();
    let home = home(&files.iter().map(|file| (file.as_str(), PROMPT)).collect::<Vec<_>>());
    let found: Vec<_> = load(&home).agents.into_iter().map(|agent| (agent.name, agent.definition.is_ok())).collect();
    assert_eq!(found, names.map(|name| (Name::new(name).unwrap(), true)));
}

#[test]
fn what_is_promised_is_read_as_if_it_were_there() {
    let home = home(&[("agents/changed.prompt", "old"), ("agents/gone.prompt", PROMPT)]);
    let shown = |name: &str| format!("environments/development/agents/{name}.prompt");
    let promised = Promised::from([
        (shown("added"), Some(PROMPT.into())),
        (shown("changed"), Some(PROMPT.into())),
        (shown("gone"), None),
        ("environments/staging/agents/other.prompt".to_owned(), Some(PROMPT.into())),
    ]);
    let none = BTreeMap::new();
    let before = load_environment(home.path(), "environments/development", &none, &promised).unwrap();
    for name in ["added", "changed"] {
        fs::write(home.path().join(format!("agents/{name}.prompt")), PROMPT).unwrap();
    }
    fs::remove_file(home.path().join("agents/gone.prompt")).unwrap();
    let after = load(&home);
    let names = |files: &EnvironmentFiles| -> Vec<(Name, String)> {
        files.agents.iter().map(|agent| (agent.name.clone(), agent.revision.clone())).collect()
    };
    assert_eq!((names(&before), before.hash_without_agents), (names(&after), after.hash_without_agents));
}

#[test]
fn a_name_that_has_no_slug_is_a_problem() {
    let home = home(&[("agents/123.prompt", PROMPT), ("agents/agent.prompt", PROMPT)]);
    let files = load(&home);
    assert!(files.agents.is_empty());
    let said: Vec<_> = files.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said, ["`123` can't be the name of an agent", "`agent` can't be the name of an agent"]);
}

#[test]
fn a_server_in_two_files_is_an_error_naming_both() {
    let server = "{ \"servers\": { \"x\": { \"url\": \"https://x\" }, \"y\": { \"url\": \"https://y\" } } }";
    let home = home(&[("a.json", server), ("b.json", "{ \"servers\": { \"x\": { \"url\": \"https://z\" } } }")]);
    let files = load(&home);
    let problem = files.servers[0].definition.clone().unwrap_err();
    assert!(problem.message.contains("a.json") && problem.message.contains("b.json"));
    assert!(files.servers[1].definition.is_ok());
}

#[test]
fn while_the_variables_are_broken_a_server_that_needs_one_is_an_error_even_with_a_default() {
    let servers = r#"{ "servers": {
  "defaulted": { "url": "https://{{ .HOST | default \"public.example\" }}/mcp" },
  "plain": { "url": "https://a.example/mcp" },
  "given": { "command": "{{ .TOOL }}" } } }"#;
    let home = home(&[("s.json", servers), ("variables.yml", "HOST: mine.example\nHOST: twice\n")]);
    let process = BTreeMap::from([("TOOL".to_owned(), "x".to_owned())]);
    let files = load_environment(home.path(), "environments/dev", &process, &Promised::new()).unwrap();
    let state: Vec<_> = files.servers.iter().map(|entry| (entry.name.as_str(), entry.definition.is_ok())).collect();
    assert_eq!(state, [("defaulted", false), ("given", true), ("plain", true)]);
    let problem = files.servers[0].definition.clone().unwrap_err();
    assert_eq!(problem.hint.as_deref(), Some("mend variables.yml"));
    let problem = problem.to_string();
    assert!(problem.starts_with("environments/dev/s.json:2:"), "{problem}");
    for part in ["server `defaulted`", "`HOST`", "environments/dev/variables.yml:2:"] {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(files.problems.len(), 1);
}

#[test]
fn links_lead_nowhere_outside_the_environment() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.prompt"), PROMPT).unwrap();
    fs::write(outside.path().join("x.yml"), "A: 1\n").unwrap();
    let home = home(&[("agents/inner.prompt", PROMPT)]);
    std::os::unix::fs::symlink(outside.path().join("x.prompt"), home.path().join("agents/out.prompt")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("x.yml"), home.path().join("variables.yml")).unwrap();
    std::os::unix::fs::symlink("inner.prompt", home.path().join("agents/within.prompt")).unwrap();
    let files = load(&home);
    let state: Vec<_> = files.agents.iter().map(|agent| (agent.name.as_str(), agent.definition.is_ok())).collect();
    assert_eq!(state, [("inner", true), ("out", false), ("within", true)]);
    assert!(files.agents[1].bytes.is_empty() && files.variables.is_err());
    assert!(files.problems[0].message.contains("link"));
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_no_empty_environment() {
    let home = tempfile::tempdir().unwrap();
    assert!(load_environment(&home.path().join("x"), "environments/x", &BTreeMap::new(), &Promised::new()).is_err());
    assert!(load(&home).agents.is_empty());
}

#[test]
fn only_named_variables_of_the_process_pass() {
    let process = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
    let found = allow_listed(&["B".to_owned(), "C".to_owned()], &process);
    assert_eq!(found, BTreeMap::from([("B".to_owned(), "2".to_owned())]));
}

#[test]
fn the_manifest_of_a_bundle_is_no_server_file() {
    let manifest = "{ \"version\": \"1.0\", \"bundle\": { \"name\": \"ops\" } }";
    let files = load(&home(&[("manifest.json", manifest)]));
    assert!(files.problems.is_empty(), "{:?}", files.problems);
    assert!(files.warnings[0].to_string().contains("manifest of a bundle"), "{:?}", files.warnings);
    let servers = "{ \"mcpServers\": { \"files\": { \"builtin\": \"filesystem\" } } }";
    assert_eq!(load(&home(&[("manifest.json", servers)])).servers.len(), 1);
}
