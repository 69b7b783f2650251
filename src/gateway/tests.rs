mod changed;

use super::*;
use crate::clock::SystemClock;
use crate::domain::{Effect, ServerTransport, ToolOverride};
use crate::error::{Error, ErrorKind, Result};
use crate::mcp::call::raw;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A legacy MCP server in POSIX shell: one tool `echo` that gives back its arguments, `die` that ends the server, `hang` that never answers,
/// and `pid`, which tells the process id.
const SERVER: &str = r#"
echo "starting" >&2
while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  say() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
  case "$line" in
    *'"method":"server/discover"'*) say '"error":{"code":-32601,"message":"unknown"}' ;;
    *'"method":"initialize"'*) say '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}' ;;
    *'"method":"tools/list"'*'"cursor":"2"'*)
      say '"result":{"tools":[{"name":"hang"},{"name":"pid","annotations":{"readOnlyHint":true}}],"nextCursor":"2"}' ;;
    *'"method":"tools/list"'*) say '"result":{"tools":[{"name":"echo","x-vendor":1.0},{"name":"die"}],"nextCursor":"2"}' ;;
    *'"name":"echo"'*) rest=${line#*\"params\":}; say "\"result\":{\"content\":[],\"got\":${rest%?}}" ;;
    *'"name":"pid"'*) say "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$$\"}]}" ;;
    *'"name":"die"'*) echo "out of luck" >&2; exit 3 ;;
  esac
done
"#;

struct Bench {
    gateway: Gateway,
    deps: GatewayDeps,
    _keep: TempDir,
}

fn bench() -> Bench {
    let keep = tempfile::tempdir().unwrap();
    let home = keep.path().canonicalize().unwrap();
    let workspace = home.join("environments/development/workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    let deps = GatewayDeps {
        clock: SystemClock::shared(),
        tasks: Tasks::new(),
        http: crate::net::http_client().unwrap(),
        spawner: crate::process::Spawner::start().unwrap(),
        redactor: crate::redact::Redactor::default(),
        starts_servers: true,
        cache_dir: home.join("cache"),
        home,
        workspace,
        secrets: crate::secrets::Values::none(name("development")),
        tool_timeout: Duration::from_secs(30),
    };
    Bench { gateway: gateway(&deps), deps, _keep: keep }
}

fn gateway(deps: &GatewayDeps) -> Gateway {
    Gateway::new(name("development"), deps.clone())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn shell(server: &str, script: &str) -> McpServerDefinition {
    definition(
        server,
        ServerTransport::Stdio {
            command: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::new(),
            cwd: None,
        },
    )
}

fn files(server: &str) -> McpServerDefinition {
    definition(server, ServerTransport::Builtin { builtin: "filesystem".into(), args: Vec::new() })
}

fn definition(server: &str, transport: ServerTransport) -> McpServerDefinition {
    McpServerDefinition {
        name: name(server),
        file: "environments/development/servers.json".into(),
        transport,
        target: Vec::new(),
        timeout_ms: None,
        disabled: false,
        tools: BTreeMap::new(),
    }
}

fn attach(gateway: &Gateway, servers: Vec<McpServerDefinition>) {
    gateway.apply(servers.into_iter().map(|server| (server, CommandState::Accepted)).collect(), BTreeMap::new());
}

async fn call(gateway: &Gateway, tool: &str, arguments: Value) -> Result<Value> {
    let result = gateway.call(tool, raw(&arguments), CallOptions::default()).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

async fn names(gateway: &Gateway, wait: Duration) -> Vec<String> {
    gateway.catalog(wait).await.tools.iter().map(|tool| tool.name.clone()).collect()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn tools_of_all_pages_are_listed_called_and_their_arguments_untouched() {
    let Bench { gateway, deps, _keep } = bench();
    attach(&gateway, vec![shell("sh", SERVER), files("files")]);
    // The call comes while the server still starts.
    let arguments = RawValue::from_string(r#"{"z":1.0,"a":12345678901234567890123}"#.to_owned()).unwrap();
    let options = CallOptions {
        idempotency_key: Some("run-1".into()),
        meta: Some(raw(&json!({ "com.x/y": true, "progressToken": 1 }))),
        ..CallOptions::default()
    };
    let result = gateway.call("sh__echo", arguments, options).await.unwrap();
    let expected = r#"{"name":"echo","arguments":{"z":1.0,"a":12345678901234567890123},"_meta":{"com.x/y":true,"io.station/idempotency-key":"run-1"}}"#;
    assert!(result.get().contains(expected), "{}", result.get());
    let catalog = gateway.catalog(LONG).await;
    let shell: Vec<_> = catalog.tools.iter().filter(|tool| tool.server == "sh").collect();
    assert_eq!(
        shell.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(),
        ["sh__die", "sh__echo", "sh__hang", "sh__pid"]
    );
    assert_eq!((shell[3].effect.effect, shell[3].effect.trusted), (Effect::Read, false));
    assert!(shell[1].definition.get().contains(r#""x-vendor":1.0"#));
    assert!(catalog.find("files__read_text_file").unwrap().effect.is_repeatable());
    let write = catalog.find("files__write_file").unwrap().effect;
    assert_eq!((write.effect, write.is_repeatable()), (Effect::Destructive, true));
    std::fs::write(deps.workspace.join("a.txt"), "hello").unwrap();
    let read = call(&gateway, "files__read_text_file", json!({ "path": "a.txt" })).await.unwrap();
    assert_eq!(read["content"][0]["text"], "hello");
    let unknown = call(&gateway, "sh__ecko", json!({})).await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.hint_text()), (ErrorKind::NotFound, Some("did you mean `sh__echo`?")));
    gateway.close().await;
}

#[tokio::test]
async fn a_crash_fails_its_call_alone_and_the_next_call_starts_the_server() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("sh", SERVER)]);
    let hanging = call(&gateway, "sh__hang", json!({}));
    let dying = async {
        call(&gateway, "sh__pid", json!({})).await.unwrap();
        call(&gateway, "sh__die", json!({})).await
    };
    let (hung, died) = tokio::join!(hanging, dying);
    for error in [hung.unwrap_err(), died.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("`sh`") && error.message().contains("out of luck"), "{error}");
    }
    assert!(names(&gateway, Duration::ZERO).await.contains(&"sh__pid".to_owned()), "the tools stay listed");
    assert!(call(&gateway, "sh__pid", json!({})).await.is_ok());
    gateway.close().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_ends_in_error_with_its_last_words_and_delays_nobody() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("broken", "echo no config >&2; exit 1"), files("files")]);
    assert!(names(&gateway, LONG).await.contains(&"files__write_file".to_owned()));
    let status = gateway.status();
    assert_eq!(status[0].state, ServerState::Error);
    assert!(status[0].problem.as_deref().unwrap().contains("no config"), "{status:?}");
    assert_eq!((status[1].state, status[1].tools), (ServerState::Ready, 13));
    gateway.close().await;
}

#[tokio::test]
async fn a_silent_server_delays_neither_the_catalog_nor_the_calls_of_others() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("silent", "exec cat >/dev/null"), shell("sh", SERVER)]);
    assert!(call(&gateway, "sh__pid", json!({})).await.is_ok());
    assert_eq!(names(&gateway, Duration::from_millis(1)).await.len(), 4);
    let options = CallOptions { timeout: Some(Duration::from_millis(50)), ..CallOptions::default() };
    assert!(gateway.call("silent__x", raw(&json!({})), options).await.is_err());
    gateway.close().await;
}

#[tokio::test]
async fn applying_again_leaves_what_is_the_same_alone() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("same", SERVER), shell("changed", SERVER), shell("removed", SERVER)]);
    assert_eq!(names(&gateway, LONG).await.len(), 12);
    let pids = |gateway: &Gateway| {
        gateway.status().into_iter().map(|s| (s.name.to_string(), s.pid)).collect::<BTreeMap<_, _>>()
    };
    let before = pids(&gateway);
    let mut changed = shell("changed", SERVER);
    if let ServerTransport::Stdio { env, .. } = &mut changed.transport {
        env.insert("NEW".into(), "1".into());
    }
    changed.tools.insert("echo".into(), ToolOverride { effect: Some(Effect::Read), ..ToolOverride::default() });
    attach(&gateway, vec![shell("same", SERVER), changed]);
    let catalog = gateway.catalog(LONG).await;
    assert!(catalog.find("changed__echo").unwrap().effect.is_repeatable());
    // Until it has started the tools come from the cache; the call waits for the start.
    call(&gateway, "changed__echo", json!({})).await.unwrap();
    let after = pids(&gateway);
    assert_eq!(before["same"], after["same"]);
    assert!(before["changed"] != after["changed"] && !after.contains_key("removed"));
    gateway.close().await;
    let last = after["changed"].unwrap();
    assert!(nix::sys::signal::killpg(nix::unistd::Pid::from_raw(i32::try_from(last).unwrap()), None).is_err());
    assert!(gateway.status().is_empty());
}

#[tokio::test]
async fn a_command_that_nobody_accepted_is_not_run() {
    let Bench { gateway, deps, _keep } = bench();
    let marker = deps.home.join("ran");
    let mut disabled = shell("off", SERVER);
    disabled.disabled = true;
    let waiting = shell("waiting", &format!("touch {}", marker.display()));
    gateway.apply(vec![(waiting, CommandState::Pending), (disabled, CommandState::Accepted)], BTreeMap::new());
    let error = call(&gateway, "waiting__anything", json!({})).await.unwrap_err();
    assert_eq!(error.hint_text(), Some("`stn mcp-server accept waiting -e development`"));
    let states: Vec<_> = gateway.status().into_iter().map(|status| status.state).collect();
    assert_eq!(states, [ServerState::Disabled, ServerState::Pending]);
    gateway.close().await;
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_server_that_does_not_answer_contributes_what_it_said_last_time() {
    let Bench { gateway: first, deps, _keep } = bench();
    // The script runs only while the marker exists; it stays the same command.
    let marker = deps.home.join("alive");
    std::fs::write(&marker, "").unwrap();
    let script = format!("test -e {} || exec cat >/dev/null\n{SERVER}", marker.display());
    attach(&first, vec![shell("sh", &script)]);
    assert_eq!(names(&first, LONG).await.len(), 4);
    first.close().await;
    std::fs::remove_file(&marker).unwrap();
    let second = gateway(&deps);
    attach(&second, vec![shell("sh", &script)]);
    assert_eq!(names(&second, Duration::ZERO).await.len(), 4);
    // Its tools are known, and it isn't there: who gives up waiting for it has called nothing.
    assert_never_made(cancelled_call(&second, "sh__echo").await);
    second.close().await;
    let other = gateway(&deps);
    attach(&other, vec![shell("sh", "exec cat >/dev/null")]);
    assert!(names(&other, Duration::ZERO).await.is_empty(), "another command has nothing to remember");
    other.close().await;
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once_and_the_server_lives_on() {
    let Bench { gateway, _keep, .. } = bench();
    attach(&gateway, vec![shell("sh", SERVER)]);
    let before = call(&gateway, "sh__pid", json!({})).await.unwrap();
    let cancel = CancellationToken::new();
    let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
    let hanging = gateway.call("sh__hang", raw(&json!({})), options);
    let (outcome, ()) = tokio::join!(hanging, async { cancel.cancel() });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    let options = CallOptions { timeout: Some(Duration::from_millis(20)), ..CallOptions::default() };
    assert_eq!(gateway.call("sh__hang", raw(&json!({})), options).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(call(&gateway, "sh__pid", json!({})).await.unwrap(), before);
    gateway.close().await;
}

/// A call whose caller goes away as soon as it has to wait.
async fn cancelled_call(gateway: &Gateway, tool: &str) -> Error {
    let cancel = CancellationToken::new();
    let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
    let (outcome, ()) = tokio::join!(gateway.call(tool, raw(&json!({})), options), async { cancel.cancel() });
    outcome.unwrap_err()
}

fn assert_never_made(error: Error) {
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(error.report().details, Some(json!({ "acted": false })));
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_it_leaves_was_never_made() {
    let Bench { gateway, deps, _keep } = bench();
    attach(&gateway, vec![shell("silent", "exec cat >/dev/null"), shell("sh", SERVER), files("files")]);
    assert_never_made(cancelled_call(&gateway, "silent__x").await);
    call(&gateway, "sh__pid", json!({})).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    for tool in ["files__write_file", "sh__echo"] {
        let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
        let arguments = raw(&json!({ "path": "a.txt", "content": "x" }));
        assert_never_made(gateway.call(tool, arguments, options).await.unwrap_err());
    }
    assert!(!deps.workspace.join("a.txt").exists());
    gateway.close().await;
}

#[test]
fn a_result_of_a_built_in_counts_although_the_call_is_cancelled_in_the_same_moment() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let Bench { gateway, _keep, .. } = bench();
        attach(&gateway, vec![files("files")]);
        assert_eq!(names(&gateway, LONG).await.len(), 13);
        let cancel = CancellationToken::new();
        let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
        let arguments = raw(&json!({ "path": "a.txt", "content": "x" }));
        let mut writing = std::pin::pin!(gateway.call("files__write_file", arguments, options));
        assert!(futures_util::future::poll_immediate(&mut writing).await.is_none());
        // There is one thread for such work: what comes behind is done after it.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        cancel.cancel();
        writing.await.unwrap();
        gateway.close().await;
    });
}
