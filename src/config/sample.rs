//! What a new home contains, so that there is something to run before anybody has written anything.

/// A file of a new home.
#[derive(Debug, Clone, Copy)]
pub struct SampleFile {
    /// Relative to the home, or to the environment's directory.
    pub path: &'static str,
    pub contents: &'static str,
}

/// The environments of a new home; the first is the default one, and the one with the samples.
pub const FIRST_ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];

/// Files of the home itself.
pub const HOME_FILES: [SampleFile; 2] = [
    SampleFile { path: "station.yml", contents: include_str!("sample/station.yml") },
    SampleFile { path: ".gitignore", contents: include_str!("sample/gitignore") },
];

/// Files of the first environment.
pub const SAMPLE_ENVIRONMENT_FILES: [SampleFile; 4] = [
    SampleFile { path: "agents/hello.prompt", contents: include_str!("sample/hello.prompt") },
    SampleFile { path: "servers.json", contents: include_str!("sample/servers.json") },
    SampleFile { path: "variables.yml", contents: include_str!("sample/variables.yml") },
    SampleFile { path: "workspace/README.md", contents: include_str!("sample/workspace.md") },
];

#[cfg(test)]
mod tests {
    use super::super::{load_environment, parse_settings, render_agent};
    use super::*;
    use crate::domain::{Name, ServerTransport};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn a_new_home_loads_without_a_problem() {
        let home = tempfile::tempdir().unwrap();
        for file in SAMPLE_ENVIRONMENT_FILES {
            let path = home.path().join(file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.contents).unwrap();
        }
        let files =
            load_environment(home.path(), "environments/development", &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(files.problems.is_empty(), "{:?}", files.problems);
        let hello = files.agents[0].definition.as_ref().unwrap();
        assert_eq!(hello.tools, ["filesystem__*"]);
        let server = files.servers[0].definition.as_ref().unwrap();
        let args = vec![".".to_owned()];
        assert_eq!(server.transport, ServerTransport::Builtin { builtin: "filesystem".into(), args });
        let rendered = render_agent(hello, &json!({ "userInput": "hi" })).unwrap();
        assert!(rendered.system.is_some() && rendered.messages.len() == 1);
    }

    #[test]
    fn the_settings_of_a_new_home_hold_also_with_every_comment_taken_in() {
        let text = HOME_FILES[0].contents;
        let settings = parse_settings("station.yml", text, &BTreeMap::new()).unwrap();
        assert_eq!(settings.environment(&Name::new("development").unwrap()).auto_accept_commands, Some(true));
        let all =
            text.lines().map(|line| line.strip_prefix("# ").filter(|rest| !rest.starts_with('#')).unwrap_or(line));
        let is_setting = |line: &&str| !line.starts_with('#') && !line.starts_with("yaml-language-server:");
        let all: Vec<_> = all.filter(is_setting).collect();
        parse_settings("station.yml", &all.join("\n"), &BTreeMap::new()).unwrap();
    }
}
