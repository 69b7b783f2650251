//! The nouns of Station and their rules. No async, no IO, no clock: everything here can be tested by calling it.
//!
//! A new noun gets its own file; its table goes to `store/`, its acts to `tools/<noun>/`.

mod agent;
mod api_key;
mod audit;
mod counted;
mod event;
mod hex;
mod id;
mod json_schema;
mod limits;
mod mcp_server;
mod money;
mod name;
mod nearest;
mod network;
mod price;
mod principal;
mod quoted;
mod request;
mod rights;
mod run;
mod secret_text;
mod step;
mod time;
mod tool;
mod user;

pub use agent::{Agent, AgentDefinition, AgentState, OnInDoubt, ScheduleSpec, resume_command};
pub use api_key::{KeyLimits, KeyRecord, KeyRefusal};
pub use audit::{AuditEntry, AuditOutcome};
pub use counted::counted;
pub use event::{Event, EventType};
pub use hex::{from_hex, to_hex};
pub use id::{AgentId, EnvironmentNumber, RunId};
pub use json_schema::{SchemaFault, ValueSchema, check_schema_bounds};
pub use limits::{Budget, Limits, MOST_TOKENS, WrittenLimits};
pub use mcp_server::{CommandState, McpServerDefinition, ServerTransport, ToolOverride};
pub use money::{Usd, spelled};
pub use name::{InvalidName, Name};
pub use nearest::nearest;
pub use network::Network;
pub use price::Price;
pub use principal::{Cause, CauseKind, Grant, Origin, Place, Principal, PrincipalKind, PrincipalRef, Refusal};
pub use quoted::{harmless, quoted, quoted_place};
pub use request::{QUESTION_EXPIRY, Question, Request, UNANSWERED};
pub use rights::{EnvironmentKind, Role, Scope};
pub use run::{AgentRef, Answer, Decision, ModelChoice, ParentStep, Run, RunErrorKind, RunStatus, Usage, WaitingFor};
pub use secret_text::{Piece, SecretText};
pub use step::{Step, StepKind, StepStatus};
pub use time::Timestamp;
pub use tool::{AGENT_PREFIX, ASK_USER, Effect, ToolEffect};
pub use user::{Roles, User, UserState};
