//! What a tool says about itself. The MCP listing, the REST route, OpenAPI, `stn call`, authorization and audit all follow from it.

use super::context::Call;
use crate::domain::{Effect, Scope};
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// How a tool relates to environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvironmentUse {
    /// Acts in one; `environment` in the input, else the caller's.
    Required,
    /// Acts in the environment of the run that `run` names: an id finds its own store. `environment` in the input says that only a run of
    /// that one is meant.
    OfRun,
    /// Concerns the station as a whole, or one environment: that of `environment` in the input, or of a connection that is bound to one.
    Optional,
    /// Concerns the station as a whole.
    None,
}

/// Who gets to see a tool over MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Listed to every client that may use it.
    Default,
    /// Listed with `--tools all`.
    All,
    /// Never listed over MCP, and refused there: a model must not answer for a person.
    PersonOnly,
}

/// When an act leaves an audit row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditPolicy {
    /// Done or denied; the row commits with the act.
    Always,
    /// A plain read: only when denied.
    DeniedOnly,
}

/// The methods REST routes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

/// A tool's REST route. Path fields come from `{}`, those of GET and DELETE from the query, the rest from the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    pub method: Method,
    /// Below `/api/v1`.
    pub path: &'static str,
    pub success: u16,
    /// Path of the new thing, with `{}` filled from the output: `/runs/{id}`.
    pub location: Option<&'static str>,
}

/// A tool's CLI command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cli {
    /// `"agent list"`.
    pub verb: &'static str,
    /// Input fields that are given by position.
    pub positionals: &'static [&'static str],
}

/// The description of one tool.
#[derive(Debug, Clone)]
pub struct ToolSpec {
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub scope: Scope,
    pub effect: Effect,
    pub idempotent: bool,
    pub open_world: bool,
    pub environment: EnvironmentUse,
    pub exposure: Exposure,
    pub audit: AuditPolicy,
    pub deadline: Duration,
    pub rest: Option<Rest>,
    pub cli: Option<Cli>,
    /// JSON Schema 2020-12, an object.
    pub input: Value,
    pub output: Value,
}

impl ToolSpec {
    /// A spec with the schemas of `I` and `O`. The rest starts as: a read of one environment, closed, not audited unless denied,
    /// listed with `--tools all`, 30 s.
    pub fn new<I: JsonSchema, O: JsonSchema>(name: &'static str, scope: Scope) -> Self {
        Self {
            name,
            title: "",
            description: "",
            scope,
            effect: Effect::Read,
            idempotent: true,
            open_world: false,
            environment: EnvironmentUse::Required,
            exposure: Exposure::All,
            audit: AuditPolicy::DeniedOnly,
            deadline: Duration::from_secs(30),
            rest: None,
            cli: None,
            input: schema_of::<I>(),
            output: schema_of::<O>(),
        }
    }

    #[must_use]
    pub fn describe(mut self, title: &'static str, description: &'static str) -> Self {
        self.title = title;
        self.description = description;
        self
    }

    /// Changes something: audited always.
    #[must_use]
    pub fn changes(mut self, effect: Effect, idempotent: bool) -> Self {
        self.effect = effect;
        self.idempotent = idempotent;
        self.audit = AuditPolicy::Always;
        self
    }

    /// Reaches beyond the station's own data.
    #[must_use]
    pub fn open_world(mut self) -> Self {
        self.open_world = true;
        self
    }

    #[must_use]
    pub fn environment(mut self, environment: EnvironmentUse) -> Self {
        self.environment = environment;
        self
    }

    #[must_use]
    pub fn exposure(mut self, exposure: Exposure) -> Self {
        self.exposure = exposure;
        self
    }

    /// How long the act may take before its caller gets `timeout`.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    #[must_use]
    pub fn rest(mut self, method: Method, path: &'static str) -> Self {
        self.rest = Some(Rest { method, path, success: 200, location: None });
        self
    }

    /// A route that answers `success` with the place of the new thing.
    #[must_use]
    pub fn rest_created(mut self, path: &'static str, success: u16, location: &'static str) -> Self {
        self.rest = Some(Rest { method: Method::Post, path, success, location: Some(location) });
        self
    }

    #[must_use]
    pub fn cli(mut self, verb: &'static str, positionals: &'static [&'static str]) -> Self {
        self.cli = Some(Cli { verb, positionals });
        self
    }

    /// The audit action: `agent_run` is `agent.run`, `mcp_server_accept` is `mcp_server.accept`.
    pub fn action(&self) -> String {
        action_of(self.name)
    }

    /// What an act with this input is done to: the first thing that its command is given.
    pub(super) fn target(&self, input: &Value) -> Option<String> {
        match input.get(self.cli?.positionals.first()?)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The input schema as a caller sees it: with `environment`, unless the connection is bound to one.
    pub fn input_for(&self, bound: bool) -> Value {
        let about = match self.environment {
            EnvironmentUse::Required => {
                "The environment to act in; without it, the default environment of the connection."
            }
            EnvironmentUse::Optional => "Only what concerns this environment; without it, all of them.",
            EnvironmentUse::OfRun => "Only a run of this environment; without it, the run's id finds its own.",
            EnvironmentUse::None => return self.input.clone(),
        };
        let mut schema = self.input.clone();
        if !bound && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("environment".into(), serde_json::json!({ "type": "string", "description": about }));
        }
        schema
    }
}

fn action_of(tool: &str) -> String {
    match tool.rsplit_once('_') {
        Some((noun, verb)) => format!("{noun}.{verb}"),
        None => tool.to_owned(),
    }
}

/// The schema of `T` with everything inlined, as MCP clients and model providers like it.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        object.entry("type").or_insert_with(|| "object".into());
        if object.get("type").is_some_and(|kind| kind == "object") {
            object.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
    }
    schema
}

/// Removes integer formats that JSON Schema doesn't know and clients warn about, and writes the schema of a property that may be
/// anything as `{}`: MCP up to 2025-11-25 wants an object where JSON Schema would take `true` as well.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let foreign = object.get("format").and_then(Value::as_str).is_some_and(|format| {
                matches!(
                    format,
                    "int32" | "int64" | "uint" | "uint8" | "uint16" | "uint32" | "uint64" | "float" | "double"
                )
            });
            if foreign {
                object.remove("format");
            }
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                let anything = properties.values_mut().filter(|schema| **schema == Value::Bool(true));
                anything.for_each(|schema| *schema = Value::Object(serde_json::Map::new()));
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// What runs a tool, with its types erased.
type Run = Box<dyn Fn(Call, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// A row of the tool table.
pub struct Tool {
    pub spec: ToolSpec,
    run: Run,
}

impl Tool {
    /// Joins a spec with the function that does it.
    pub fn new<I, O, F, Fut>(spec: ToolSpec, run: F) -> Self
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema + 'static,
        F: Fn(Call, I) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Result<O>> + Send + 'static,
    {
        let name = spec.name;
        let erased: Run = Box::new(move |call, input| {
            Box::pin(async move {
                Failpoint::Act.reach(|| format!("{name} {input}"));
                let input: I = decoded(name, input)?;
                let output = run(call, input).await?;
                serde_json::to_value(output).map_err(|cause| {
                    Error::internal(format!("the output of `{name}` can't be written as JSON")).source(cause)
                })
            })
        });
        Self { spec, run: erased }
    }

    /// Decodes the input and does it.
    pub fn run(&self, call: Call, input: Value) -> BoxFuture<'static, Result<Value>> {
        (self.run)(call, input)
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// The input of the tool `name`, or the field that can't be read.
fn decoded<I: DeserializeOwned>(name: &str, input: Value) -> Result<I> {
    serde_path_to_error::deserialize(input).map_err(|cause| {
        // As the schema's errors write it: `sources.1`.
        let field = cause.path().to_string().replace('[', ".").replace(']', "");
        let cause = cause.into_inner();
        match field.as_str() {
            "" | "." => Error::invalid_input(format!("the input of `{name}` is not valid: {cause}")),
            field => {
                Error::invalid_input(format!("the input of `{name}` is not valid at `{field}`: {cause}")).field(field)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_may_be_anything_has_an_object_for_a_schema() {
        let mut schema = serde_json::json!({ "properties": { "input": true }, "additionalProperties": true });
        tidy(&mut schema);
        assert_eq!(schema, serde_json::json!({ "properties": { "input": {} }, "additionalProperties": true }));
    }

    #[test]
    fn the_audit_action_follows_from_the_name() {
        assert_eq!(action_of("agent_run"), "agent.run");
        assert_eq!(action_of("mcp_server_accept"), "mcp_server.accept");
    }
}
