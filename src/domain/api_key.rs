//! API keys: what a station keeps of them, and when one is taken.

use super::{Grant, Name, Network, Principal, PrincipalKind, PrincipalRef, Role, Scope, Timestamp, User, UserState};
use std::net::IpAddr;

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRecord {
    /// The part of the key that may be shown.
    pub id: String,
    /// For people; several keys may have it.
    pub name: Name,
    /// Whose it is; `None` = the owner of the home.
    pub owner: Option<User>,
    pub limits: KeyLimits,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
    /// A deleted key is kept, because the audit speaks of it.
    pub deleted_at: Option<Timestamp>,
    pub created_by: PrincipalRef,
}

/// What a key narrows of the rights of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// No more than this role; `None` = as much as its owner.
    pub role: Option<Role>,
    /// Only in these environments, and not for the station as a whole; `None` = wherever its owner may.
    pub environments: Option<Vec<Name>>,
    /// Only these; `None` = all of the role's.
    pub scopes: Option<Vec<Scope>>,
    /// Only from these networks; `None` = from anywhere.
    pub sources: Option<Vec<Network>>,
}

impl KeyLimits {
    /// Whether a key of these limits comes from nowhere that one of `other` may not come from.
    pub fn comes_from_within(&self, other: &Self) -> bool {
        let Some(all) = &other.sources else { return true };
        let is_within = |one: &Network| all.iter().any(|outer| one.is_within(*outer));
        self.sources.as_ref().is_some_and(|own| own.iter().all(is_within))
    }

    /// What they leave of any rights.
    pub fn grant(&self) -> Grant {
        // An owner's role isn't widened by this: every grant has to allow an act.
        let role = self.role.unwrap_or(Role::Admin);
        let grant = match &self.environments {
            None => Grant::everywhere(role),
            Some(environments) => Grant::of_roles(None, environments.iter().map(|name| (name.clone(), role))),
        };
        match &self.scopes {
            None => grant,
            Some(scopes) => grant.only(scopes.iter().copied()),
        }
    }
}

/// Why a key is not taken though its secret is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    Deleted,
    Expired,
    /// Its user is suspended or deleted.
    OwnerGone,
    /// It came from a network that it isn't meant for.
    Source,
}

impl KeyRecord {
    /// Who comes with it.
    pub fn principal(&self) -> Principal {
        let who = PrincipalRef { kind: PrincipalKind::ApiKey, id: self.id.clone(), name: self.name.to_string() };
        let principal = match &self.owner {
            None => Principal::new(who, Grant::everywhere(Role::Admin)),
            Some(user) => Principal::new(who, user.roles.grant()),
        };
        principal.limited_to(self.limits.grant())
    }

    /// Why it isn't taken now, from this address; `None` = it is.
    pub fn refusal(&self, now: Timestamp, source: Option<IpAddr>) -> Option<KeyRefusal> {
        if self.deleted_at.is_some() {
            return Some(KeyRefusal::Deleted);
        }
        if now >= self.expires_at {
            return Some(KeyRefusal::Expired);
        }
        let is_gone = |user: &User| user.deleted_at.is_some() || user.state != UserState::Active;
        if self.owner.as_ref().is_some_and(is_gone) {
            return Some(KeyRefusal::OwnerGone);
        }
        let may_come = |networks: &Vec<Network>| {
            source.is_some_and(|source| networks.iter().any(|network| network.contains(source)))
        };
        let is_elsewhere = self.limits.sources.as_ref().is_some_and(|networks| !may_come(networks));
        is_elsewhere.then_some(KeyRefusal::Source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvironmentKind, Place, Roles};

    fn key(owner: Option<User>, limits: KeyLimits) -> KeyRecord {
        KeyRecord {
            id: "0123456789".into(),
            name: Name::new("ci").unwrap(),
            owner,
            limits,
            created_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(100),
            last_used_at: None,
            deleted_at: None,
            created_by: Principal::local_owner().who,
        }
    }

    fn user(roles: Roles) -> User {
        let at = Timestamp::from_millis(0);
        let name = Name::new("ada").unwrap();
        let state = UserState::Active;
        User { id: 1, name, display_name: None, state, roles, created_at: at, updated_at: at, deleted_at: None }
    }

    #[test]
    fn a_key_is_taken_until_it_expires_or_somebody_ends_it() {
        let (key, at) = (key(Some(user(Roles::default())), KeyLimits::default()), Timestamp::from_millis);
        assert_eq!((key.refusal(at(99), None), key.refusal(at(100), None)), (None, Some(KeyRefusal::Expired)));
        let deleted = KeyRecord { deleted_at: Some(at(1)), ..key.clone() };
        assert_eq!(deleted.refusal(at(2), None), Some(KeyRefusal::Deleted));
        let suspended = User { state: UserState::Suspended, ..user(Roles::default()) };
        let of_nobody = KeyRecord { owner: Some(suspended), ..key };
        assert_eq!(of_nobody.refusal(at(2), None), Some(KeyRefusal::OwnerGone));
    }

    #[test]
    fn a_key_is_taken_from_its_networks_only() {
        let limits = KeyLimits { sources: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..KeyLimits::default() };
        let from = |source: Option<&str>| {
            let source = source.map(|source| source.parse().unwrap());
            key(None, limits.clone()).refusal(Timestamp::from_millis(1), source)
        };
        assert_eq!(from(Some("10.1.2.3")), None);
        assert_eq!((from(Some("192.0.2.1")), from(None)), (Some(KeyRefusal::Source), Some(KeyRefusal::Source)));
    }

    #[test]
    fn networks_are_compared_as_what_they_let_in() {
        let from = |sources: Option<&[&str]>| KeyLimits {
            sources: sources.map(|all| all.iter().map(|one| one.parse().unwrap()).collect()),
            ..KeyLimits::default()
        };
        let office = from(Some(&["10.0.0.0/8", "192.0.2.0/24"]));
        for (inner, is_within) in [
            (from(Some(&["10.1.0.0/16", "192.0.2.7"])), true),
            (from(Some(&["10.1.0.0/16", "198.51.100.0/24"])), false),
            (from(None), false),
        ] {
            assert_eq!(inner.comes_from_within(&office), is_within, "{inner:?}");
        }
        assert!(office.comes_from_within(&from(None)) && from(None).comes_from_within(&from(None)));
    }

    #[test]
    fn a_key_narrows_its_owner_and_never_widens() {
        let staging = Name::new("staging").unwrap();
        let place = Some(Place { name: &staging, kind: EnvironmentKind::Staging });
        let viewer = Roles { everywhere: Some(Role::Viewer), ..Roles::default() };
        let admin_key = KeyLimits { role: Some(Role::Admin), ..KeyLimits::default() };
        let principal = key(Some(user(viewer)), admin_key).principal();
        assert!(principal.may(Scope::RunsRead, place) && !principal.may(Scope::AgentsRun, place));
        let bound = KeyLimits { environments: Some(vec![staging.clone()]), ..KeyLimits::default() };
        let of_the_owner = key(None, bound).principal();
        assert!(of_the_owner.may(Scope::AgentsWrite, place) && !of_the_owner.may(Scope::KeysWrite, None));
    }
}
