//! `input.default`: what fields of the input are where a run is given none. It becomes the `default` of each field in the schema, which is
//! where whoever renders the prompt, and whoever is shown what the agent takes, finds it.

use super::super::fields::Fields;
use super::super::problem::FileProblem;
use crate::domain::{AgentDefinition, ValueSchema, quoted};
use serde_json::{Map, Value, json};

/// At most so many faults are looked at; one is told.
const LOOKED_AT: usize = 1;

/// `schema` with the values `given` under `default` of `input`. None of these fields has to be given any more.
pub(super) fn declare(schema: Option<Value>, input: &Fields<'_>, given: &Fields<'_>) -> Result<Value, FileProblem> {
    let mut schema = schema.unwrap_or_else(AgentDefinition::input_schema_of_none);
    let values: Map<String, Value> =
        given.keys().filter_map(|name| Some((name.into(), given.get(name)?.clone()))).collect();
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !name.as_str().is_some_and(|name| values.contains_key(name)));
    }
    check(&schema, input, &values)?;
    let Some(root) = schema.as_object_mut() else { return Ok(schema) };
    let Some(fields) = root.entry("properties").or_insert_with(|| json!({})).as_object_mut() else { return Ok(schema) };
    for (name, value) in values {
        // A field whose schema is `true` takes anything.
        match fields.entry(name).or_insert_with(|| json!({})) {
            Value::Object(field) => {
                field.insert("default".into(), value);
            }
            any => *any = json!({ "default": value }),
        }
    }
    Ok(schema)
}

/// Refuses a value that its field doesn't take, without quoting it.
fn check(schema: &Value, input: &Fields<'_>, values: &Map<String, Value>) -> Result<(), FileProblem> {
    let mut alone = schema.clone();
    if let Some(root) = alone.as_object_mut() {
        root.remove("required");
    }
    let given = Value::Object(values.clone());
    let unusable = |reason: String| input.problem("default", reason);
    let alone = ValueSchema::new(&alone).map_err(|fault| unusable(fault.reason))?;
    let faults = alone.faults(&given, LOOKED_AT).map_err(unusable)?;
    let Some(fault) = faults.first() else { return Ok(()) };
    let path = fault.instance_path().to_string();
    Err(match path.split('/').nth(1) {
        Some(name) => input.problem_inside("default", &[name.to_owned()], fault.masked().to_string()),
        None => match values.keys().find(|name| !is_declared(schema, name)) {
            Some(name) => input.problem_inside(
                "default",
                std::slice::from_ref(name),
                format!("the schema has no field {}", quoted(name)),
            ),
            None => unusable(fault.masked().to_string()),
        },
    })
}

fn is_declared(schema: &Value, name: &str) -> bool {
    schema.get("properties").is_some_and(|fields| fields.get(name).is_some())
}
