//! The one handler of all tool routes.

use super::input::{Given, input_of};
use super::{BASE, Problem, body, query_of};
use crate::adapters::http::{Arrival, Doors, RequestId};
use crate::domain::Principal;
use crate::error::{Error, Result};
use crate::tools::spec::Rest;
use crate::tools::{Act, Context, dispatch};
use axum::RequestExt;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
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
pub(super) fn context(extensions: &Extensions) -> Result<Context> {
    let missing = || Error::unauthenticated("nobody has said who is calling");
    let principal: Principal = extensions.get().cloned().ok_or_else(missing)?;
    let arrival: Arrival = extensions.get().cloned().ok_or_else(missing)?;
    let request_id = extensions.get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default();
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
    let status = StatusCode::from_u16(rest.success).unwrap_or(StatusCode::OK);
    let mut response = (status, output.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let location =
        rest.location.and_then(|template| location(template, output)).and_then(|path| HeaderValue::try_from(path).ok());
    response.headers_mut().extend(location.map(|location| (LOCATION, location)));
    response
}

/// `template` with its `{}` filled from the output. `None` when the output lacks one.
fn location(template: &str, output: &Value) -> Option<String> {
    let parts = template.split('/').map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        None => Some(part.to_owned()),
        Some(field) => match output.get(field)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        },
    });
    Some(format!("{BASE}{}", parts.collect::<Option<Vec<_>>>()?.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_location_is_filled_from_the_output() {
        assert_eq!(location("/runs/{id}", &json!({ "id": "r" })).unwrap(), "/api/v1/runs/r");
        assert_eq!(location("/agents/{id}/x", &json!({ "id": 7 })).unwrap(), "/api/v1/agents/7/x");
        assert_eq!(location("/runs/{id}", &json!({ "id": null })), None);
        assert_eq!(location("/runs/{id}", &json!({})), None);
    }
}
