//! Giving rights: one act at a time, and nobody gives rights that they don't have. A key that is narrowed must not make another one that
//! isn't.

use super::context::{Call, Environment};
use super::dispatch::{Deed, deny, named_for_giving};
use super::refused::{shown, there};
use crate::domain::{KeyRecord, KeyRefusal, Name, Place, Principal, PrincipalKind, Scope, Timestamp};
use crate::error::{Error, Result};
use std::sync::Arc;
use tokio::sync::MutexGuard;

/// Held from before users and keys are looked at until what is given is committed: so what was checked is what is kept, whoever else
/// gives something at the same time.
#[derive(Debug)]
pub(super) struct Giving<'a> {
    call: &'a Call,
    /// The giver's key as it is now; `None` where nobody came with a key.
    key: Option<KeyRecord>,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl<'a> Giving<'a> {
    /// Waits until nobody else gives or takes rights. An error, with its audit row, if the key of the caller has been ended meanwhile.
    pub(super) async fn begin(call: &'a Call) -> Result<Self> {
        let one_at_a_time = call.station.giving.lock().await;
        let who = &call.ctx.principal.who;
        let key = match who.kind {
            PrincipalKind::ApiKey => Some(key_as_it_is(call, &who.id).await?),
            _ => None,
        };
        Ok(Self { call, key, _one_at_a_time: one_at_a_time })
    }

    /// The environment of this name, in which something is given to `target`. Whoever may not read it is refused, with an audit row, whether
    /// it is there or not.
    pub(super) async fn environment(&self, name: &Name, target: &str) -> Result<Name> {
        named_for_giving(&self.call.station, &self.call.ctx, &deed(self.call, target), name).await
    }

    /// An error, with its audit row, if `receiver` could then do something that the caller may not. `target` is for the row. Whoever only
    /// narrows what was there `before` gives nothing.
    pub(super) async fn within_own_rights(
        &self,
        before: Option<&Principal>,
        receiver: &Principal,
        target: &str,
    ) -> Result<()> {
        if before.is_some_and(|had| self.exceeding(receiver, |scope, place| had.may(scope, place)).is_none()) {
            return Ok(());
        }
        let key = self.key.as_ref().map(KeyRecord::principal);
        let may = |scope, place: Option<Place<'_>>| {
            self.call.ctx.principal.may(scope, place) && key.as_ref().is_none_or(|key| key.may(scope, place))
        };
        let Some((scope, environment)) = self.exceeding(receiver, may) else { return Ok(()) };
        let (giver, scope) = (self.giver(), scope.as_str());
        let place = environment.as_ref().map(|environment| self.call.station.place(environment));
        // What an environment is called is for those who may read it.
        let told = match place {
            Some(place) if !may(Scope::EnvironmentsRead, Some(place)) => {
                "in an environment that it may not read".into()
            }
            place => there(place.map(|place| place.name)),
        };
        let error = Error::permission_denied(format!("{giver} doesn't have `{scope}` {told}, and so can't give it"))
            .hint("give less, or ask an admin whose rights aren't narrowed");
        let reason = format!("gives {scope} {}, which the giver doesn't have", there(place.map(|place| place.name)));
        self.refuse(target, reason, error).await
    }

    /// The same for a key, which may not come from other networks or be good for longer than the giver's own either. Whoever only narrows
    /// what was there `before` gives nothing.
    pub(super) async fn key_within_own(
        &self,
        before: Option<&KeyRecord>,
        then: &KeyRecord,
        target: &str,
    ) -> Result<()> {
        let receiver = then.principal();
        if let Some(before) = before {
            let had = before.principal();
            let is_narrower = then.expires_at <= before.expires_at && then.limits.comes_from_within(&before.limits);
            if is_narrower && self.exceeding(&receiver, |scope, place| had.may(scope, place)).is_none() {
                return Ok(());
            }
        }
        self.within_own_rights(None, &receiver, target).await?;
        let Some(own) = &self.key else { return Ok(()) };
        let giver = self.giver();
        if let Some(sources) = own.limits.sources.as_ref().filter(|_| !then.limits.comes_from_within(&own.limits)) {
            let sources = sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let error = Error::permission_denied(format!("the key could come from where {giver} may not come from"))
                .hint(format!("give `sources` within {sources}, or ask an admin whose key isn't kept to these"))
                .field("sources");
            return self
                .refuse(target, "gives a key for networks that the giver may not come from".into(), error)
                .await;
        }
        if then.expires_at > own.expires_at {
            let (then, own) = (then.expires_at, own.expires_at);
            let error = Error::permission_denied(format!("the key would be good until {then}, longer than {giver}"))
                .hint(format!("give a time until {own}, or ask an admin whose key is good for longer"))
                .field("expires_at");
            return self.refuse(target, "gives a key that is good for longer than the giver's".into(), error).await;
        }
        Ok(())
    }

    /// `at`, or when the giver's key expires, if that is earlier.
    pub(super) fn no_longer_than_own(&self, at: Timestamp) -> Timestamp {
        self.key.as_ref().map_or(at, |own| at.min(own.expires_at))
    }

    /// Something that `receiver` may and that `may` doesn't allow, and the environment where that is so; without one for the station as a
    /// whole.
    fn exceeding(
        &self,
        receiver: &Principal,
        may: impl Fn(Scope, Option<Place<'_>>) -> bool,
    ) -> Option<(Scope, Option<Arc<Environment>>)> {
        let station = &self.call.station;
        let exceeds = |scope: Scope, environment: Option<&Arc<Environment>>| {
            let place = environment.map(|environment| station.place(environment));
            receiver.may(scope, place) && !may(scope, place)
        };
        let places: Vec<_> = std::iter::once(None).chain(station.environments.all().into_iter().map(Some)).collect();
        Scope::ALL.iter().find_map(|scope| {
            let place = places.iter().find(|place| exceeds(*scope, place.as_ref()))?;
            Some((*scope, place.clone()))
        })
    }

    fn giver(&self) -> String {
        shown(&self.call.ctx.principal.who)
    }

    async fn refuse(&self, target: &str, reason: String, error: Error) -> Result<()> {
        deny(&self.call.station, &self.call.ctx, &deed(self.call, target), None, reason).await?;
        Err(error)
    }
}

/// The key `id` as it is now. What somebody did with a key before it was ended stays, but from then on it gives nothing any more.
async fn key_as_it_is(call: &Call, id: &str) -> Result<KeyRecord> {
    let found = call.station.control.api_key(id).await?;
    // Where the request came from was looked at when it was let in.
    let is_taken = |refusal: Option<KeyRefusal>| matches!(refusal, None | Some(KeyRefusal::Source));
    if let Some(key) = found.filter(|key| is_taken(key.refusal(call.now(), None))) {
        return Ok(key);
    }
    deny(&call.station, &call.ctx, &deed(call, id), None, "the key of the giver isn't taken any more".into()).await?;
    Err(Error::unauthenticated(format!("key `{}` ({id}) isn't taken any more", call.ctx.principal.who.name))
        .hint("nothing was changed; ask with another key"))
}

fn deed(call: &Call, target: &str) -> Deed {
    Deed { action: call.action().to_owned(), target: Some(target.to_owned()) }
}
