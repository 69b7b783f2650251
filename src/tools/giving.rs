//! Nobody gives rights that they don't have: a key that is narrowed must not make another one that isn't.

use super::context::Call;
use super::dispatch::{Deed, deny};
use crate::domain::{Principal, Scope};
use crate::error::{Error, Result};

/// An error, with its audit row, if `receiver` could then do something that the caller of `call` may not. `target` is for the row.
pub(super) async fn within_own_rights(call: &Call, receiver: &Principal, target: &str) -> Result<()> {
    let (station, giver) = (&call.station, &call.ctx.principal);
    let environments = station.environments.all();
    let places = || std::iter::once(None).chain(environments.iter().map(|one| Some(station.place(one))));
    let exceeds = |scope: &Scope| places().any(|place| receiver.may(*scope, place) && !giver.may(*scope, place));
    let Some(scope) = Scope::ALL.iter().copied().find(exceeds) else { return Ok(()) };
    let deed = Deed { action: call.action().to_owned(), target: Some(target.to_owned()) };
    let reason = format!("gives {}, which the giver doesn't have", scope.as_str());
    deny(station, &call.ctx, &deed, None, reason).await?;
    let message = format!("`{}` has no right to give `{}` in all of these places", giver.who.name, scope.as_str());
    Err(Error::permission_denied(message).hint("give less, or ask an admin whose rights aren't narrowed"))
}
