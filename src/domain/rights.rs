//! What each role may do: one table of scopes by roles by kinds of environments.
//!
//! Its source is the matrix of rights in the security facts (2.2): viewers read; developers make and run things in development, run them
//! in staging, and change things in staging only where it was granted to them by name; operators run, cancel and answer wherever that is
//! granted to them, and edit nothing; admins do everything. What isn't in the table isn't allowed.

use super::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What an environment is for, which decides how much a role is worth there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentKind {
    Development,
    Staging,
    Production,
}

impl EnvironmentKind {
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// The kind of an environment of which nobody says it: a name that says nothing is taken for production, the strictest.
    pub fn of_name(name: &Name) -> Self {
        match name.as_str() {
            "development" | "default" => Self::Development,
            "staging" => Self::Staging,
            _ => Self::Production,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// A named set of rights. Roles are no ladder: an operator may answer and may not edit, a developer the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Developer,
    Operator,
    Admin,
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// One right. A tool names exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $variant),+ }

        impl Scope {
            /// Every scope, in the order of [`RIGHTS`].
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As configuration, keys and messages spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

scopes! {
    AgentsRead = "agents:read",
    AgentsWrite = "agents:write",
    /// Running an agent, and pausing and resuming it: operators do that, who edit nothing.
    AgentsRun = "agents:run",
    RunsRead = "runs:read",
    RunsCancel = "runs:cancel",
    RunsRespond = "runs:respond",
    EnvironmentsRead = "environments:read",
    EnvironmentsWrite = "environments:write",
    McpServersRead = "mcp_servers:read",
    McpServersWrite = "mcp_servers:write",
    /// Letting a command run on the station's machine.
    McpServersExec = "mcp_servers:exec",
    ToolsRead = "tools:read",
    ToolsCall = "tools:call",
    VariablesRead = "variables:read",
    VariablesWrite = "variables:write",
    /// The names of secrets; nobody reads their values.
    SecretsList = "secrets:list",
    SecretsWrite = "secrets:write",
    KeysRead = "keys:read",
    KeysWrite = "keys:write",
    UsersRead = "users:read",
    UsersWrite = "users:write",
    ConfigRead = "config:read",
    StationRead = "station:read",
    StationAdmin = "station:admin",
}

/// Whether a role holds a scope in environments of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    Yes,
    /// Only where the role was granted in that environment by its name, not everywhere.
    ByName,
}

use Held::{ByName, No, Yes};

/// Where a role holds a scope: in environments of kind development, staging, production.
type Where = [Held; 3];

const NONE: Where = [No, No, No];
const ALL: Where = [Yes, Yes, Yes];
const DEV: Where = [Yes, No, No];
const DEV_STAGING: Where = [Yes, Yes, No];
const DEV_NAMED: Where = [Yes, ByName, No];

/// The rights of all roles, in the order of [`Scope::ALL`] and of [`Role`].
#[rustfmt::skip]
const RIGHTS: &[(Scope, [Where; 4])] = &[
    //                          viewer  developer     operator  admin
    (Scope::AgentsRead,        [ALL,    ALL,          ALL,      ALL]),
    (Scope::AgentsWrite,       [NONE,   DEV_NAMED,    NONE,     ALL]),
    (Scope::AgentsRun,         [NONE,   DEV_STAGING,  ALL,      ALL]),
    (Scope::RunsRead,          [ALL,    ALL,          ALL,      ALL]),
    (Scope::RunsCancel,        [NONE,   DEV_STAGING,  ALL,      ALL]),
    (Scope::RunsRespond,       [NONE,   NONE,         ALL,      ALL]),
    (Scope::EnvironmentsRead,  [ALL,    ALL,          ALL,      ALL]),
    (Scope::EnvironmentsWrite, [NONE,   DEV_NAMED,    NONE,     ALL]),
    (Scope::McpServersRead,    [ALL,    ALL,          ALL,      ALL]),
    (Scope::McpServersWrite,   [NONE,   DEV,          NONE,     ALL]),
    (Scope::McpServersExec,    [NONE,   NONE,         NONE,     ALL]),
    (Scope::ToolsRead,         [ALL,    ALL,          ALL,      ALL]),
    (Scope::ToolsCall,         [NONE,   DEV_STAGING,  ALL,      ALL]),
    (Scope::VariablesRead,     [ALL,    ALL,          ALL,      ALL]),
    (Scope::VariablesWrite,    [NONE,   DEV_NAMED,    NONE,     ALL]),
    (Scope::SecretsList,       [NONE,   DEV,          NONE,     ALL]),
    (Scope::SecretsWrite,      [NONE,   DEV,          NONE,     ALL]),
    (Scope::KeysRead,          [NONE,   NONE,         NONE,     ALL]),
    (Scope::KeysWrite,         [NONE,   NONE,         NONE,     ALL]),
    (Scope::UsersRead,         [NONE,   NONE,         NONE,     ALL]),
    (Scope::UsersWrite,        [NONE,   NONE,         NONE,     ALL]),
    (Scope::ConfigRead,        [ALL,    ALL,          ALL,      ALL]),
    (Scope::StationRead,       [ALL,    ALL,          ALL,      ALL]),
    (Scope::StationAdmin,      [NONE,   NONE,         NONE,     ALL]),
];

const _: () = {
    assert!(RIGHTS.len() == Scope::ALL.len(), "every scope has its rights");
    let mut at = 0;
    while at < RIGHTS.len() {
        assert!(RIGHTS[at].0 as usize == at, "the rights stand in the order of the scopes");
        at += 1;
    }
};

/// One list of words, and not a schema for each: who mistypes one is told the nearest.
impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
        json_schema!({ "description": "One right. A tool names exactly one.", "type": "string", "enum": words })
    }
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Developer, Self::Operator, Self::Admin];

    /// Whether the role holds `scope` in an environment of this kind; `by_name` where it was granted in that very environment.
    pub fn holds(self, scope: Scope, kind: EnvironmentKind, by_name: bool) -> bool {
        match RIGHTS.get(scope as usize).map(|(_, rights)| rights[self as usize][kind as usize]) {
            Some(Yes) => true,
            Some(ByName) => by_name,
            Some(No) | None => false,
        }
    }

    /// Whether there is any environment in which the role could hold `scope`.
    pub fn holds_somewhere(self, scope: Scope) -> bool {
        EnvironmentKind::ALL.into_iter().any(|kind| self.holds(scope, kind, true))
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Scope {
    /// Whether an act without an environment shows what its principal may read in each environment, and no more: then it is enough to
    /// have the right in one of them. Everything else that concerns the station as a whole needs the right everywhere.
    pub const fn shows_environments(self) -> bool {
        matches!(
            self,
            Self::AgentsRead
                | Self::RunsRead
                | Self::EnvironmentsRead
                | Self::McpServersRead
                | Self::ToolsRead
                | Self::VariablesRead
                | Self::StationRead
        )
    }

    /// The roles that hold it in an environment of this kind, granted by its name.
    pub fn held_by(self, kind: EnvironmentKind) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| role.holds(self, kind, true)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Principal;

    #[test]
    fn reading_is_for_every_role_and_secrets_keys_and_users_are_not() {
        for scope in Scope::ALL {
            let is_read = scope.as_str().ends_with(":read") && !matches!(scope, Scope::KeysRead | Scope::UsersRead);
            let viewer = EnvironmentKind::ALL.map(|kind| Role::Viewer.holds(*scope, kind, true));
            assert_eq!(viewer, [is_read; 3], "{}", scope.as_str());
            assert!(EnvironmentKind::ALL.into_iter().all(|kind| Role::Admin.holds(*scope, kind, false)));
        }
    }

    #[test]
    fn a_developer_edits_in_staging_only_where_it_was_granted_by_name() {
        let edits = |kind, by_name| Role::Developer.holds(Scope::AgentsWrite, kind, by_name);
        assert!(edits(EnvironmentKind::Development, false) && edits(EnvironmentKind::Staging, true));
        assert!(!edits(EnvironmentKind::Staging, false) && !edits(EnvironmentKind::Production, true));
    }

    #[test]
    fn putting_edits_in_force_takes_what_it_takes_to_edit() {
        for (role, kind) in Role::ALL.into_iter().flat_map(|role| EnvironmentKind::ALL.map(|kind| (role, kind))) {
            for by_name in [false, true] {
                let [puts, edits] =
                    [Scope::EnvironmentsWrite, Scope::AgentsWrite].map(|s| role.holds(s, kind, by_name));
                assert!(!puts || edits, "{} in {}", role.as_str(), kind.as_str());
            }
        }
    }

    /// Why an agent's rights need not be cut down to those of who started its run.
    #[test]
    fn a_role_that_may_run_agents_may_do_by_itself_whatever_an_agent_may() {
        for (role, kind) in Role::ALL.into_iter().flat_map(|role| EnvironmentKind::ALL.map(|kind| (role, kind))) {
            for by_name in [false, true].into_iter().filter(|by_name| role.holds(Scope::AgentsRun, kind, *by_name)) {
                for scope in Principal::AGENT {
                    assert!(
                        role.holds(scope, kind, by_name),
                        "{} {} in {}",
                        role.as_str(),
                        scope.as_str(),
                        kind.as_str()
                    );
                }
            }
        }
    }

    #[test]
    fn an_environment_whose_name_says_nothing_is_a_production() {
        let kinds = ["development", "default", "staging", "qa"].map(|name| Name::new(name).unwrap());
        let kinds = kinds.each_ref().map(EnvironmentKind::of_name);
        use EnvironmentKind::{Development, Production, Staging};
        assert_eq!(kinds, [Development, Development, Staging, Production]);
    }

    #[test]
    fn a_scope_is_spelt_alike_everywhere() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(serde_json::from_value::<Scope>(scope.as_str().into()).unwrap(), *scope);
        }
    }
}
