//! The application layer: everything that can be done, one file per tool, and the one road to it.
//!
//! `dispatch.rs` is the road, `spec.rs` what a tool says about itself, `context.rs` what an act carries and can reach, `table.rs` the
//! lookup, `model.rs` the choice of models, `files.rs` how a file of an environment is changed, `attached.rs` the tools of attached servers.
//!
//! A new tool: `<noun>/<verb>.rs` with its input, its output, `spec()` and one async function; one line in [`table()`]; a row in
//! `tests/it/authorization.csv`. The MCP listing, REST route, OpenAPI, `stn call` and the audit action follow.

pub mod attached;
pub mod context;
pub mod dispatch;
pub mod files;
mod giving;
mod input;
pub mod model;
pub mod page;
mod refused;
pub mod spec;
mod table;
mod throttle;

pub mod agent;
pub mod api_key;
pub mod config;
pub mod environment;
pub mod mcp_server;
pub mod request;
pub mod role;
pub mod run;
pub mod secret;
pub mod station;
pub mod tool;
pub mod user;
pub mod variable;

pub use context::{
    Admission, Call, Context, Environment, Environments, FileProblems, NoWorkers, Progress, Reservation, Station,
};
pub use dispatch::{Act, Answer, MOST_DENIALS, call, dispatch, open};
pub use spec::{AuditPolicy, EnvironmentUse, Exposure, Method, Tool, ToolSpec};
pub use table::Table;
pub use throttle::{NOTHING_FURTHER, Throttle};

/// The table, in reading order.
pub fn table() -> Table {
    Table::new(vec![
        Tool::new(agent::create::spec(), agent::create::create),
        Tool::new(agent::get::spec(), agent::get::get),
        Tool::new(agent::list::spec(), agent::list::list),
        Tool::new(agent::update::spec(), agent::update::update),
        Tool::new(agent::delete::spec(), agent::delete::delete),
        Tool::new(agent::run::spec(), agent::run::run),
        Tool::new(agent::pause::spec(), agent::pause::pause),
        Tool::new(agent::resume::spec(), agent::resume::resume),
        Tool::new(run::get::spec(), run::get::get),
        Tool::new(run::list::spec(), run::list::list),
        Tool::new(run::steps::spec(), run::steps::steps),
        Tool::new(run::events::spec(), run::events::events),
        Tool::new(run::wait::spec(), run::wait::wait),
        Tool::new(run::cancel::spec(), run::cancel::cancel),
        Tool::new(run::respond::spec(), run::respond::respond),
        Tool::new(request::list::spec(), request::list::list),
        Tool::new(environment::get::spec(), environment::get::get),
        Tool::new(environment::list::spec(), environment::list::list),
        Tool::new(environment::sync::spec(), environment::sync::sync),
        Tool::new(mcp_server::get::spec(), mcp_server::get::get),
        Tool::new(mcp_server::list::spec(), mcp_server::list::list),
        Tool::new(mcp_server::accept::spec(), mcp_server::accept::accept),
        Tool::new(tool::get::spec(), tool::get::get),
        Tool::new(tool::list::spec(), tool::list::list),
        Tool::new(tool::call::spec(), tool::call::call),
        Tool::new(variable::set::spec(), variable::set::set),
        Tool::new(variable::list::spec(), variable::list::list),
        Tool::new(variable::delete::spec(), variable::delete::delete),
        Tool::new(secret::set::spec(), secret::set::set),
        Tool::new(secret::list::spec(), secret::list::list),
        Tool::new(secret::delete::spec(), secret::delete::delete),
        Tool::new(config::get::spec(), config::get::get),
        Tool::new(config::check::spec(), config::check::check),
        Tool::new(station::status::spec(), station::status::status),
        Tool::new(user::create::spec(), user::create::create),
        Tool::new(user::get::spec(), user::get::get),
        Tool::new(user::list::spec(), user::list::list),
        Tool::new(user::update::spec(), user::update::update),
        Tool::new(user::delete::spec(), user::delete::delete),
        Tool::new(role::set::spec(), role::set::set),
        Tool::new(api_key::create::spec(), api_key::create::create),
        Tool::new(api_key::get::spec(), api_key::get::get),
        Tool::new(api_key::list::spec(), api_key::list::list),
        Tool::new(api_key::update::spec(), api_key::update::update),
        Tool::new(api_key::delete::spec(), api_key::delete::delete),
    ])
}
