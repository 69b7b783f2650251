//! Calls of attached servers' tools. They pass the same stages as every act; a model's arguments are validated, a client's are not.

mod result;

pub use result::read_result;

use super::context::{Call, Context, Environment, Progress, Station, config_revision};
use super::dispatch::{Deed, authorize, object, redacted};
use crate::domain::{AuditEntry, AuditOutcome, Scope, ValueSchema};
use crate::error::{Error, Result};
use crate::gateway::{CallOptions, CatalogTool, may_match};
use futures_util::FutureExt;
use serde_json::Value;
use serde_json::value::RawValue;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a caller waits for servers that are still in their first start.
pub const FIRST_START: Duration = Duration::from_secs(10);

/// A call that was found, authorized and, for a model, validated. Holding one is the proof.
#[derive(Debug)]
pub struct Permitted {
    tool: Arc<CatalogTool>,
    arguments: Box<RawValue>,
    call: Call,
    environment: Arc<Environment>,
}

/// A call for a client, in an environment that is already found.
pub async fn call(
    station: &Arc<Station>,
    ctx: Context,
    environment: &Arc<Environment>,
    name: &str,
    arguments: Value,
) -> Result<Box<RawValue>> {
    let catalog = environment.gateway.catalog_for(FIRST_START, |server| may_match(name, server.as_str())).await;
    let Some(tool) = catalog.tools.into_iter().find(|tool| tool.name == name) else {
        return Err(environment.gateway.missing(name));
    };
    let raw = serde_json::value::to_raw_value(&Value::Object(object(name, arguments)?))
        .map_err(|cause| Error::internal("arguments can't be written as JSON").source(cause))?;
    let revision = config_revision(Some(environment)).await?;
    permit(station, ctx, environment, revision, tool, raw).await?.run_audited().await
}

/// Authorizes a call of `tool` for `ctx`. The caller runs it, and writes its audit entries in the transactions that record it.
/// `revision` is the files' state that they name: of a run's call, that of the run.
pub async fn permit(
    station: &Arc<Station>,
    ctx: Context,
    environment: &Arc<Environment>,
    revision: Option<String>,
    tool: Arc<CatalogTool>,
    arguments: Box<RawValue>,
) -> Result<Permitted> {
    let deed = Deed::tool_call(&tool.name);
    authorize(station, &ctx, Scope::ToolsCall, &deed, Some(environment)).await?;
    let call = Call::new(ctx, Arc::clone(station), Some(Arc::clone(environment)), deed.action, revision);
    Ok(Permitted { tool, arguments, call, environment: Arc::clone(environment) })
}

/// Checks a model's arguments against the tool's own schema. The message is written for the model. A dialect that wants to say that there
/// are none says `{}`.
pub fn validate(tool: &CatalogTool, arguments: &str) -> Result<Box<RawValue>> {
    check(&tool.name, &tool.input_schema, arguments)
}

/// The same for a tool of any kind.
pub fn check(name: &str, schema: &Value, arguments: &str) -> Result<Box<RawValue>> {
    if arguments.trim().is_empty() {
        let message = format!("the call of `{}` was cut off before its arguments, and was not made", name);
        return Err(Error::invalid_input(message).hint("make it again, and say less before it"));
    }
    let value: Value = serde_json::from_str(arguments)
        .map_err(|cause| Error::invalid_input(format!("the arguments of `{}` are not valid JSON: {cause}", name)))?;
    if !value.is_object() {
        return Err(Error::invalid_input(format!("the arguments of `{}` must be a JSON object", name)));
    }
    if let Some(reason) = misfit(schema, &value) {
        return Err(Error::invalid_input(format!("the arguments of `{name}` don't fit its schema: {reason}")));
    }
    RawValue::from_string(arguments.to_owned())
        .map_err(|cause| Error::internal("arguments can't be kept").source(cause))
}

/// Why `schema` doesn't accept `arguments`.
fn misfit(schema: &Value, arguments: &Value) -> Option<String> {
    // A server's schema that doesn't compile is the server's fault; it judges the arguments by itself then.
    let schema = ValueSchema::new(schema).ok()?;
    match schema.faults(arguments, 1) {
        // Without the value: the model has it, and it may be long.
        Ok(faults) => faults.first().map(|fault| format!("{} (at `{}`)", fault.masked(), fault.instance_path())),
        Err(reason) => Some(reason),
    }
}

impl Permitted {
    pub fn tool(&self) -> &CatalogTool {
        &self.tool
    }

    /// The entry for the intent (`started`), the result (`done`, `failed`).
    pub fn audit(&self, outcome: AuditOutcome) -> AuditEntry {
        AuditEntry { outcome, ..self.call.audit(&self.tool.name) }
    }

    /// The entry that commits before the call leaves. A call that is known to change nothing leaves one entry, when it is done.
    pub fn intent(&self) -> Option<AuditEntry> {
        (!self.tool.effect.is_known_read()).then(|| self.audit(AuditOutcome::Started))
    }

    /// Makes the call; what comes of it holds no secret. Whoever uses this has committed, or will commit, the audit entries.
    pub async fn run(&self, idempotency_key: Option<String>) -> Result<Box<RawValue>> {
        let redactor = &self.environment.redactor;
        let (progress, mut updates) = mpsc::channel(16);
        let options = CallOptions {
            idempotency_key,
            meta: None,
            timeout: None,
            cancel: self.call.ctx.cancel.clone(),
            progress: self.call.ctx.progress.is_some().then_some(progress),
        };
        let calling = self.environment.gateway.call(&self.tool.name, self.arguments.clone(), options);
        tokio::pin!(calling);
        loop {
            tokio::select! {
                biased;
                Some(update) = updates.recv() => {
                    let message = update.message.map(|message| redactor.string(message));
                    self.call.ctx.report(Progress { progress: update.progress, total: update.total, message });
                }
                result = &mut calling => return match result {
                    Ok(result) => Ok(redactor.raw(result)),
                    Err(error) => Err(redacted(redactor, error)),
                },
            }
        }
    }

    /// A call outside a run.
    async fn run_audited(&self) -> Result<Box<RawValue>> {
        let store = &self.environment.store;
        if let Some(intent) = self.intent() {
            store.audit_intent(intent).await?;
        }
        // The row of a call that was begun tells its end, also where that is a panic; dispatch answers it.
        let ended = AssertUnwindSafe(self.run(None)).catch_unwind().await;
        let (result, panic) = match ended {
            Ok(result) => (result, None),
            Err(panic) => (Err(Error::internal("the call ended in a panic")), Some(panic)),
        };
        let entry = match &result {
            Ok(_) => self.audit(AuditOutcome::Done),
            Err(error) => self.audit(AuditOutcome::Failed).because(error.kind().to_string()),
        };
        // The call has happened: its caller gets what it came to, whatever becomes of the row.
        if let Err(error) = store.audit(entry).await {
            tracing::error!(tool = self.tool.name, ?error, "the end of a call can't be recorded");
        }
        match panic {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }
}
