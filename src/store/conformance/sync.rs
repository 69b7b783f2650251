//! Syncs: agents and servers from their files.

use super::cases;
use super::fixture::{Subject, agent_write, name};
use crate::domain::CommandState;
use crate::error::{ErrorKind, Result};
use crate::store::{AgentKey, ServerPut, SyncChanges};

cases!(
    a_sync_puts_deletes_and_marks_in_one_act,
    a_file_that_is_good_again_clears_the_problem,
    a_command_waits_for_the_one_who_accepts_exactly_it,
    a_sync_replaces_all_servers,
    a_server_that_is_away_for_a_moment_keeps_the_word_on_exactly_its_command,
);

fn server(called: &str, command: Option<&str>) -> Result<ServerPut> {
    Ok(ServerPut {
        name: name(called)?,
        file: "environments/conformance/servers.json".to_owned(),
        hash: format!("{called} {command:?}"),
        command_hash: command.map(str::to_owned),
        auto_accept: false,
    })
}

async fn a_sync_puts_deletes_and_marks_in_one_act(case: Subject) -> Result<()> {
    let (old, broken) = (case.agent("old").await?, case.agent("broken").await?);
    assert_eq!(case.store.config_revision().await?.as_deref(), Some("config-1"));
    let changes = SyncChanges {
        put: vec![agent_write("new", "n1", None)?],
        delete: vec![old.definition.name],
        broken: vec![(name("broken")?, "line 3: no".to_owned())],
        servers: vec![server("files", None)?],
        config_revision: "config-2".to_owned(),
    };
    case.store.apply_sync(changes, case.entry("environment.sync")).await?;
    let agents = case.store.agents(None, 10).await?;
    let shown: Vec<_> = agents.iter().map(|row| (row.definition.name.as_str(), row.problem.as_deref())).collect();
    assert_eq!(shown, [("broken", Some("line 3: no")), ("new", None)]);
    assert_eq!(agents[0].revision, broken.revision);
    assert_eq!(case.store.config_revision().await?.as_deref(), Some("config-2"));
    // The files lead: a sync promises none. What is pending comes from the two agents above.
    assert_eq!(case.store.pending_files().await?.len(), 2);
    Ok(())
}

async fn a_file_that_is_good_again_clears_the_problem(case: Subject) -> Result<()> {
    let agent = case.agent("reader").await?;
    let broken = vec![(name("reader")?, "no".to_owned())];
    case.store.apply_sync(SyncChanges { broken, ..SyncChanges::default() }, case.entry("environment.sync")).await?;
    let put = vec![agent_write("reader", "r1", None)?];
    case.store.apply_sync(SyncChanges { put, ..SyncChanges::default() }, case.entry("environment.sync")).await?;
    assert_eq!(case.store.agent(&AgentKey::Id(agent.id)).await?, Some(agent));
    Ok(())
}

async fn a_command_waits_for_the_one_who_accepts_exactly_it(case: Subject) -> Result<()> {
    let apply = async |put: ServerPut| {
        let changes = SyncChanges { servers: vec![put], ..SyncChanges::default() };
        case.store.apply_sync(changes, case.entry("environment.sync")).await?;
        Ok::<_, crate::error::Error>(case.store.servers().await?[0].command_state)
    };
    let shell = name("shell")?;
    assert_eq!(apply(server("shell", None)?).await?, CommandState::Accepted);
    assert_eq!(apply(server("shell", Some("argv-1"))?).await?, CommandState::Pending);
    let refused = case.store.server_accept(&shell, "argv-0", case.entry("mcp_server.accept")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let refused = case.store.server_accept(&name("nobody")?, "argv-1", case.entry("mcp_server.accept")).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    let accepted = case.store.server_accept(&shell, "argv-1", case.entry("mcp_server.accept")).await?;
    assert_eq!(accepted.command_state, CommandState::Accepted);
    assert_eq!(apply(server("shell", Some("argv-1"))?).await?, CommandState::Accepted);
    assert_eq!(apply(server("shell", Some("argv-2"))?).await?, CommandState::Pending);
    let trusted = ServerPut { auto_accept: true, ..server("shell", Some("argv-3"))? };
    assert_eq!(apply(trusted).await?, CommandState::Accepted);
    Ok(())
}

async fn a_sync_replaces_all_servers(case: Subject) -> Result<()> {
    let apply = async |servers: Vec<ServerPut>| {
        let changes = SyncChanges { servers, ..SyncChanges::default() };
        case.store.apply_sync(changes, case.entry("environment.sync")).await?;
        case.store.servers().await
    };
    let before = apply(vec![server("b", None)?, server("a", None)?]).await?;
    assert_eq!(before.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    case.advance(5);
    let after = apply(vec![server("b", None)?, server("c", None)?]).await?;
    assert_eq!(after.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(after[0], before[1], "an unchanged server isn't touched");
    assert_eq!(after[1].created_at, case.now());
    Ok(())
}

async fn a_server_that_is_away_for_a_moment_keeps_the_word_on_exactly_its_command(case: Subject) -> Result<()> {
    let apply = async |servers: Vec<ServerPut>| {
        let changes = SyncChanges { servers, ..SyncChanges::default() };
        case.store.apply_sync(changes, case.entry("environment.sync")).await?;
        case.store.servers().await
    };
    let state = async |put: ServerPut| Ok::<_, crate::error::Error>(apply(vec![put]).await?[0].command_state);
    let (shell, minute) = (name("shell")?, 60_000);
    let accept = async || case.store.server_accept(&shell, "argv", case.entry("mcp_server.accept")).await;
    assert_eq!(state(server("shell", Some("argv"))?).await?, CommandState::Pending);
    assert_eq!(apply(vec![]).await?, []);
    assert_eq!(state(server("shell", Some("argv"))?).await?, CommandState::Pending, "nobody has accepted it");
    let accepted = accept().await?;
    assert_eq!(apply(vec![]).await?, [], "what is away isn't listed");
    assert_eq!(accept().await.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    case.advance(59 * minute);
    let back = apply(vec![server("shell", Some("argv"))?]).await?;
    assert_eq!((back[0].command_state, back[0].created_at), (CommandState::Accepted, accepted.created_at));
    // Another sync without it doesn't make the time longer.
    apply(vec![]).await?;
    case.advance(30 * minute);
    apply(vec![server("other", None)?]).await?;
    case.advance(30 * minute);
    assert_eq!(state(server("shell", Some("argv"))?).await?, CommandState::Pending, "an hour is over");
    accept().await?;
    apply(vec![]).await?;
    assert_eq!(state(server("shell", Some("another"))?).await?, CommandState::Pending);
    assert_eq!(state(server("shell", Some("argv"))?).await?, CommandState::Pending, "it was another in between");
    accept().await?;
    apply(vec![]).await?;
    assert_eq!(state(server("shell2", Some("argv"))?).await?, CommandState::Pending, "the word is on this name alone");
    Ok(())
}
