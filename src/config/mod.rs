//! Files that people write, turned into nouns of the domain: `.prompt` files, server JSON, `variables.yml`, `station.yml`; their checks,
//! their edits, and the plan of a sync. Every fault is a [`FileProblem`] with file and line, and one broken file never stops the others.
//!
//! What doesn't belong here: the store (a plan is computed from what the caller knows), the network, and running anything but `git`.
//! Functions read files with `std::fs` and block; async callers use `spawn_blocking`.
//!
//! A new key of a file: read it in that file's module through `fields::Fields`, add a row to the file's table of keys (`keys.rs`), and test its problem.

mod check;
mod children;
mod duration;
mod edit;
mod effective;
mod environment;
mod faults;
mod fields;
mod file;
mod front_matter;
mod headers;
mod input;
mod json;
mod keys;
mod model;
mod nesting;
mod node;
mod picoschema;
mod placeholder;
mod plan;
mod price;
mod problem;
mod prompt;
mod revision;
mod sample;
mod schema;
mod servers;
mod settings;
mod station_yml;
mod template;
mod unknown_provider;
mod variables;
mod yaml;

pub use check::{ConfigReport, STATION_YML, check, environment_directories};
pub use children::{ChildAgents, ChildFault, calls_agents, check_children, take_up_agent_tools};
pub use duration::{duration_text, parse_duration};
pub use edit::{
    AgentPatch, LimitsPatch, MAX_VARIABLE_BYTES, check_variable, new_prompt, update_prompt, update_variable,
};
pub use effective::{EffectiveKey, ValueSource, effective};
pub use environment::{AgentFile, EnvironmentFiles, Promised, allow_listed, load_environment, slug};
pub use file::read_file;
pub use input::validate_input;
pub use model::split_model;
pub use placeholder::{VariableScope, is_name as is_variable_name};
pub use plan::{KnownAgent, KnownServer, PlanAction, PlanItem, PlanKind, SyncPlan, plan};
pub use problem::{FileProblem, Severity};
pub use prompt::{MAX_PROMPT_BYTES, base_name, parse_prompt, revision_of};
pub use revision::{ConfigRevision, Git, changed_revision, config_revision, in_force_hash, lacks_only_the_commit};
pub use sample::{FIRST_ENVIRONMENTS, HOME_FILES, SAMPLE_ENVIRONMENT_FILES, SampleFile};
pub use schema::{FILE_SCHEMAS, file_schema, schema_path, schema_texts};
pub use servers::{ServerEntry, ServersFile, parse_servers, server_hash};
pub use settings::{
    EnvironmentSettings, HttpSettings, LogFormat, LogSettings, ModelSettings, ProviderApi, ProviderSettings,
    RunSettings, SecretOr, ServeFlags, Settings, ThinkSetting,
};
pub use station_yml::{check_environments, check_listener, load_settings, parse_settings, settings_changed};
pub use template::{MessageRole, Rendered, render_agent};
pub use unknown_provider::BUILT_IN_PROVIDERS;
pub use variables::parse_variables;
