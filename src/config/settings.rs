//! What `station.yml` decides, with the defaults in one place.

use super::problem::{FileProblem, Position};
use crate::domain::{EnvironmentKind, Name, Price};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The settings of a station.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The environment of whoever names none; `None` = `development`, or the only one that there is.
    pub default_environment: Option<Name>,
    pub http: HttpSettings,
    pub log: LogSettings,
    pub models: ModelSettings,
    /// By name: the part of a model's name before the slash.
    pub providers: BTreeMap<String, ProviderSettings>,
    pub runs: RunSettings,
    pub environments: BTreeMap<Name, EnvironmentSettings>,
    /// Whether an owner that executes runs takes up files when they change; else at its start and when asked to.
    pub watch: bool,
    /// Which of them the file or a variable says, by dotted path.
    pub(super) origins: BTreeMap<String, Origin>,
    /// SHA-256 of the file that they were read from; `None` without a file.
    pub(super) file_hash: Option<String>,
}

/// Where a value comes from that is no default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// This line of the file.
    Line(usize),
    /// The environment variable of this name.
    Variable(String),
    /// This flag of the command that started the station.
    Flag(&'static str),
}

#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    /// Values of `Host` that are answered, beside the loopback names.
    pub allowed_hosts: Vec<String>,
    /// Values of `Origin` that are answered; a request without one comes from no browser and needs none.
    pub allowed_origins: Vec<String>,
    /// Whether who connects from this machine is a proxy, whose `X-Forwarded-For` says where a request comes from.
    pub behind_proxy: bool,
}

/// What flags of `stn serve` say, which stand above file and variable.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeFlags {
    /// Instead of `http.listen`.
    pub listen: Option<SocketAddr>,
    /// As if `http.behind_proxy` were true.
    pub behind_proxy: bool,
}

#[derive(Debug, Clone)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`; of `STN_LOG`, directives for parts of the station too.
    pub level: String,
    pub format: LogFormat,
    /// Absent = stderr.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// `provider/model`, for agents and environments that name none.
    pub default: Option<String>,
    /// Whether providers are looked for where none is configured: by keys in the environment of the process or of the caller, and, for
    /// development, as model servers on this machine.
    pub detect: bool,
    /// What models cost, by `provider/model`. There are no built-in prices: a stale one would be a wrong bill.
    pub prices: BTreeMap<String, Price>,
}

#[derive(Debug, Clone)]
pub struct ProviderSettings {
    pub api: ProviderApi,
    /// Absent = the public address of the dialect.
    pub base_url: Option<String>,
    pub api_key: Option<SecretOr>,
    pub headers: BTreeMap<String, SecretOr>,
    /// Milliseconds that it may be silent during a request, before and in the middle of its answer; absent = ten minutes.
    pub timeout_ms: Option<u64>,
    /// The most tokens that one answer may have; absent = what the server allows, or ours where it wants to be told.
    pub max_output_tokens: Option<u32>,
    /// Of Ollama: tokens of prompt and answer together; absent = ours, since the server's own default is too small.
    pub context_tokens: Option<u32>,
    /// Of Ollama: whether, or how much, the model thinks first; absent = as the model does by itself.
    pub think: Option<ThinkSetting>,
}

/// Thinking before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkSetting {
    On,
    Off,
    Low,
    Medium,
    High,
}

/// The dialect that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderApi {
    /// Of a provider `openai` that doesn't say: Responses or Chat Completions, by address and model.
    Openai,
    OpenaiResponses,
    OpenaiChat,
    Anthropic,
    Gemini,
    /// Ollama's own chat.
    Ollama,
    /// Answers without a network.
    Offline,
}

/// A value, or a reference to one.
#[derive(Debug, Clone)]
pub enum SecretOr {
    Plain(SecretString),
    /// The name of a secret of the run's environment, resolved when a request leaves.
    Reference(String),
}

#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Runs that are executed at the same time.
    pub workers: u32,
    /// Runs that may wait; one more is refused.
    pub queue_limit: u32,
    /// Turns of a run whose agent says nothing.
    pub max_steps: u32,
    /// Milliseconds of a run whose agent says nothing.
    pub timeout_ms: u64,
    /// Milliseconds of a tool call whose server says nothing.
    pub tool_timeout_ms: u64,
    /// Bytes of a tool's result that a model is shown.
    pub result_bytes: u32,
}

#[derive(Debug, Clone, Default)]
pub struct EnvironmentSettings {
    /// What it is for; absent = what its name says.
    pub kind: Option<EnvironmentKind>,
    /// `provider/model`, for agents that name none.
    pub model: Option<String>,
    /// Names of process variables that files of this environment may use.
    pub variables_from_process: Vec<String>,
    /// Whether new and changed commands of servers run without a person's word.
    pub auto_accept_commands: Option<bool>,
    /// Where the file names the environment.
    pub(super) at: Option<Position>,
}

impl Settings {
    /// The environment variables that say something of them, by name.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self
            .origins
            .values()
            .filter_map(|origin| match origin {
                Origin::Variable(name) => Some(name.as_str()),
                Origin::Line(_) | Origin::Flag(_) => None,
            })
            .collect();
        names.into_iter()
    }

    /// Takes over what flags say.
    pub fn flagged(&mut self, flags: ServeFlags) {
        if let Some(address) = flags.listen {
            self.http.listen = address;
            self.origins.insert("http.listen".to_owned(), Origin::Flag("--listen"));
        }
        if flags.behind_proxy {
            self.http.behind_proxy = true;
            self.origins.insert("http.behind_proxy".to_owned(), Origin::Flag("--behind-proxy"));
        }
    }

    /// A problem with the key at this path, where whoever said it will look; `file` is where the settings stand.
    pub(super) fn place(&self, path: &str, file: &str, message: String) -> FileProblem {
        let problem = match self.origins.get(path) {
            Some(Origin::Variable(name)) => FileProblem::new(&format!("environment variable {name}"), message),
            Some(Origin::Flag(flag)) => FileProblem::new(flag, message),
            Some(Origin::Line(line)) => FileProblem::new(file, message).at(Position { line: *line, column: 1 }),
            None => FileProblem::new(file, message),
        };
        problem.about(path)
    }

    /// The settings of one environment; an environment that isn't mentioned has the defaults.
    pub fn environment(&self, name: &Name) -> EnvironmentSettings {
        self.environments.get(name).cloned().unwrap_or_default()
    }

    /// What the environment is for: as the settings say, else as its name does.
    pub fn kind(&self, name: &Name) -> EnvironmentKind {
        let said = self.environments.get(name).and_then(|settings| settings.kind);
        said.unwrap_or_else(|| EnvironmentKind::of_name(name))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_environment: None,
            http: HttpSettings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                allowed_hosts: Vec::new(),
                allowed_origins: Vec::new(),
                behind_proxy: false,
            },
            log: LogSettings { level: "info".to_owned(), format: LogFormat::Text, file: None },
            models: ModelSettings { default: None, detect: true, prices: BTreeMap::new() },
            providers: BTreeMap::new(),
            runs: RunSettings {
                workers: 8,
                queue_limit: 10_000,
                max_steps: 25,
                timeout_ms: 10 * 60 * 1000,
                tool_timeout_ms: 60 * 1000,
                result_bytes: 32 * 1024,
            },
            environments: BTreeMap::new(),
            watch: true,
            origins: BTreeMap::new(),
            file_hash: None,
        }
    }
}
