//! What a load balancer or a service manager asks, without a key.

use super::Doors;
use crate::adapters::rest::Problem;
use crate::error::Error;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

pub(super) fn routes(doors: &Doors) -> Router {
    let doors = doors.clone();
    Router::new().route("/healthz", get(alive)).route("/readyz", get(async move || ready(&doors)))
}

/// Whoever can answer is alive.
async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

fn ready(doors: &Doors) -> Response {
    if doors.stopping().is_cancelled() {
        return Problem::from(Error::unavailable("the station is stopping")).into_response();
    }
    if !doors.is_ready() {
        return Problem::from(Error::unavailable("the station is starting")).into_response();
    }
    Json(json!({ "status": "ready" })).into_response()
}
