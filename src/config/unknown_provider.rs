//! Models of providers that nobody has configured: their runs will fail, and the files say so before.

use super::check::STATION_YML;
use super::environment::AgentFile;
use super::model::split_model;
use super::problem::{FileProblem, Position};
use super::settings::Settings;
use crate::domain::{nearest, quoted};

/// The providers that are known without being configured.
pub const BUILT_IN_PROVIDERS: [&str; 7] =
    ["openai", "anthropic", "gemini", "ollama", "llama-server", "lm-studio", "offline"];

/// What of `station.yml` names an unknown provider.
pub(super) fn of_settings(settings: &Settings) -> Vec<FileProblem> {
    let default = settings.models.default.iter().map(|model| ("models.default".to_owned(), model));
    let of_environments = settings.environments.iter().filter_map(|(name, environment)| {
        environment.model.as_ref().map(|model| (format!("environments.{name}.model"), model))
    });
    let told = |(key, model): (String, &String)| {
        let (message, hint) = fault(settings, &key, model)?;
        Some(settings.place(&key, STATION_YML, message).hint(hint).warning())
    };
    default.chain(of_environments).filter_map(told).collect()
}

/// Which of `agents` name an unknown provider.
pub(super) fn of_agents(settings: &Settings, agents: &[AgentFile]) -> Vec<FileProblem> {
    let told = |agent: &AgentFile| {
        let (message, hint) = fault(settings, "model", agent.definition.as_ref().ok()?.model.as_ref()?)?;
        let problem = FileProblem::new(&agent.file, message).about("model").hint(hint).warning();
        Some(match line_of_model(&agent.bytes) {
            Some(line) => problem.at(Position { line, column: 1 }),
            None => problem,
        })
    };
    agents.iter().filter_map(told).collect()
}

/// What is wrong with `model`, the value of `key`, and what to do; nothing where it names no provider.
fn fault(settings: &Settings, key: &str, model: &str) -> Option<(String, String)> {
    let (provider, _) = split_model(model)?;
    let known = || BUILT_IN_PROVIDERS.into_iter().chain(settings.providers.keys().map(String::as_str));
    if known().any(|name| name == provider) {
        return None;
    }
    let guess = nearest(provider, known()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let message = format!("`{key}`: provider {} is not known, and every run with it fails{guess}", quoted(provider));
    let all: Vec<&str> = known().collect();
    Some((message, format!("use one of {}, or add it under `providers` in station.yml", all.join(", "))))
}

/// The line of the front matter that says `model`, from 1.
fn line_of_model(bytes: &[u8]) -> Option<usize> {
    let mut lines =
        bytes.split(|byte| *byte == b'\n').enumerate().skip(1).take_while(|(_, line)| !line.starts_with(b"---"));
    lines.find(|(_, line)| line.starts_with(b"model:")).map(|(at, _)| at + 1)
}
