//! Giving rights: one act at a time, and nobody gives rights that they don't have. A key that is narrowed must not make another one that
//! isn't.

use super::context::Call;
use super::dispatch::{Deed, deny};
use crate::domain::{KeyRefusal, Place, Principal, PrincipalKind, Scope};
use crate::error::{Error, Result};
use tokio::sync::MutexGuard;

/// Held from before users and keys are looked at until what is given is committed: so what was checked is what is kept, whoever else
/// gives something at the same time.
#[derive(Debug)]
pub(super) struct Giving<'a> {
    call: &'a Call,
    /// What the giver's key stands for now; `None` where nobody came with a key.
    key: Option<Principal>,
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

    /// An error, with its audit row, if `receiver` could then do something that the caller may not. `target` is for the row.
    pub(super) async fn within_own_rights(&self, receiver: &Principal, target: &str) -> Result<()> {
        let station = &self.call.station;
        let environments = station.environments.all();
        let places = || std::iter::once(None).chain(environments.iter().map(|one| Some(station.place(one))));
        let exceeds = |scope: &Scope| places().any(|place| receiver.may(*scope, place) && !self.may(*scope, place));
        let Some(scope) = Scope::ALL.iter().copied().find(exceeds) else { return Ok(()) };
        let reason = format!("gives {}, which the giver doesn't have", scope.as_str());
        deny(station, &self.call.ctx, &deed(self.call, target), None, reason).await?;
        let giver = &self.call.ctx.principal.who.name;
        let message = format!("`{giver}` has no right to give `{}` in all of these places", scope.as_str());
        Err(Error::permission_denied(message).hint("give less, or ask an admin whose rights aren't narrowed"))
    }

    /// Whether the giver may do it: as it came, and as its key is now.
    fn may(&self, scope: Scope, place: Option<Place<'_>>) -> bool {
        self.call.ctx.principal.may(scope, place) && self.key.as_ref().is_none_or(|key| key.may(scope, place))
    }
}

/// What the key `id` stands for now. What somebody did with a key before it was ended stays, but from then on it gives nothing any more.
async fn key_as_it_is(call: &Call, id: &str) -> Result<Principal> {
    let found = call.station.control.api_key(id).await?.map(|(key, _)| key);
    // Where the request came from was looked at when it was let in.
    let is_taken = |refusal: Option<KeyRefusal>| matches!(refusal, None | Some(KeyRefusal::Source));
    if let Some(key) = found.filter(|key| is_taken(key.refusal(call.now(), None))) {
        return Ok(key.principal());
    }
    deny(&call.station, &call.ctx, &deed(call, id), None, "the key of the giver isn't taken any more".into()).await?;
    Err(Error::unauthenticated(format!("key `{}` ({id}) isn't taken any more", call.ctx.principal.who.name))
        .hint("nothing was changed; ask with another key"))
}

fn deed(call: &Call, target: &str) -> Deed {
    Deed { action: call.action().to_owned(), target: Some(target.to_owned()) }
}
