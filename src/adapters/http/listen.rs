//! The listeners: one task per connection, all of them the lifecycle's, so that a stop waits for the requests under way.

use super::source::Source;
use crate::clock::{ClockExt, SharedClock};
use crate::home::LocalListener;
use crate::lifecycle::Tasks;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// How long a client may take for the head of a request, and keep a connection that it doesn't use.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The most that the head of a request may take up.
const HEAD_BYTES: usize = 64 * 1024;

/// How long to wait when the system can't accept just now, for want of file descriptors as a rule.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves `router` over TCP until the soft signal; returns once nothing more is accepted. Requests under way end as tasks of `tasks`.
pub async fn serve_tcp(listener: TcpListener, router: Router, tasks: Tasks, clock: SharedClock) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.soft().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error, &tasks, &clock).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY is not to be had");
        }
        let connection = connection(stream, router.clone(), Some(Source(from.ip())), tasks.clone());
        tasks.spawn("http connection", connection);
    }
}

/// The same over the local socket.
pub async fn serve_socket(listener: LocalListener, router: Router, tasks: Tasks, clock: SharedClock) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.soft().cancelled() => return,
            accepted = listener.accept_checked() => accepted,
        };
        match accepted {
            Ok(stream) => tasks.spawn("local connection", connection(stream, router.clone(), None, tasks.clone())),
            Err(error) => pause(&error, &tasks, &clock).await,
        }
    }
}

async fn pause(error: &(dyn std::error::Error + Send + Sync), tasks: &Tasks, clock: &SharedClock) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::select! {
        () = tasks.soft().cancelled() => {}
        () = clock.sleep(ACCEPT_AGAIN) => {}
    }
}

/// Runs the streams of HTTP/2 connections.
#[derive(Clone)]
struct Streams(Tasks);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn("http/2 stream", stream);
    }
}

/// Answers the requests of one connection. After the soft signal it takes no further one.
async fn connection<S>(stream: S, router: Router, source: Option<Source>, tasks: Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(source) = source {
            request.extensions_mut().insert(source);
        }
        router.clone().oneshot(request)
    });
    // hyper measures these two by the machine's clock; they bound idle sockets, not acts.
    let mut builder = Builder::new(Streams(tasks.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES as u32);
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = tasks.soft().cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "a connection broke");
    }
}
