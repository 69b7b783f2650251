//! Users: whom API keys belong to, and which roles they have where.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod update;

use super::context::Call;
use crate::domain::{Name, Role, Roles, Timestamp, User, UserState, nearest};
use crate::error::{Error, Result};
use crate::store::UserHandle;
use schemars::JsonSchema;
use serde::Serialize;

/// Characters of the longest name for people. The inputs say it too; their schemas don't check it, because an error of theirs would
/// repeat the whole value.
const LONGEST_DISPLAY_NAME: usize = 200;

/// A user, as every door shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UserView {
    pub id: i64,
    pub name: Name,
    pub display_name: Option<String>,
    pub state: UserState,
    pub roles: Vec<RoleView>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// A deleted user is kept, because the audit speaks of it.
    pub deleted_at: Option<Timestamp>,
}

/// A role of a user.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoleView {
    /// An environment; `*` is every one that has no role of its own, and the station as a whole.
    pub environment: String,
    pub role: Role,
}

pub(super) fn view(user: User) -> UserView {
    let everywhere = user.roles.everywhere.map(|role| RoleView { environment: Roles::EVERYWHERE.to_owned(), role });
    let named = user.roles.named.into_iter().map(|(name, role)| RoleView { environment: name.to_string(), role });
    UserView {
        id: user.id,
        name: user.name,
        display_name: user.display_name,
        state: user.state,
        roles: everywhere.into_iter().chain(named).collect(),
        created_at: user.created_at,
        updated_at: user.updated_at,
        deleted_at: user.deleted_at,
    }
}

/// An error for a name for people that isn't one line of readable length: it stands in lists and in the audit, and a character that moves
/// the cursor or turns the direction of writing could make one user look like another.
fn check_display_name(name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let wrong = |reason: String, hint: &str| Err(Error::invalid_input(reason).hint(hint).field("display_name"));
    let characters = name.chars().count();
    if characters > LONGEST_DISPLAY_NAME {
        let reason = format!("`display_name` has {characters} characters, and {LONGEST_DISPLAY_NAME} are the most");
        return wrong(reason, "shorten it");
    }
    match name.chars().find(|character| is_unreadable(*character)) {
        None => Ok(()),
        Some(found) => {
            let reason = format!("`display_name` contains the control character U+{:04X}", u32::from(found));
            wrong(reason, "write it on one line, without control characters")
        }
    }
}

/// Control characters, line and paragraph separators, and what embeds, overrides and isolates directions of writing.
fn is_unreadable(character: char) -> bool {
    matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || character.is_control()
}

/// The user that `text`, a name or a number, means. By number also a deleted one.
pub(super) async fn find(call: &Call, text: &str) -> Result<User> {
    let control = &call.station.control;
    let handle = match text.parse() {
        Ok(id) => Some(UserHandle::Id(id)),
        Err(_) => Name::new(text).ok().map(UserHandle::Name),
    };
    if let Some(handle) = handle
        && let Some(user) = control.user(&handle).await?
    {
        return Ok(user);
    }
    let users = control.users(None, 200).await?;
    let error = Error::not_found(format!("user `{}` doesn't exist", text.escape_debug())).field("user");
    Err(match nearest(text, users.iter().map(|user| user.name.as_str())) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint("`stn user list` shows the users, `stn user create` makes one"),
    })
}

/// The same, unless it is deleted.
pub(super) async fn find_living(call: &Call, text: &str) -> Result<User> {
    let user = find(call, text).await?;
    if user.deleted_at.is_none() {
        return Ok(user);
    }
    Err(Error::not_found(format!("user `{}` ({}) is deleted", user.name, user.id))
        .hint("`stn user list` shows the users")
        .field("user"))
}
