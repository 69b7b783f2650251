//! What becomes of calls that are under way when files change.

use super::*;
use std::path::{Path, PathBuf};

/// The server with a tool `wait`, which answers with the line that somebody writes into the pipe, and the pipe.
fn patient(home: &Path) -> (String, PathBuf) {
    let pipe = home.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let tools = SERVER.replace(r#"{"name":"hang"}"#, r#"{"name":"hang"},{"name":"wait"}"#);
    let wait = format!(
        r#"*'"name":"wait"'*) read -r word < {}; say "\"result\":{{\"content\":[],\"word\":\"$word\"}}" ;;"#,
        pipe.display()
    );
    (tools.replace("  esac", &format!("    {wait}\n  esac")), pipe)
}

/// Opens the pipe, which takes until the call has come to the server.
async fn under_way(pipe: &Path) -> std::fs::File {
    let pipe = pipe.to_owned();
    let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe).unwrap());
    SystemClock::shared().timeout(LONG, opened).await.unwrap().unwrap()
}

fn answer(mut pipe: std::fs::File) {
    std::io::Write::write_all(&mut pipe, b"done\n").unwrap();
}

fn pid_of(gateway: &Gateway, server: &str) -> Option<u32> {
    gateway.status().into_iter().find(|status| status.name == *server).and_then(|status| status.pid)
}

#[tokio::test]
async fn what_does_not_concern_the_process_is_in_force_at_once_and_restarts_nothing() {
    let Bench { gateway, deps, _keep } = bench();
    let (script, pipe) = patient(&deps.home);
    attach(&gateway, vec![shell("sh", &script)]);
    let waiting = async { call(&gateway, "sh__wait", json!({})).await.unwrap() };
    let changing = async {
        let pipe = under_way(&pipe).await;
        let before = pid_of(&gateway, "sh").unwrap();
        let mut moved = shell("sh", &script);
        moved.file = "environments/development/moved.json".into();
        moved.timeout_ms = Some(1_000);
        moved.tools.insert("echo".into(), ToolOverride { effect: Some(Effect::Read), ..ToolOverride::default() });
        attach(&gateway, vec![moved.clone()]);
        assert!(gateway.catalog(Duration::ZERO).await.find("sh__echo").unwrap().effect.is_repeatable());
        assert_eq!(gateway.status()[0].definition.as_deref(), Ok(&moved));
        attach(&gateway, vec![shell("sh", &script)]);
        assert!(!gateway.catalog(Duration::ZERO).await.find("sh__echo").unwrap().effect.is_repeatable());
        assert_eq!(pid_of(&gateway, "sh"), Some(before));
        answer(pipe);
    };
    let (answered, ()) = tokio::join!(waiting, changing);
    assert_eq!(answered["word"], "done");
    gateway.close().await;
}

#[tokio::test]
async fn a_timeout_that_changes_is_that_of_the_next_call() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("sh", SERVER)]);
    call(&gateway, "sh__pid", json!({})).await.unwrap();
    let mut hasty = shell("sh", SERVER);
    hasty.timeout_ms = Some(20);
    attach(&gateway, vec![hasty]);
    assert_eq!(call(&gateway, "sh__hang", json!({})).await.unwrap_err().kind(), ErrorKind::Timeout);
    gateway.close().await;
}

/// The call that `change` finds under way gets its answer, and then the process ends.
async fn changing_under_way(change: impl AsyncFnOnce(&Gateway, &str)) {
    let Bench { gateway, deps, _keep } = bench();
    let (script, pipe) = patient(&deps.home);
    attach(&gateway, vec![shell("sh", &script)]);
    let waiting = async { call(&gateway, "sh__wait", json!({})).await.unwrap() };
    let changing = async {
        let pipe = under_way(&pipe).await;
        let old = pid_of(&gateway, "sh").unwrap();
        change(&gateway, &script).await;
        assert_ne!(pid_of(&gateway, "sh"), Some(old));
        answer(pipe);
        old
    };
    let (answered, old) = tokio::join!(waiting, changing);
    assert_eq!(answered["word"], "done");
    let group = nix::unistd::Pid::from_raw(i32::try_from(old).unwrap());
    let gone = async {
        while nix::sys::signal::killpg(group, None).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    deps.clock.timeout(LONG, gone).await.expect("it is gone once its call is answered");
    gateway.close().await;
}

#[tokio::test]
async fn a_replaced_server_answers_the_calls_that_it_has_while_its_successor_takes_new_ones() {
    changing_under_way(async |gateway, script| {
        attach(gateway, vec![shell("sh", &format!("{script}# changed"))]);
        let options = CallOptions { timeout: Some(LONG), ..CallOptions::default() };
        gateway.call("sh__pid", raw(&json!({})), options).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_removed_server_answers_the_calls_that_it_has_and_takes_no_new_ones() {
    changing_under_way(async |gateway, _| {
        attach(gateway, Vec::new());
        assert_eq!(call(gateway, "sh__pid", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_station_waits_for_no_call() {
    let Bench { gateway, deps, _keep } = bench();
    let (script, pipe) = patient(&deps.home);
    attach(&gateway, vec![shell("sh", &script)]);
    let waiting = call(&gateway, "sh__wait", json!({}));
    let closing = async {
        let _never_answered = under_way(&pipe).await;
        attach(&gateway, Vec::new());
        SystemClock::shared().timeout(LONG, gateway.close()).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(waiting, closing);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
}
