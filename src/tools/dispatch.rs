//! The one road. Everything that makes something happen builds an [`Act`] with a [`Context`] and comes through here:
//! find, environment, authorize, validate, run under deadline and cancellation, answer.

use super::context::{Call, Context, Environment, Station, config_revision};
use super::refused::refused;
use super::spec::{AuditPolicy, EnvironmentUse, Exposure, Tool, ToolSpec};
use super::throttle::NOTHING_FURTHER;
use crate::clock::ClockExt;
use crate::domain::{AuditEntry, AuditOutcome, Effect, Name, Place, PrincipalKind, Refusal, RunId, Scope, nearest};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Follower;
use crate::redact::Redactor;
use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an act waits for a station that is just starting.
const START: Duration = Duration::from_secs(30);

/// The most characters that a denial tells of what was asked for: nobody has checked it.
const MAX_TARGET: usize = 200;

/// What a caller whose time is up is told: whether anything goes on without it.
const NOT_BEGUN: &str = "the station is still starting, and nothing was begun: try again";
const GIVEN_UP: &str = "it was only a look and has been given up: try again, or ask for less";
const GOES_ON: &str = "it goes on without you: look at what it changes before you ask for it again";

/// Something to do.
#[derive(Debug, Clone)]
pub enum Act {
    /// A tool of the table. What attached servers offer is called by `tool_call`.
    Tool { name: String, arguments: Value },
    /// Following the events of a run.
    Subscribe { run: String },
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// A tool's output.
    Output(Value),
    /// The followed run, and its events from now on.
    Following { run: RunId, environment: Arc<Environment>, follower: Follower },
}

impl Answer {
    /// The answer as plain JSON. `None` for a subscription.
    pub fn into_value(self) -> Option<Value> {
        match self {
            Self::Output(value) => Some(value),
            Self::Following { .. } => None,
        }
    }
}

/// What somebody wants to do, as the audit row of a denial tells it.
#[derive(Debug)]
pub(super) struct Deed {
    /// The audit action.
    pub(super) action: String,
    /// What it would be done to, in the caller's words.
    pub(super) target: Option<String>,
}

impl Deed {
    /// A call of the attached tool `name`.
    pub(super) fn tool_call(name: &str) -> Self {
        Self { action: "tool.call".into(), target: Some(name.to_owned()) }
    }
}

/// Does `act` on behalf of `ctx.principal`. No secret of its environment, nor of the station, is in what it answers.
pub async fn dispatch(station: &Arc<Station>, ctx: Context, act: Act) -> Result<Answer> {
    let request = ctx.request_id.clone();
    let answered = AssertUnwindSafe(answer(station, ctx, act)).catch_unwind().await;
    // Before an environment is found, what is told can only hold what is the station's, or its caller's own words.
    answered.unwrap_or_else(|_panic| Err(broke(&request))).map_err(|error| redacted(&station.redactor, error))
}

/// What a panic is answered with at every door; its text goes to the log.
fn broke(request: &str) -> Error {
    tracing::error!(request, "an act panicked");
    Error::internal("something broke while this was done")
        .hint("the log has the cause; look whether it was done before you try again")
}

/// `error` without the secrets that are known.
pub(super) fn redacted(redactor: &Redactor, error: Error) -> Error {
    error.reworded(|text| redactor.string(text), |details| redactor.json(details))
}

async fn answer(station: &Arc<Station>, ctx: Context, act: Act) -> Result<Answer> {
    let request = ctx.request_id.clone();
    limited(station, &ctx, START, NOT_BEGUN, async {
        station.ready.cancelled().await;
        Ok(())
    })
    .await?;
    let answered = match act {
        Act::Tool { name, arguments } => match station.table.get(&name) {
            Some(tool) => native(station, ctx, tool, arguments).await.map(Answer::Output),
            None => Err(unknown(station, &name)),
        },
        Act::Subscribe { run } => subscribe(station, ctx, &run).await,
    };
    if let Err(error) = &answered
        && error.kind() == ErrorKind::Internal
    {
        tracing::error!(request, ?error, "an act failed");
    }
    answered
}

/// The output of one tool, for callers that know what they ask for.
pub async fn call(station: &Arc<Station>, ctx: Context, tool: &str, arguments: Value) -> Result<Value> {
    let act = Act::Tool { name: tool.to_owned(), arguments };
    let answer = dispatch(station, ctx, act).await?;
    answer.into_value().ok_or_else(|| Error::internal(format!("`{tool}` answered with a subscription")))
}

async fn native(station: &Arc<Station>, ctx: Context, tool: &Tool, arguments: Value) -> Result<Value> {
    let deed = Deed { action: tool.spec.action(), target: tool.spec.target(&arguments) };
    ask_a_person(station, &ctx, &tool.spec, &deed).await?;
    let mut input = object(tool.spec.name, arguments)?;
    let found = find_environment(station, &ctx, &deed, (tool.spec.scope, tool.spec.environment), &mut input).await;
    let environment = found.map_err(|error| redacted(&station.redactor, error))?;
    let redactor = environment.as_ref().map_or(&station.redactor, |environment| &environment.redactor).clone();
    match carry_out(station, ctx, tool, deed, environment, Value::Object(input)).await {
        Ok(output) => Ok(redactor.json(output)),
        Err(error) => Err(redacted(&redactor, error)),
    }
}

/// The rest of the road, in the environment that the act concerns.
async fn carry_out(
    station: &Arc<Station>,
    ctx: Context,
    tool: &Tool,
    deed: Deed,
    environment: Option<Arc<Environment>>,
    input: Value,
) -> Result<Value> {
    authorize(station, &ctx, tool.spec.scope, &deed, environment.as_ref()).await?;
    station.table.validate(tool, &input)?;
    let started = station.clock.now();
    let gone = ctx.cancel.child_token();
    let _leaving = gone.clone().drop_guard();
    let inner = Context { cancel: gone, ..ctx.clone() };
    let revision = match tool.spec.audit {
        AuditPolicy::Always => config_revision(environment.as_ref()).await?,
        AuditPolicy::DeniedOnly => None,
    };
    let work = tool.run(Call::new(inner, Arc::clone(station), environment, deed.action, revision), input);
    let output = match tool.spec.effect {
        Effect::Read => limited(station, &ctx, tool.spec.deadline, GIVEN_UP, work).await,
        _ => limited(station, &ctx, tool.spec.deadline, GOES_ON, finished(station, work)).await,
    };
    if tool.spec.audit == AuditPolicy::DeniedOnly {
        let (took_ms, ok) = (station.clock.now().millis_since(started), output.is_ok());
        tracing::debug!(target: "access", tool = tool.spec.name, principal = ctx.principal.who.id, request = ctx.request_id, took_ms, ok);
    }
    output
}

async fn subscribe(station: &Arc<Station>, ctx: Context, run: &str) -> Result<Answer> {
    let mut input = Map::from_iter([("run".to_owned(), Value::from(run))]);
    let deed = Deed { action: "run.events".into(), target: Some(run.to_owned()) };
    let environment =
        find_environment(station, &ctx, &deed, (Scope::RunsRead, EnvironmentUse::OfRun), &mut input).await?;
    authorize(station, &ctx, Scope::RunsRead, &deed, environment.as_ref()).await?;
    let call = Call::new(ctx, Arc::clone(station), environment, deed.action, None);
    let run = super::run::find(&call, run).await?;
    let follower = station.events.follow(run.id);
    Ok(Answer::Following { run: run.id, environment: Arc::clone(call.environment()?), follower })
}

/// What changes something is finished once it has begun, whether its caller waits or not: its transaction, its file and its audit row
/// belong together. What waits inside it ends when the caller is gone, because `Context::cancel` fires then.
async fn finished<T: Send + 'static>(
    station: &Station,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    station.tasks.spawn("act", async move {
        let _gone = answer.send(AssertUnwindSafe(work).catch_unwind().await);
    });
    match answered.await {
        Ok(Ok(done)) => done,
        // It goes on in the caller, which answers it.
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_dropped) => Err(Error::unavailable("the station is stopping").hint("try again")),
    }
}

/// Runs `work` until it is done, the caller goes away, or time is up; the earlier deadline counts. `hint` says what then becomes of it.
async fn limited<T>(
    station: &Station,
    ctx: &Context,
    deadline: Duration,
    hint: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let left = ctx.deadline.map_or(deadline, |at| at.since(station.clock.now()).min(deadline));
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Error::cancelled("the request was cancelled")),
        done = station.clock.timeout(left, work) => {
            done.unwrap_or_else(|| Err(Error::timeout(format!("no answer within {} ms", left.as_millis())).hint(hint)))
        }
    }
}

/// The arguments as an object. `null` and absent mean no arguments.
pub(super) fn object(tool: &str, arguments: Value) -> Result<Map<String, Value>> {
    match arguments {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(Error::invalid_input(format!("the input of `{tool}` must be a JSON object"))),
    }
}

/// Takes `environment` out of the input, or finds it by the run, or falls back to the caller's, for a deed that needs this scope. A denial
/// of `deed` leaves an audit row.
async fn find_environment(
    station: &Arc<Station>,
    ctx: &Context,
    deed: &Deed,
    (scope, needs): (Scope, EnvironmentUse),
    input: &mut Map<String, Value>,
) -> Result<Option<Arc<Environment>>> {
    if needs == EnvironmentUse::None {
        return Ok(None);
    }
    let asked = asked_for(station, ctx, deed, input).await?;
    match needs {
        EnvironmentUse::None => Ok(None),
        EnvironmentUse::Optional if asked.is_none() && !ctx.bound => Ok(None),
        EnvironmentUse::Optional | EnvironmentUse::Required => {
            let name = asked.as_ref().unwrap_or_else(|| own(station, ctx));
            match station.environments.named(name.as_str()) {
                Ok(found) => Ok(Some(found)),
                Err(_) => Err(unknown_environment(station, ctx, scope, deed, name).await?),
            }
        }
        EnvironmentUse::OfRun => {
            let only = asked.as_ref();
            match input.get("run").and_then(Value::as_str) {
                Some(run) => super::run::environment_of(station, ctx, (deed, scope), run, only).await.map(Some),
                None => Err(Error::invalid_input("`run` is missing")
                    .hint("give a run's id; `run_list` lists them")
                    .field("run")),
            }
        }
    }
}

/// The environment of a caller that names none.
fn own<'a>(station: &'a Station, ctx: &'a Context) -> &'a Name {
    ctx.environment.as_ref().unwrap_or(&station.default_environment)
}

/// The environment that a connection is opened to; without a name the default one. Whoever may use a tool there may open it, and one to the
/// default environment also who may use a tool of the station as a whole. Anybody else is refused with an audit row, and told the same
/// whether there is an environment of that name or not.
pub async fn open(station: &Station, ctx: &Context, name: Option<&str>) -> Result<Arc<Environment>> {
    opened(station, ctx, name).await.map_err(|error| redacted(&station.redactor, error))
}

async fn opened(station: &Station, ctx: &Context, asked: Option<&str>) -> Result<Arc<Environment>> {
    let text = asked.unwrap_or_else(|| station.default_environment.as_str());
    let found = station.environment_for(&ctx.principal, text);
    // Nothing can be there by what is no name.
    let Ok(name) = Name::new(text) else { return found };
    let place = Place { name: &name, kind: station.settings.kind(&name) };
    let may = |tool: &Tool| match tool.spec.environment {
        EnvironmentUse::None => asked.is_none() && ctx.principal.may(tool.spec.scope, None),
        _ => ctx.principal.may(tool.spec.scope, Some(place)),
    };
    // Whoever has any right of a role there has this one, unless a key is narrowed to others.
    let least = Scope::EnvironmentsRead;
    let refusal = ctx.principal.refusal(least, Some(place)).filter(|_| !station.table.iter().any(may));
    let Some(refusal) = refusal else { return found };
    let deed = Deed { action: "mcp.open".into(), target: Some(name.to_string()) };
    Err(refuse_place(station, ctx, (&deed, least), place, found.as_ref().ok(), refusal).await?)
}

/// The environment of this name, in which somebody is given something. Naming one takes the right to read it: anybody else is refused with
/// an audit row, and told the same whether it is there or not.
pub(super) async fn named_for_giving(station: &Station, ctx: &Context, deed: &Deed, name: &Name) -> Result<Name> {
    let place = Place { name, kind: station.settings.kind(name) };
    match ctx.principal.refusal(Scope::EnvironmentsRead, Some(place)) {
        None => station.environment_for(&ctx.principal, name.as_str()).map(|found| found.name.clone()),
        Some(refusal) => {
            let needed = (deed, Scope::EnvironmentsRead);
            Err(refuse_place(station, ctx, needed, place, None, refusal).await?)
        }
    }
}

/// The error for who lacks this scope in an environment of which it must not matter whether it is there; `there` only decides where the row
/// goes.
async fn refuse_place(
    station: &Station,
    ctx: &Context,
    (deed, scope): (&Deed, Scope),
    place: Place<'_>,
    there: Option<&Arc<Environment>>,
    refusal: Refusal,
) -> Result<Error> {
    deny(station, ctx, deed, there, format!("needs {} in environment {}", scope.as_str(), place.name)).await?;
    Ok(refused(&ctx.principal.who, scope, deed, Some(place), refusal))
}

/// The error for whoever names an environment that isn't there. Who may not read one of that name is told what they would be told if it
/// were there, so that nobody learns which there are by asking for them.
async fn unknown_environment(
    station: &Station,
    ctx: &Context,
    scope: Scope,
    deed: &Deed,
    name: &Name,
) -> Result<Error> {
    let place = Place { name, kind: station.settings.kind(name) };
    if !ctx.principal.may(Scope::EnvironmentsRead, Some(place))
        && let Some(refusal) = ctx.principal.refusal(scope, Some(place))
    {
        return refuse_place(station, ctx, (deed, scope), place, None, refusal).await;
    }
    match station.environment_for(&ctx.principal, name.as_str()) {
        Err(unknown) => Ok(unknown),
        Ok(_) => Ok(Error::unavailable(format!("environment `{name}` has only just come")).hint("try again")),
    }
}

/// Takes `environment` out of the input. An error when it can't be a name, or the connection is bound to another.
async fn asked_for(
    station: &Station,
    ctx: &Context,
    deed: &Deed,
    input: &mut Map<String, Value>,
) -> Result<Option<Name>> {
    let asked = match input.remove("environment") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) => name,
        Some(_) => return Err(Error::invalid_input("`environment` must be a string").field("environment")),
    };
    let own = own(station, ctx);
    if ctx.bound && own != asked.as_str() {
        let message = format!("this connection is bound to environment `{own}`, not `{}`", asked.escape_debug());
        let asked = station.environments.named(&asked).ok();
        deny(station, ctx, deed, asked.as_ref(), format!("bound to environment {own}")).await?;
        return Err(Error::permission_denied(message)
            .hint("open a connection to the other environment")
            .field("environment"));
    }
    let name = Name::new(&asked).map_err(|invalid| {
        let error = Error::invalid_input(invalid.to_string()).field("environment");
        error.hint("`stn environment list` shows the environments")
    })?;
    Ok(Some(name))
}

/// The stage that every act passes: every grant of the principal must allow the scope, in this environment. A denial leaves an audit row.
pub(super) async fn authorize(
    station: &Arc<Station>,
    ctx: &Context,
    scope: Scope,
    deed: &Deed,
    environment: Option<&Arc<Environment>>,
) -> Result<()> {
    let Some(refusal) = station.refusal(&ctx.principal, scope, environment) else { return Ok(()) };
    deny(station, ctx, deed, environment, format!("needs {}", scope.as_str())).await?;
    let place = environment.map(|environment| station.place(environment));
    Err(refused(&ctx.principal.who, scope, deed, place, refusal))
}

/// What is for people is refused wherever a model may be asking, before anything of the input is looked at.
async fn ask_a_person(station: &Arc<Station>, ctx: &Context, spec: &ToolSpec, deed: &Deed) -> Result<()> {
    if spec.exposure != Exposure::PersonOnly || !ctx.by_model() {
        return Ok(());
    }
    let environment = ctx.environment.as_ref().and_then(|name| station.environments.named(name.as_str()).ok());
    deny(station, ctx, deed, environment.as_ref(), "for people only".into()).await?;
    let error = Error::permission_denied(format!("`{}` is for people: a model must not answer for them", spec.name));
    Err(match spec.cli {
        Some(cli) => error.hint(format!("ask the person to run `stn {}`", cli.verb)),
        None => error.hint("ask the person to do it"),
    })
}

/// How often a minute one API key may be denied something. A program that asks for what it may not do asks again and again, and each time
/// costs a row that is kept.
pub const MOST_DENIALS: u32 = 300;

/// The row that every denial leaves; without an environment, in the control store. An API key that is denied too often gets `rate_limited`
/// instead, and leaves none.
pub(super) async fn deny(
    station: &Station,
    ctx: &Context,
    deed: &Deed,
    environment: Option<&Arc<Environment>>,
    mut reason: String,
) -> Result<()> {
    let (who, now) = (&ctx.principal.who, station.clock.now());
    if who.kind == PrincipalKind::ApiKey {
        match station.denials.fail(Some(who.id.clone()), now) {
            Ok(0) => reason.push_str(NOTHING_FURTHER),
            Ok(_) => {}
            Err(wait) => return Err(denied_too_often(ctx, wait)),
        }
    }
    let entry = AuditEntry {
        at: now,
        principal: who.clone(),
        origin: ctx.origin,
        cause: ctx.cause.clone(),
        action: deed.action.clone(),
        target: deed.target.as_ref().map(|target| target.chars().take(MAX_TARGET).collect()),
        environment: environment.map(|environment| environment.name.clone()),
        outcome: AuditOutcome::Denied,
        reason: Some(reason),
        request_id: ctx.request_id.clone(),
        config_revision: config_revision(environment).await?,
        details: None,
    };
    match environment {
        Some(environment) => environment.store.audit(entry).await,
        None => station.control.audit(entry).await,
    }
}

fn denied_too_often(ctx: &Context, wait: Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    let message = format!("key `{}` has asked too often for what it may not do", ctx.principal.who.name);
    Error::rate_limited(message)
        .hint(format!("wait {seconds} s, or ask for what it may do: that is never held back"))
        .details(json!({ "retry_after_ms": seconds * 1000 }))
}

fn unknown(station: &Station, name: &str) -> Error {
    let error = Error::not_found(format!("tool `{}` doesn't exist", name.escape_debug())).field("name");
    match nearest(name, station.table.names()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint("`stn call --list` shows the tools of the station, `tool_list` the attached ones"),
    }
}
