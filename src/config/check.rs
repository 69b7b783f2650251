//! What is wrong with the files of a home as they are on disk. Nothing is opened, taken up or changed, so that it can also be told of a
//! home in which no station starts.

use super::environment::{EnvironmentFiles, Promised, allow_listed, load_environment};
use super::problem::{FileProblem, Severity};
use super::sample::FIRST_ENVIRONMENTS;
use super::settings::Settings;
use super::station_yml::{read_settings, unknown_environments, unsafe_listener};
use super::unknown_provider;
use crate::domain::Name;
use crate::error::{Error, Result};
use crate::home::Home;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The settings file, as people know it.
pub const STATION_YML: &str = "station.yml";

/// What a look at the files found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigReport {
    /// How many of the problems are errors: what they are about isn't in force.
    pub errors: usize,
    pub warnings: usize,
    /// By file and line.
    pub problems: Vec<FileProblem>,
    /// Every file that was read, as people know it, and the environment variables that stand above `station.yml`.
    pub read: Vec<String>,
}

impl ConfigReport {
    /// Adds a warning of what only a station that runs can know.
    pub fn warn(&mut self, file: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(FileProblem::new(file, message).hint(hint).warning());
        self.warnings += 1;
    }
}

/// Reads `station.yml` under the variables of the process and every environment's directory; with `only`, that environment's directory and
/// what `station.yml` says about it. An error when there is no such directory.
///
/// `known` are the environments of the station that runs, if one does: a start makes a directory that is gone again. Without a station
/// nobody knows them, so that in a home that had one, an environment without a directory is no more than a warning.
pub fn check(
    home: &Home,
    variables: &BTreeMap<String, String>,
    only: Option<&Name>,
    known: Option<&[Name]>,
) -> Result<ConfigReport> {
    let mut report = ConfigReport::default();
    let (settings, mut problems) = read_settings(&home.station_yml(), STATION_YML, variables);
    let unread: Vec<Option<String>> =
        problems.iter().filter(|problem| problem.file == STATION_YML).map(|problem| problem.key.clone()).collect();
    let directory = home.environments_dir();
    let directories = if directory.exists() { environment_directories(&directory)? } else { Vec::new() };
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for directory in directories {
        match directory {
            Ok(name) => names.push(name),
            Err(problem) => others.push(problem),
        }
    }
    if !home.control_db().exists() {
        // They come into being with the first command that opens the home.
        names.extend(FIRST_ENVIRONMENTS.iter().filter_map(|name| Name::new(name).ok()));
    }
    names.extend(known.into_iter().flatten().cloned());
    names.sort();
    names.dedup();
    if home.station_yml().exists() {
        report.read.push(STATION_YML.to_owned());
    }
    report.read.extend(settings.variables().map(|name| format!("environment variable {name}")));
    let existing: Vec<&str> = names.iter().map(Name::as_str).collect();
    let missing = unknown_environments(&settings, STATION_YML, &existing).into_iter();
    let missing = missing.chain(unknown_default(&settings, &existing));
    let may_be_known = known.is_none() && home.control_db().exists();
    problems.extend(missing.map(|problem| if may_be_known { without_directory(problem) } else { problem }));
    problems.extend(others);
    problems.extend(unwritable_log(&settings, home));
    // Where the providers can't be read, nobody knows which there are.
    let are_providers_read =
        unread.iter().all(|key| key.as_deref().is_some_and(|key| key != "providers" && !key.starts_with("providers.")));
    if are_providers_read {
        problems.extend(unknown_provider::of_settings(&settings));
    }
    problems.extend(unsafe_listener(&settings, STATION_YML));
    if let Some(only) = only {
        if !names.contains(only) {
            return Err(Error::not_found(format!("environment `{only}` doesn't exist"))
                .hint(format!("environments here: {}", existing.join(", ")))
                .field("environment"));
        }
        let own = format!("environments.{only}");
        let is_own = |key: &str| key == own || key.starts_with(&format!("{own}."));
        // Where the file as a whole can't be read, that is also what is wrong with this part of it.
        problems.retain(|problem| problem.key.as_deref().is_none_or(is_own) && problem.file == STATION_YML);
        names.retain(|name| name == only);
    }
    for name in &names {
        let (directory, shown) = (home.environment_dir(name), format!("environments/{name}"));
        if !directory.exists() {
            continue;
        }
        let allowed = allow_listed(&settings.environment(name).variables_from_process, variables);
        let load = |process| load_environment(&directory, &shown, process, &Promised::new());
        match load(&allowed) {
            Ok(files) => {
                report.read.extend(files.read.iter().cloned());
                if are_providers_read {
                    problems.extend(unknown_provider::of_agents(&settings, &files.agents));
                }
                let mut found: Vec<_> = files.all_problems().collect();
                if hides_the_variables(&unread, name) {
                    // Nobody knows which of the process's variables it may use: only what is wrong with none and with all of them is.
                    let with_all: Vec<_> = load(variables)?.all_problems().collect();
                    found.retain(|problem| with_all.contains(problem));
                }
                problems.extend(found);
            }
            Err(error) => problems.push(FileProblem::new(&shown, error.message())),
        }
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    problems.dedup();
    report.errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    report.warnings = problems.len() - report.errors;
    report.problems = problems;
    Ok(report)
}

/// Whether one of the keys of `station.yml` that are faulty (`None`: the file as a whole) may have said which variables of the process the
/// environment may use.
fn hides_the_variables(unread: &[Option<String>], environment: &Name) -> bool {
    let own = format!("environments.{environment}");
    unread.iter().any(|key| match key.as_deref() {
        None | Some("environments") => true,
        Some(key) => key.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
    })
}

impl EnvironmentFiles {
    /// Everything that is wrong with the files, and what of them has no effect.
    fn all_problems(self) -> impl Iterator<Item = FileProblem> {
        let of_agents = self.agents.into_iter().flat_map(|agent| {
            let first = agent.definition.err();
            first.into_iter().chain(agent.further).chain(agent.warnings)
        });
        let of_servers = self.servers.into_iter().filter_map(|server| server.definition.err());
        self.problems.into_iter().chain(self.warnings).chain(of_agents).chain(of_servers)
    }
}

fn without_directory(problem: FileProblem) -> FileProblem {
    let hint = problem.hint.clone().unwrap_or_default();
    problem
        .hint(format!("it has no directory; a start makes one if the station knows the environment, else {hint}"))
        .warning()
}

/// A start opens the file of the log, and makes no directory for it.
fn unwritable_log(settings: &Settings, home: &Home) -> Option<FileProblem> {
    let (logs, file) = (home.logs_dir(), settings.log.file.as_ref()?);
    let path = logs.join(file);
    let directory = path.parent().filter(|directory| *directory != logs && !directory.is_dir())?;
    let message = format!("`log.file`: there is no directory `{}`", directory.display());
    let problem = settings.place("log.file", STATION_YML, message);
    Some(problem.hint("create it, or name a file alone: it lies in the home's logs/"))
}

fn unknown_default(settings: &Settings, existing: &[&str]) -> Option<FileProblem> {
    let name = settings.default_environment.as_ref().filter(|name| !existing.contains(&name.as_str()))?;
    let message = format!("`default_environment` is `{name}`, and there is no such environment");
    let problem = settings.place("default_environment", STATION_YML, message);
    Some(problem.hint(format!("create the directory environments/{name}, or name another one")))
}

/// The directories that are environments, by name. One whose name can't be an environment's is a fault.
pub fn environment_directories(directory: &Path) -> Result<Vec<Result<Name, FileProblem>>> {
    let unreadable = |cause: std::io::Error| {
        Error::unavailable(format!("can't read `{}`: {cause}", directory.display())).source(cause)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if !entry.path().is_dir() {
            if entry.path().is_symlink() && !entry.path().exists() {
                let problem =
                    FileProblem::new(&format!("environments/{name}"), "it is a link to a directory that doesn't exist");
                found.push(Err(problem.hint("put a directory in its place, or there")));
            }
            continue;
        }
        found.push(Name::new(&name).map_err(|invalid| {
            let message = format!("the directory is no environment: {invalid}");
            FileProblem::new(&format!("environments/{name}"), message).hint("rename it")
        }));
    }
    found.sort_by(|a, b| a.as_ref().ok().cmp(&b.as_ref().ok()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Layout;

    fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let home = Home::at(directory.path(), Layout::Home, &BTreeMap::new()).unwrap();
        (directory, home)
    }

    #[test]
    fn every_problem_is_told_with_its_place_and_every_file_that_was_read() {
        let (_directory, home) = home(&[
            ("station.yml", "default_environment: dev\nruns: { workers: 0 }\nenvironments:\n  prod: { model: x }\n"),
            ("environments/development/agents/a.prompt", "---\nmodle: x\nmax_steps: 0\nsandbox: python\n---\n{{#if}\n"),
            ("environments/development/a.json", "{ \"mcpServers\": { \"s\": { \"command\": \"{{ .NONE }}\" } } }"),
            ("environments/development/b.json", "{ nonsense"),
            ("environments/development/variables.yml", "A: [1]\n"),
            ("environments/staging/agents/fine.prompt", "---\nmodel: openai/b\n---\nHi\n"),
            ("environments/No Good/x", ""),
        ]);
        let variables = BTreeMap::from([("STN_RUNS_MAX_STEPS".to_owned(), "3".to_owned())]);
        let report = check(&home, &variables, None, None).unwrap();
        let told: Vec<String> =
            report.problems.iter().map(|problem| format!("{:?} {problem}", problem.severity)).collect();
        for start in [
            "Error environments/No Good: the directory is no environment",
            "Error environments/development/a.json:1:",
            "Error environments/development/agents/a.prompt:2:1: unknown key `modle`",
            "Error environments/development/agents/a.prompt:3:12: `max_steps`",
            "Warning environments/development/agents/a.prompt:4:1: `sandbox`",
            "Error environments/development/agents/a.prompt:6:",
            "Error environments/development/b.json:",
            "Error environments/development/variables.yml:1:",
            "Error station.yml:1:1: `default_environment` is `dev`",
            "Error station.yml:2:18: `runs.workers`",
            "Error station.yml:4:3: `environments.prod`: there is no such environment",
            "Error station.yml:4:18: `environments.prod.model`",
        ] {
            assert!(told.iter().any(|told| told.starts_with(start)), "{start}: {told:#?}");
        }
        assert_eq!((report.errors, report.warnings), (11, 1), "{told:#?}");
        assert_eq!(
            report.read,
            [
                "station.yml",
                "environment variable STN_RUNS_MAX_STEPS",
                "environments/development/variables.yml",
                "environments/development/a.json",
                "environments/development/b.json",
                "environments/development/agents/a.prompt",
                "environments/staging/agents/fine.prompt",
            ]
        );
    }

    #[test]
    fn of_one_environment_its_own_is_told_and_nothing_else() {
        let (_directory, home) = home(&[
            ("station.yml", "runs: { workers: 0 }\nenvironments:\n  staging: { model: x }\n"),
            ("environments/development/agents/a.prompt", "---\nmodle: x\n---\n"),
            ("environments/staging/agents/a.prompt", "---\nmodle: x\n---\n"),
        ]);
        let report = check(&home, &BTreeMap::new(), Some(&Name::new("staging").unwrap()), None).unwrap();
        let keys: Vec<_> = report.problems.iter().map(|problem| problem.key.as_deref().unwrap()).collect();
        assert_eq!(keys, ["modle", "environments.staging.model"]);
        assert_eq!(report.problems[0].file, "environments/staging/agents/a.prompt");
        let missing = check(&home, &BTreeMap::new(), Some(&Name::new("qa").unwrap()), None).unwrap_err();
        assert!(missing.hint_text().unwrap().contains("development, production, staging"), "{missing:?}");
    }

    #[test]
    fn an_environment_without_a_directory_is_an_error_only_where_the_station_surely_lacks_it() {
        let text = "default_environment: qa\nenvironments:\n  qa: { kind: staging }\n";
        let (_directory, home) = home(&[("station.yml", text), ("environments/development/x", "")]);
        let look = |only: Option<&Name>, known: Option<&[Name]>| check(&home, &BTreeMap::new(), only, known);
        let counts = |known: Option<&[Name]>| look(None, known).map(|report| (report.errors, report.warnings)).unwrap();
        assert_eq!(counts(None), (2, 0), "no station was ever started here");
        std::fs::write(home.control_db(), "").unwrap();
        assert_eq!(counts(None), (0, 2), "nobody says what the station knows");
        let (development, qa) = (Name::new("development").unwrap(), Name::new("qa").unwrap());
        assert_eq!(
            counts(Some(std::slice::from_ref(&development))),
            (2, 0),
            "the station says that it has no such environment"
        );
        assert_eq!(counts(Some(&[development.clone(), qa.clone()])), (0, 0));
        assert_eq!(look(Some(&qa), Some(&[development, qa.clone()])).unwrap().errors, 0);
        let told = look(None, None).unwrap().problems.remove(0);
        assert!(told.hint.unwrap().contains("a start makes one if the station knows the environment"));
    }

    #[test]
    fn an_address_that_serve_would_refuse_is_an_error_with_its_line() {
        let (_directory, home) =
            home(&[("station.yml", "\nhttp: { listen: \"0.0.0.0:9000\" }\n"), ("environments/a/x", "")]);
        let told = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let problems = check(&home, &variables, None, None).unwrap().problems;
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let reason = "`http.listen`: `0.0.0.0:9000` is not a loopback address, and this version has no TLS";
        assert_eq!(told(&[]), [format!("station.yml:2:1: {reason}")]);
        assert_eq!(told(&[("STN_HTTP_LISTEN", "[::1]:1")]), Vec::<String>::new());
        let from_variable = told(&[("STN_HTTP_LISTEN", "0.0.0.0:9000")]);
        assert_eq!(from_variable, [format!("environment variable STN_HTTP_LISTEN: {reason}")]);
    }

    #[test]
    fn a_log_file_whose_directory_is_missing_is_an_error_since_no_station_could_start() {
        let (directory, home) = home(&[("station.yml", "log: { file: logs/x.log }\n"), ("environments/a/x", "")]);
        let errors = || check(&home, &BTreeMap::new(), None, None).unwrap().problems;
        let told = errors();
        assert_eq!((told.len(), told[0].key.as_deref(), told[0].line), (1, Some("log.file"), Some(1)), "{told:?}");
        std::fs::create_dir_all(directory.path().join("logs/logs")).unwrap();
        assert_eq!(errors(), []);
        std::fs::write(directory.path().join("station.yml"), "log: { file: x.log }\n").unwrap();
        std::fs::remove_dir_all(directory.path().join("logs")).unwrap();
        assert_eq!(errors(), [], "a start makes the home's own");
    }

    #[test]
    fn what_cannot_be_read_of_station_yml_makes_no_errors_about_other_files() {
        const NEEDS: &str = "server `t` needs the variable `BAR`, which nothing defines";
        let server =
            "{ \"mcpServers\": { \"s\": { \"command\": \"{{ .FOO }}\" }, \"t\": { \"command\": \"{{ .BAR }}\" } } }";
        let process = BTreeMap::from([("FOO".to_owned(), "x".to_owned())]);
        let told = |settings: &str| -> Vec<String> {
            let (_directory, home) = home(&[("station.yml", settings), ("environments/development/s.json", server)]);
            let report = check(&home, &process, None, None).unwrap();
            let of_servers = report.problems.into_iter().filter(|problem| problem.file.ends_with("s.json"));
            of_servers.map(|problem| problem.message).collect()
        };
        assert_eq!(told("environments: { development: { variables_from_process: [FOO] } }\n"), [NEEDS]);
        for faulty in [
            "environments: { development: { variables_from_process: [FOO\n",
            "environments: { development: { variables_from_process: FOO } }\n",
            "environments: { development: { variables_from_process: [FOO, 7] } }\n",
            "environments: [development]\n",
        ] {
            assert_eq!(told(faulty), [NEEDS], "{faulty}");
        }
        assert_eq!(told("runs: { workers: 0 }\n").len(), 2, "that says nothing about variables");
    }

    #[test]
    fn a_model_of_an_unknown_provider_is_a_warning_with_its_place() {
        let text = "models:\n  default: nope/x\nproviders:\n  vault: { api: anthropic, api_key: x }\nenvironments:\n  development:\n    model: opnai/x\n";
        let agent = |model: &str| format!("---\nmax_steps: 3\nmodel: {model}\n---\nHi\n");
        let files = [
            ("station.yml", text.to_owned()),
            ("environments/development/agents/a.prompt", agent("nope/x")),
            ("environments/development/agents/b.prompt", agent("vault/x")),
            ("environments/development/agents/c.prompt", agent("gpt-5-mini")),
            ("environments/development/agents/d.prompt", agent("offline/rules-1")),
        ];
        let (directory, home) = home(&files.each_ref().map(|(file, text)| (*file, text.as_str())));
        let look = || check(&home, &BTreeMap::new(), None, None).unwrap();
        let report = look();
        let told: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!((report.errors, report.warnings), (0, 3), "{told:#?}");
        for start in [
            "environments/development/agents/a.prompt:3:1: `model`: provider `nope` is not known",
            "station.yml:2:1: `models.default`: provider `nope` is not known",
            "station.yml:7:1: `environments.development.model`: provider `opnai` is not known, and every run with it fails; did you mean `openai`?",
        ] {
            assert!(told.iter().any(|told| told.starts_with(start)), "{start}: {told:#?}");
        }
        assert!(
            report.problems[0].hint.as_ref().unwrap().contains("lm-studio, offline, vault"),
            "{:?}",
            report.problems[0]
        );
        std::fs::write(directory.path().join("station.yml"), text.replace("anthropic", "nonsense")).unwrap();
        let unread = look();
        assert_eq!((unread.errors, unread.warnings), (1, 0), "{:?}", unread.problems);
    }
}
