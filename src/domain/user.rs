//! Users: whom keys belong to, and what they may do.

use super::{Grant, Name, Role, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a user's keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    Active,
    Suspended,
}

/// Somebody whom keys belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Never given twice.
    pub id: i64,
    /// Unique among users that are not deleted.
    pub name: Name,
    pub display_name: Option<String>,
    pub state: UserState,
    pub roles: Roles,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// A deleted user is kept, because the audit speaks of it.
    pub deleted_at: Option<Timestamp>,
}

/// A user's roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    pub everywhere: Option<Role>,
    /// In an environment that is named, this role counts and no other.
    pub named: BTreeMap<Name, Role>,
}

impl Roles {
    /// How every environment, and the station as a whole, is written where a role is.
    pub const EVERYWHERE: &str = "*";

    /// What they allow.
    pub fn grant(&self) -> Grant {
        Grant::of_roles(self.everywhere, self.named.clone())
    }

    /// Gives or takes away a role: in one environment, or everywhere.
    pub fn set(&mut self, environment: Option<&Name>, role: Option<Role>) {
        match (environment, role) {
            (None, role) => self.everywhere = role,
            (Some(name), Some(role)) => {
                self.named.insert(name.clone(), role);
            }
            (Some(name), None) => {
                self.named.remove(name);
            }
        }
    }
}
