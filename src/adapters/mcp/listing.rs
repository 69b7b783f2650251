//! What a tool looks like to an MCP client.

use crate::domain::Effect;
use crate::mcp::serve::{Caller, JsonObject, ToolListing, ToolSet};
use crate::tools::{EnvironmentUse, Exposure, Station, ToolSpec};
use serde_json::Value;

/// Whether the connection shows the tool. What the caller may not use isn't shown; whether it may be called is dispatch's to say.
pub(super) fn is_listed(station: &Station, spec: &ToolSpec, caller: &Caller) -> bool {
    let own = caller.environment.as_ref().filter(|_| spec.environment != EnvironmentUse::None);
    let environment = own.and_then(|name| station.environments.named(name.as_str()).ok());
    is_offered(spec, caller.tools) && station.refusal(&caller.principal, spec.scope, environment.as_ref()).is_none()
}

/// Whether the connection has the tool at all. A model must not answer for a person.
pub(super) fn is_offered(spec: &ToolSpec, tools: ToolSet) -> bool {
    match spec.exposure {
        Exposure::Default => true,
        Exposure::All => tools == ToolSet::All,
        Exposure::PersonOnly => false,
    }
}

/// The tool as listed. On a connection that is bound to an environment there is none to choose.
pub(super) fn listing(spec: &ToolSpec, bound: bool) -> ToolListing {
    ToolListing {
        name: spec.name.to_owned(),
        title: spec.title.to_owned(),
        description: spec.description.to_owned(),
        input_schema: object(spec.input_for(bound)),
        output_schema: Some(object(spec.output.clone()))
            .filter(|schema| schema.get("type").is_some_and(|kind| kind == "object")),
        read_only: spec.effect == Effect::Read,
        destructive: spec.effect == Effect::Destructive,
        idempotent: spec.idempotent,
        open_world: spec.open_world,
    }
}

fn object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::testing::TestStation;
    use crate::domain::{Grant, Name, Principal, Role};
    use crate::mcp::serve::Transport;

    fn listed(station: &Station, role: Role, tools: ToolSet) -> Vec<&'static str> {
        let development = Name::new("development").unwrap();
        let caller = Caller {
            transport: Transport::Stdio,
            environment: Some(development.clone()),
            principal: Principal::local_owner().limited_to(Grant::within(development, role)),
            protocol_version: "2025-11-25".into(),
            tools,
            request_id: "r".into(),
        };
        let specs = station.table.iter().map(|tool| &tool.spec).filter(|spec| is_listed(station, spec, &caller));
        specs.map(|spec| spec.name).collect()
    }

    #[tokio::test]
    async fn a_client_sees_what_its_role_may_use_and_never_what_is_a_person_s() {
        let test = TestStation::new().await;
        let listed = |role, tools| listed(&test.deps.station, role, tools);
        let developer = listed(Role::Developer, ToolSet::Default);
        for name in [
            "agent_create",
            "agent_get",
            "agent_list",
            "agent_update",
            "agent_run",
            "run_get",
            "run_list",
            "run_wait",
            "run_cancel",
        ] {
            assert!(developer.contains(&name), "{name}");
        }
        assert!(!developer.contains(&"agent_delete"));
        let viewer = listed(Role::Viewer, ToolSet::All);
        assert!(viewer.contains(&"run_steps") && !viewer.contains(&"agent_run"));
        let admin = listed(Role::Admin, ToolSet::All);
        assert!(admin.contains(&"agent_delete"));
        assert!(!admin.contains(&"run_respond") && !admin.contains(&"mcp_server_accept"));
    }

    #[test]
    fn only_an_unbound_connection_chooses_the_environment() {
        let table = crate::tools::table();
        let spec = &table.get("agent_run").unwrap().spec;
        assert!(!listing(spec, true).input_schema["properties"].as_object().unwrap().contains_key("environment"));
        assert!(listing(spec, false).input_schema["properties"].as_object().unwrap().contains_key("environment"));
    }

    #[test]
    fn every_schema_is_an_object_as_the_protocol_wants() {
        for tool in crate::tools::table().iter() {
            let listing = listing(&tool.spec, true);
            assert_eq!(listing.input_schema["type"], "object", "{}", listing.name);
            assert!(listing.output_schema.is_some(), "{}", listing.name);
        }
    }
}
