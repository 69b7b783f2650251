//! API keys: how programs and people elsewhere come to the station. The key itself is shown once, when it is created.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod update;

use super::context::Call;
use super::giving::Giving;
use super::{EnvironmentUse, Table};
use crate::config::parse_duration;
use crate::domain::{KeyLimits, KeyRecord, Name, Network, PrincipalRef, Role, Scope, Timestamp, nearest};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a key is good when nobody says it.
const DEFAULT_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());

/// How many days a key can be good.
const MOST_DAYS: u64 = 365;

const LONGEST_LIFE: Duration = Duration::from_secs(MOST_DAYS * DAY.as_secs());

/// The most networks of a key. Each is looked at with every request. The inputs say it too; their schemas don't check it, because an error
/// of theirs would repeat the whole value.
const MOST_SOURCES: usize = 64;

/// An API key, as every door shows it: never with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ApiKeyView {
    pub id: String,
    pub name: Name,
    /// Whose it is; null = the owner of the home.
    pub user: Option<Name>,
    /// No more than this role; null = as much as its owner.
    pub role: Option<Role>,
    /// Only in these environments, and not for the station as a whole; null = wherever its owner may.
    pub environments: Option<Vec<Name>>,
    /// Only these; null = all of the role's.
    pub scopes: Option<Vec<Scope>>,
    /// Only from these networks; null = from anywhere. What counts is the address of the connection; with `http.behind_proxy`, the one
    /// that the proxy tells.
    pub sources: Option<Vec<Network>>,
    pub created_at: Timestamp,
    pub created_by: PrincipalRef,
    pub expires_at: Timestamp,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
    /// A deleted key is kept, because the audit speaks of it.
    pub deleted_at: Option<Timestamp>,
}

pub(super) fn view(key: KeyRecord) -> ApiKeyView {
    let KeyLimits { role, environments, scopes, sources } = key.limits;
    ApiKeyView {
        id: key.id,
        name: key.name,
        user: key.owner.map(|user| user.name),
        role,
        environments,
        scopes,
        sources,
        created_at: key.created_at,
        created_by: key.created_by,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        deleted_at: key.deleted_at,
    }
}

/// The key that `text`, an id or a name, means. By id also a deleted one; by name only if one key has it.
async fn find(call: &Call, text: &str) -> Result<KeyRecord> {
    let control = &call.station.control;
    if let Some(key) = control.api_key(text).await? {
        return Ok(key);
    }
    let all = control.api_keys(None, None, u32::MAX).await?;
    let mut named: Vec<KeyRecord> = all.iter().filter(|key| key.name == *text).cloned().collect();
    let shown = text.escape_debug();
    if named.len() > 1 {
        let ids: Vec<&str> = named.iter().map(|key| key.id.as_str()).collect();
        return Err(Error::conflict(format!("several API keys are called `{shown}`"))
            .hint(format!("say which one by its id: {}", ids.join(", ")))
            .field("key"));
    }
    named.pop().ok_or_else(|| {
        let error = Error::not_found(format!("API key `{shown}` doesn't exist")).field("key");
        match nearest(text, all.iter().map(|key| key.name.as_str())) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("`stn api-key list` shows the keys"),
        }
    })
}

/// The same, unless it is deleted.
async fn find_living(call: &Call, text: &str) -> Result<KeyRecord> {
    let key = find(call, text).await?;
    if key.deleted_at.is_none() {
        return Ok(key);
    }
    Err(Error::not_found(format!("API key `{}` ({}) is deleted", key.name, key.id))
        .hint("`stn api-key create` makes another one")
        .field("key"))
}

/// An error for limits that leave nothing: such a key could do nothing, and whoever asks for it means something else. What the scopes are for
/// is said by the tools of `table`.
fn not_empty(limits: &KeyLimits, table: &Table) -> Result<()> {
    let is_empty = [
        ("environments", limits.environments.as_ref().is_some_and(Vec::is_empty), "all that its owner may act in"),
        ("scopes", limits.scopes.as_ref().is_some_and(Vec::is_empty), "all of its role's"),
        ("sources", limits.sources.as_ref().is_some_and(Vec::is_empty), "anywhere"),
    ];
    let nowhere_held = |role: Role, scopes: &[Scope]| scopes.iter().all(|scope| !role.holds_somewhere(*scope));
    let of_no_environment = |scope: &Scope| {
        let mut tools = table.iter().filter(|tool| tool.spec.scope == *scope);
        tools.all(|tool| tool.spec.environment == EnvironmentUse::None)
    };
    match is_empty.into_iter().find(|(_, is_empty, _)| *is_empty) {
        None if limits.environments.is_some()
            && limits.scopes.as_ref().is_some_and(|scopes| scopes.iter().all(of_no_environment)) =>
        {
            Err(Error::invalid_input(
                "these `scopes` are for the station as a whole, and a key with `environments` is for those alone: it could do nothing",
            )
            .hint("leave out `environments`, or give scopes of environments, such as agents:run")
            .field("scopes"))
        }
        None => match (limits.role, &limits.scopes) {
            (Some(role), Some(scopes)) if nowhere_held(role, scopes) => Err(Error::invalid_input(format!(
                "the role {} has none of these `scopes` anywhere: the key could do nothing",
                role.as_str()
            ))
            .hint("give scopes that the role has, or another role")
            .field("scopes")),
            _ => Ok(()),
        },
        Some((field, _, all)) => Err(Error::invalid_input(format!("`{field}` is empty: the key could do nothing"))
            .hint(format!("name at least one, or leave it out for {all}; null removes a limit"))
            .field(field)),
    }
}

/// The environments by these names, which have to exist: a key for one that comes later would be a surprise then. `key` is for the audit.
async fn existing(giving: &Giving<'_>, names: Option<Vec<Name>>, key: &str) -> Result<Option<Vec<Name>>> {
    let Some(mut names) = names else { return Ok(None) };
    names.sort();
    names.dedup();
    for name in &names {
        giving.environment(name, key).await.map_err(|error| error.field("environments"))?;
    }
    Ok(Some(names))
}

/// The list without what it says again.
fn once<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for item in list {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// The networks, each once; too many are an error.
fn networks(given: Vec<Network>) -> Result<Vec<Network>> {
    if given.len() <= MOST_SOURCES {
        return Ok(once(given));
    }
    let message = format!("`sources` has {} networks, and {MOST_SOURCES} are the most", given.len());
    Err(Error::invalid_input(message).hint("name wider networks, or make several keys").field("sources"))
}

/// When a key expires that is good for `expires_in`, or until `expires_at`. `None` when neither says it.
fn expiry(now: Timestamp, expires_in: Option<&str>, expires_at: Option<Timestamp>) -> Result<Option<Timestamp>> {
    let (at, field, asked) = match (expires_in, expires_at) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid_input("both `expires_in` and `expires_at` are given")
                .hint("give one of them")
                .field("expires_in"));
        }
        (Some(text), None) => {
            let ms = parse_duration(text).map_err(|reason| {
                let error = Error::invalid_input(reason).field("expires_in");
                error.hint(format!("give at most `{MOST_DAYS}d`"))
            })?;
            (now + Duration::from_millis(ms), "expires_in", text.to_owned())
        }
        (None, Some(at)) => (at, "expires_at", at.to_string()),
        (None, None) => return Ok(None),
    };
    if at <= now {
        let message = format!("the key would have expired at {at}, before it is made");
        return Err(Error::invalid_input(message).hint("give a time to come").field(field));
    }
    if at > now + LONGEST_LIFE {
        return Err(too_long(field, &asked, now));
    }
    Ok(Some(at))
}

/// The error for a key that would be good for too long.
fn too_long(field: &str, asked: &str, now: Timestamp) -> Error {
    let (asked, until) = (asked.escape_debug(), now + LONGEST_LIFE);
    let hint = format!(
        "give at most `{MOST_DAYS}d`, or a time until {until}; before then, make a second key and delete the first"
    );
    Error::invalid_input(format!("`{field}` is `{asked}`, and a key is good for at most {MOST_DAYS} days"))
        .hint(hint)
        .field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_do_nothing_is_refused() {
        let table = crate::tools::table();
        let limits = |role, scopes: &[Scope]| KeyLimits { role, scopes: Some(scopes.to_vec()), ..KeyLimits::default() };
        for (role, scopes) in [(None, &[][..]), (Some(Role::Viewer), &[Scope::AgentsWrite, Scope::AgentsRun])] {
            assert_eq!(not_empty(&limits(role, scopes), &table).unwrap_err().field_name(), Some("scopes"));
        }
        // In staging where it was granted by name.
        assert!(not_empty(&limits(Some(Role::Developer), &[Scope::AgentsWrite, Scope::UsersRead]), &table).is_ok());
        assert!(not_empty(&limits(None, &[Scope::UsersRead]), &table).is_ok());
        let staging = Some(vec![Name::new("staging").unwrap()]);
        for (scopes, is_good) in [
            (&[Scope::KeysWrite, Scope::UsersRead][..], false),
            (&[Scope::KeysWrite, Scope::AgentsRun], true),
            (&[Scope::ConfigRead], true),
            (&[Scope::StationRead], true),
        ] {
            let there = KeyLimits { environments: staging.clone(), ..limits(None, scopes) };
            assert_eq!(not_empty(&there, &table).is_ok(), is_good, "{scopes:?}");
        }
    }

    #[test]
    fn a_key_is_good_for_a_time_to_come_of_a_year_at_most() {
        let now = Timestamp::from_millis(1_764_000_000_000);
        assert_eq!(expiry(now, None, None).unwrap(), None);
        assert_eq!(expiry(now, Some("365d"), None).unwrap(), Some(now + LONGEST_LIFE));
        assert_eq!(expiry(now, None, Some(now + DAY)).unwrap(), Some(now + DAY));
        for (expires_in, expires_at, field) in [
            (Some("366d"), None, "expires_in"),
            (Some("soon"), None, "expires_in"),
            (Some("1d"), Some(now + DAY), "expires_in"),
            (None, Some(now), "expires_at"),
        ] {
            let refused = expiry(now, expires_in, expires_at).unwrap_err();
            assert_eq!(refused.field_name(), Some(field), "{refused}");
        }
        // The last one is more milliseconds than can be counted.
        for (text, told) in
            [("366d", "`366d`"), ("99999999999d", "`99999999999d`"), ("99999999999999999999d", "duration")]
        {
            let refused = expiry(now, Some(text), None).unwrap_err();
            assert!(refused.to_string().contains(told), "{refused}");
            assert!(refused.hint_text().unwrap().contains("at most `365d`"), "{refused:?}");
        }
    }
}
