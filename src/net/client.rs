//! The one outbound HTTP client: pooled, no redirects, no delay for small packets.

use super::guard::is_loopback;
use crate::error::{Error, Result};
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Proxy, Url};
use std::time::Duration;

/// Builds the client that every provider and every attached server over HTTP shares.
///
/// Redirects are refused: a credential must not follow one, and neither models nor MCP servers need them. There is no overall timeout
/// here: deadlines belong to the call, and a stream may be long. What is https to another machine goes by the system's proxy settings.
pub fn http_client() -> Result<reqwest::Client> {
    client(Matcher::from_system())
}

fn client(system: Matcher) -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("stn/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(60))
        .proxy(proxy(system))
        .build()
        .map_err(|cause| Error::internal("the HTTP client can't be set up").source(cause))
}

/// The proxies of the system, for whatever may pass one.
fn proxy(system: Matcher) -> Proxy {
    // A proxy's credentials are no part of its address. All https has the same proxy, so that any host of no exception tells them.
    let any = system.intercept(&Uri::from_static("https://station.invalid"));
    let proxy = Proxy::custom(move |url: &Url| address(&system, url));
    match any.as_ref().and_then(|proxy| proxy.basic_auth()) {
        Some(credentials) => proxy.custom_http_auth(credentials.clone()),
        None => proxy,
    }
}

/// The proxy between here and `url`. Plain http has none: it is allowed to loopback addresses, because there nobody reads the keys and
/// prompts in it, and a proxy would.
fn address(system: &Matcher, url: &Url) -> Option<String> {
    let leaves = url.scheme() == "https" && url.host_str().is_some_and(|host| !is_loopback(host));
    let destination = url.as_str().parse::<Uri>().ok().filter(|_| leaves)?;
    system.intercept(&destination).map(|proxy| proxy.uri().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::testing::DeafPort;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// The first request that reaches `listener`, refused.
    async fn head(listener: &TcpListener) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn what_goes_to_this_machine_goes_there_and_to_no_proxy() {
        let ((server, address), nobody) = (listener().await, DeafPort::new());
        let client = client(Matcher::builder().all(format!("http://{}", nobody.address())).build()).unwrap();
        let asked = client.get(format!("http://{address}/v1/models")).bearer_auth("key").send();
        let (answer, head) = tokio::try_join!(asked, async { Ok(head(&server).await) }).unwrap();
        assert!(head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{head}");
        assert_eq!(answer.status(), 403);
    }

    #[tokio::test]
    async fn what_is_https_to_another_machine_goes_by_the_system_s_proxy_settings() {
        let (proxy, address) = listener().await;
        let system = Matcher::builder().all(format!("http://user:word@{address}")).no("direct.invalid").build();
        let client = client(system).unwrap();
        let asked = client.get("https://api.invalid/v1").bearer_auth("key").send();
        let (answer, head) = tokio::join!(asked, head(&proxy));
        assert!(answer.is_err());
        assert!(head.starts_with("CONNECT api.invalid:443 HTTP/1.1\r\n") && !head.contains("key"), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjp3b3jk"), "{head}");
    }

    #[test]
    fn only_https_to_another_machine_passes_a_proxy_and_exceptions_hold() {
        let system = Matcher::builder().all("http://proxy.invalid:3128").no("direct.invalid").build();
        let through = |url: &str| address(&system, &url.parse().unwrap());
        for url in ["https://api.invalid/v1", "https://192.0.2.1", "https://localhost.invalid"] {
            assert_eq!(through(url).as_deref(), Some("http://proxy.invalid:3128/"), "{url}");
        }
        for url in [
            "https://direct.invalid/v1",
            "http://api.invalid",
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert_eq!(through(url), None, "{url}");
        }
        for url in ["https://127.0.0.1", "https://localhost:8443", "https://[::1]"] {
            assert_eq!(through(url), None, "{url}");
        }
        let everything = Matcher::builder().all("http://proxy.invalid:3128").no("*").build();
        assert_eq!(address(&everything, &"https://api.invalid".parse().unwrap()), None);
    }
}
