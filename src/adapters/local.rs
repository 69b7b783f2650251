//! What only the local socket carries: the handshake, the request to hand over the home, and stdio sessions.
//!
//! The listener has checked that the peer is the home's user and no child of the station, so that whoever gets here is the local owner.
//! Two headers count here and nowhere else: `x-station-origin: cli` for acts of the command line, and `x-station-provider-variables`, a
//! JSON object with the provider keys of the caller's own environment.

use super::http::{Arrival, Doors};
use super::mcp::StationBackend;
use super::rest::{Problem, query_of};
use crate::domain::{Grant, Name, Origin, Principal, Role, nearest};
use crate::error::{Error, Result};
use crate::home::pipe::PROTOCOL;
use crate::mcp::serve::{StdioSeed, ToolSet, serve_stream};
use crate::tools::model::ProviderVariables;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const ORIGIN: HeaderName = HeaderName::from_static("x-station-origin");
const PROVIDER_VARIABLES: HeaderName = HeaderName::from_static("x-station-provider-variables");

pub(super) fn routes(doors: &Doors) -> Router {
    Router::new()
        .route("/local/handshake", get(async |State(doors): State<Doors>| Json(doors.handshake.clone())))
        .route("/local/drain", post(drain))
        .route("/local/stdio", get(stdio))
        .with_state(doors.clone())
}

/// Everybody on this socket is the local owner.
pub(super) async fn as_local_owner(mut request: Request, next: Next) -> Response {
    match arrival(request.headers()) {
        Ok(arrival) => {
            request.extensions_mut().insert(Principal::local_owner());
            request.extensions_mut().insert(arrival);
            next.run(request).await
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

fn arrival(headers: &HeaderMap) -> Result<Arrival> {
    let origin = match headers.get(ORIGIN).map(HeaderValue::as_bytes) {
        None => Origin::Rest,
        Some(b"cli") => Origin::Cli,
        Some(_) => return Err(Error::invalid_input(format!("`{ORIGIN}` must be `cli`")).field(ORIGIN.as_str())),
    };
    let given = headers
        .get(PROVIDER_VARIABLES)
        .map(|given| serde_json::from_slice::<BTreeMap<String, String>>(given.as_bytes()));
    let given = given.transpose().map_err(|_| {
        // The cause would quote the value, which is a key.
        Error::invalid_input(format!("`{PROVIDER_VARIABLES}` is no JSON object of strings"))
            .field(PROVIDER_VARIABLES.as_str())
    })?;
    let variables = given.map(|given| ProviderVariables::from_map(&given)).filter(|variables| !variables.is_empty());
    Ok(Arrival { origin, variables: variables.map(Arc::new) })
}

/// The answer is an agreement; the home is free when its lock is.
async fn drain(State(doors): State<Doors>) -> Response {
    tracing::info!("a successor asks for the home");
    doors.drain.cancel();
    (StatusCode::ACCEPTED, Json(json!({ "status": "draining" }))).into_response()
}

async fn stdio(State(doors): State<Doors>, request: Request) -> Response {
    match open_session(&doors, request) {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

fn open_session(doors: &Doors, mut request: Request) -> Result<Response, Problem> {
    let session = Session::parse(request.uri(), doors.default_environment())?;
    doors.station.environment_for(&Principal::local_owner(), session.environment.as_str())?;
    let asked =
        request.headers().get(UPGRADE).is_some_and(|given| given.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()));
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().filter(|_| asked);
    let upgrade = upgrade.ok_or_else(|| {
        let error = Error::invalid_input("this route only opens sessions")
            .hint(format!("send `Upgrade: {PROTOCOL}` over HTTP/1.1"));
        Problem::with_status(error, StatusCode::UPGRADE_REQUIRED)
    })?;
    let variables = request.extensions().get::<Arrival>().and_then(|arrival| arrival.variables.clone());
    let backend = StationBackend::shared(Arc::clone(&doors.station), variables);
    let seed = StdioSeed {
        principal: Principal::local_owner().limited_to(Grant::within(session.environment.clone(), session.role)),
        environment: Some(session.environment),
        tools: session.tools,
        cancel: doors.stopping().clone(),
    };
    let active = doors.activity.enter();
    doors.tasks.spawn("stdio session", async move {
        let _active = active;
        let served = match upgrade.await {
            Ok(upgraded) => serve_stream(backend, seed, TokioIo::new(upgraded)).await,
            Err(cause) => Err(Error::unavailable("the connection was not upgraded").source(cause)),
        };
        if let Err(error) = served {
            tracing::warn!(?error, "a stdio session broke");
        }
    });
    let headers = [(CONNECTION, HeaderValue::from_static("upgrade")), (UPGRADE, HeaderValue::from_static(PROTOCOL))];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// What a client asks of its session.
#[derive(Debug, PartialEq)]
struct Session {
    environment: Name,
    tools: ToolSet,
    role: Role,
}

impl Session {
    fn parse(uri: &Uri, default_environment: &Name) -> Result<Self> {
        let mut session =
            Self { environment: default_environment.clone(), tools: ToolSet::Default, role: Role::Developer };
        for (name, value) in query_of(uri)? {
            let wrong = |hint: &str| {
                Error::invalid_input(format!("`{name}` is `{}`", value.escape_debug())).hint(hint).field(&name)
            };
            match name.as_str() {
                "environment" => session.environment = Name::new(&value).map_err(|invalid| wrong(invalid.reason))?,
                "tools" => session.tools = tool_set(&value).ok_or_else(|| wrong("use `default` or `all`"))?,
                "role" => {
                    session.role =
                        role(&value).ok_or_else(|| wrong("use `viewer`, `developer`, `operator` or `admin`"))?
                }
                _ => {
                    let error =
                        Error::invalid_input(format!("a session has no option `{}`", name.escape_debug())).field(&name);
                    let meant =
                        nearest(&name, ["environment", "tools", "role"]).unwrap_or("environment`, `tools` or `role");
                    return Err(error.hint(format!("did you mean `{meant}`?")));
                }
            }
        }
        Ok(session)
    }
}

fn role(text: &str) -> Option<Role> {
    let deserializer: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    Role::deserialize(deserializer).ok()
}

/// The tools that an address asks for.
pub(super) fn tool_set(text: &str) -> Option<ToolSet> {
    match text {
        "default" => Some(ToolSet::Default),
        "all" => Some(ToolSet::All),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &'static str) -> Result<Session> {
        Session::parse(&Uri::from_static(uri), &Name::new("development").unwrap())
    }

    #[test]
    fn a_session_is_a_developer_s_in_the_default_environment_unless_asked_otherwise() {
        let development = Name::new("development").unwrap();
        let plain = Session { environment: development, tools: ToolSet::Default, role: Role::Developer };
        assert_eq!(parse("/local/stdio").unwrap(), plain);
        let asked = parse("/local/stdio?environment=staging&tools=all&role=viewer").unwrap();
        let staging = Name::new("staging").unwrap();
        assert_eq!(asked, Session { environment: staging, tools: ToolSet::All, role: Role::Viewer });
    }

    #[test]
    fn an_option_that_makes_no_sense_names_the_fix() {
        for bad in [
            "/local/stdio?tools=some",
            "/local/stdio?role=root",
            "/local/stdio?environment=A",
            "/local/stdio?rol=viewer",
        ] {
            assert!(parse(bad).unwrap_err().hint_text().is_some(), "{bad}");
        }
    }

    #[test]
    fn provider_variables_are_taken_and_never_quoted() {
        let with = |value: &'static str| HeaderMap::from_iter([(PROVIDER_VARIABLES, HeaderValue::from_static(value))]);
        assert!(arrival(&with(r#"{"OPENAI_API_KEY":"k"}"#)).unwrap().variables.is_some());
        assert!(arrival(&with(r#"{"PATH":"/"}"#)).unwrap().variables.is_none());
        let error = arrival(&with(r#"{"OPENAI_API_KEY":"sk-1""#)).unwrap_err();
        assert!(!format!("{error:?}").contains("sk-1"));
    }

    #[test]
    fn the_origin_is_the_command_line_s_or_rest() {
        assert_eq!(arrival(&HeaderMap::new()).unwrap().origin, Origin::Rest);
        let with = |value: &'static str| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(value))]);
        assert_eq!(arrival(&with("cli")).unwrap().origin, Origin::Cli);
        assert!(arrival(&with("schedule")).is_err());
    }
}
