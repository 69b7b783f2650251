//! What every tool of the table owes: an authorization case, an audit case, a command, schemas that don't change unnoticed, and answers
//! that fit them.

use crate::authorization::{authorization, granted, grants};
use crate::support::home::TestHome;
use crate::support::station::TestStation;
use crate::support::store_dump::{Audited, audit_of};
use futures_util::future::join_all;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use station::domain::{ModelChoice, Name, Origin, Principal, Role, RunId};
use station::error::{ErrorKind, Result};
use station::tools::model::ProviderVariables;
use station::tools::{self, AuditPolicy, EnvironmentUse, Tool, ToolSpec, attached};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Tools that don't owe all of this, and why.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// The tools that owe everything.
fn specs() -> Vec<ToolSpec> {
    let table = tools::table();
    let all = table.iter().map(|tool: &Tool| tool.spec.clone());
    all.filter(|spec| !EXCEPTIONS.iter().any(|(name, _)| *name == spec.name)).collect()
}

/// How an act ended, as a cell says it.
fn cell(done: &Result<Value>) -> &'static str {
    match done.as_ref().map_err(|error| error.kind()) {
        Ok(_) => "allow",
        Err(ErrorKind::PermissionDenied) => "deny",
        Err(ErrorKind::NotFound) => "hide",
        Err(_) => "neither",
    }
}

/// An input that makes sense; whatever it speaks of is there.
async fn input(station: &TestStation, tool: &str) -> Value {
    match tool {
        "agent_create" => json!({ "name": fresh(station), "prompt": "Be brief." }),
        "agent_get" => json!({ "agent": "hello" }),
        "agent_update" | "agent_delete" | "agent_pause" | "agent_resume" => {
            let name = fresh(station);
            station.call("agent_create", json!({ "name": name, "prompt": "Be brief." })).await.unwrap();
            let description = (tool == "agent_update").then_some("Is brief");
            let input = json!({ "agent": name, "description": description });
            input.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect()
        }
        "agent_run" => json!({ "agent": "hello", "input": "What is here?" }),
        "run_get" | "run_steps" | "run_events" | "run_cancel" => json!({ "run": station.queued_run().await }),
        "run_wait" => json!({ "run": station.queued_run().await, "wait_ms": 0 }),
        "run_respond" => json!({ "run": station.run_in_doubt().await, "decision": "skip" }),
        "variable_set" => json!({ "name": "GREETING", "value": "good day" }),
        "variable_delete" => {
            station.call("variable_set", json!({ "name": "GREETING", "value": "good day" })).await.unwrap();
            json!({ "name": "GREETING" })
        }
        "mcp_server_get" => json!({ "server": "filesystem" }),
        "mcp_server_accept" => pending_command(station).await,
        "tool_get" => json!({ "tool": "filesystem__list_directory" }),
        "tool_call" => json!({ "tool": "filesystem__list_directory", "arguments": { "path": "." } }),
        "secret_set" => json!({ "name": "TOKEN", "value": "a value of some length" }),
        "secret_delete" => {
            station.call("secret_set", json!({ "name": "TOKEN", "value": "a value of some length" })).await.unwrap();
            json!({ "name": "TOKEN" })
        }
        "secret_list" | "request_list" | "agent_list" | "run_list" | "environment_get" | "environment_list"
        | "environment_sync" | "mcp_server_list" | "tool_list" | "variable_list" => json!({}),
        "station_status" | "config_get" | "config_check" => json!({ "environment": "development" }),
        "user_create" => json!({ "name": fresh(station) }),
        "user_get" | "user_update" | "user_delete" => json!({ "user": user(station).await }),
        "role_set" => json!({ "user": user(station).await, "environment": "staging", "role": "viewer" }),
        "user_list" | "api_key_list" => json!({}),
        "api_key_create" => json!({ "name": fresh(station), "environments": ["staging"], "sources": ["10.0.0.0/8"] }),
        "api_key_get" | "api_key_update" | "api_key_delete" => {
            let key = station.call("api_key_create", json!({ "name": fresh(station) })).await.unwrap();
            json!({ "key": key["id"] })
        }
        other => panic!("the new tool `{other}` needs an input here"),
    }
}

/// A user who may do nothing yet.
async fn user(station: &TestStation) -> String {
    let name = fresh(station);
    station.call("user_create", json!({ "name": name })).await.unwrap();
    name
}

/// The name of an agent that isn't there yet.
fn fresh(station: &TestStation) -> String {
    format!("agent-{}", station.number())
}

/// A command in an environment where commands wait for somebody.
async fn pending_command(station: &TestStation) -> Value {
    station.write("environments/staging/servers.json", r#"{ "mcpServers": { "waiting": { "command": "true" } } }"#);
    station.call("environment_sync", json!({ "environment": "staging" })).await.unwrap();
    let server = json!({ "server": "waiting", "environment": "staging" });
    let shown = station.call("mcp_server_get", server).await.unwrap();
    assert_eq!(shown["command_state"], "pending");
    json!({ "server": "waiting", "environment": "staging", "command_hash": shown["command_hash"] })
}

/// The row that a denial leaves: also who was refused has asked for something in particular.
fn denial(action: &str, target: Option<&str>) -> Audited {
    Audited { action: action.into(), outcome: "denied".into(), target: target.map(str::to_owned) }
}

/// What an act with this input is done to.
fn target(input: &Value) -> Option<String> {
    let named =
        ["name", "agent", "run", "server", "tool", "user", "key"].iter().find_map(|field| input[field].as_str());
    named.map(str::to_owned)
}

/// What came of a call.
#[derive(Debug)]
struct Tried {
    done: Result<Value>,
    target: Option<String>,
    rows: Vec<Audited>,
}

/// One call with an input that makes sense, and the audit rows it left.
async fn tried(station: &TestStation, spec: &ToolSpec, who: Principal) -> Tried {
    let input = input(station, spec.name).await;
    let target = target(&input);
    let store = match spec.environment {
        EnvironmentUse::None => station.store(None),
        _ => station.store(Some(input.get("environment").and_then(Value::as_str).unwrap_or("development"))),
    };
    let context = station.context(who);
    let request = context.request_id.clone();
    let done = tools::call(&station.app.station, context, spec.name, input).await;
    Tried { done, target, rows: audit_of(&store, &request) }
}

/// Where an answer doesn't fit the schema that its tool advertises. An open schema says nothing of a misspelled field, so every field of
/// an answer has to be a declared one wherever fields are declared.
fn misfits(schema: &Value, answer: &Value) -> Vec<String> {
    let mut closed = schema.clone();
    close(&mut closed);
    let validator = jsonschema::validator_for(&closed).unwrap();
    validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.get("properties").and_then(Value::as_object).is_some_and(|declared| !declared.is_empty()) {
                object.entry("unevaluatedProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn a_field_that_is_missing_misspelled_or_of_another_type_is_a_misfit() {
    let schema = &tools::table().get("agent_delete").unwrap().spec.output.clone();
    assert_eq!(misfits(schema, &json!({ "deleted": "reader" })), Vec::<String>::new());
    for answer in [json!({}), json!({ "deleted": 1 }), json!({ "deleted": "reader", "delted": "reader" })] {
        assert_eq!(misfits(schema, &answer).len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_every_act_leaves_the_audit_rows_it_owes() {
    let station = TestStation::open().await;
    for spec in specs() {
        let action = spec.action();
        let row = authorization(spec.name);
        for (column, grant) in grants("development") {
            // Where an input needs another environment, a grant everywhere goes as far as in that one.
            let acted_in = if spec.name == "mcp_server_accept" { "staging" } else { "development" };
            let expected = if row.allows(column, acted_in) { "allow" } else { "deny" };
            let tried = tried(&station, &spec, Principal::new(Principal::local_owner().who, grant)).await;
            let case = format!("{} as {column}: {tried:?}", spec.name);
            let Tried { done, target, rows } = tried;
            assert_eq!(cell(&done), expected, "{case}");
            if expected == "deny" {
                assert_eq!(rows, [denial(&action, target.as_deref())], "{case}");
                continue;
            }
            assert_eq!(misfits(&spec.output, done.as_ref().expect(&case)), Vec::<String>::new(), "{case}");
            match spec.audit {
                AuditPolicy::Always => {
                    assert!(rows.iter().any(|row| row.action == action && row.outcome == "done"), "{case}");
                }
                AuditPolicy::DeniedOnly => assert_eq!(rows, [], "{case}"),
            }
        }
    }
}

#[tokio::test]
async fn a_role_in_one_environment_is_worth_in_another_what_the_table_says() {
    let station = TestStation::open().await;
    for spec in specs() {
        for role in Role::ALL {
            let Tried { done, target, rows } = tried(&station, &spec, granted(role, "production")).await;
            let case = format!("{} as {} of another environment: {done:?}", spec.name, role.as_str());
            assert_eq!(cell(&done), authorization(spec.name).elsewhere, "{case}");
            match done {
                Ok(seen) => assert!(!seen.to_string().contains("development"), "{case}"),
                Err(_) => assert_eq!(rows, [denial(&spec.action(), target.as_deref())], "{case}"),
            }
        }
    }
}

#[tokio::test]
async fn a_bound_connection_that_names_another_environment_is_denied_and_the_denial_is_audited() {
    let station = TestStation::open().await;
    for spec in specs().iter().filter(|spec| spec.environment != EnvironmentUse::None) {
        for (asked, store) in [("staging", Some("staging")), ("nowhere", None)] {
            let mut context = station.context(Principal::local_owner());
            context.environment = Some(Name::new("development").unwrap());
            context.bound = true;
            let request = context.request_id.clone();
            let denied = tools::call(&station.app.station, context, spec.name, json!({ "environment": asked })).await;
            assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied, "{}", spec.name);
            let rows = audit_of(&station.store(store), &request);
            let rows: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
            assert_eq!(rows, [(spec.action().as_str(), "denied")], "{} in {asked}", spec.name);
        }
    }
}

#[tokio::test]
async fn a_tool_of_an_attached_server_is_looked_up_only_for_whoever_may_call_it() {
    let station = TestStation::open().await;
    for tool in ["filesystem__list_directory", "filesystem__lst_directory", "nobody__knows"] {
        let context = station.context(granted(Role::Viewer, "development"));
        let request = context.request_id.clone();
        let input = json!({ "tool": tool });
        let denied = tools::call(&station.app.station, context, "tool_call", input).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
        let rows = audit_of(&station.store(Some("development")), &request);
        assert_eq!(rows, [denial("tool.call", Some(tool))]);
    }
}

#[tokio::test]
async fn a_call_that_an_agent_is_denied_leaves_a_row_that_names_the_tool() {
    let station = TestStation::open().await;
    let environment = station.app.station.environments.named("development").unwrap();
    let tool = environment.gateway.catalog(Duration::from_secs(1)).await.tools.remove(0);
    let (context, name) = (station.context(granted(Role::Viewer, "development")), tool.name.clone());
    let request = context.request_id.clone();
    let arguments = RawValue::from_string("{}".into()).unwrap();
    let denied =
        attached::permit(&station.app.station, context, &environment, None, tool, arguments).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    assert_eq!(audit_of(&station.store(Some("development")), &request), [denial("tool.call", Some(&name))]);
}

#[tokio::test]
async fn what_a_model_is_denied_because_it_is_for_people_leaves_a_row_that_says_what_it_was_about() {
    let station = TestStation::open().await;
    let mut context = station.context(Principal::local_owner());
    context.origin = Origin::McpStdio;
    context.environment = Some(Name::new("staging").unwrap());
    let (request, input) = (context.request_id.clone(), pending_command(&station).await);
    let denied = tools::call(&station.app.station, context, "mcp_server_accept", input).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    let rows = audit_of(&station.store(Some("staging")), &request);
    assert_eq!(rows, [denial("mcp_server.accept", Some("waiting"))]);
}

#[tokio::test]
async fn a_hidden_run_leaves_one_row_also_when_its_environment_is_named() {
    let station = TestStation::open().await;
    let run = station.queued_run().await.to_string();
    let context = station.context(granted(Role::Admin, "production"));
    let (request, input) = (context.request_id.clone(), json!({ "run": run, "environment": "development" }));
    let hidden = tools::call(&station.app.station, context, "run_get", input).await.unwrap_err();
    assert_eq!(hidden.kind(), ErrorKind::NotFound, "{hidden:?}");
    assert_eq!(audit_of(&station.store(Some("development")), &request), [denial("run.get", Some(&run))]);
}

#[tokio::test]
async fn a_caller_whose_time_is_up_is_told_whether_anything_goes_on() {
    let station = TestStation::open().await;
    let run = station.queued_run().await;
    for (tool, input, told) in [
        ("run_wait", json!({ "run": run }), "given up"),
        ("agent_run", json!({ "agent": "hello", "input": "What is here?", "wait_ms": 1000 }), "goes on"),
    ] {
        let mut context = station.context(Principal::local_owner());
        context.deadline = Some(station.app.station.clock.now());
        let late = tools::call(&station.app.station, context, tool, input).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{tool}");
        assert!(late.hint_text().unwrap().contains(told), "{tool}: {late:?}");
    }
}

#[test]
fn every_tool_has_a_command_of_its_own_and_can_be_called_by_name() {
    let home = TestHome::new();
    let listed = home.json(&["call", "--list"]);
    let listed: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(listed, tools::table().names().collect::<Vec<_>>());
    for spec in specs() {
        let cli = spec.cli.unwrap_or_else(|| panic!("`{}` has no command", spec.name));
        let mut words: Vec<&str> = cli.verb.split(' ').collect();
        words.push("--help");
        let help = home.stn(&words).ok().stdout;
        assert!(help.contains(&format!("stn {}", cli.verb)), "{help}");
        for field in cli.positionals {
            assert!(help.to_lowercase().contains(&field.to_lowercase()), "{}: {field}\n{help}", spec.name);
        }
    }
}

#[test]
fn schemas_change_only_on_purpose() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _bound = settings.bind_to_scope();
    for spec in specs() {
        insta::assert_json_snapshot!(spec.name, json!({ "input": spec.input, "output": spec.output }));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots");
    let kept: BTreeSet<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let owed: BTreeSet<String> = specs().iter().map(|spec| format!("{}.snap", spec.name)).collect();
    assert_eq!(kept, owed, "a snapshot without its tool, or the other way round");
}

#[tokio::test]
async fn provider_keys_that_come_with_an_answer_are_kept_only_if_it_is_accepted() {
    let station = TestStation::open().await;
    for (decision, is_accepted) in [("skip", false), ("retry", true)] {
        let run = station.run_without_its_key().await;
        let answered = answer_with_a_key(&station, run, decision).await;
        assert_eq!(answered.is_ok(), is_accepted, "{answered:?}");
        assert_eq!(has_a_key(&station, run), is_accepted, "{decision}");
    }
}

#[tokio::test]
async fn of_several_answers_at_once_one_is_accepted_and_its_provider_key_is_kept() {
    let station = TestStation::open().await;
    let run = station.run_without_its_key().await;
    let answered = join_all((0..8).map(|_| Box::pin(answer_with_a_key(&station, run, "retry")))).await;
    assert_eq!(answered.iter().filter(|answered| answered.is_ok()).count(), 1, "{answered:?}");
    assert!(has_a_key(&station, run));
}

async fn answer_with_a_key(station: &TestStation, run: RunId, decision: &str) -> Result<Value> {
    let mut context = station.context(Principal::local_owner());
    let variables = [("OPENAI_API_KEY".to_owned(), "sk-brought".to_owned())].into();
    context.provider_variables = Some(Arc::new(ProviderVariables::from_map(&variables)));
    let input = json!({ "run": run, "decision": decision });
    tools::call(&station.app.station, context, "run_respond", input).await
}

/// The station has the key that was brought for the run.
fn has_a_key(station: &TestStation, run: RunId) -> bool {
    let (development, openai) = (
        Name::new("development").unwrap(),
        ModelChoice { provider: "openai".into(), id: "gpt".into(), reason: "brought".into() },
    );
    station.app.station.models.provider_for(&development, run, &openai, true, None).unwrap().is_some()
}
