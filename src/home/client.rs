//! HTTP/1.1 over the local socket: one connection per request, driven by whoever reads the answer, so that no task outlives its caller
//! and dropping an answer ends the request.

use super::Handshake;
use crate::error::{Error, ErrorKind, ErrorReport, Result};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::net::UnixStream;

/// Errors and handshakes are small; more than this is not read of one.
const SMALL_BODY_BYTES: usize = 1024 * 1024;

/// A client of the process that owns the home.
#[derive(Debug, Clone)]
pub struct LocalClient {
    socket: PathBuf,
    owner: Handshake,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct LocalResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: LocalBody,
}

/// A connection after its upgrade. Shutting it down closes our direction only.
pub type LocalStream = TokioIo<hyper::upgrade::Upgraded>;

/// A body as it arrives, in pieces of any size.
pub struct LocalBody {
    driver: Option<Driver>,
    incoming: Incoming,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl LocalClient {
    pub(super) fn new(socket: PathBuf, owner: Handshake) -> Self {
        Self { socket, owner }
    }

    /// Who answered the handshake.
    pub fn owner(&self) -> &Handshake {
        &self.owner
    }

    /// Sends one request; `path` begins with `/` and may carry a query. Every status is an answer: see [`LocalResponse::success`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<LocalResponse> {
        let stream = open(&self.socket).await?.ok_or_else(gone)?;
        exchange(stream, request(method, path, headers, body)?).await
    }

    /// Turns a connection into a stream of `protocol` (RFC 9110, section 7.8).
    pub async fn upgrade(&self, path: &str, protocol: &str, headers: &[(&str, &str)]) -> Result<LocalStream> {
        let stream = open(&self.socket).await?.ok_or_else(gone)?;
        let mut all = vec![(CONNECTION.as_str(), "upgrade"), (UPGRADE.as_str(), protocol)];
        all.extend_from_slice(headers);
        let request = request(Method::GET, path, &all, Bytes::new())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver: Driver = Box::pin(connection.with_upgrades());
        let (response, driver) = drive(sender.send_request(request), driver).await;
        let response = response.map_err(broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(answered(response, driver).into_error().await);
        }
        let upgrade = hyper::upgrade::on(response);
        let upgraded = match driver {
            Some(driver) => drive(upgrade, driver).await.0,
            None => upgrade.await,
        };
        upgraded.map(TokioIo::new).map_err(broken)
    }
}

impl LocalResponse {
    /// The response if its status is 2xx, else the error that its body reports.
    pub async fn success(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(self.into_error().await) }
    }

    /// The whole body, or `payload_too_large` above `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Err(Error::payload_too_large(format!("the station's answer is longer than {limit} bytes")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    async fn into_error(self) -> Error {
        let status = self.status;
        let reported = self.bytes(SMALL_BODY_BYTES).await.ok();
        match reported.and_then(|body| serde_json::from_slice::<ErrorReport>(&body).ok()) {
            Some(report) => Error::from(report),
            None => Error::new(kind_of(status), format!("the station answered {status}")),
        }
    }
}

/// The kind of an error whose body says nothing.
fn kind_of(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        status if status.is_client_error() => ErrorKind::InvalidInput,
        status if status == StatusCode::INTERNAL_SERVER_ERROR => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}

impl Stream for LocalBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(context).is_ready()
        {
            // However the connection ended: the body itself says whether it is whole.
            self.driver = None;
        }
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(cause)) => return Poll::Ready(Some(Err(broken(cause)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for LocalBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBody").field("open", &self.driver.is_some()).finish_non_exhaustive()
    }
}

/// A connection to the socket at `path`; `None` when nobody listens there or takes it. Whoever listens must be this user or root: in a
/// directory for sockets, another user could have put theirs in its place.
pub(super) async fn open(path: &Path) -> Result<Option<UnixStream>> {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        // Reset: the listener was closed with this connection in its queue. Would block: the queue is full.
        Err(cause) if matches!(cause.kind(), NotFound | ConnectionRefused | ConnectionReset | WouldBlock) => {
            return Ok(None);
        }
        Err(cause) => return Err(super::failed("connect to", path, cause)),
    };
    let listener = stream.peer_cred().map_err(|cause| super::failed("examine", path, cause))?.uid();
    if listener != 0 && listener != nix::unistd::geteuid().as_raw() {
        return Err(Error::permission_denied(format!("`{}` is the socket of user {listener}", path.display()))
            .hint("set STN_HOME to a home of your own"));
    }
    Ok(Some(stream))
}

pub(super) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(body))
        .map_err(|cause| Error::internal(format!("can't form a request to `{path}`")).source(cause))
}

/// Sends `request` over a connection of its own. An error of kind `unavailable` means that the connection broke.
pub(super) async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<LocalResponse> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let (response, driver) = drive(sender.send_request(request), Box::pin(connection)).await;
    Ok(answered(response.map_err(broken)?, driver))
}

fn answered(response: hyper::Response<Incoming>, driver: Option<Driver>) -> LocalResponse {
    let (head, incoming) = response.into_parts();
    LocalResponse { status: head.status, headers: head.headers, body: LocalBody { driver, incoming } }
}

/// Runs `work` with the connection it depends on; gives the connection back unless it has ended.
async fn drive<T>(work: impl Future<Output = T>, mut driver: Driver) -> (T, Option<Driver>) {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        output = &mut work => (output, Some(driver)),
        _ended = &mut driver => (work.await, None),
    }
}

fn broken(cause: hyper::Error) -> Error {
    Error::unavailable("the connection to the station broke").hint("try again").source(cause)
}

fn gone() -> Error {
    Error::unavailable("the station has ended").hint("try again")
}

#[cfg(test)]
mod tests {
    use super::super::OwnerMode;
    use super::super::testing::{TestHome, answer, handshake, read_request};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn client(home: &TestHome) -> LocalClient {
        LocalClient::new(home.socket().to_owned(), handshake(1))
    }

    #[tokio::test]
    async fn an_owner_that_goes_while_it_is_connected_to_is_nobody() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let mut opening = pin!(open(home.socket()));
        // The kernel has queued the connection; the listener ends before it accepts.
        assert!(futures_util::future::poll_immediate(&mut opening).await.is_none());
        drop(listener);
        assert!(opening.await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_request_reaches_the_owner_and_its_answer_comes_back() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let asking = client.request(Method::POST, "/x?y=1", &[("x-a", "b")], Bytes::from_static(b"{}"));
        let (response, request) = tokio::join!(asking, answer(&listener, "202 Accepted", "done"));
        let response = response.unwrap().success().await.unwrap();
        assert_eq!((request.as_str(), response.status.as_u16()), ("POST /x?y=1", 202));
        assert_eq!(response.bytes(4).await.unwrap(), "done");
    }

    #[tokio::test]
    async fn a_body_larger_than_the_caller_wants_is_an_error() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let asking = client.request(Method::GET, "/x", &[], Bytes::new());
        let (response, _) = tokio::join!(asking, answer(&listener, "200 OK", "12345"));
        assert_eq!(response.unwrap().bytes(4).await.unwrap_err().kind(), ErrorKind::PayloadTooLarge);
    }

    #[tokio::test]
    async fn an_error_keeps_what_the_station_said() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let report = serde_json::to_string(&Error::conflict("`a` exists").hint("use `b`").report()).unwrap();
        for (status, body, kind, message) in [
            ("409 Conflict", report.as_str(), ErrorKind::Conflict, "`a` exists"),
            ("404 Not Found", "plain", ErrorKind::NotFound, "the station answered 404 Not Found"),
        ] {
            let asking = client.request(Method::GET, "/x", &[], Bytes::new());
            let (response, _) = tokio::join!(asking, answer(&listener, status, body));
            let error = response.unwrap().success().await.unwrap_err();
            assert_eq!((error.kind(), error.message()), (kind, message));
        }
    }

    #[tokio::test]
    async fn a_body_arrives_piece_by_piece_and_a_cut_one_is_an_error() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let (response, mut stream) = tokio::join!(client.request(Method::GET, "/sse", &[], Bytes::new()), async {
            let mut stream = listener.accept_checked().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await.unwrap();
            stream
        });
        let mut body = response.unwrap().body;
        assert_eq!(body.next().await.unwrap().unwrap(), "first");
        stream.write_all(b"two").await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "two");
        drop(stream);
        assert_eq!(body.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn an_upgraded_connection_carries_bytes_both_ways_and_closes_by_halves() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let (mut ours, mut theirs) =
            tokio::join!(async { client.upgrade("/local/stdio", "stn-stdio", &[]).await.unwrap() }, async {
                let mut stream = listener.accept_checked().await.unwrap();
                assert_eq!(read_request(&mut stream).await, "GET /local/stdio");
                let head =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: stn-stdio\r\n\r\nhello";
                stream.write_all(head).await.unwrap();
                stream
            });
        let mut hello = [0; 5];
        ours.read_exact(&mut hello).await.unwrap();
        ours.write_all(b"bye").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut bye = String::new();
        theirs.read_to_string(&mut bye).await.unwrap();
        theirs.write_all(b"!").await.unwrap();
        drop(theirs);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&hello, bye.as_str(), rest.as_str()), (b"hello", "bye", "!"));
    }

    #[tokio::test]
    async fn a_refused_upgrade_is_the_error_that_the_station_gave() {
        let home = TestHome::created();
        let (_lock, listener) = home.own(OwnerMode::Serve);
        let client = client(&home);
        let report = serde_json::to_string(&Error::not_found("environment `x` doesn't exist").report()).unwrap();
        let (upgraded, _) = tokio::join!(
            client.upgrade("/local/stdio?environment=x", "stn-stdio", &[]),
            answer(&listener, "404 Not Found", &report)
        );
        assert_eq!(upgraded.unwrap_err().message(), "environment `x` doesn't exist");
    }
}
