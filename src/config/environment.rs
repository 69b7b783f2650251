//! One environment's directory: every file read, and every fault kept with the file that it belongs to.

use super::children::check_files;
use super::faults::Faulty;
use super::file::{read_file, text};
use super::placeholder::VariableScope;
use super::problem::FileProblem;
use super::prompt::{parse_warned, revision_of};
use super::revision::content_hash;
use super::servers::{ServerEntry, parse_servers};
use super::variables::parse_variables;
use crate::domain::{AgentDefinition, Name};
use crate::error::{Error, Result};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are about to be written, as people know them: their content, or that they go.
pub type Promised = BTreeMap<String, Option<Vec<u8>>>;

/// How the Go Station's descriptions of HTTP interfaces end, which it turned into servers.
const OPENAPI: &str = ".openapi.json";

/// What describes a bundle of the Go Station, and lay in the directory that was packed.
const MANIFEST: &str = "manifest.json";

/// What an environment's directory holds. Agents and servers are in the order of their names.
#[derive(Debug, Clone)]
pub struct EnvironmentFiles {
    pub agents: Vec<AgentFile>,
    /// Why nobody can tell which agents there are, which is among the problems too: then those that are known stay.
    pub agents_unread: Option<FileProblem>,
    pub servers: Vec<ServerEntry>,
    /// Faults that belong to no agent and no server.
    pub problems: Vec<FileProblem>,
    /// What is in force, and not in the way that its writer may expect.
    pub warnings: Vec<FileProblem>,
    /// Of `variables.yml`, or what is wrong with it, which is among the problems too.
    pub variables: Result<BTreeMap<String, String>, FileProblem>,
    /// The files that were read, as people know them.
    pub read: Vec<String>,
    /// Over the names and bytes of all files but the agents', in hex: of those, not everything that is read is in force.
    pub hash_without_agents: String,
}

/// One `.prompt` file. A broken one still has its bytes and their revision.
#[derive(Debug, Clone)]
pub struct AgentFile {
    pub name: Name,
    /// The file as people know it, relative to the home.
    pub file: String,
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, in hex.
    pub revision: String,
    pub definition: Result<AgentDefinition, FileProblem>,
    /// Faults beside the one of `definition`.
    pub further: Vec<FileProblem>,
    /// What the file says without effect.
    pub warnings: Vec<FileProblem>,
}

/// The variables of `process` that an environment's `variables_from_process` names.
pub fn allow_listed(names: &[String], process: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    names.iter().filter_map(|name| Some((name.clone(), process.get(name)?.clone()))).collect()
}

/// Reads `directory`, which people know as `shown` (`environments/development`), as it will be once `promised` is written. `process` holds
/// the allow-listed variables of the process. Only a directory that can't be listed is an error; then nothing may be concluded about what
/// is missing. Where that is `agents/`, servers and variables are read all the same.
pub fn load_environment(
    directory: &Path,
    shown: &str,
    process: &BTreeMap<String, String>,
    promised: &Promised,
) -> Result<EnvironmentFiles> {
    let root = fs::canonicalize(directory).map_err(|error| unreadable(shown, error))?;
    let reader = Reader { root, shown, promised };
    let mut files = EnvironmentFiles {
        agents: Vec::new(),
        agents_unread: None,
        servers: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        variables: Ok(BTreeMap::new()),
        read: Vec::new(),
        hash_without_agents: String::new(),
    };
    let mut hashed = Hashed::new();
    reader.variables(&mut files, &mut hashed);
    reader.servers(process, &mut files, &mut hashed)?;
    if let Err(problem) = reader.agents(&mut files) {
        files.problems.push(problem.clone());
        files.agents_unread = Some(problem);
    }
    files.problems.extend(reader.workspace());
    let agents = files.agents.iter().map(|agent| agent.file.clone());
    files.read = hashed.iter().map(|(name, _)| reader.shown(name)).chain(agents).collect();
    files.hash_without_agents = content_hash(hashed.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    Ok(files)
}

fn unreadable(shown: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("the directory `{shown}` doesn't exist")),
        _ => Error::unavailable(format!("the directory `{shown}` can't be read: {error}")),
    }
    .source(error)
}

fn unlistable(shown: &str, error: &std::io::Error) -> FileProblem {
    match error.kind() {
        std::io::ErrorKind::NotFound => FileProblem::new(shown, "it is a link to a directory that doesn't exist")
            .hint("put a directory in its place, or there"),
        std::io::ErrorKind::NotADirectory => {
            FileProblem::new(shown, "it is no directory").hint("put a directory in its place")
        }
        _ => FileProblem::new(shown, format!("the directory can't be read: {error}")).hint("check its permissions"),
    }
}

struct Reader<'a> {
    /// Canonical: nothing outside it is read, whatever links say.
    root: PathBuf,
    shown: &'a str,
    promised: &'a Promised,
}

/// Names, relative to the environment, and bytes of what has been read.
type Hashed = Vec<(String, Vec<u8>)>;

impl Reader<'_> {
    fn variables(&self, files: &mut EnvironmentFiles, hashed: &mut Hashed) {
        let relative = "variables.yml";
        if self.is_there(relative).is_ok_and(|there| !there) {
            return;
        }
        files.variables = self.read(relative).and_then(|bytes| {
            let parsed = self.text(relative, &bytes).and_then(|text| parse_variables(&self.shown(relative), text));
            hashed.push((relative.to_owned(), bytes));
            parsed
        });
        files.problems.extend(files.variables.clone().err());
    }

    fn servers(
        &self,
        process: &BTreeMap<String, String>,
        files: &mut EnvironmentFiles,
        hashed: &mut Hashed,
    ) -> Result<()> {
        let mut found: BTreeMap<Name, ServerEntry> = BTreeMap::new();
        let unlisted = |problem: FileProblem| {
            let error = Error::unavailable(format!("`{}`: {}", problem.file, problem.message));
            error.hint(problem.hint.unwrap_or_default())
        };
        for name in self.list("", "json", files).map_err(unlisted)? {
            if name.ends_with(OPENAPI) {
                let problem = FileProblem::new(&self.shown(&name), "this version attaches no OpenAPI descriptions");
                files.warnings.push(problem.hint("attach an MCP server that speaks for it").warning());
                continue;
            }
            let bytes = match self.read(&name) {
                Ok(bytes) => bytes,
                Err(problem) => {
                    files.problems.push(problem);
                    continue;
                }
            };
            match self.text(&name, &bytes) {
                Ok(text) if name == MANIFEST && names_no_servers(text) => {
                    let problem = FileProblem::new(&self.shown(&name), "the manifest of a bundle attaches no servers");
                    files.warnings.push(problem.hint("it can go, once the bundle is unpacked").warning());
                    continue;
                }
                Ok(text) => {
                    let scope = VariableScope { process, file: files.variables.as_ref() };
                    let parsed = parse_servers(&self.shown(&name), text, &scope);
                    files.problems.extend(parsed.problems);
                    files.warnings.extend(parsed.warnings);
                    for entry in parsed.servers {
                        add_server(&mut found, entry);
                    }
                }
                Err(problem) => files.problems.push(problem),
            }
            hashed.push((name, bytes));
        }
        files.servers = found.into_values().collect();
        Ok(())
    }

    fn agents(&self, files: &mut EnvironmentFiles) -> Result<(), FileProblem> {
        let folder = "agents";
        if !self.is_there(folder).map_err(|error| unlistable(&self.shown(folder), &error))? {
            return Ok(());
        }
        let mut found: BTreeMap<Name, AgentFile> = BTreeMap::new();
        for name in self.list(folder, "prompt", files)? {
            let stem = name.strip_suffix(".prompt").unwrap_or(&name);
            let relative = format!("{folder}/{name}");
            let file = self.shown(&relative);
            let slug = slug(stem);
            let Ok(name) = Name::new(stem).or_else(|_| Name::new(&slug)) else {
                let also = if slug == *stem { String::new() } else { format!(", also not as `{slug}`") };
                let message = format!("`{stem}` can't be the name of an agent{also}");
                files.problems.push(FileProblem::new(&file, message).hint("rename the file"));
                continue;
            };
            let warnings = RefCell::default();
            let (bytes, read) = match self.read(&relative) {
                Ok(bytes) => {
                    let read = parse_warned(&name, &file, &bytes, &warnings);
                    (bytes, read)
                }
                Err(problem) => (Vec::new(), Err(problem.into())),
            };
            let (definition, further) = match read {
                Ok(definition) => (Ok(definition), Vec::new()),
                Err(Faulty { first, further }) => (Err(*first), further),
            };
            let revision = revision_of(&bytes);
            add_agent(
                &mut found,
                AgentFile { name, file, bytes, revision, definition, further, warnings: warnings.into_inner() },
            );
        }
        check_files(&mut found);
        files.agents = found.into_values().collect();
        Ok(())
    }

    /// What is wrong with the directory that belongs to agents, which a start makes if there is nothing.
    fn workspace(&self) -> Option<FileProblem> {
        let (relative, shown) = ("workspace", self.shown("workspace"));
        if self.is_there(relative).is_ok_and(|there| !there) {
            return None;
        }
        let error = match fs::metadata(self.root.join(relative)) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => std::io::ErrorKind::NotADirectory.into(),
            Err(error) => error,
        };
        Some(unlistable(&shown, &error))
    }

    /// An error says that nobody can tell.
    fn is_there(&self, relative: &str) -> std::io::Result<bool> {
        match fs::symlink_metadata(self.root.join(relative)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names in `folder` that end in `.extension`, in order. Hidden files are left alone.
    fn list(&self, folder: &str, extension: &str, files: &mut EnvironmentFiles) -> Result<Vec<String>, FileProblem> {
        let path = self.root.join(folder);
        let shown = self.shown(folder);
        let inside = fs::canonicalize(&path).map_err(|error| unlistable(&shown, &error))?;
        if !inside.starts_with(&self.root) {
            let problem = FileProblem::new(&shown, "the directory is a link out of its environment");
            return Err(problem.hint("put a directory in the place of the link"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&inside).map_err(|error| unlistable(&shown, &error))? {
            let name = entry.map_err(|error| unlistable(&shown, &error))?.file_name();
            if Path::new(&name).extension().is_none_or(|found| found != extension) {
                continue;
            }
            match name.into_string() {
                Ok(name) if name.starts_with('.') => {}
                Ok(name) => names.push(name),
                Err(name) => {
                    let file = self.shown(&Path::new(folder).join(name).to_string_lossy());
                    files.problems.push(FileProblem::new(&file, "its name is not UTF-8"));
                }
            }
        }
        self.promise(&shown, extension, &mut names);
        names.sort();
        Ok(names)
    }

    /// Changes the names in the folder that people know as `shown` to what they will be.
    fn promise(&self, shown: &str, extension: &str, names: &mut Vec<String>) {
        for (file, bytes) in self.promised {
            let Some(name) = file.strip_prefix(shown).and_then(|name| name.strip_prefix('/')) else { continue };
            if !name.contains('/') && Path::new(name).extension().is_some_and(|found| found == extension) {
                names.retain(|other| other != name);
                names.extend(bytes.as_ref().map(|_| name.to_owned()));
            }
        }
    }

    fn read(&self, relative: &str) -> Result<Vec<u8>, FileProblem> {
        let file = self.shown(relative);
        if let Some(Some(bytes)) = self.promised.get(&file) {
            return Ok(bytes.clone());
        }
        let found = read_file(&self.root, &self.root.join(relative), &file)?;
        found.ok_or_else(|| FileProblem::new(&file, "it has vanished, or is a link to nowhere"))
    }

    fn text<'b>(&self, relative: &str, bytes: &'b [u8]) -> Result<&'b str, FileProblem> {
        text(&self.shown(relative), bytes)
    }

    fn shown(&self, relative: &str) -> String {
        if relative.is_empty() { self.shown.to_owned() } else { format!("{}/{relative}", self.shown) }
    }
}

fn add_server(found: &mut BTreeMap<Name, ServerEntry>, entry: ServerEntry) {
    match found.get_mut(&entry.name) {
        None => {
            found.insert(entry.name.clone(), entry);
        }
        Some(first) => {
            let message = format!("server `{}` stands in `{}` and in `{}`", entry.name, first.file, entry.file);
            first.definition = Err(FileProblem::new(&entry.file, message).hint("remove one of them"));
            first.variables.extend(entry.variables);
            first.acts_on_this_machine |= entry.acts_on_this_machine;
        }
    }
}

fn add_agent(found: &mut BTreeMap<Name, AgentFile>, agent: AgentFile) {
    match found.get_mut(&agent.name) {
        None => {
            found.insert(agent.name.clone(), agent);
        }
        Some(first) => {
            let message = format!("`{}` and `{}` both load as agent `{}`", first.file, agent.file, agent.name);
            first.definition = Err(FileProblem::new(&agent.file, message).hint("rename one of them"));
        }
    }
}

/// The name that a file of another naming loads under: `Cost Forecaster` is `cost-forecaster`.
pub fn slug(stem: &str) -> String {
    let mut slug = String::with_capacity(stem.len());
    for c in stem.chars().map(|c| c.to_ascii_lowercase()) {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
        if !matches!((c, slug.chars().last()), ('-', Some('-')) | ('_', Some('_'))) {
            slug.push(c);
        }
    }
    let trimmed = slug.trim_matches(['-', '_']);
    trimmed.get(..63).unwrap_or(trimmed).to_owned()
}

fn names_no_servers(text: &str) -> bool {
    let map: Option<serde_json::Map<String, Value>> = serde_json::from_str(text).ok();
    map.is_some_and(|map| !map.contains_key("mcpServers") && !map.contains_key("servers"))
}

#[cfg(test)]
mod tests;
