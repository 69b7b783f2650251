//! `/mcp`, which is the default environment, and `/mcp/{environment}`; with `?tools=all` every tool that the caller may use. Whether the
//! caller may open it at all, is asked with every request.

use super::StationBackend;
use crate::adapters::http::Doors;
use crate::adapters::local::tool_set;
use crate::adapters::rest::{Problem, context, query_of};
use crate::domain::{Name, Origin, nearest};
use crate::error::{Error, Result};
use crate::mcp::serve::{Backend, HttpSeed, HttpService, ToolSet, http_service};
use crate::tools::{self, Context};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tower::ServiceExt;

pub(in crate::adapters) fn routes(doors: &Doors) -> Router {
    let endpoints = Arc::new(Endpoints::new(doors.clone()));
    let named = Arc::clone(&endpoints);
    Router::new().route("/mcp", any(async move |request: Request| endpoints.answer(None, request).await)).route(
        "/mcp/{environment}",
        any(async move |name: Result<Path<String>, PathRejection>, request: Request| match name {
            Ok(Path(name)) => named.answer(Some(&name), request).await,
            Err(cause) => {
                let error = Error::invalid_input(format!("the path can't be read: {}", cause.body_text()));
                Problem::from(error.hint("an environment is at `/mcp/{environment}`")).into_response()
            }
        }),
    )
}

/// One endpoint per environment and set of tools, made when it is first asked for: each keeps its own sessions.
struct Endpoints {
    doors: Doors,
    backend: Arc<dyn Backend>,
    open: Mutex<HashMap<(Name, bool), HttpService>>,
}

impl Endpoints {
    fn new(doors: Doors) -> Self {
        let backend = StationBackend::shared(Arc::clone(&doors.station), None);
        Self { doors, backend, open: Mutex::default() }
    }

    async fn answer(&self, environment: Option<&str>, request: Request) -> Response {
        let (address, ctx) = (request.uri().clone(), context(request.extensions()));
        let endpoint = match self.endpoint(environment, &address, ctx).await {
            Ok(endpoint) => endpoint,
            Err(error) => return Problem::from(error).into_response(),
        };
        match endpoint.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn endpoint(&self, environment: Option<&str>, address: &Uri, ctx: Result<Context>) -> Result<HttpService> {
        let tools = asked_for(address)?;
        let ctx = Context { origin: Origin::McpHttp, ..ctx? };
        let name = tools::open(&self.doors.station, &ctx, environment).await?.name.clone();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = open.entry((name.clone(), tools == ToolSet::All));
        Ok(endpoint.or_insert_with(|| http_service(Arc::clone(&self.backend), self.seed(name, tools))).clone())
    }

    fn seed(&self, environment: Name, tools: ToolSet) -> HttpSeed {
        HttpSeed {
            environment: Some(environment),
            tools,
            clock: Arc::clone(&self.doors.station.clock),
            tasks: self.doors.tasks.clone(),
            cancel: self.doors.stopping().clone(),
        }
    }
}

fn asked_for(uri: &Uri) -> Result<ToolSet> {
    let mut tools = ToolSet::Default;
    for (name, value) in query_of(uri)? {
        if name != "tools" {
            let error = Error::invalid_input(format!("this endpoint has no query field `{}`", name.escape_debug()))
                .field(&name);
            return Err(match nearest(&name, ["tools"]) {
                Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                None => error.hint("another environment is at `/mcp/{environment}`; `?tools=all` shows every tool"),
            });
        }
        tools = tool_set(&value).ok_or_else(|| {
            Error::invalid_input(format!("`tools` is `{}`", value.escape_debug()))
                .hint("use `default` or `all`")
                .field("tools")
        })?;
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_which_tools_are_shown() {
        let asked = |uri| asked_for(&Uri::from_static(uri));
        assert_eq!(asked("/mcp").unwrap(), ToolSet::Default);
        assert_eq!(asked("/mcp/staging?tools=all").unwrap(), ToolSet::All);
        assert!(asked("/mcp?tools=some").is_err());
        assert!(asked("/mcp?environment=staging").unwrap_err().hint_text().unwrap().contains("/mcp/{environment}"));
    }
}
