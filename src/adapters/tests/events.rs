//! Following a run.

use crate::adapters::testing::{Coming, TestStation};
use crate::domain::{Event, EventType, RunId, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const STREAM: (&str, &str) = ("accept", "text/event-stream");

async fn queued(test: &TestStation) -> String {
    let agent = json!({ "name": "hello", "prompt": "Say hello." });
    assert_eq!(test.send("POST /api/v1/agents", Some(agent)).await.status, 201);
    let run = test.send("POST /api/v1/agents/hello/queue", Some(json!({ "input": "world" }))).await;
    run.json()["id"].as_str().unwrap().to_owned()
}

async fn follow(test: &TestStation, run: &str, last: Option<&str>) -> Coming {
    let headers: Vec<(&str, &str)> = [STREAM].into_iter().chain(last.map(|last| ("last-event-id", last))).collect();
    test.open(&format!("GET /api/v1/runs/{run}/events"), &headers, None).await
}

/// The `event`, `id` and `data` of a frame.
fn parts(frame: &str) -> (&str, Option<&str>, Value) {
    let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    (line("event").unwrap(), line("id"), serde_json::from_str(line("data").unwrap()).unwrap())
}

#[tokio::test]
async fn stored_events_come_first_then_what_happens_up_to_the_end() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    let mut stream = follow(&test, &run, None).await;
    let first = stream.piece().await.unwrap();
    let (event, id, data) = parts(&first);
    assert_eq!(
        (event, data["type"].as_str(), data["run_id"].as_str()),
        ("run.queued", Some("run.queued"), Some(run.as_str()))
    );
    assert_eq!(id, Some(format!("{}-{}", data["epoch"], data["seq"]).as_str()));
    let cancelled = test.send(&format!("POST /api/v1/runs/{run}/cancel"), None).await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(parts(&stream.piece().await.unwrap()).0, "run.cancelled");
    assert_eq!(stream.piece().await, None);
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_the_rest_and_after_the_end_nothing() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    test.send(&format!("POST /api/v1/runs/{run}/cancel"), None).await;
    let all = follow(&test, &run, None).await.read().await;
    assert_eq!((all.header("content-type"), all.header("x-accel-buffering")), ("text/event-stream", "no"));
    let frames: Vec<&str> = all.text.split_terminator("\n\n").collect();
    let ids: Vec<&str> = frames.iter().filter_map(|frame| parts(frame).1).collect();
    assert_eq!((frames.len(), ids.len()), (2, 2));
    let rest = follow(&test, &run, Some(ids[0])).await.read().await;
    assert_eq!(rest.text, format!("{}\n\n", frames[1]));
    let by_number = test.open(&format!("GET /api/v1/runs/{run}/events?after=1"), &[STREAM], None).await.read().await;
    assert_eq!(by_number.text, rest.text);
    let nothing = follow(&test, &run, Some(ids[1])).await.read().await;
    assert_eq!((nothing.status, nothing.text.as_str()), (204, ""));
}

#[tokio::test]
async fn whoever_asks_for_no_stream_gets_a_page_of_what_is_stored() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    test.send(&format!("POST /api/v1/runs/{run}/cancel"), None).await;
    let page = async |query: &str| {
        let page = test.send(&format!("GET /api/v1/runs/{run}/events{query}"), None).await;
        assert_eq!((page.status, page.header("content-type")), (200, "application/json"), "{}", page.text);
        let types: Vec<String> = page.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect();
        (types, page.json()["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await, (vec!["run.queued".into(), "run.cancelled".into()], None));
    assert_eq!(page("?after=1").await.0, ["run.cancelled"]);
    let (first, cursor) = page("?limit=1").await;
    assert_eq!(first, ["run.queued"]);
    let (second, end) = page(&format!("?limit=1&cursor={}", cursor.unwrap())).await;
    assert_eq!((second, end), (vec!["run.cancelled".into()], None));
    // A stream has no pages.
    let stream = format!("GET /api/v1/runs/{run}/events?limit=1");
    let refused = test.open(&stream, &[STREAM], None).await.read().await;
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("limit")));
}

#[tokio::test]
async fn a_reader_that_has_seen_what_no_longer_is_starts_over() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    for lost in ["9-40", "9-1"] {
        let mut stream = follow(&test, &run, Some(lost)).await;
        let rewound = stream.piece().await.unwrap();
        let (event, id, data) = parts(&rewound);
        assert_eq!((event, &data["data"]["seen"]["epoch"]), ("run.rewound", &json!(9)), "{lost}");
        assert!(id.unwrap().ends_with("-0"));
        assert_eq!(parts(&stream.piece().await.unwrap()).0, "run.queued");
    }
}

#[tokio::test]
async fn live_events_have_no_id_and_a_silent_stream_is_kept_alive() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    let mut stream = follow(&test, &run, None).await;
    assert_eq!(parts(&stream.piece().await.unwrap()).0, "run.queued");
    // As the engine tells them: nobody counts what isn't stored.
    test.deps.station.events.publish(Event {
        run_id: RunId::parse(&run).unwrap(),
        epoch: 1,
        seq: 0,
        r#type: EventType::ModelDelta,
        at: Timestamp::from_millis(0),
        data: json!({ "step": 1, "text": "new" }),
    });
    let live = stream.piece().await.unwrap();
    let (event, id, data) = parts(&live);
    assert_eq!((event, id, &data["data"]["text"]), ("model.delta", None, &json!("new")));
    let (piece, ()) = tokio::join!(stream.piece(), async { test.clock.advance(Duration::from_secs(15)) });
    assert_eq!(piece.unwrap(), ": keep-alive\n\n");
}

#[tokio::test]
async fn a_reader_that_falls_behind_reads_the_store_and_misses_nothing() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    let mut stream = follow(&test, &run, None).await;
    let (_, _, queued) = parts(&stream.piece().await.unwrap());
    for _ in 0..400 {
        let mut delta: Event = serde_json::from_value(queued.clone()).unwrap();
        (delta.r#type, delta.seq) = (EventType::StepProgress, 0);
        test.deps.station.events.publish(delta);
    }
    test.send(&format!("POST /api/v1/runs/{run}/cancel"), None).await;
    let told = loop {
        let piece = stream.piece().await.unwrap();
        match parts(&piece).0 {
            "step.progress" => {}
            stored => break stored.to_owned(),
        }
    };
    assert_eq!(told, "run.cancelled");
    assert_eq!(stream.piece().await, None);
}

#[tokio::test]
async fn streams_end_when_the_station_stops() {
    let test = TestStation::new().await;
    let run = queued(&test).await;
    let mut stream = follow(&test, &run, None).await;
    assert!(stream.piece().await.is_some());
    test.deps.tasks.soft().cancel();
    assert_eq!(stream.piece().await, None);
}

#[tokio::test]
async fn a_run_that_isn_t_there_can_t_be_followed() {
    let test = TestStation::new().await;
    let answered = follow(&test, "018f3a3c-0000-8001-8000-000000000000", None).await.read().await;
    assert_eq!(answered.status, 404);
}
