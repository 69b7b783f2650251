//! A variable that a server uses is part of that server.

use super::keys::{ask, key};
use crate::adapters::testing::TestStation;
use crate::domain::{Grant, Name, Origin, Principal, Role};
use crate::error::ErrorKind;
use crate::tools::{self, Context};
use serde_json::{Value, json};
use std::fs;

/// Servers that are switched off, so that nothing is started: what they are made of is the same.
async fn station() -> TestStation {
    let test = TestStation::new().await;
    let servers = json!({ "mcpServers": {
        "shell": { "command": "/bin/sh", "args": ["-c", "{{ .SCRIPT }}"], "disabled": true },
        "quiet": { "command": "true", "env": { "LEVEL": "{{ .LEVEL | default \"info\" }}" }, "disabled": true },
        "files": { "builtin": "filesystem", "args": ["{{ .ROOT | default \".\" }}"], "disabled": true },
        "search": { "url": "https://{{ .HOST }}/mcp", "headers": { "X-Key": "{{ secret.SEARCH }}" }, "disabled": true },
    } });
    for environment in ["development", "staging"] {
        write(&test, environment, "servers.json", &servers.to_string());
        write(&test, environment, "variables.yml", "LEVEL: debug\n");
    }
    test
}

fn file(test: &TestStation, environment: &str, file: &str) -> std::path::PathBuf {
    test.deps.station.home.environment_dir(&Name::new(environment).unwrap()).join(file)
}

fn write(test: &TestStation, environment: &str, name: &str, text: &str) {
    fs::write(file(test, environment, name), text).unwrap();
}

fn variable(name: &str) -> Option<Value> {
    Some(json!({ "name": name, "value": "id > /tmp/pwned" }))
}

#[tokio::test]
async fn a_developer_changes_no_variable_that_a_command_is_made_of() {
    let test = station().await;
    let (id, developer) =
        key(&test, json!({ "name": "dev", "role": "developer", "environments": ["development"] })).await;
    for (line, body, server) in [
        ("POST /api/v1/variables", variable("SCRIPT"), "shell"),
        ("POST /api/v1/variables", variable("LEVEL"), "quiet"),
        ("POST /api/v1/variables", variable("ROOT"), "files"),
        ("DELETE /api/v1/variables/LEVEL", None, "quiet"),
    ] {
        let refused = ask(&test, &developer, line, body.clone()).await;
        let document = refused.json();
        assert_eq!((refused.status, &document["kind"]), (403, &json!("permission_denied")), "{document}");
        let (message, hint) = (document["message"].as_str().unwrap(), document["hint"].as_str().unwrap());
        assert!(message.contains("mcp_servers:exec") && message.contains(&id), "{message}");
        assert!(hint.contains(&format!("server `{server}` acts on this machine")) && hint.contains("admin"), "{hint}");
    }
    assert_eq!(fs::read_to_string(file(&test, "development", "variables.yml")).unwrap(), "LEVEL: debug\n");
    let environment = test.deps.station.environments.named("development").unwrap();
    let rows = environment.store.audit_after(0, 200).await.unwrap();
    let reasons = rows.iter().filter_map(|row| Some((row.entry.target.as_deref()?, row.entry.reason.as_deref()?)));
    let needs = |target| (target, "needs mcp_servers:exec");
    assert_eq!(reasons.collect::<Vec<_>>(), [needs("SCRIPT"), needs("LEVEL"), needs("ROOT"), needs("LEVEL")]);

    // What isn't part of a command stays theirs, and everything stays the owner's.
    assert_eq!(ask(&test, &developer, "POST /api/v1/variables", variable("HOST")).await.status, 200);
    assert_eq!(ask(&test, &developer, "POST /api/v1/variables", variable("GREETING")).await.status, 200);
    assert_eq!(test.send("POST /api/v1/variables", variable("SCRIPT")).await.status, 200);
    assert_eq!(test.send("DELETE /api/v1/variables/LEVEL", None).await.status, 200);
}

#[tokio::test]
async fn where_developers_edit_no_servers_they_change_no_variable_that_one_is_made_of() {
    let test = station().await;
    let (_, developer) = key(&test, json!({ "name": "dev", "role": "developer", "environments": ["staging"] })).await;
    assert_eq!(test.send("POST /api/v1/users", Some(json!({ "name": "ada" }))).await.status, 201);
    let named = json!({ "environment": "staging", "role": "developer" });
    assert_eq!(test.send("PATCH /api/v1/users/ada/roles", Some(named)).await.status, 200);
    let (_, ada) = key(&test, json!({ "name": "ada", "user": "ada" })).await;
    for developer in [developer, ada] {
        let line = "POST /api/v1/variables?environment=staging";
        let refused = ask(&test, &developer, line, variable("HOST")).await;
        assert!(refused.status == 403 && refused.text.contains("mcp_servers:write"), "{}", refused.text);
        assert_eq!(ask(&test, &developer, line, variable("GREETING")).await.status, 200);
    }
}

#[tokio::test]
async fn a_model_over_stdio_changes_no_command_and_is_told_who_can() {
    let test = station().await;
    let development = Name::new("development").unwrap();
    let model = Principal::local_owner().limited_to(Grant::within(development.clone(), Role::Developer));
    let set = async |name: &str| {
        let mut ctx = Context::new(model.clone(), Origin::McpStdio, name.to_owned());
        ctx.environment = Some(development.clone());
        ctx.bound = true;
        tools::call(&test.deps.station, ctx, "variable_set", json!({ "name": name, "value": "x" })).await
    };
    let refused = set("SCRIPT").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.hint_text().unwrap().contains("At a terminal the owner of the home may do it"), "{refused:?}");
    assert!(set("GREETING").await.is_ok());
    // While a file can't be read, nobody can tell what it does with a variable.
    write(&test, "development", "servers.json", "{ \"mcpServers\": ");
    let refused = set("LATER").await.unwrap_err();
    assert!(refused.hint_text().unwrap().contains("servers.json"), "{refused:?}");
}
