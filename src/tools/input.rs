//! Fields of inputs that say more than a plain option does.

use serde::{Deserialize, Deserializer};

/// Tells a null from an absent field: with PATCH, absent leaves and null removes. Beside `#[serde(default)]`.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
