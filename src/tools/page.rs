//! Lists: `{ items, next_cursor }`, with opaque cursors that are good for the very list they came from.

use crate::domain::{from_hex, to_hex};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Items on a page when the caller doesn't say.
const DEFAULT_LIMIT: u32 = 50;
/// Items on a page at the most.
const MAX_LIMIT: u32 = 200;

/// A list's position, bound to the list: `of` names the tool and the filter.
#[derive(Serialize, Deserialize)]
struct Cursor<P> {
    of: String,
    after: P,
}

/// The number of items to answer with, 1 to 200.
pub fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(Error::invalid_input(format!("`limit` is {other}"))
            .hint(format!("use 1 to {MAX_LIMIT}"))
            .field("limit")),
    }
}

/// The position in `cursor`, if it belongs to the list `of`.
pub fn position<P: DeserializeOwned>(of: &str, cursor: Option<&str>) -> Result<Option<P>> {
    let Some(text) = cursor else { return Ok(None) };
    let invalid =
        || Error::invalid_input("`cursor` is not one of this list").hint("leave it out to start over").field("cursor");
    let bytes = from_hex(text).ok_or_else(invalid)?;
    let cursor: Cursor<P> = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    if cursor.of == of { Ok(Some(cursor.after)) } else { Err(invalid()) }
}

/// Cuts `items`, read with one more than `limit`, to a page. `after` gives the position of the last item kept.
pub fn page<T, P: Serialize>(of: &str, mut items: Vec<T>, limit: u32, after: impl Fn(&T) -> P) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).and_then(|last| {
        let cursor = Cursor { of: of.to_owned(), after: after(last) };
        serde_json::to_vec(&cursor).ok().map(|bytes| to_hex(&bytes))
    });
    Page { items, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let page = page("agents", vec![1, 2, 3], 2, |item| *item);
        assert_eq!(page.items, [1, 2]);
        let cursor = page.next_cursor.unwrap();
        assert_eq!(position::<i32>("agents", Some(&cursor)).unwrap(), Some(2));
        assert!(position::<i32>("runs", Some(&cursor)).is_err());
        assert!(position::<i32>("agents", Some("zz")).is_err());
        assert!(position::<i32>("agents", Some("abc")).is_err());
    }
}
