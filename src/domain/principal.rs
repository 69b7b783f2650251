//! Who acts, by which door, why, and what they may do.

use super::{EnvironmentKind, Name, Role, RunId, Scope, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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

/// An environment as authorization sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub name: &'a Name,
    pub kind: EnvironmentKind,
}

/// Who acts, with what was granted to them. They may do what every one of the grants allows: so a key can do no more than its owner, and a
/// connection no more than the key that it was opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub who: PrincipalRef,
    grants: Vec<Grant>,
}

impl Principal {
    pub fn new(who: PrincipalRef, grant: Grant) -> Self {
        Self { who, grants: vec![grant] }
    }

    /// The owner of the home, who came over the local socket or with `local.key`.
    pub fn local_owner() -> Self {
        let who = PrincipalRef { kind: PrincipalKind::LocalOwner, id: "local".into(), name: "local owner".into() };
        Self::new(who, Grant::everywhere(Role::Admin))
    }

    /// What the agent of a run may do: a part of what every role has that may run agents.
    pub const AGENT: [Scope; 4] = [Scope::ToolsCall, Scope::ToolsRead, Scope::AgentsRun, Scope::RunsRead];

    /// The agent of a run, which may do the same in every kind of environment, where it runs. Keys, users, commands and everything else are
    /// out of its reach.
    pub fn agent(who: PrincipalRef, environment: Name) -> Self {
        Self::new(who, Grant::within(environment, Role::Admin).only(Self::AGENT))
    }

    /// The same principal, with no more rights than `grant` allows.
    #[must_use]
    pub fn limited_to(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }

    /// Why it may not use `scope`, in the environment `place` or, without one, in the station as a whole. `None` = it may.
    pub fn refusal(&self, scope: Scope, place: Option<Place<'_>>) -> Option<Refusal> {
        if self.grants.is_empty() {
            return Some(Refusal::Elsewhere { granted: Vec::new() });
        }
        self.grants.iter().find_map(|grant| grant.refusal(scope, place))
    }

    /// Whether both may do the same, whatever they are called.
    pub fn may_the_same(&self, other: &Self) -> bool {
        self.grants == other.grants
    }

    /// Whether every grant allows `scope`, in the environment `place` or, without one, in the station as a whole.
    pub fn may(&self, scope: Scope, place: Option<Place<'_>>) -> bool {
        self.refusal(scope, place).is_none()
    }
}

/// Roles by environment, and what they are narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// In every environment that isn't named, and for what concerns the station as a whole.
    everywhere: Option<Role>,
    /// In an environment that is named, this role counts and no other.
    named: BTreeMap<Name, Role>,
    /// Only these, whatever the role holds; `None` = all of the role's.
    scopes: Option<BTreeSet<Scope>>,
}

/// Why a grant doesn't allow an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It gives no role there, but in these environments only.
    Elsewhere { granted: Vec<Name> },
    /// It gives this role there, which doesn't hold the scope.
    Role(Role),
    /// Its role would hold the scope there if it had been given in that environment by name.
    NotByName(Role),
    /// It is narrowed to other scopes.
    Narrowed,
}

impl Grant {
    /// The same role in every environment and for the station as a whole.
    pub fn everywhere(role: Role) -> Self {
        Self { everywhere: Some(role), named: BTreeMap::new(), scopes: None }
    }

    /// Roles by environment, and one for wherever none is named.
    pub fn of_roles(everywhere: Option<Role>, named: impl IntoIterator<Item = (Name, Role)>) -> Self {
        Self { everywhere, named: named.into_iter().collect(), scopes: None }
    }

    /// One role in one environment.
    pub fn within(environment: Name, role: Role) -> Self {
        Self::of_roles(None, [(environment, role)])
    }

    /// The same, with no other scopes than these.
    #[must_use]
    pub fn only(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        self.scopes = Some(scopes.into_iter().collect());
        self
    }

    fn refusal(&self, scope: Scope, place: Option<Place<'_>>) -> Option<Refusal> {
        let named = place.and_then(|place| self.named.get(place.name)).copied();
        let Some(role) = named.or(self.everywhere) else {
            return Some(Refusal::Elsewhere { granted: self.named.keys().cloned().collect() });
        };
        // What concerns all environments is judged like what concerns the strictest of them.
        let kind = place.map_or(EnvironmentKind::Production, |place| place.kind);
        if !role.holds(scope, kind, named.is_some()) {
            let by_name = place.is_some() && role.holds(scope, kind, true);
            return Some(if by_name { Refusal::NotByName(role) } else { Refusal::Role(role) });
        }
        let within = self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope));
        (!within).then_some(Refusal::Narrowed)
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

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn place(name: &Name) -> Option<Place<'_>> {
        Some(Place { name, kind: EnvironmentKind::of_name(name) })
    }

    fn principal(grant: Grant) -> Principal {
        Principal::new(Principal::local_owner().who, grant)
    }

    #[test]
    fn a_principal_is_kept_to_its_environments() {
        let [staging, production] = ["staging", "production"].map(name);
        let developer = Principal::local_owner().limited_to(Grant::within(staging.clone(), Role::Developer));
        assert!(developer.may(Scope::AgentsRun, place(&staging)));
        let elsewhere = Refusal::Elsewhere { granted: vec![staging] };
        assert_eq!(developer.refusal(Scope::AgentsRun, place(&production)), Some(elsewhere.clone()));
        assert_eq!(developer.refusal(Scope::StationRead, None), Some(elsewhere));
    }

    #[test]
    fn a_key_can_do_no_more_than_its_owner_and_an_owner_s_rights_don_t_widen_a_key() {
        let [development, staging] = ["development", "staging"].map(name);
        let owner = Grant::everywhere(Role::Developer);
        let key = principal(owner.clone()).limited_to(Grant::within(staging.clone(), Role::Admin));
        // The key names staging, its owner's grant doesn't.
        assert_eq!(key.refusal(Scope::AgentsWrite, place(&staging)), Some(Refusal::NotByName(Role::Developer)));
        assert!(key.may(Scope::AgentsRun, place(&staging)) && !key.may(Scope::AgentsRun, place(&development)));
        let named = principal(Grant::of_roles(Some(Role::Viewer), [(staging.clone(), Role::Developer)]));
        assert!(named.may(Scope::AgentsWrite, place(&staging)) && !named.may(Scope::AgentsWrite, place(&development)));
        let narrowed = principal(owner.only([Scope::RunsRead]));
        assert!(narrowed.may(Scope::RunsRead, place(&staging)));
        assert_eq!(narrowed.refusal(Scope::AgentsRead, place(&staging)), Some(Refusal::Narrowed));
    }

    #[test]
    fn a_role_in_an_environment_counts_there_instead_of_the_one_everywhere() {
        let production = name("production");
        let admin = principal(Grant::of_roles(Some(Role::Admin), [(production.clone(), Role::Viewer)]));
        assert_eq!(admin.refusal(Scope::AgentsRun, place(&production)), Some(Refusal::Role(Role::Viewer)));
        assert!(admin.may(Scope::KeysWrite, None));
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_granted() {
        let (development, nobody) = (name("development"), principal(Grant::of_roles(None, [])));
        for scope in Scope::ALL {
            assert!(!nobody.may(*scope, place(&development)) && !nobody.may(*scope, None), "{}", scope.as_str());
        }
    }
}
