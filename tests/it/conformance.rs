//! The protocol's own conformance suite against `stn serve`. What a station can't pass without the suite's fixtures is listed in
//! `tests/conformance/expected-failures.yml`; any other failure, and a listed one that passes, fails the test.

use crate::support::home::{Running, TestHome};
use crate::support::http::Listening;
use crate::support::peers;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, http::StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use station::lifecycle::Tasks;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a station can't pass without the suite's fixtures.
const EXPECTED_FAILURES: &str = "tests/conformance/expected-failures.yml";

/// The longest that a whole suite may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the suite can't send: it has no option for headers. Everything else passes as it is, `Host` and `Origin` too.
struct WithKey {
    url: String,
    _listening: Listening,
}

#[derive(Clone)]
struct Upstream {
    address: String,
    key: HeaderValue,
    tasks: Tasks,
}

impl WithKey {
    fn start(address: &str, key: &str) -> Self {
        let key = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        let upstream = Upstream { address: address.to_owned(), key, tasks: Tasks::new() };
        let router = Router::new().fallback(forward).with_state(upstream);
        let listening = Listening::start(router);
        Self { url: format!("{}/mcp", listening.url), _listening: listening }
    }
}

async fn forward(State(upstream): State<Upstream>, mut request: Request) -> Response {
    request.headers_mut().insert(header::AUTHORIZATION, upstream.key.clone());
    let Ok(stream) = TcpStream::connect(&upstream.address).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    upstream.tasks.spawn("a forwarded connection", async move {
        let _cut = connection.await;
    });
    match sender.send_request(request).await {
        Ok(response) => response.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn conforms(requirements: &str) {
    let home = TestHome::new();
    let _created = home.stn(&["init"]).ok();
    let serve = home.serve();
    let with_key = WithKey::start(serve.url.trim_start_matches("http://"), &home.key());
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXPECTED_FAILURES);
    let mut suite = home.program(peers::node());
    suite.arg(peers::npm("@modelcontextprotocol/conformance/dist/index.js"));
    suite.args(["server", "--url", &with_key.url, "--requirements", requirements, "--expected-failures"]).arg(expected);
    let results = home.beside().join("results");
    suite.arg("-o").arg(&results);
    let said = Running::start(suite, "").end_within(PATIENCE);
    let summary = said.stdout.split("=== SUMMARY ===").last().unwrap_or_default();
    assert_eq!(said.code, 0, "{summary}\n{}\n{}", said.stderr, reasons(&said.stdout, &results));
    for scenario in ["tools-list", "dns-rebinding-protection"] {
        assert!(said.stdout.contains(&format!("✓ {scenario}:")), "{scenario} was not run, or failed:\n{summary}");
    }
}

/// The failed checks of the scenarios that should have passed, as the suite wrote them down.
fn reasons(said: &str, results: &Path) -> String {
    let unexpected = said.split("Unexpected failures").nth(1).unwrap_or_default();
    let scenarios: Vec<&str> = unexpected.lines().filter_map(|line| line.trim().strip_prefix("✗ ")).collect();
    let mut found = String::new();
    for entry in fs::read_dir(results).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let of = |scenario: &&str| name.starts_with(&format!("server-{}-20", scenario.split(':').next().unwrap()));
        if scenarios.iter().any(of) {
            let checks: Value = serde_json::from_slice(&fs::read(folder.join("checks.json")).unwrap()).unwrap();
            let failed = checks.as_array().unwrap().iter().filter(|check| check["status"] != "SUCCESS");
            found.extend(failed.map(|check| format!("{name}: {check:#}\n")));
        }
    }
    found
}

#[test]
fn every_expected_failure_names_one_check_and_the_fixture_that_it_needs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXPECTED_FAILURES);
    let text = fs::read_to_string(file).unwrap();
    let entries: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert!(!entries.is_empty());
    for entry in entries {
        let (check, fixture) = entry.split_once(" # ").unwrap_or((entry, ""));
        assert!(
            check.trim().split_once(':').is_some_and(|(_, id)| !id.is_empty()),
            "`{entry}` excuses a whole scenario"
        );
        assert!(!fixture.trim().is_empty(), "`{entry}` says no fixture");
    }
}

#[test]
fn a_bare_station_conforms_to_2025_11_25() {
    conforms("2025-11-25");
}

#[test]
fn a_bare_station_conforms_to_2026_07_28() {
    conforms("2026-07-28");
}
