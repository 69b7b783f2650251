//! REST under `/api/v1`: one route per tool that has one, derived from the tool's spec, and by hand only what is no single answer
//! (`events.rs`, a run's events as they happen, for those who ask the route of `run_events` for a stream) or about the routes themselves
//! (`openapi.rs`).
//!
//! `input.rs` and `body.rs` read a request, `tool.rs` answers it, `problem.rs` is what errors look like. A new route of a tool is a line
//! in the tool's spec.

mod body;
mod events;
mod input;
mod openapi;
mod problem;
mod tool;

pub(super) use problem::Problem;
pub(super) use tool::context;

use super::http::Doors;
use crate::domain::nearest;
use crate::error::{Error, Result};
use crate::tools::{Method, Station};
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::Uri;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::routing::{MethodFilter, get, on};
use std::sync::Arc;

/// Where all routes of tools are.
const BASE: &str = "/api/v1";

const OPENAPI: &str = "/api/v1/openapi.json";

pub(super) fn routes(doors: &Doors) -> Router {
    let document: Arc<[u8]> = openapi::document(&doors.station.table).to_string().into_bytes().into();
    let routes = Router::new().route(
        OPENAPI,
        get(async move || ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], document.to_vec())),
    );
    let tools = doors.station.table.iter().filter_map(|tool| tool.spec.rest.map(|rest| (tool.spec.name, rest)));
    let routes = tools.fold(routes, |routes, (name, rest)| {
        let answer = async move |State(doors): State<Doors>, request: Request| match name {
            events::TOOL if events::is_stream_wanted(request.headers()) => events::follow(&doors, request).await,
            _ => tool::answer(&doors, name, rest, request).await,
        };
        routes.route(&format!("{BASE}{}", rest.path), on(filter(rest.method), answer))
    });
    routes.with_state(doors.clone())
}

const fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// The query, decoded, in order.
pub(super) fn query_of(uri: &Uri) -> Result<Vec<(String, String)>> {
    let query =
        Query::try_from_uri(uri).map_err(|cause| Error::invalid_input(format!("the query can't be read: {cause}")))?;
    Ok(query.0)
}

/// What a path that leads nowhere is answered with.
pub(super) fn unknown_route(station: &Station, path: &str) -> Problem {
    let shown: String = path.chars().take(120).collect();
    let error = Error::not_found(format!("there is no route `{}`", shown.escape_debug()));
    let hint = match meant(station, path) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("`{OPENAPI}` lists the routes, `/mcp` is the MCP endpoint"),
    };
    error.hint(hint).into()
}

/// The route that `path` was most likely meant to be, with the path's own words in the places of fields.
fn meant(station: &Station, path: &str) -> Option<String> {
    // Clients look there for what others agreed on; no route of Station is like one of those.
    if path.starts_with("/.well-known/") {
        return None;
    }
    // No route ends with a slash.
    let path = path.trim_end_matches('/');
    let of_tools = station.table.iter().filter_map(|tool| Some(format!("{BASE}{}", tool.spec.rest?.path)));
    let all = of_tools.chain([OPENAPI, "/mcp", "/healthz", "/readyz"].map(str::to_owned));
    let routes: Vec<String> = all.map(|route| filled(&route, path)).collect();
    let below = format!("{BASE}{path}");
    let found = routes.iter().find(|route| **route == below).map(String::as_str);
    found.or_else(|| nearest(path, routes.iter().map(String::as_str))).map(str::to_owned)
}

fn filled(route: &str, path: &str) -> String {
    let offset = if path.starts_with(BASE) { 0 } else { 2 };
    let words: Vec<&str> = path.split('/').collect();
    let parts = route.split('/').enumerate().map(|(at, part)| match part.starts_with('{') {
        true => at.checked_sub(offset).and_then(|at| words.get(at)).copied().unwrap_or(part),
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}
