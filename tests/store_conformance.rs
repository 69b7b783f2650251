//! The store's conformance suite as another crate uses it: `cargo test --features conformance --test store_conformance`.

use station::store::Store;
use station::store::conformance::{self, Surroundings};
use station::store::sqlite::SqliteStore;
use std::cell::Cell;
use std::sync::Arc;

#[tokio::test]
async fn an_implementation_outside_the_crate_can_be_given_to_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let stores = Cell::new(0);
    let make = async |Surroundings { clock, events }| -> station::error::Result<Arc<dyn Store>> {
        stores.set(stores.get() + 1);
        let path = folder.path().join(stores.get().to_string());
        let (db, audit) = (path.with_extension("db"), path.with_extension("jsonl"));
        let store = SqliteStore::open(&db, &audit, conformance::environment()?, clock, events)?;
        Ok(Arc::new(store) as Arc<dyn Store>)
    };
    conformance::run_all(make).await.unwrap();
    assert!(stores.get() > 40, "{} cases", stores.get());
}
