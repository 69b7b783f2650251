//! The secrets of one environment: its data keys, unwrapped, and what is sealed under them.

use super::envelope::{self, Key, place};
use super::root::Unlocked;
use super::values::Values;
use crate::domain::{AuditEntry, Name};
use crate::error::Result;
use crate::home::misconfigured;
use crate::redact::{Redactor, scope_of};
use crate::store::{DataKeyRow, SecretRow, Store};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The secrets of one environment.
#[derive(Debug)]
pub struct Secrets {
    environment: Name,
    root: Unlocked,
    store: Arc<dyn Store>,
    redactor: Redactor,
    values: Values,
    /// By generation. Held while a secret is changed: values and rows change together.
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    keys: BTreeMap<u32, Key>,
    /// The generation that seals.
    active: Option<u32>,
}

impl Secrets {
    /// Those of an environment that has none yet.
    pub fn none(root: Unlocked, environment: Name, store: Arc<dyn Store>, redactor: Redactor) -> Self {
        let values = Values::none(environment.clone());
        Self { environment, root, store, redactor, values, ring: Mutex::default() }
    }

    /// Reads the environment's data keys and values, and lets `redactor` know the values. Exit code 78 where the data keys belong to another
    /// home's key. A record that doesn't open is no error: whoever needs it is told.
    pub async fn open(root: Unlocked, environment: Name, store: Arc<dyn Store>, redactor: Redactor) -> Result<Self> {
        let mut ring = Ring::default();
        for row in store.data_keys().await? {
            ring.keys.insert(row.generation, unwrap_key(&root, &environment, &row)?);
            ring.active = if row.is_active { Some(row.generation) } else { ring.active };
        }
        let mut opened = Self::none(root, environment, store, redactor);
        opened.load(&ring.keys).await?;
        opened.ring = Mutex::new(ring);
        Ok(opened)
    }

    async fn load(&self, keys: &BTreeMap<u32, Key>) -> Result<()> {
        let mut named = Vec::new();
        for row in self.store.secrets(None, u32::MAX).await? {
            let value = open_record(&self.root, &self.environment, keys, &row);
            match &value {
                Some(value) => named.push((row.name.clone(), value.clone())),
                None => {
                    tracing::error!(environment = %self.environment, secret = row.name, "a secret can't be decrypted; set it again");
                }
            }
            self.values.put(&row.name, value);
        }
        self.redactor.replace(&scope_of(&self.environment), named);
        Ok(())
    }

    /// The values, for whoever needs them at the last hop.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Sets a secret: a new one, or a new version in the place of the one before. Also whether the value is another than before.
    pub async fn set(&self, name: &str, value: SecretString, audit: AuditEntry) -> Result<(SecretRow, bool)> {
        let mut ring = self.ring.lock().await;
        let (generation, key) = self.sealing_key(&mut ring).await?;
        // Known before it is kept: from here on it may show up anywhere.
        self.redactor.add(&scope_of(&self.environment), name, &value);
        let (install, environment) = (self.root.install().to_owned(), self.environment.clone());
        let (owned, plain) = (name.to_owned(), value.clone());
        let seal = Box::new(move |id, version| {
            let at = record_place(&install, &environment, id, &owned, version, generation);
            envelope::seal(&key, generation, &at, plain.expose_secret().as_bytes())
        });
        let row = self.store.secret_put(name, generation, seal, audit).await?;
        let is_another = !self.values.is(name, &value);
        self.values.put(name, Some(value));
        Ok((row, is_another))
    }

    /// Forgets a secret. `false` when there was none. Its value stays known to the redactor: it may still be on its way.
    pub async fn delete(&self, name: &str, audit: AuditEntry) -> Result<bool> {
        let _one_at_a_time = self.ring.lock().await;
        let deleted = self.store.secret_delete(name, audit).await?;
        self.values.remove(name);
        Ok(deleted)
    }

    /// Lets the redactor forget those values of earlier secrets that `forget` accepts, unless another secret has it now.
    pub fn forget_former(&self, forget: impl Fn(&str) -> bool) {
        let is_in_use = |value: &str| !self.values.among(|now| (now == value).then_some(())).is_empty();
        self.redactor.forget(&scope_of(&self.environment), |value| forget(value) && !is_in_use(value));
    }

    /// Secrets after `after`, by name. The records stay sealed.
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<SecretRow>> {
        self.store.secrets(after, limit).await
    }

    /// The active key; the first one is made when the first secret is set.
    async fn sealing_key(&self, ring: &mut Ring) -> Result<(u32, Key)> {
        if let Some((generation, key)) = ring.active.and_then(|active| Some((active, ring.keys.get(&active)?))) {
            return Ok((generation, key.clone()));
        }
        let generation = ring.keys.keys().max().map_or(1, |latest| latest + 1);
        let key = Key::random()?;
        self.store.data_key_add(wrap_key(&self.root, &self.environment, generation, &key)?).await?;
        ring.keys.insert(generation, key.clone());
        ring.active = Some(generation);
        Ok((generation, key))
    }
}

fn key_place(root: &Unlocked, environment: &Name, generation: u32, kek_id: &str) -> Vec<u8> {
    let generation = generation.to_be_bytes();
    place(&[b"dek", root.install().as_bytes(), environment.as_str().as_bytes(), &generation, kek_id.as_bytes()])
}

fn record_place(install: &str, environment: &Name, id: i64, name: &str, version: i64, generation: u32) -> Vec<u8> {
    let (id, version, generation) = (id.to_be_bytes(), version.to_be_bytes(), generation.to_be_bytes());
    let environment = environment.as_str().as_bytes();
    let fields = [b"rec", install.as_bytes(), b"secrets", environment, &id, name.as_bytes(), &version, &generation];
    place(&fields)
}

fn wrap_key(root: &Unlocked, environment: &Name, generation: u32, key: &Key) -> Result<DataKeyRow> {
    let at = key_place(root, environment, generation, root.kek_id());
    let wrapped = envelope::seal(root.wrap(), generation, &at, key.bytes())?;
    Ok(DataKeyRow { generation, wrapped, kek_id: root.kek_id().to_owned(), is_active: true })
}

fn unwrap_key(root: &Unlocked, environment: &Name, row: &DataKeyRow) -> Result<Key> {
    let at = key_place(root, environment, row.generation, &row.kek_id);
    let same = row.kek_id == root.kek_id() && envelope::generation(&row.wrapped) == Some(row.generation);
    let key = if same { envelope::open(root.wrap(), &at, &row.wrapped) } else { None };
    key.and_then(|bytes| Key::from_slice(&bytes)).ok_or_else(|| {
        misconfigured(format!(
            "the secrets of environment `{environment}` are under another key than that of secrets/root.json"
        ))
        .hint("restore secrets/root.json, and the key that it names, from the backup that the store is from")
    })
}

fn open_record(
    root: &Unlocked,
    environment: &Name,
    keys: &BTreeMap<u32, Key>,
    row: &SecretRow,
) -> Option<SecretString> {
    let generation = envelope::generation(&row.record).filter(|generation| *generation == row.generation)?;
    let at = record_place(root.install(), environment, row.id, &row.name, row.version, generation);
    let plain = envelope::open(keys.get(&generation)?, &at, &row.record)?;
    std::str::from_utf8(&plain).ok().map(SecretString::from)
}

/// An error where a store holds secrets and there is no root: a new root could open none of them.
pub async fn refuse_without_root(environment: &Name, store: &dyn Store) -> Result<()> {
    if store.data_keys().await?.is_empty() {
        return Ok(());
    }
    Err(misconfigured(format!(
        "secrets/root.json is missing, and environment `{environment}` has secrets under its key"
    ))
    .hint("restore the file from a backup: without it no secret can be read"))
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
