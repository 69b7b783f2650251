//! Data keys and secrets: what is sealed is sealed for its very place, and by nobody but the active key.

use super::cases;
use super::fixture::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{DataKeyRow, Seal, SecretRow};

cases!(
    a_new_version_takes_the_place_of_the_one_before_and_is_told_its_place,
    a_name_that_was_deleted_and_set_again_is_another_record,
    only_the_active_key_seals_and_a_later_one_takes_its_place,
    what_cannot_be_sealed_leaves_nothing_behind,
    secrets_are_listed_by_name_in_pages,
);

fn key(generation: u32) -> DataKeyRow {
    DataKeyRow { generation, wrapped: vec![7; 3], kek_id: "kek".into(), is_active: true }
}

/// A sealing that writes the place itself.
fn seal() -> Seal {
    Box::new(|id, version| Ok(format!("{id}/{version}").into_bytes()))
}

async fn put(case: &Subject, name: &str, generation: u32) -> Result<SecretRow> {
    case.store.secret_put(name, generation, seal(), case.entry("secret.set")).await
}

async fn a_new_version_takes_the_place_of_the_one_before_and_is_told_its_place(case: Subject) -> Result<()> {
    case.store.data_key_add(key(1)).await?;
    let first = put(&case, "TOKEN", 1).await?;
    assert_eq!((first.version, first.generation, first.created_at), (1, 1, case.now()));
    assert_eq!(first.record, format!("{}/1", first.id).into_bytes());
    let created = case.now();
    case.advance(5);
    let second = put(&case, "TOKEN", 1).await?;
    assert_eq!((second.id, second.version), (first.id, 2));
    assert_eq!((second.created_at, second.updated_at), (created, case.now()));
    assert_eq!(case.store.secrets(None, 10).await?, [second]);
    Ok(())
}

async fn a_name_that_was_deleted_and_set_again_is_another_record(case: Subject) -> Result<()> {
    case.store.data_key_add(key(1)).await?;
    let first = put(&case, "TOKEN", 1).await?;
    assert!(case.store.secret_delete("TOKEN", case.entry("secret.delete")).await?);
    assert!(!case.store.secret_delete("TOKEN", case.entry("secret.delete")).await?);
    let second = put(&case, "TOKEN", 1).await?;
    assert!(second.id > first.id && second.version == 1, "{second:?}");
    let actions: Vec<_> = case.store.audit_after(0, 10).await?.into_iter().map(|row| row.entry.action).collect();
    assert_eq!(actions, ["secret.set", "secret.delete", "secret.set"]);
    Ok(())
}

async fn only_the_active_key_seals_and_a_later_one_takes_its_place(case: Subject) -> Result<()> {
    assert_eq!(put(&case, "TOKEN", 1).await.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    case.store.data_key_add(key(1)).await?;
    put(&case, "TOKEN", 1).await?;
    let again = case.store.data_key_add(key(1)).await;
    assert_eq!(again.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    case.store.data_key_add(key(2)).await?;
    let keys = case.store.data_keys().await?;
    assert_eq!(keys, [DataKeyRow { is_active: false, ..key(1) }, key(2)]);
    assert_eq!(put(&case, "TOKEN", 1).await.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    assert_eq!(put(&case, "TOKEN", 2).await?.generation, 2);
    Ok(())
}

async fn what_cannot_be_sealed_leaves_nothing_behind(case: Subject) -> Result<()> {
    case.store.data_key_add(key(1)).await?;
    let broken: Seal = Box::new(|_, _| Err(Error::internal("no randomness")));
    let refused = case.store.secret_put("TOKEN", 1, broken, case.entry("secret.set")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Internal));
    assert_eq!(case.store.secrets(None, 10).await?, []);
    assert_eq!(case.store.audit_after(0, 10).await?, []);
    Ok(())
}

async fn secrets_are_listed_by_name_in_pages(case: Subject) -> Result<()> {
    case.store.data_key_add(key(1)).await?;
    for name in ["C", "A", "B"] {
        put(&case, name, 1).await?;
    }
    let names = |rows: Vec<SecretRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(case.store.secrets(None, 2).await?), ["A", "B"]);
    assert_eq!(names(case.store.secrets(Some("B"), 2).await?), ["C"]);
    Ok(())
}
