//! What an environment calls by name. A secret that is part of such a name would be taken out of it, and what is called so isn't found any
//! more: a model calls `[redacted:PASSWORD]__query`, and a server is sent `{"[redacted:PASSWORD]": ..}`.

use super::words;
use crate::error::Result;
use crate::redact::{SHORTEST, texts_of};
use crate::tools::Environment;
use std::collections::BTreeSet;
use std::time::Duration;

/// The names of an environment's agents, servers, tools and secrets, and of the fields that agents and tools take.
#[derive(Debug)]
pub(in crate::tools) struct Names(Vec<Named>);

#[derive(Debug)]
struct Named {
    name: String,
    /// `server`, or whatever else is called so.
    what: &'static str,
}

impl Names {
    /// Those that are known now: no server is waited for.
    pub(in crate::tools) async fn of(environment: &Environment) -> Result<Self> {
        let mut names = Self(Vec::new());
        for agent in environment.store.agents(None, u32::MAX).await? {
            let definition = &agent.definition;
            names.add("the name of agent", definition.name.as_str());
            let schemas = [&definition.input_schema, &definition.output_schema];
            let mut fields = BTreeSet::new();
            schemas.into_iter().flatten().for_each(|schema| words::of_schema(schema, &mut fields));
            fields.into_iter().for_each(|field| names.add("a field of an agent:", field));
        }
        for server in environment.gateway.status() {
            names.add("the name of server", server.name.as_str());
        }
        for tool in environment.gateway.catalog_for(Duration::ZERO, |_| false).await.iter() {
            names.add("the name of tool", &tool.name);
            names.add("the name of tool", &tool.tool);
            let mut fields = BTreeSet::new();
            words::of_schema(&tool.input_schema, &mut fields);
            fields.into_iter().for_each(|field| names.add("a field of a tool:", field));
        }
        for secret in environment.secrets.list(None, u32::MAX).await? {
            names.add("the name of secret", &secret.name);
        }
        Ok(names)
    }

    /// The same, and the name of a secret that is about to be set.
    pub(super) fn and_secret(mut self, name: &str) -> Self {
        self.add("the name of secret", name);
        self
    }

    fn add(&mut self, what: &'static str, name: &str) {
        self.0.push(Named { name: name.to_owned(), what });
    }

    /// Lets the redactor of `environment` forget values that no secret has any more and that are part of a name: what is called so is found
    /// again. Any other stays known, because what was kept may have it.
    pub(super) fn free(&self, environment: &Environment) {
        environment.secrets.forget_former(|value| self.holding(value).is_some());
    }

    /// What `value`, or a line of it, is part of: "the name of server `postgres`".
    pub(in crate::tools) fn holding(&self, value: &str) -> Option<String> {
        let looked_for = texts_of(value).into_iter().filter(|text| text.len() >= SHORTEST);
        let mut found = looked_for.filter_map(|text| self.0.iter().find(|named| named.name.contains(text)));
        found.next().map(|named| format!("{} `{}`", named.what, named.name.escape_debug()))
    }
}

/// The secrets of `environment` that have become part of a name since they were set, with what it is.
pub(in crate::tools) async fn in_the_way(environment: &Environment) -> Result<Vec<(String, String)>> {
    let names = Names::of(environment).await?;
    Ok(environment.secrets.values().among(|value| names.holding(value)))
}
