//! Users, roles and API keys, as the control store keeps them.

use crate::domain::{AuditEntry, KeyLimits, KeyRecord, Name, PrincipalRef, Role, Timestamp, User, UserState};
use crate::error::Result;
use crate::home::KeyProof;
use async_trait::async_trait;
use std::fmt;
use tokio::sync::watch;

/// By number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserHandle {
    Id(i64),
    /// Of one that isn't deleted.
    Name(Name),
}

/// What changes of a user; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub display_name: Option<Option<String>>,
    pub state: Option<UserState>,
}

/// A key that is about to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    pub id: String,
    pub name: Name,
    /// Whose it is, by number; `None` = the owner of the home.
    pub user: Option<i64>,
    /// SHA-256 of its secret.
    pub digest: [u8; 32],
    pub limits: KeyLimits,
    pub expires_at: Timestamp,
    pub created_by: PrincipalRef,
}

/// What of a key may change; all of it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChange {
    pub name: Name,
    pub limits: KeyLimits,
    pub expires_at: Timestamp,
}

/// Who may act, beside the owner of the home. Rows of deleted users and keys are kept.
#[async_trait]
pub trait PrincipalStore: Send + Sync + fmt::Debug {
    /// Users that are not deleted, by name, after `after`.
    async fn users(&self, after: Option<&Name>, limit: u32) -> Result<Vec<User>>;

    /// A user; by number also a deleted one.
    async fn user(&self, handle: &UserHandle) -> Result<Option<User>>;

    /// A user without roles. `conflict` when the name is taken.
    async fn user_create(&self, name: &Name, display_name: Option<String>, audit: AuditEntry) -> Result<User>;

    /// `not_found` when it is deleted.
    async fn user_update(&self, id: i64, change: UserChange, audit: AuditEntry) -> Result<User>;

    /// Deletes a user and all of its keys. `not_found` when it is deleted already.
    async fn user_delete(&self, id: i64, audit: AuditEntry) -> Result<()>;

    /// Gives or takes away (`None`) a role of a user, in one environment or (`None`) everywhere. `not_found` when the user is deleted.
    async fn role_set(
        &self,
        id: i64,
        environment: Option<&Name>,
        role: Option<Role>,
        audit: AuditEntry,
    ) -> Result<User>;

    /// Keys that are not deleted, by name and id, after `after`; only of `user`, if one is given.
    async fn api_keys(&self, user: Option<i64>, after: Option<(Name, String)>, limit: u32) -> Result<Vec<KeyRecord>>;

    /// A key by its id, also a deleted one.
    async fn api_key(&self, id: &str) -> Result<Option<KeyRecord>>;

    /// The key that is proved, also a deleted one; `None` for a wrong secret as for an unknown key. Reads nothing of the key but its
    /// digest before it is proved, so that nobody learns anything of a key that isn't theirs from how long it takes.
    async fn api_key_proved(&self, proof: KeyProof) -> Result<Option<KeyRecord>>;

    /// `not_found` when its user is deleted.
    async fn api_key_create(&self, key: NewKey, audit: AuditEntry) -> Result<KeyRecord>;

    /// `not_found` when it is deleted.
    async fn api_key_update(&self, id: &str, change: KeyChange, audit: AuditEntry) -> Result<KeyRecord>;

    /// `not_found` when it is deleted already.
    async fn api_key_delete(&self, id: &str, audit: AuditEntry) -> Result<()>;

    /// Notes that a key was used. Told by no audit row, and while the audit file can't be written it is left out.
    async fn api_key_used(&self, id: &str, at: Timestamp) -> Result<()>;

    /// Changes with every commit that may change what somebody may do. The value means nothing.
    fn principals_changed(&self) -> watch::Receiver<u64>;
}
