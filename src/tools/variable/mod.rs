//! Plain variables of an environment: `variables.yml`, and the process's variables that the environment lets its files use.

pub mod delete;
pub mod list;
pub mod set;

use super::dispatch::{Deed, authorize};
use super::environment::sync;
use super::{Call, Environment, files};
use crate::config::{self, EnvironmentFiles};
use crate::domain::{AuditEntry, Scope};
use crate::error::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;

/// Where a variable's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `variables.yml`.
    File,
    /// The process's environment, which comes before the file.
    Process,
    /// Nowhere, though a server asks for it.
    Missing,
}

/// A variable as the environment's files see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Variable {
    pub name: String,
    /// Null where it comes from the process's environment, which may hold what is nothing for everybody, and where it is missing.
    pub value: Option<String>,
    pub source: Source,
    /// `variables.yml` has it; with source `process` its value there is not in force.
    pub in_file: bool,
    /// The servers whose definition asks for it, by name.
    pub used_by: BTreeSet<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The variables file of an environment, relative to the home's configuration directory.
fn file_of(environment: &Environment) -> String {
    format!("environments/{}/variables.yml", environment.name)
}

/// All variables of the environment: those that it has, and those that its servers ask for. By name. Whoever calls this holds the
/// files' lock.
async fn all(call: &Call) -> Result<Vec<Variable>> {
    of_files(call, &sync::read(&call.station, call.environment()?).await?)
}

/// The same, of files that have been read.
fn of_files(call: &Call, files: &EnvironmentFiles) -> Result<Vec<Variable>> {
    let process = sync::allow_listed(&call.station, call.environment()?);
    let file = files.variables.as_ref().map_err(|problem| {
        Error::conflict(problem.to_string()).hint("mend the file by hand; until then nobody knows what it says")
    })?;
    let asked = files.servers.iter().flat_map(|server| &server.variables);
    let names: BTreeSet<&String> = file.keys().chain(process.keys()).chain(asked).collect();
    let variables = names.into_iter().map(|name| {
        let source = match (process.contains_key(name), file.contains_key(name)) {
            (true, _) => Source::Process,
            (false, true) => Source::File,
            (false, false) => Source::Missing,
        };
        let users = files.servers.iter().filter(|server| server.variables.contains(name));
        Variable {
            name: name.clone(),
            value: file.get(name).filter(|_| source == Source::File).cloned(),
            source,
            in_file: file.contains_key(name),
            used_by: users.map(|server| server.name.to_string()).collect(),
            problem: match source {
                Source::Missing => {
                    Some("nothing defines it: servers that ask for it without a `default` can't be attached".to_owned())
                }
                Source::File if sounds_secret(name) => Some(format!(
                    "its name is that of a secret, and variables.yml keeps it in the clear: `stn secret set {name}` encrypts it, and {{{{ secret.{name} }}}} in `env` and `headers` refers to it"
                )),
                _ => None,
            },
        }
    });
    Ok(variables.collect())
}

/// Whoever changes a variable changes the servers that are made of it. An error, with its audit row, for whoever may not do that: a server
/// that acts on this machine, a command or a built-in, is for those who may let commands run: nobody is asked again where commands are
/// accepted by themselves, and a built-in goes wherever its arguments say. Whoever calls this holds the files' lock.
async fn may_change_users_of(call: &Call, name: &str) -> Result<()> {
    let environment = call.environment()?;
    let files = sync::read(&call.station, environment).await?;
    let Some((scope, why)) = needed_for(&files, name) else { return Ok(()) };
    let deed = Deed { action: call.action().to_owned(), target: Some(name.to_owned()) };
    authorize(&call.station, &call.ctx, scope, &deed, Some(environment)).await.map_err(|error| {
        let roles = error.hint_text().unwrap_or_default().to_owned();
        error
            .hint(format!("{why}; {roles}. At a terminal the owner of the home may do it, with `stn variable`"))
            .field("name")
    })
}

/// The right that a change of this variable needs beside that to change variables, and why.
fn needed_for(files: &EnvironmentFiles, name: &str) -> Option<(Scope, String)> {
    let users = || files.servers.iter().filter(|server| server.variables.contains(name));
    if let Some(server) = users().find(|server| server.acts_on_this_machine) {
        return Some((Scope::McpServersExec, format!("server `{}` acts on this machine with it", server.name)));
    }
    // What can't be read now is read again once somebody has mended it.
    if let Some(broken) = files.problems.iter().find(|problem| problem.file.ends_with(".json")) {
        return Some((Scope::McpServersExec, format!("nobody can tell what `{}` does with it: {broken}", broken.file)));
    }
    let server = users().next()?;
    Some((Scope::McpServersWrite, format!("server `{}` is made of it", server.name)))
}

/// Whether people call their credentials like that.
fn sounds_secret(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY"];
    let name = name.to_ascii_uppercase();
    name.split('_').any(|word| WORDS.contains(&word)) || name.ends_with("_KEY")
}

/// Sets or removes one variable in the file, then takes the environment's files up, and answers what they say. `None`: the file says so
/// already.
async fn change(call: &Call, name: &str, value: Option<&str>) -> Result<Option<sync::Looked>> {
    let environment = call.environment()?;
    let home = &call.station.home;
    let file = file_of(environment);
    files::finish(home, environment, Some(&file)).await?;
    let found = files::read(home, environment, &file).await?;
    let text = std::str::from_utf8(found.as_deref().unwrap_or_default())
        .map_err(|_| Error::conflict(format!("`{file}` is not UTF-8")).hint("mend the file by hand"))?;
    let text = config::update_variable(&file, text, name, value)?;
    let audit = call.audit(name);
    if found.as_deref().unwrap_or_default() == text.as_bytes() {
        environment.store.audit(audit).await?;
        return Ok(None);
    }
    let replaces = found.as_deref().map(config::revision_of);
    let prepared = files::prepare(home, environment, &file, Some(text.as_bytes())).await?;
    environment.store.file_promise(&file, text.into_bytes(), replaces.as_deref(), audit).await?;
    // What is only owed is in force: servers get it.
    let owed = match files::keep(home, environment, prepared).await {
        Err(error) if error.kind() == ErrorKind::Unavailable => Some(error),
        kept => kept.map(|()| None)?,
    };
    let audit = AuditEntry { action: "environment.sync".into(), ..call.audit(&environment.name) };
    let looked = sync::take_up_locked(&call.station, environment, audit).await.map_err(|error| {
        error.hint(format!("`{file}` has the change; `stn sync {}` puts it in force", environment.name))
    })?;
    match owed {
        Some(error) if environment.store.pending_files().await?.iter().any(|pending| pending.file == file) => {
            Err(error)
        }
        _ => Ok(Some(looked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_are_known_and_others_are_not() {
        for name in ["GITHUB_TOKEN", "api_key", "DB_PASSWORD", "SECRET", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["PROJECT_ROOT", "KEYBOARD", "MONKEY", "TOKENIZER_DIR", "KEY_COLUMN", "PORT"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
