//! How domain types stand in columns: enums as the word that every wire uses, times as integers, structured values as JSON text.

use crate::domain::{
    AuditOutcome, CommandState, Effect, EventType, Name, Origin, PrincipalKind, Role, RunErrorKind, RunId, RunStatus,
    StepKind, StepStatus, Timestamp, UserState, WaitingFor,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};

/// A structured value, kept as JSON text.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0).map_err(unwritable)?;
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

macro_rules! words {
    ($($kind:ty),+ $(,)?) => {$(
        impl ToSql for $kind {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                word(self)
            }
        }

        impl FromSql for $kind {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let text: StrDeserializer<'_, serde::de::value::Error> = value.as_str()?.into_deserializer();
                Self::deserialize(text).map_err(FromSqlError::other)
            }
        }
    )+};
}

words!(
    AuditOutcome,
    CommandState,
    Effect,
    EventType,
    Origin,
    PrincipalKind,
    Role,
    RunErrorKind,
    RunStatus,
    StepKind,
    StepStatus,
    UserState,
    WaitingFor,
);

fn word<T: Serialize>(value: &T) -> rusqlite::Result<ToSqlOutput<'static>> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word.into()),
        Ok(other) => Err(unwritable(format!("{other} is not a word"))),
        Err(error) => Err(unwritable(error)),
    }
}

fn unwritable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(reason.into())
}

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_millis().into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_millis)
    }
}

impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Name {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::new(value.as_str()?).map_err(FromSqlError::other)
    }
}

impl ToSql for RunId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for RunId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::parse(text).ok_or_else(|| FromSqlError::Other(format!("`{text}` is not a run id").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn an_enum_is_stored_as_its_wire_word_and_an_unknown_word_is_an_error() {
        let conn = Connection::open_in_memory().unwrap();
        let word: String = conn.query_row("SELECT ?1", [RunStatus::InputRequired], |row| row.get(0)).unwrap();
        assert_eq!(word, "input_required");
        let back: RunStatus = conn.query_row("SELECT ?1", [word], |row| row.get(0)).unwrap();
        assert_eq!(back, RunStatus::InputRequired);
        assert!(conn.query_row("SELECT 'nonsense'", [], |row| row.get::<_, RunStatus>(0)).is_err());
    }
}
