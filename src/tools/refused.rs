//! What somebody who may not do something is told: where, why, and who can change it.

use super::dispatch::Deed;
use crate::domain::{EnvironmentKind, Name, Place, PrincipalKind, PrincipalRef, Refusal, Role, Scope};
use crate::error::Error;

/// The error for `who`, whose grants don't allow `deed`, which needs `scope`.
pub(super) fn refused(
    who: &PrincipalRef,
    scope: Scope,
    deed: &Deed,
    place: Option<Place<'_>>,
    refusal: Refusal,
) -> Error {
    let kind = place.map_or(EnvironmentKind::Production, |place| place.kind);
    let there = there(place.map(|place| place.name));
    let (name, action, needed) = (shown(who), &deed.action, scope.as_str());
    let (message, hint) = match refusal {
        Refusal::Elsewhere { granted } => (
            format!("{name} may not do `{action}` {there}: it was granted rights {}", list(&granted)),
            match (place, granted.first()) {
                (Some(_), Some(one)) => {
                    format!("do it there (`-e {one}`, or `environment`); an admin can change that{}", change(who))
                }
                _ => format!("an admin can change that{}", change(who)),
            },
        ),
        Refusal::Role(role) => {
            let needs = format!("{name} ({}) may not do `{action}` {there}: it needs `{needed}`", role.as_str());
            (needs, format!("the roles that have it there: {}", roles(&scope.held_by(kind))))
        }
        Refusal::NotByName(role) => (
            format!(
                "{name} ({0}) may not do `{action}` {there}: `{needed}` isn't part of a role held everywhere",
                role.as_str()
            ),
            format!("an admin can grant the role {there} by name{}", change(who)),
        ),
        Refusal::Narrowed => (
            format!("{name} may not do `{action}`: it needs `{needed}`, and was narrowed to other scopes"),
            format!("an admin can change that{}", change(who)),
        ),
    };
    Error::permission_denied(message).hint(hint)
}

/// Where, in an environment or without one.
pub(super) fn there(environment: Option<&Name>) -> String {
    match environment {
        Some(name) => format!("in environment `{name}`"),
        None => "for the station as a whole".to_owned(),
    }
}

/// A key is told by its id as well: names are not unique.
pub(super) fn shown(who: &PrincipalRef) -> String {
    match who.kind {
        PrincipalKind::ApiKey => format!("key `{}` ({})", who.name, who.id),
        _ => format!("`{}`", who.name),
    }
}

fn list(granted: &[Name]) -> String {
    match granted {
        [] => "nowhere".to_owned(),
        some => format!("only in {}", some.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn roles(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

/// The command that changes what `who` may do.
fn change(who: &PrincipalRef) -> String {
    match who.kind {
        PrincipalKind::ApiKey => format!(": `stn api-key update {}`, or the roles of the key's owner", who.id),
        PrincipalKind::User => format!(": `stn role set {}`", who.id),
        _ => String::new(),
    }
}
