//! An environment's `*.json` files: attached MCP servers, with their variables filled in and the operator's word on their tools.

use super::fields::{Fields, Source};
use super::headers;
use super::json;
use super::keys::{Form, Keys, Needs, key};
use super::node::Node;
use super::placeholder::{self, Unfilled, VariableScope};
use super::problem::FileProblem;
use super::revision::sha256_hex;
use super::slug;
use crate::domain::{
    Effect, McpServerDefinition, Name, Piece, SecretText, ServerTransport, ToolOverride, nearest, quoted,
};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The keys of a file.
pub(super) static FILE_KEYS: Keys = Keys {
    known: &[
        key("mcpServers", Form::Named("", &SERVER_KEYS), "The attached MCP servers, by name."),
        key("servers", Form::Named("", &SERVER_KEYS), "The same as mcpServers."),
        key("$schema", Form::Note, "Where editors find the schema of this file."),
        key("name", Form::Note, "For people."),
        key("description", Form::Note, "For people."),
        key("version", Form::Note, "For people."),
    ],
    needs: Needs::Nothing,
    later: &[],
    idle: &[("templates", "variables are asked for by nobody; define them in variables.yml")],
};

static SERVER_KEYS: Keys = Keys {
    known: &[
        key("builtin", Form::OneOf(&BUILTINS), "A server that is part of the station."),
        key("command", Form::Text, "The program to start; it speaks MCP on its standard input and output."),
        key("args", Form::Texts, "The program's arguments. {{ .NAME }} is filled with a variable."),
        key("env", Form::TextMap, "The variables that the program gets, beside a clean environment."),
        key("cwd", Form::Text, "The directory to start it in; absent = the environment's workspace/."),
        key("url", Form::Url, "The address of a server that is reached over HTTP."),
        key("headers", Form::TextMap, "Headers of every request to it."),
        key("timeout", Form::Duration, "The longest that a call may take, such as 30s."),
        key("disabled", Form::Flag, "Whether it is left alone."),
        key("tools", Form::Named("", &TOOL_KEYS), "The operator's word on what its tools do."),
        key("description", Form::Note, "For people."),
        key(
            "type",
            Form::OneOf(&KINDS),
            "What other clients write beside command (stdio) or url (the others); it follows from these here.",
        ),
        key("transport", Form::OneOf(&KINDS), "The same as type."),
    ],
    needs: Needs::One(&["builtin", "command", "url"]),
    later: &["sandbox"],
    idle: &[("autoApprove", APPROVAL), ("alwaysAllow", APPROVAL)],
};

static TOOL_KEYS: Keys = Keys::of(&[
    key("effect", Form::OneOf(&["read", "write", "destructive"]), "The worst that a call can do."),
    key("idempotent", Form::Flag, "Whether a second call changes nothing more."),
    key("open_world", Form::Flag, "Whether it reaches beyond this machine."),
]);

/// Other clients ask before every call; here an agent's `tools` are what it may call.
const APPROVAL: &str = "an agent may call what its `tools` name";

/// What other clients call the ways to reach a server.
const KINDS: [&str; 5] = ["stdio", "http", "streamable-http", "streamableHttp", "sse"];

/// The servers that are part of the station.
const BUILTINS: [&str; 1] = ["filesystem"];

/// Each transport's key, and the keys that go with it alone.
const TRANSPORTS: [(&str, &[&str]); 3] =
    [("builtin", &["args"]), ("command", &["args", "env", "cwd"]), ("url", &["headers"])];

/// The keys whose texts may refer to secrets. What else a server says is there for others to see: a command line is in the list of
/// processes, an address in logs.
const WITH_SECRETS: [&str; 2] = ["env", "headers"];

/// What one file says.
#[derive(Debug, Clone, Default)]
pub struct ServersFile {
    /// In the order of the file.
    pub servers: Vec<ServerEntry>,
    /// Faults that belong to no server with a name.
    pub problems: Vec<FileProblem>,
    /// What is in force in another way than it is written.
    pub warnings: Vec<FileProblem>,
}

/// One server of a file. A fault is its own and leaves the others alone.
#[derive(Debug, Clone)]
pub struct ServerEntry {
    pub name: Name,
    /// The file as people know it.
    pub file: String,
    pub definition: Result<McpServerDefinition, FileProblem>,
    /// The variables that it asks for, defined or not.
    pub variables: BTreeSet<String>,
    /// It is a command or a built-in, whether its definition can be read or not: what it does, it does on this machine.
    pub acts_on_this_machine: bool,
}

/// A hash over everything that a definition says, in hex.
pub fn server_hash(definition: &McpServerDefinition) -> String {
    sha256_hex(&serde_json::to_vec(definition).unwrap_or_default())
}

/// Reads the text of the file that people know as `file`.
pub fn parse_servers(file: &str, text: &str, scope: &VariableScope<'_>) -> ServersFile {
    match read_file(file, text, scope) {
        Ok(found) => found,
        Err(problem) => ServersFile { problems: vec![problem], ..ServersFile::default() },
    }
}

fn read_file(file: &str, text: &str, scope: &VariableScope<'_>) -> Result<ServersFile, FileProblem> {
    let warnings = RefCell::default();
    let source = Source { warnings: Some(&warnings), ..Source::file(file) };
    let (value, node) = json::parse(text).map_err(|syntax| source.syntax(syntax))?;
    let mut found = ServersFile::default();
    let Some(root) = Fields::root(source, &value, &node)? else { return Ok(found) };
    read_root(&root, &mut found, scope)?;
    found.warnings.append(&mut warnings.take());
    Ok(found)
}

fn read_root(root: &Fields<'_>, found: &mut ServersFile, scope: &VariableScope<'_>) -> Result<(), FileProblem> {
    let (source, file) = (root.source(), root.source().file);
    root.check(&FILE_KEYS)?;
    ["$schema", "name", "description", "version"].into_iter().try_for_each(|key| root.note(key).map(drop))?;
    let key = match (root.get("mcpServers"), root.get("servers")) {
        (Some(_), Some(_)) => {
            return Err(root.key_problem("servers", "`servers` and `mcpServers` mean the same; keep one of them"));
        }
        (None, Some(_)) => "servers",
        _ => "mcpServers",
    };
    let Some(servers) = root.map(key)? else { return Ok(()) };
    let servers_node = root.node_of(key);
    let mut places: BTreeMap<Name, usize> = BTreeMap::new();
    // By name: a node looks through its entries one by one.
    let entries = servers_node.map(Node::entries).unwrap_or_default().iter();
    let nodes: BTreeMap<&str, &Node> = entries.map(|entry| (entry.key.as_str(), &entry.value)).collect();
    for text in servers.keys() {
        let name = match Name::new(text) {
            Ok(name) => name,
            Err(invalid) => match Name::new(&slug(text)) {
                Err(_) => {
                    found.problems.push(servers.key_problem(text, invalid.to_string()));
                    continue;
                }
                Ok(name) => {
                    let message = format!("server {} is called `{name}` here", quoted(text));
                    found.warnings.push(servers.key_problem(text, message).warning());
                    name
                }
            },
        };
        let same = places.get(&name).copied();
        let definition = if same.is_some() {
            Err(servers
                .key_problem(text, format!("two servers of this file would be called `{name}`"))
                .hint("rename one of them"))
        } else {
            server(source, &servers, (text, nodes.get(text).copied()), &name, scope).map_err(|problem| {
                match problem.key {
                    Some(_) => problem,
                    None => problem.about(servers.path_of(text)),
                }
            })
        };
        let mut variables = BTreeSet::new();
        servers.get(text).into_iter().for_each(|value| collect_variables(value, &mut variables));
        let acts = |value: &Value| value.get("command").or_else(|| value.get("builtin")).is_some();
        let acts_on_this_machine = servers.get(text).is_some_and(acts);
        if let Some(same) = same.and_then(|at| found.servers.get_mut(at)) {
            same.definition = definition;
            same.variables.append(&mut variables);
            same.acts_on_this_machine |= acts_on_this_machine;
            continue;
        }
        places.insert(name.clone(), found.servers.len());
        let entry = ServerEntry { name, file: file.to_owned(), definition, variables, acts_on_this_machine };
        found.servers.push(entry);
    }
    Ok(())
}

fn collect_variables(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => names.extend(placeholder::variables(text).map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| collect_variables(item, names)),
        Value::Object(object) => object.values().for_each(|value| collect_variables(value, names)),
        _ => {}
    }
}

fn server(
    source: Source<'_>,
    servers: &Fields<'_>,
    (key, node): (&str, Option<&Node>),
    name: &Name,
    scope: &VariableScope<'_>,
) -> Result<McpServerDefinition, FileProblem> {
    let written = match servers.get(key).and_then(Value::as_object) {
        Some(object) => Fields::inside(source, servers.path_of(key), object, node),
        None => servers.map(key)?.ok_or_else(|| servers.problem(key, "it says nothing about the server"))?,
    };
    written.check(&SERVER_KEYS)?;
    written.note("description")?;
    let disabled = written.boolean("disabled")?.unwrap_or(false);
    let mut object = servers.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    // A server that is switched off needs none of its variables.
    let filler = (!disabled).then_some(Filler { source, server: name, scope });
    if let Some(filler) = &filler {
        let visible = object.iter_mut().filter(|(key, _)| !WITH_SECRETS.contains(&key.as_str()));
        filler.entries(visible, node)?;
    }
    let fields = Fields::inside(source, servers.path_of(key), &object, node);
    if let Some(key) = ["command", "args", "env", "cwd"].iter().find(|key| fields.get(key).is_some_and(has_nul)) {
        let reason = "it has a NUL character, which no program can be given";
        return Err(fields.problem(key, reason).hint("leave it out"));
    }
    let transport = transport(&fields, filler.as_ref())?;
    check_kind(&written)?;
    Ok(McpServerDefinition {
        name: name.clone(),
        file: source.file.to_owned(),
        transport,
        target: target(&written)?,
        timeout_ms: fields.duration_ms("timeout")?,
        disabled,
        tools: overrides(&fields)?,
    })
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object.values().any(has_nul),
        _ => false,
    }
}

fn transport(fields: &Fields<'_>, filler: Option<&Filler<'_>>) -> Result<ServerTransport, FileProblem> {
    let given: Vec<_> = TRANSPORTS.iter().filter(|(key, _)| fields.get(key).is_some()).collect();
    let [(kind, companions)] = given.as_slice() else {
        return Err(match given.get(1) {
            None => fields.problem_here("a server needs one of `builtin`, `command` or `url`"),
            Some((second, _)) => fields.problem(second, "a server has only one of `builtin`, `command` and `url`"),
        });
    };
    let all_companions = TRANSPORTS.iter().flat_map(|(_, keys)| keys.iter());
    if let Some(stray) = all_companions.filter(|key| !companions.contains(*key)).find(|key| fields.get(key).is_some()) {
        return Err(fields.key_problem(stray, format!("`{stray}` doesn't go with `{kind}`")));
    }
    let text = fields.text(kind)?.unwrap_or_default();
    match *kind {
        "builtin" if !BUILTINS.contains(&text.as_str()) => {
            let known = BUILTINS.join(", ");
            Err(fields
                .problem(kind, format!("there is no built-in server {}", quoted(&text)))
                .hint(format!("use one of: {known}")))
        }
        "builtin" => Ok(ServerTransport::Builtin { builtin: text, args: fields.texts("args")? }),
        "command" => Ok(ServerTransport::Stdio {
            command: text,
            args: fields.texts("args")?,
            env: env(fields, filler)?,
            cwd: fields.text("cwd")?,
        }),
        _ => {
            // Of a server that is switched off, the variables aren't filled in.
            if fields.boolean("disabled")? != Some(true) {
                fields.outbound("url", &text)?;
            }
            headers::check_names(fields, "headers")?;
            let headers = secret_texts(fields, "headers", filler)?;
            for (name, value) in &headers {
                for piece in value.pieces() {
                    if let Piece::Text(text) = piece {
                        headers::check_value(fields, "headers", name, text)?;
                    }
                }
            }
            Ok(ServerTransport::Http { url: text, headers })
        }
    }
}

/// What a server is reached by follows from `command` or `url`; what else says it must not say otherwise.
fn check_kind(written: &Fields<'_>) -> Result<(), FileProblem> {
    for key in ["type", "transport"] {
        let Some(kind) = written.text(key)? else { continue };
        if !KINDS.contains(&kind.as_str()) {
            return Err(written.problem(key, format!("{} is none of {}", quoted(&kind), KINDS.join(", "))));
        }
        let by = if kind == "stdio" { "command" } else { "url" };
        if written.get(by).is_none() {
            return Err(
                written.problem(key, format!("a server of the kind `{kind}` has a `{by}`, and this one hasn't"))
            );
        }
        if kind == "sse" {
            let message =
                "the server is reached by streamable HTTP; the older transport with two addresses isn't spoken";
            written.warn(written.key_problem(key, message));
        }
    }
    Ok(())
}

/// Variables stay as they are written: their values may be secrets.
fn target(written: &Fields<'_>) -> Result<Vec<String>, FileProblem> {
    let mut target = written.texts("args")?;
    for (kind, _) in TRANSPORTS {
        target.splice(..0, written.text(kind)?);
    }
    Ok(target)
}

fn env(fields: &Fields<'_>, filler: Option<&Filler<'_>>) -> Result<BTreeMap<String, SecretText>, FileProblem> {
    if let Some(map) = fields.map("env")? {
        let is_bad = |name: &&str| name.is_empty() || name.contains(['=', '\0']) || name.contains("{{");
        if let Some(bad) = map.keys().find(is_bad) {
            let problem =
                map.key_problem(bad, format!("`{}`: {} can't be a name here", fields.path_of("env"), quoted(bad)));
            return Err(if bad.contains("{{") { problem.hint("only values are filled in") } else { problem });
        }
    }
    secret_texts(fields, "env", filler)
}

/// The texts of `key` with their variables filled in; without a filler, as they are written.
fn secret_texts(
    fields: &Fields<'_>,
    key: &str,
    filler: Option<&Filler<'_>>,
) -> Result<BTreeMap<String, SecretText>, FileProblem> {
    let node = fields.node_of(key);
    let filled = |(name, text): (String, String)| {
        let at = node.and_then(|node| node.entry(&name)).map(|entry| &entry.value);
        let text = match filler {
            Some(filler) => filler.but_secrets(&text, at)?,
            None => text.into(),
        };
        Ok((name, text))
    };
    fields.text_map(key)?.into_iter().map(filled).collect()
}

fn overrides(fields: &Fields<'_>) -> Result<BTreeMap<String, ToolOverride>, FileProblem> {
    let Some(tools) = fields.map("tools")? else { return Ok(BTreeMap::new()) };
    let read = |tool: &str| {
        let Some(word) = tools.map(tool)? else { return Ok((tool.to_owned(), ToolOverride::default())) };
        word.check(&TOOL_KEYS)?;
        let (idempotent, open_world) = (word.boolean("idempotent")?, word.boolean("open_world")?);
        Ok((tool.to_owned(), ToolOverride { effect: effect(&word)?, idempotent, open_world }))
    };
    tools.keys().map(read).collect()
}

fn effect(word: &Fields<'_>) -> Result<Option<Effect>, FileProblem> {
    let Some(text) = word.text("effect")? else { return Ok(None) };
    let all = [Effect::Read, Effect::Write, Effect::Destructive];
    match all.into_iter().find(|effect| effect.as_str() == text) {
        Some(effect) => Ok(Some(effect)),
        None => {
            let guess = nearest(&text, all.map(Effect::as_str)).map(|near| format!("; did you mean `{near}`?"));
            let reason = format!("{} is none of read, write, destructive{}", quoted(&text), guess.unwrap_or_default());
            Err(word.problem("effect", reason))
        }
    }
}

/// Fills the placeholders of one server, text by text.
struct Filler<'a> {
    source: Source<'a>,
    server: &'a Name,
    scope: &'a VariableScope<'a>,
}

impl Filler<'_> {
    fn entries<'v>(
        &self,
        entries: impl Iterator<Item = (&'v String, &'v mut Value)>,
        node: Option<&Node>,
    ) -> Result<(), FileProblem> {
        for (key, value) in entries {
            self.value(value, node.and_then(|node| node.entry(key)).map(|entry| &entry.value))?;
        }
        Ok(())
    }

    fn value(&self, value: &mut Value, node: Option<&Node>) -> Result<(), FileProblem> {
        match value {
            Value::String(text) => *text = self.text(text, node)?,
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, node.and_then(|node| node.item(index)))?;
                }
            }
            Value::Object(object) => self.entries(object.iter_mut(), node)?,
            _ => {}
        }
        Ok(())
    }

    fn text(&self, text: &str, node: Option<&Node>) -> Result<String, FileProblem> {
        placeholder::fill(text, self.scope).map_err(|unfilled| self.problem(unfilled, node))
    }

    fn but_secrets(&self, text: &str, node: Option<&Node>) -> Result<SecretText, FileProblem> {
        placeholder::fill_but_secrets(text, self.scope).map_err(|unfilled| self.problem(unfilled, node))
    }

    fn problem(&self, unfilled: Unfilled, node: Option<&Node>) -> FileProblem {
        let server = self.server;
        let problem = |message: String| self.source.problem(node.map(|node| node.at), message);
        match unfilled {
            Unfilled::Missing(name) => {
                problem(format!("server `{server}` needs the variable `{name}`, which nothing defines")).hint(format!(
                    "define `{name}` in variables.yml, or name it in variables_from_process of this environment"
                ))
            }
            Unfilled::Unreadable { name, problem: fault } => {
                problem(format!("server `{server}` needs the variable `{name}`, and variables.yml is broken: {fault}"))
                    .hint("mend variables.yml")
            }
            Unfilled::Secret(name) => problem(format!(
                "server `{server}`: the secret `{name}` can't stand here: command lines, directories and addresses are seen by others"
            ))
            .hint("put the reference into a value of `env` or `headers`"),
            Unfilled::Malformed(reason) => problem(format!("server `{server}`: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests;
