//! `stn serve`: owns the home, executes runs, listens; ends when it is told to, when another owner comes, or when nobody needs it.

use super::{App, Parts, open, settings, take_up_files, unlock};
use crate::SCHEMA;
use crate::adapters::http::{self, Activity, Deps, Routers};
use crate::clock::{ClockExt, SharedClock, SystemClock};
use crate::config::{self, STATION_YML, ServeFlags};
use crate::error::{Error, Result};
use crate::home::{self, Handshake, Home, LocalKey, LocalListener, OwnerLock, Subreaper};
use crate::redact::{Redactor, STATION};
use crate::runtime;
use crate::secrets::{self, Ask, Stretched};
use crate::telemetry::{self, LogFormat, LogSettings, LogTarget};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    pub home: Home,
    /// The process's environment, read once at start.
    pub variables: BTreeMap<String, String>,
    pub redactor: Redactor,
    pub flags: ServeFlags,
    /// No TCP, and another owner is left in peace.
    pub background: bool,
    /// Ends after this time without client and live run.
    pub idle: Option<Duration>,
    /// Asks the person for a passphrase; never in the background.
    pub ask: Ask,
    /// The passphrase as whoever started this process has stretched it.
    pub stretched: Option<Stretched>,
}

/// Serves until the end. `Ok` also when, in the background, another owner was faster.
pub async fn serve(options: ServeOptions) -> Result<()> {
    let clock = SystemClock::shared();
    let ServeOptions { home, variables, redactor, flags, background, idle, ask, stretched } = options;
    let mut settings = settings(&home, &variables)?;
    settings.flagged(flags);
    if !background {
        config::check_listener(&settings, STATION_YML)?;
    }
    let address = settings.http.listen;
    // Whoever has the wrong key must not take the home from an owner that has the right one, nor write to its log.
    let ask = if background { secrets::nobody_to_ask } else { ask };
    let root = unlock(&home, &variables, ask, stretched).await?;
    telemetry::start(&log_settings(&home, &settings.log, &variables), redactor.clone())?;
    let subreaper = Subreaper::start()?;
    // Bound first: whoever can't listen must not take the home from an owner that can.
    // Unless that owner is who listens there: it lets go of both together.
    let is_the_owners = home::read_owner(&home).and_then(|owner| owner.http_listen) == Some(address);
    let early = if background || is_the_owners { None } else { Some(bind(address).await?) };
    let Some(mut lock) = own(&home, background, &clock).await? else { return Ok(()) };
    let tcp = match early {
        None if !background => Some(bind(address).await?),
        early => early,
    };
    if let Some(listener) = &tcp {
        lock.set_http_listen(address_of(listener)?)?;
    }
    let socket = LocalListener::bind(&home, &lock)?;
    let key = LocalKey::load(&home)?;
    if let Ok(text) = std::fs::read_to_string(home.local_key()) {
        redactor.add(STATION, "local.key", &text.into());
    }
    let (executes, starts_servers) = (true, true);
    let parts =
        Parts { home, settings, variables, clock: Arc::clone(&clock), lock, redactor, root, executes, starts_servers };
    let serving = Serving::start(open(parts).await?, clock, subreaper, key, tcp, socket)?;
    let mut signals = Signals::listen()?;
    let reason = serving.until_end(&mut signals, idle).await;
    tracing::info!(reason, "stopping");
    serving.stop(&mut signals).await;
    Ok(())
}

/// A relative `log.file` lies in the home's `logs/`.
fn log_settings(home: &Home, log: &config::LogSettings, variables: &BTreeMap<String, String>) -> LogSettings {
    LogSettings {
        level: log.level.clone(),
        format: match log.format {
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
        },
        target: log.file.as_ref().map_or(LogTarget::Stderr, |file| LogTarget::File(home.logs_dir().join(file))),
        colours: variables.get("NO_COLOR").is_none_or(String::is_empty),
    }
}

async fn own(home: &Home, background: bool, clock: &SharedClock) -> Result<Option<OwnerLock>> {
    if background { home::own_in_background(home, clock).await } else { home::take_over(home, clock).await.map(Some) }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::unavailable(format!("can't listen on `{address}`: {cause}"))
            .hint("choose another address with `--listen` or `http.listen`")
            .source(cause)
    })
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|cause| Error::internal("the listener has no address").source(cause))
}

/// What tells this process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|cause| Error::internal("signals can't be received").source(cause));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
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
            let address = address_of(&listener)?;
            tracing::info!(%address, "listening");
            let _first = app.station.http_listen.set(address);
            app.tasks.spawn("http listener", http::serve_tcp(listener, public, app.tasks.clone(), Arc::clone(&clock)));
        }
        app.tasks.spawn("socket listener", http::serve_socket(socket, local, app.tasks.clone(), Arc::clone(&clock)));
        let subreaper = Arc::new(subreaper);
        app.tasks.spawn("orphan collector", collect_orphans(&app, &subreaper, &clock));
        let (station, workers, tasks) = (Arc::clone(&app.station), app.workers.clone(), app.tasks.clone());
        // Before the files are read for the first time, so that no change is missed.
        if station.settings.watch {
            runtime::watch(&station, &tasks);
        }
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
    async fn until_end(&self, signals: &mut Signals, idle: Option<Duration>) -> &'static str {
        tokio::select! {
            reason = signals.next() => reason,
            () = self.drain.cancelled() => "another owner takes the home",
            () = self.home_gone() => "the home is gone",
            () = self.idle_for(idle) => "nobody needs it",
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

    /// Runs, servers and requests come to their end, at once after a second signal; the lock goes last.
    async fn stop(self, signals: &mut Signals) {
        let Self { app, clock, subreaper, .. } = self;
        tokio::select! {
            () = end_in_order(&app, &clock) => {}
            reason = signals.next() => {
                tracing::warn!(reason, "stopping at once");
                app.tasks.stop(&clock, Duration::ZERO).await;
            }
        }
        subreaper.end_orphans(&clock, |pid| app.spawner.waits_for(pid)).await;
    }
}

/// Workers hand back their runs, then the servers end, then the streams.
async fn end_in_order(app: &App, clock: &SharedClock) {
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
    app.tasks.stop(clock, deadline.since(clock.now()).max(LAST_WORDS)).await;
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
