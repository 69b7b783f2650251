//! Secrets: values that are written and used, and never read back.

pub mod delete;
pub mod list;
pub(super) mod names;
pub mod set;
pub(super) mod words;

use super::context::{Call, Environment};
use crate::config;
use crate::domain::{Name, Timestamp};
use crate::error::{Error, Result};
use crate::redact::SHORTEST;
use crate::store::SecretRow;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

/// The longest value, in bytes.
const LONGEST: usize = 64 * 1024;

/// The value of a secret, on its way in. It has no `Serialize`, and its `Debug` shows nothing.
#[derive(Debug)]
pub struct SecretValue(SecretString);

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl JsonSchema for SecretValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Its length is checked where it is set: a schema's error can't tell it without showing the value, and counts characters.
        json_schema!({ "type": "string", "description": "1 to 65,536 bytes", "writeOnly": true })
    }
}

/// A secret, as every door shows it: everything but its value.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretView {
    pub name: String,
    pub environment: Name,
    /// One more with every change.
    pub version: i64,
    /// Whether its value is taken out of logs and answers: one that is too short is not, and one that can't be decrypted needn't be.
    pub maskable: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn view(environment: &Environment, row: SecretRow) -> SecretView {
    let maskable = environment.secrets.values().length(&row.name).is_some_and(|length| length >= SHORTEST);
    SecretView {
        name: row.name,
        environment: environment.name.clone(),
        version: row.version,
        maskable,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn check_name(name: &str) -> Result<()> {
    if config::is_variable_name(name) && name.len() <= 128 {
        return Ok(());
    }
    Err(Error::invalid_input(format!("`{}` can't be the name of a secret", name.escape_debug()))
        .hint("use up to 128 letters, digits and `_`, and begin with a letter or `_`, such as GITHUB_TOKEN")
        .field("name"))
}

fn missing(call: &Call, name: &str) -> Error {
    let place = call.environment().map(|environment| environment.name.to_string()).unwrap_or_default();
    Error::not_found(format!("secret `{}` doesn't exist in environment `{place}`", name.escape_debug()))
        .hint(format!("`stn secret list -e {place}` shows those that do"))
        .field("name")
}
