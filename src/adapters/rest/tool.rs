//! The one handler of all tool routes.

use super::input::{Given, input_of};
use super::{BASE, Problem, body, query_of};
use crate::adapters::http::{Arrival, Doors};
use crate::domain::{Principal, RunStatus};
use crate::error::{Error, Result};
use crate::mcp::serve::{Leave, TurnedAway};
use crate::net::RequestId;
use crate::tools::spec::Rest;
use crate::tools::{Act, Context, dispatch};
use axum::RequestExt;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Answers a request to the route `rest` of the tool `name`.
pub(super) async fn answer(doors: &Doors, name: &'static str, rest: Rest, request: Request) -> Response {
    match act(doors, name, rest, request).await {
        Ok(output) => success(rest, &output),
        Err(problem) => problem.into_response(),
    }
}

async fn act(doors: &Doors, name: &'static str, rest: Rest, mut request: Request) -> Result<Value, Problem> {
    let ctx = context(request.extensions())?;
    let path = path_fields(&mut request).await?;
    let query = query_of(request.uri())?;
    let (head, body) = request.into_parts();
    let body = body::fields(&head.headers, body, &doors.station.clock).await?;
    if let Some(leave) = head.extensions.get::<Leave>()
        && !leave.lasts().await
    {
        let error = Error::unauthenticated("the key isn't taken any more");
        return Err(Problem::from(error).turned_away(TurnedAway::Ended));
    }
    let spec = doors.station.table.get(name).map(|tool| &tool.spec);
    let spec = spec.ok_or_else(|| Error::internal(format!("`{name}` has a route and is not in the table")))?;
    let mut input = input_of(spec, rest.method, Given { path, query, body })?;
    if spec.input.pointer("/properties/idempotency_key").is_some() {
        take_idempotency_key(&head.headers, &mut input)?;
    }
    let arguments = Value::Object(input);
    let act = Act::Tool { name: name.to_owned(), arguments };
    let output = dispatch(&doors.station, ctx, act).await?.into_value();
    output.ok_or_else(|| Error::internal(format!("`{name}` answered with something that is no JSON")).into())
}

/// The `Idempotency-Key` header, taken as it is, stands for the input's `idempotency_key`.
fn take_idempotency_key(headers: &HeaderMap, input: &mut Map<String, Value>) -> Result<()> {
    let refused = |message: &str, hint: &str| Err(Error::invalid_input(message).hint(hint).field("idempotency_key"));
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(()) };
    if given.any(|other| other != key) {
        return refused("the `Idempotency-Key` header is given twice, and differently", "give it once");
    }
    let Ok(key) = key.to_str() else {
        return refused(
            "the `Idempotency-Key` header is no ASCII text",
            "give such a key as `idempotency_key` in the body",
        );
    };
    match input.get("idempotency_key").filter(|key| !key.is_null()) {
        Some(in_body) if in_body != key => {
            refused("the `Idempotency-Key` header and `idempotency_key` in the body differ", "give one of them")
        }
        _ => {
            input.insert("idempotency_key".into(), key.into());
            Ok(())
        }
    }
}

/// Who asks, and by which door. The layers in front have settled it.
pub(in crate::adapters) fn context(extensions: &Extensions) -> Result<Context> {
    let missing = || Error::unauthenticated("nobody has said who is calling");
    let principal: Principal = extensions.get().cloned().ok_or_else(missing)?;
    let arrival: Arrival = extensions.get().cloned().ok_or_else(missing)?;
    let request_id = extensions.get::<RequestId>().map(RequestId::to_string).unwrap_or_default();
    let mut ctx = Context::new(principal, arrival.origin, request_id);
    ctx.provider_variables = arrival.variables;
    Ok(ctx)
}

/// The fields of the path, decoded.
pub(super) async fn path_fields(request: &mut Request) -> Result<Vec<(String, String)>> {
    let fields = request.extract_parts::<RawPathParams>().await;
    let fields = fields.map_err(|cause| Error::invalid_input(format!("the path can't be read: {cause}")))?;
    Ok(fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn success(rest: Rest, output: &Value) -> Response {
    let mut response = (status(rest, output), output.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let location =
        rest.location.and_then(|template| location(template, output)).and_then(|path| HeaderValue::try_from(path).ok());
    response.headers_mut().extend(location.map(|location| (LOCATION, location)));
    response
}

/// What is accepted is still to come; of a run that has ended, nothing is.
fn status(rest: Rest, output: &Value) -> StatusCode {
    let success = StatusCode::from_u16(rest.success).unwrap_or(StatusCode::OK);
    let run = output.get("status").and_then(|status| RunStatus::deserialize(status).ok());
    if success == StatusCode::ACCEPTED && run.is_some_and(RunStatus::is_terminal) { StatusCode::OK } else { success }
}

/// `template` with its `{}` filled from the output. `None` when the output lacks one.
fn location(template: &str, output: &Value) -> Option<String> {
    let mut location = BASE.to_owned();
    let mut rest = template;
    while let Some((before, field)) = rest.split_once('{') {
        let (field, behind) = field.split_once('}')?;
        location.push_str(before);
        match output.get(field)? {
            Value::String(text) => location.push_str(text),
            Value::Number(number) => location.push_str(&number.to_string()),
            _ => return None,
        }
        rest = behind;
    }
    location.push_str(rest);
    Some(location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Method;
    use serde_json::json;

    #[test]
    fn the_location_is_filled_from_the_output() {
        assert_eq!(location("/runs/{id}", &json!({ "id": "r" })).unwrap(), "/api/v1/runs/r");
        assert_eq!(location("/agents/{id}/x", &json!({ "id": 7 })).unwrap(), "/api/v1/agents/7/x");
        assert_eq!(
            location("/agents/{name}?environment={environment}", &json!({ "name": "a", "environment": "staging" }))
                .unwrap(),
            "/api/v1/agents/a?environment=staging"
        );
        assert_eq!(location("/runs/{id}", &json!({ "id": null })), None);
        assert_eq!(location("/runs/{id}", &json!({})), None);
    }

    #[test]
    fn a_run_that_has_ended_is_no_longer_only_accepted() {
        let queue = Rest { method: Method::Post, path: "/agents/{agent}/queue", success: 202, location: None };
        let answered = |rest: Rest, run: &str| status(rest, &json!({ "status": run })).as_u16();
        for ended in ["completed", "failed", "cancelled"] {
            assert_eq!(answered(queue, ended), 200, "{ended}");
        }
        for live in ["queued", "running", "input_required"] {
            assert_eq!(answered(queue, live), 202, "{live}");
        }
        assert_eq!(answered(Rest { success: 201, ..queue }, "completed"), 201);
    }
}
