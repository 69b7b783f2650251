//! The listeners: one task per connection, all of them the lifecycle's, so that a stop waits for the requests under way.
//!
//! Whoever can open the port needs no key to hold connections. So there are only so many at a time over TCP (`places.rs`), and one on
//! which nothing is under way is closed.

use super::activity::{Active, Activity};
use super::places::{Guest, Places};
use super::source::Source;
use super::wire::Wire;
use crate::clock::{ClockExt, SharedClock};
use crate::home::LocalListener;
use crate::lifecycle::Tasks;
use crate::process::most_open_files;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// How long a connection stays on which nothing is under way: until the head of its first request has come, between two requests, and
/// while the other side takes nothing of an answer that is complete.
const QUIET: Duration = Duration::from_secs(10);

/// The most that the head of a request may take up.
const HEAD_BYTES: usize = 64 * 1024;

/// How long to wait when the system can't accept just now, for want of file descriptors as a rule.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// How many connections there may be over TCP at a time.
const MOST_CONNECTIONS: usize = 4096;

/// Serves `router` over TCP until the soft signal; returns once nothing more is accepted. Requests under way end as tasks of `tasks`.
pub async fn serve_tcp(listener: TcpListener, router: Router, tasks: Tasks, clock: SharedClock) {
    // The other half is for the local socket, the stores, and the servers that are attached.
    let most = (most_open_files() / 2).clamp(1, MOST_CONNECTIONS);
    serve_at_most(most, listener, router, tasks, clock).await;
}

/// The same with `most` connections at a time. Where nobody leaves for one more, it waits, and others in the system's queue.
pub(in crate::adapters) async fn serve_at_most(
    most: usize,
    listener: TcpListener,
    router: Router,
    tasks: Tasks,
    clock: SharedClock,
) {
    let places = Places::new(most);
    let mut was_full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.soft().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One connection less is one file less.
                places.make_room();
                pause(&error, &tasks, &clock).await;
                continue;
            }
        };
        let is_full = places.are_taken();
        if is_full && !was_full {
            tracing::warn!(
                "as many connections are open as there may be; for each further one, one without a key is closed"
            );
        }
        was_full = is_full;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY is not to be had");
        }
        let guest = Guest::new(Activity::new(Arc::clone(&clock)));
        let Some(place) = places.take(&guest, &tasks, &clock).await else { return };
        let wire = Wire::new(stream, guest.activity().clone(), Some(place));
        let caller = Some((Source(from.ip()), guest));
        tasks.spawn("http connection", connection(wire, router.clone(), caller, tasks.clone(), Arc::clone(&clock)));
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
            Ok(stream) => {
                let wire = Wire::new(stream, Activity::new(Arc::clone(&clock)), None);
                let connection = connection(wire, router.clone(), None, tasks.clone(), Arc::clone(&clock));
                tasks.spawn("local connection", connection);
            }
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

/// Answers the requests of one connection, until it has been quiet for too long. After the soft signal it takes no further one.
async fn connection<S>(wire: Wire<S>, router: Router, caller: Option<(Source, Guest)>, tasks: Tasks, clock: SharedClock)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = wire.activity().clone();
    let here = activity.clone();
    let guest = caller.as_ref().map(|(_, guest)| guest.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let active = here.enter();
        let mut request = request.map(Body::new);
        if let Some((source, guest)) = &caller {
            request.extensions_mut().insert(*source);
            request.extensions_mut().insert(guest.clone());
        }
        let answering = router.clone().oneshot(request);
        async move { answering.await.map(|response| until_sent(response, active)) }
    });
    let mut builder = Builder::new(Streams(tasks.clone()));
    // hyper's own limit counts only once it knows that it is HTTP/1.
    builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES);
    builder.http2().max_header_list_size(HEAD_BYTES as u32);
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(wire), service));
    let mut quiet = pin!(quiet(&activity, &clock));
    let mut gives_up = pin!(async {
        match &guest {
            Some(guest) => guest.gives_up().await,
            None => pending().await,
        }
    });
    let mut is_stopping = false;
    let served = loop {
        tokio::select! {
            biased;
            served = serving.as_mut() => break served,
            () = quiet.as_mut() => return tracing::debug!("a connection on which nothing was under way is closed"),
            () = gives_up.as_mut() => return tracing::debug!("a connection without a key is closed for another"),
            () = tasks.soft().cancelled(), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "a connection broke");
    }
}

/// A stream is under way until it ends. An answer that is complete only has to be taken, which the wire sees.
fn until_sent(response: Response, active: Active) -> Response {
    response.map(|body| match HttpBody::size_hint(&body).exact() {
        Some(_) => body,
        None => active.during(body),
    })
}

/// Done once nothing has been under way for [`QUIET`].
async fn quiet(activity: &Activity, clock: &SharedClock) {
    loop {
        let since = activity.idle_since();
        let now = clock.now();
        if since.is_some_and(|since| since + QUIET <= now) {
            return;
        }
        clock.sleep_until(since.unwrap_or(now) + QUIET).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::Timestamp;
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::Notify;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// A connection whose other end is in the hands of the test.
    struct Connected {
        client: DuplexStream,
        serving: BoxFuture<'static, ()>,
        clock: Arc<ManualClock>,
        finish: Arc<Notify>,
        tasks: Tasks,
    }

    impl Connected {
        /// Serves `/now`, `/big`, and what takes until `finish`: `/late` and the stream `/stream`.
        fn new() -> Self {
            let (client, server) = tokio::io::duplex(1024);
            let (clock, tasks) = (ManualClock::at(Timestamp::from_millis(1_000)), Tasks::new());
            let finish = Arc::new(Notify::new());
            let (late, streamed) = (Arc::clone(&finish), Arc::clone(&finish));
            let router = Router::new()
                .route("/now", get("now"))
                .route("/big", get("x".repeat(64 * 1024)))
                .route(
                    "/late",
                    get(async move || {
                        late.notified().await;
                        "late"
                    }),
                )
                .route(
                    "/stream",
                    get(async move || {
                        let end = streamed.clone();
                        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from("piece"))]);
                        Body::from_stream(
                            pieces.chain(stream::pending()).take_until(async move { end.notified().await }),
                        )
                    }),
                );
            let wire = Wire::new(server, Activity::new(clock.clone()), None);
            let serving = connection(wire, router, None, tasks.clone(), clock.clone()).boxed();
            Self { client, serving, clock, finish, tasks }
        }

        /// Lets the connection do what it can; whether it has ended.
        async fn has_ended(&mut self) -> bool {
            for _ in 0..20 {
                if (&mut self.serving).now_or_never().is_some() {
                    return true;
                }
                tokio::task::yield_now().await;
            }
            false
        }

        async fn after(&mut self, duration: Duration) -> bool {
            self.clock.advance(duration);
            self.has_ended().await
        }

        /// What has come, as text.
        fn received(&mut self) -> String {
            let mut all = Vec::new();
            let mut piece = [0; 512];
            while let Some(Ok(read @ 1..)) = self.client.read(&mut piece).now_or_never() {
                all.extend_from_slice(&piece[..read]);
            }
            String::from_utf8_lossy(&all).into_owned()
        }
    }

    const NEARLY: Duration = Duration::from_millis(9_999);
    const REST: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_connection_that_never_asks_is_closed_whatever_it_has_begun_to_say() {
        let beginnings: [&[u8]; 7] = [
            b"",
            b"P",
            b"PRI * HTTP/2.0\r\n",
            b"GET /now HTTP/1.1\r\nHost: l",
            PREFACE,
            &[PREFACE, b"\0\0\x05\x01\0\0\0\0\x01\x82\x84\x86\x41\x01"].concat(),
            &[PREFACE, b"\0\0\x08\x06\0\0\0\0\0abcdefgh"].concat(),
        ];
        for said in beginnings {
            let mut connected = Connected::new();
            connected.client.write_all(said).await.unwrap();
            assert!(!connected.has_ended().await, "{said:?}");
            assert!(!connected.after(NEARLY).await, "{said:?}");
            assert!(connected.after(REST).await, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_head_that_comes_in_drops_gets_no_more_time() {
        let mut connected = Connected::new();
        for _ in 0..3 {
            connected.client.write_all(b"G").await.unwrap();
            assert!(!connected.after(Duration::from_secs(3)).await);
        }
        connected.client.write_all(b"G").await.unwrap();
        assert!(connected.after(Duration::from_secs(1)).await);
    }

    #[tokio::test]
    async fn what_is_under_way_takes_its_time_and_the_next_request_has_its_own() {
        for (path, last) in [("late", "late"), ("stream", "0\r\n\r\n")] {
            let mut connected = Connected::new();
            let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            connected.client.write_all(request.as_bytes()).await.unwrap();
            for _ in 0..10 {
                assert!(!connected.after(Duration::from_secs(61)).await, "{path}");
            }
            connected.finish.notify_one();
            assert!(!connected.has_ended().await, "{path}");
            assert!(connected.received().ends_with(last), "{path}");
            assert!(!connected.after(NEARLY).await, "{path}");
            connected.client.write_all(b"GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            assert!(!connected.has_ended().await, "{path}");
            assert!(connected.received().ends_with("now"), "{path}");
            assert!(!connected.after(NEARLY).await, "{path}");
            assert!(connected.after(REST).await, "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_goes_on_as_long_as_something_of_it_is_taken() {
        let mut connected = Connected::new();
        connected.client.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(!connected.has_ended().await);
        for _ in 0..8 {
            assert!(!connected.after(NEARLY).await);
            assert!(!connected.received().is_empty());
            assert!(!connected.has_ended().await);
        }
        assert!(!connected.after(NEARLY).await);
        assert!(connected.after(REST).await, "nothing more was taken");
    }

    #[tokio::test]
    async fn a_stop_closes_a_connection_that_waits_for_a_request() {
        for said in [&b""[..], PREFACE] {
            let mut connected = Connected::new();
            connected.client.write_all(said).await.unwrap();
            assert!(!connected.has_ended().await);
            connected.tasks.soft().cancel();
            let at_once = connected.has_ended().await;
            assert!(at_once || connected.after(QUIET).await, "{said:?}");
        }
    }
}
