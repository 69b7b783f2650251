//! `stn serve`: owns the home, executes runs, listens; ends when it is told to, when another owner comes, or when nobody needs it.

use super::{App, Parts, is_forced, open, settings, take_up_files};
use crate::SCHEMA;
use crate::adapters::http::{self, Activity, Deps, Routers};
use crate::clock::{ClockExt, SharedClock, SystemClock};
use crate::config;
use crate::error::{Error, Result};
use crate::home::{self, Handshake, Home, LocalKey, LocalListener, OwnerLock, Subreaper};
use crate::runtime;
use crate::telemetry::{self, LogFormat, LogSettings, LogTarget};
use bytes::Bytes;
use futures_util::future::join_all;
use hyper::Method;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long runs and attached servers may take to end. With the two last steps of a stop that is under the 10 s for which a successor
/// waits for the home.
const STOP_WITHIN: Duration = Duration::from_millis(8500);

/// The part of that in which runs are handed back: half a second more than the engine gives the calls under way. The rest is for the
/// servers, each of which may take 4 s.
const HAND_BACK_WITHIN: Duration = Duration::from_millis(4500);

/// What is left to requests under way, at least.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often a stop looks whether the runs are handed back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How often a background owner looks whether anybody needs it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// More than an owner has to say of itself.
const STATUS_BYTES: usize = 4 * 1024 * 1024;

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    pub home: Home,
    /// The process's environment, read once at start.
    pub variables: BTreeMap<String, String>,
    /// Instead of `http.listen`.
    pub listen: Option<SocketAddr>,
    /// No TCP, and another owner is left in peace.
    pub background: bool,
    /// Ends after this time without client and live run.
    pub idle: Option<Duration>,
}

/// Serves until the end. `Ok` also when, in the background, another owner was faster.
pub async fn serve(options: ServeOptions) -> Result<()> {
    let clock = SystemClock::shared();
    let ServeOptions { home, variables, listen, background, idle } = options;
    home.refuse_network_filesystem(is_forced(&variables))?;
    let settings = settings(&home, &variables)?;
    telemetry::start(&log_settings(&settings.log, &variables))?;
    let address = listen.unwrap_or(settings.http.listen);
    let subreaper = Subreaper::start()?;
    // Bound first: whoever can't listen must not take the home from an owner that can.
    let early =
        if background || is_served_by_owner(&home, address, &clock).await { None } else { Some(bind(address).await?) };
    let Some(lock) = own(&home, background, &clock).await? else { return Ok(()) };
    let tcp = match early {
        None if !background => Some(bind(address).await?),
        early => early,
    };
    let socket = LocalListener::bind(&home, &lock)?;
    let key = LocalKey::load(&home)?;
    let app = open(Parts { home, settings, variables, clock: Arc::clone(&clock), lock, executes: true }).await?;
    let serving = Serving::start(app, clock, subreaper, key, tcp, socket)?;
    let reason = serving.until_end(idle).await?;
    tracing::info!(reason, "stopping");
    serving.stop().await;
    Ok(())
}

/// `STN_LOG` goes before `log.level`.
fn log_settings(log: &config::LogSettings, variables: &BTreeMap<String, String>) -> LogSettings {
    let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    LogSettings {
        level: given("STN_LOG").unwrap_or(&log.level).clone(),
        format: match log.format {
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
        },
        target: log.file.clone().map_or(LogTarget::Stderr, LogTarget::File),
        colours: given("NO_COLOR").is_none(),
    }
}

async fn own(home: &Home, background: bool, clock: &SharedClock) -> Result<Option<OwnerLock>> {
    if background { home::own_in_background(home, clock).await } else { home::take_over(home, clock).await.map(Some) }
}

/// Whether the home's present owner is who listens on `address`: it lets go of both together.
async fn is_served_by_owner(home: &Home, address: SocketAddr, clock: &SharedClock) -> bool {
    let asking = async {
        let owner = home::attach(home, SCHEMA, clock).await.ok()??;
        let status = owner.request(Method::GET, "/api/v1/status", &[], Bytes::new()).await.ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status.bytes(STATUS_BYTES).await.ok()?).ok()?;
        status.get("http_listen")?.as_str().map(|listen| listen == address.to_string())
    };
    asking.await.unwrap_or(false)
}

/// A listener elsewhere than on loopback would need TLS, which this version doesn't have.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(Error::invalid_input(format!(
            "`{address}` is not a loopback address, and this version has no TLS"
        ))
        .hint("listen on 127.0.0.1 and put a proxy in front that ends TLS there")
        .field("http.listen")
        .details(serde_json::json!({ "exit_code": 78 })));
    }
    TcpListener::bind(address).await.map_err(|cause| {
        Error::unavailable(format!("can't listen on `{address}`: {cause}"))
            .hint("choose another address with `--listen` or `http.listen`")
            .source(cause)
    })
}

struct Serving {
    app: App,
    clock: SharedClock,
    subreaper: Arc<Subreaper>,
    activity: Activity,
    drain: CancellationToken,
}

impl Serving {
    /// Starts the listeners, then, in the background, what takes longer: files, servers, runs that an earlier owner left.
    fn start(
        app: App,
        clock: SharedClock,
        subreaper: Subreaper,
        key: LocalKey,
        tcp: Option<TcpListener>,
        socket: LocalListener,
    ) -> Result<Self> {
        let activity = Activity::new(Arc::clone(&clock));
        let drain = CancellationToken::new();
        let handshake = Handshake {
            version: env!("CARGO_PKG_VERSION").into(),
            schema: SCHEMA,
            pid: std::process::id(),
            mode: app.lock.info().mode,
        };
        let deps = Deps {
            station: Arc::clone(&app.station),
            key,
            tasks: app.tasks.clone(),
            activity: activity.clone(),
            drain: drain.clone(),
            handshake,
        };
        let Routers { tcp: public, socket: local } = http::routers(deps);
        if let Some(listener) = tcp {
            let address = listener.local_addr().map_err(|cause| Error::internal("no address").source(cause))?;
            tracing::info!(%address, "listening");
            let _first = app.station.http_listen.set(address);
            app.tasks.spawn("http listener", http::serve_tcp(listener, public, app.tasks.clone(), Arc::clone(&clock)));
        }
        app.tasks.spawn("socket listener", http::serve_socket(socket, local, app.tasks.clone(), Arc::clone(&clock)));
        let subreaper = Arc::new(subreaper);
        app.tasks.spawn("orphan collector", collect_orphans(&app, &subreaper, &clock));
        let (station, workers, tasks) = (Arc::clone(&app.station), app.workers.clone(), app.tasks.clone());
        app.tasks.spawn("start", async move {
            // Servers before runs: a run that goes on looks for its tools at once.
            take_up_files(&station).await;
            if let Some(workers) = workers {
                runtime::start(&station, &workers, &tasks).await;
            }
        });
        Ok(Self { app, clock, subreaper, activity, drain })
    }

    /// Waits for a reason to end, and returns it.
    async fn until_end(&self, idle: Option<Duration>) -> Result<&'static str> {
        let listen = |kind| signal(kind).map_err(|cause| Error::internal("signals can't be received").source(cause));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => Ok("interrupted"),
            _ = terminate.recv() => Ok("terminated"),
            () = self.drain.cancelled() => Ok("another owner takes the home"),
            () = self.home_gone() => Ok("the home is gone"),
            () = self.idle_for(idle) => Ok("nobody needs it"),
        }
    }

    async fn home_gone(&self) {
        while self.app.lock.is_in_place() {
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Ready once nobody was here and nothing ran for `limit`.
    async fn idle_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        let mut busy_until = self.clock.now();
        loop {
            self.clock.sleep(LOOK_EVERY.min(limit)).await;
            if self.has_live_runs().await {
                busy_until = self.clock.now();
            }
            if let Some(since) = self.activity.idle_since()
                && self.clock.now().since(since.max(busy_until)) >= limit
            {
                return;
            }
        }
    }

    /// A store that can't tell may well have some.
    async fn has_live_runs(&self) -> bool {
        for environment in self.app.station.environments.all() {
            if environment.store.live_runs().await.unwrap_or(1) > 0 {
                return true;
            }
        }
        false
    }

    /// Workers hand back their runs, servers end, streams close; the lock goes last.
    async fn stop(self) {
        let Self { app, clock, subreaper, .. } = self;
        let deadline = clock.now() + STOP_WITHIN;
        app.tasks.soft().cancel();
        if let Some(workers) = &app.workers {
            let handed_back = async {
                while workers.running() > 0 {
                    clock.sleep(LOOK_AGAIN).await;
                }
            };
            let _in_time = clock.timeout(HAND_BACK_WITHIN, handed_back).await;
        }
        let environments = app.station.environments.all();
        let closing = environments.iter().map(|environment| environment.gateway.close());
        let _in_time = clock.timeout(deadline.since(clock.now()), join_all(closing)).await;
        app.tasks.stop(&clock, deadline.since(clock.now()).max(LAST_WORDS)).await;
        subreaper.end_orphans(&clock, |pid| app.spawner.waits_for(pid)).await;
    }
}

/// Collects what attached servers leave behind, until the station stops.
fn collect_orphans(app: &App, subreaper: &Arc<Subreaper>, clock: &SharedClock) -> impl Future<Output = ()> + use<> {
    let (stop, spawner) = (app.tasks.soft().clone(), app.spawner.clone());
    let (subreaper, clock) = (Arc::clone(subreaper), Arc::clone(clock));
    async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = subreaper.collect_orphans(&clock, |pid| spawner.waits_for(pid)) => {}
        }
    }
}
