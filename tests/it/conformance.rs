//! The protocol's own conformance suite against `stn serve`. What a station can't pass without the suite's fixtures is listed in
//! `tests/conformance/expected-failures.yml`; any other failure, and a listed one that passes, fails the test.

use crate::support::home::{TestHome, run};
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
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What the suite can't send: it has no option for headers. Everything else passes as it is, `Host` and `Origin` too.
struct WithKey {
    url: String,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Upstream {
    address: String,
    key: HeaderValue,
    tasks: Tasks,
}

impl WithKey {
    fn start(address: &str, key: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let key = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        let upstream = Upstream { address: address.to_owned(), key, tasks: Tasks::new() };
        let router = Router::new().fallback(forward).with_state(upstream);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _runtime: runtime }
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
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected-failures.yml");
    let mut suite = home.program(peers::node());
    suite.arg(peers::npm("@modelcontextprotocol/conformance/dist/index.js"));
    suite.args(["server", "--url", &with_key.url, "--requirements", requirements, "--expected-failures"]).arg(expected);
    let results = home.beside().join("results");
    suite.arg("-o").arg(&results);
    let said = run(suite, "");
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
fn a_bare_station_conforms_to_2025_11_25() {
    conforms("2025-11-25");
}

#[test]
fn a_bare_station_conforms_to_2026_07_28() {
    conforms("2026-07-28");
}
