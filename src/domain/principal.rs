//! Who acts, by which door, why, and what they may do.

use super::{Name, RunId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    LocalOwner,
    User,
    ApiKey,
    SshKey,
    Schedule,
    Trigger,
    Agent,
}

/// A principal as records name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PrincipalRef {
    pub kind: PrincipalKind,
    pub id: String,
    pub name: String,
}

/// Who acts, with the role that decides what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub who: PrincipalRef,
    pub role: Role,
    /// The environments it may act in; `None` = all.
    pub environments: Option<Vec<Name>>,
}

impl Principal {
    /// The owner of the home, who came over the local socket or with `local.key`.
    pub fn local_owner() -> Self {
        Self {
            who: PrincipalRef { kind: PrincipalKind::LocalOwner, id: "local".into(), name: "local owner".into() },
            role: Role::Admin,
            environments: None,
        }
    }

    /// The same principal with no more rights than `role`.
    #[must_use]
    pub fn limited_to(mut self, role: Role) -> Self {
        self.role = self.role.min(role);
        self
    }

    /// The same principal, in one environment only.
    #[must_use]
    pub fn within(mut self, environment: Name) -> Self {
        self.environments = Some(vec![environment]);
        self
    }

    /// Whether the role holds `scope` and the environment, if any, is granted.
    pub fn may(&self, scope: Scope, environment: Option<&Name>) -> bool {
        let granted = match (&self.environments, environment) {
            (None, _) | (_, None) => true,
            (Some(granted), Some(environment)) => granted.contains(environment),
        };
        granted && self.role.holds(scope)
    }
}

/// A fixed set of scopes, each containing the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Developer,
    Operator,
    Admin,
}

macro_rules! scopes {
    ($($variant:ident = $text:literal $role:ident),+ $(,)?) => {
        /// One right. A tool names exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Scope { $($variant),+ }

        impl Scope {
            /// Every scope, in the order of the design.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As configuration, keys and messages spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The least role that holds it.
            pub const fn least_role(self) -> Role {
                match self { $(Self::$variant => Role::$role),+ }
            }
        }
    };
}

scopes! {
    AgentsRead = "agents:read" Viewer,
    AgentsWrite = "agents:write" Developer,
    AgentsRun = "agents:run" Developer,
    RunsRead = "runs:read" Viewer,
    RunsCancel = "runs:cancel" Developer,
    RunsRespond = "runs:respond" Operator,
    EnvironmentsRead = "environments:read" Viewer,
    EnvironmentsWrite = "environments:write" Developer,
    McpServersRead = "mcp_servers:read" Viewer,
    McpServersWrite = "mcp_servers:write" Developer,
    McpServersExec = "mcp_servers:exec" Admin,
    ToolsRead = "tools:read" Viewer,
    ToolsCall = "tools:call" Developer,
    StationRead = "station:read" Viewer,
    StationAdmin = "station:admin" Admin,
}

impl Role {
    pub fn holds(self, scope: Scope) -> bool {
        self >= scope.least_role()
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

/// The door an act came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Cli,
    McpStdio,
    McpHttp,
    Rest,
    Ws,
    Ssh,
    Schedule,
    Trigger,
    Run,
}

impl Origin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::McpStdio => "mcp_stdio",
            Self::McpHttp => "mcp_http",
            Self::Rest => "rest",
            Self::Ws => "ws",
            Self::Ssh => "ssh",
            Self::Schedule => "schedule",
            Self::Trigger => "trigger",
            Self::Run => "run",
        }
    }
}

/// Why an act happens at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// Somebody asked for it.
    Call,
    Schedule,
    Trigger,
    /// A run of another agent.
    Agent,
    Retry,
}

/// A cause travels down to the store, so that what caused a run and the run itself commit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub kind: CauseKind,
    /// What caused it: a schedule, a trigger, a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The instant it stands for (a schedule's fire time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The idempotency key that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Cause {
    /// Somebody asked for it.
    pub fn call() -> Self {
        Self { kind: CauseKind::Call, id: None, at: None, key: None }
    }

    /// A run called a tool.
    pub fn run(run: RunId) -> Self {
        Self { kind: CauseKind::Agent, id: Some(run.to_string()), at: None, key: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_contains_the_lesser_ones() {
        for scope in Scope::ALL {
            assert!(Role::Admin.holds(*scope), "{}", scope.as_str());
            for role in [Role::Viewer, Role::Developer, Role::Operator] {
                assert_eq!(role.holds(*scope), role >= scope.least_role());
            }
        }
    }

    #[test]
    fn a_principal_is_kept_to_its_environments() {
        let staging = Name::new("staging").unwrap();
        let other = Name::new("production").unwrap();
        let principal = Principal::local_owner().limited_to(Role::Developer).within(staging.clone());
        assert!(principal.may(Scope::AgentsRun, Some(&staging)));
        assert!(!principal.may(Scope::AgentsRun, Some(&other)));
        assert!(!principal.may(Scope::StationAdmin, None));
    }
}
