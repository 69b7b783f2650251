//! The check that stands before every TCP route: a web page must not reach the station through somebody's browser. `Host` defeats DNS
//! rebinding (the page's own name, resolved to this machine), `Origin` defeats everything a page sends knowingly.

use crate::error::{Error, Result};
use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Uri};
use std::net::IpAddr;

/// Which names this listener answers to, and which origins may call it.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    /// `hosts`: names besides the loopback ones, `example.com` for any port or `example.com:8080`. `origins`: as browsers send them,
    /// `https://app.example.com`. What [`check_host`] and [`check_origin`] refuse would admit nobody.
    pub fn new(hosts: &[String], origins: &[String]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: origins.iter().filter_map(|origin| normal_origin(origin)).collect(),
        }
    }

    /// `permission_denied` names the header that is at fault and the setting that would admit it.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        self.admit_host(uri, headers)?;
        self.admit_origin(headers)
    }

    /// HTTP/1 names the host in a header, HTTP/2 and absolute targets in the URI. Every name that is given counts.
    fn admit_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let mut named: Vec<&str> = uri.authority().map(|authority| authority.as_str()).into_iter().collect();
        let mut in_header = headers.get_all(HOST).iter();
        named.extend(in_header.next().map(text));
        if in_header.next().is_some() {
            return Err(Error::permission_denied("the request has more than one `Host` header"));
        }
        if named.is_empty() {
            return Err(Error::permission_denied("the request has no `Host` header"));
        }
        match named.into_iter().find(|host| !self.serves(host)) {
            None => Ok(()),
            Some(foreign) => Err(Error::permission_denied(format!("host `{}` is not served here", shown(foreign)))
                .hint("call it by a loopback name, or add the name to `http.allowed_hosts` in station.yml")),
        }
    }

    fn serves(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let Some((host, port)) = split_port(&authority) else { return false };
        is_loopback(host)
            || self.hosts.iter().any(|allowed| *allowed == host || (port.is_some() && *allowed == authority))
    }

    /// Whether the origin is one of those that were given, and not only this listener's own.
    pub fn lists(&self, origin: &HeaderValue) -> bool {
        normal_origin(text(origin)).is_some_and(|origin| self.origins.contains(&origin))
    }

    /// Programs send no `Origin`; whatever sends one is a browser and must be allowed by name. Only what this very listener has served on
    /// loopback may call it unnamed, as the protocol's conformance suite wants: such a page can be nobody else's.
    fn admit_origin(&self, headers: &HeaderMap) -> Result<()> {
        let mut given = headers.get_all(ORIGIN).iter().map(text);
        let Some(origin) = given.next() else { return Ok(()) };
        let known =
            normal_origin(origin).is_some_and(|origin| self.origins.contains(&origin) || is_own(&origin, headers));
        if known && given.next().is_none() {
            return Ok(());
        }
        Err(Error::permission_denied(format!("origin `{}` may not call this station", shown(origin)))
            .hint("add it to `http.allowed_origins` in station.yml"))
    }
}

/// Whether `origin` is the loopback address that the request itself was sent to.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(|host| text(host).to_ascii_lowercase()).unwrap_or_default();
    let is_loopback = split_port(&host).is_some_and(|(host, _)| is_loopback(host));
    is_loopback && normal_origin(&format!("http://{host}")).as_deref() == Some(origin)
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("\u{fffd}")
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

/// The host, in brackets if it is an IPv6 address, and the port. `None` for what is neither.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end_of_host)?;
    let plain = !host.is_empty() && !host.contains(['@', '/', ' ']);
    match rest.strip_prefix(':') {
        None => (plain && rest.is_empty()).then_some((host, None)),
        Some(port) => port.parse().ok().filter(|_| plain).map(|port| (host, Some(port))),
    }
}

/// No name service can make a page of `localhost` or of an address, so that these are safe under any port.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why no `Host` can ever be the entry `text` of `allowed_hosts`; a clause whose subject is the entry.
pub fn check_host(text: &str) -> std::result::Result<(), &'static str> {
    match split_port(text) {
        Some((host, port)) if is_host(host) && is_plain_port(text, host, port) => Ok(()),
        _ => Err("is no host such as station.example.com, or station.example.com:8080"),
    }
}

/// Why no browser can ever send the entry `text` of `allowed_origins`; a clause whose subject is the entry.
pub fn check_origin(text: &str) -> std::result::Result<(), &'static str> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let parts = text.strip_suffix('/').unwrap_or(text).split_once("://");
    let is_origin = parts.is_some_and(|(scheme, authority)| is_scheme(scheme) && check_host(authority).is_ok());
    if is_origin { Ok(()) } else { Err("is no origin such as https://app.example.com, or http://localhost:3000") }
}

/// As names and addresses are written on the wire: a name with other letters is sent as `xn--..`, and there are no wildcards.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    }
}

/// Is the port written as programs write it, without a sign and leading zeros?
fn is_plain_port(authority: &str, host: &str, port: Option<u16>) -> bool {
    port.is_none_or(|port| port > 0 && authority.strip_prefix(host) == Some(&format!(":{port}")))
}

/// Lower case, without the scheme's own port, as browsers write origins. `None` for what isn't one, such as `null`.
fn normal_origin(origin: &str) -> Option<String> {
    let origin = origin.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = split_port(authority)?;
    let port = port.filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443)));
    Some(match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let hosts = ["Example.com".to_owned(), "other.test:8080".to_owned()];
        Guard::new(&hosts, &["https://app.example.com:443/".to_owned()])
    }

    fn admits(headers: &[(hyper::header::HeaderName, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let mut all = HeaderMap::new();
        headers.for_each(|(name, value)| {
            all.append(name, value);
        });
        guard().admit(&Uri::from_static("/api/v1/agents"), &all).is_ok()
    }

    #[test]
    fn loopback_names_and_allowed_hosts_are_served_and_nothing_else() {
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "example.com",
            "example.com:1",
            "other.test:8080",
        ] {
            assert!(admits(&[(HOST, good)]), "{good}");
        }
        let bad = [
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "localhost.",
            "x@localhost",
            "other.test",
            "other.test:81",
            "[::1",
            "[::1]x",
            "localhost:",
            "localhost:99999",
            "",
            "::1",
            "10.0.0.1",
        ];
        for bad in bad {
            assert!(!admits(&[(HOST, bad)]), "{bad}");
        }
        assert!(!admits(&[]), "no host");
        assert!(!admits(&[(HOST, "localhost"), (HOST, "localhost")]), "two hosts");
    }

    #[test]
    fn what_can_be_admitted_is_told_from_what_never_could() {
        let hosts =
            ["example.com", "Example.com:8080", "localhost", "a_b.internal", "10.0.0.1:80", "[::1]", "[::1]:80"];
        for good in hosts {
            assert!(check_host(good).is_ok(), "{good}");
            for scheme in ["https", "HTTP", "chrome-extension"] {
                assert!(check_origin(&format!("{scheme}://{good}")).is_ok(), "{scheme} {good}");
            }
        }
        assert!(check_origin("https://example.com/").is_ok());
        let none = [
            "",
            " ",
            "*",
            "*.example.com",
            "a b",
            "a/b",
            "me@a",
            "a:",
            "a:0",
            "a:080",
            "a:99999",
            "::1",
            "[a]",
            "exämple.com",
        ];
        for bad in none {
            assert!(check_host(bad).is_err(), "{bad}");
            assert!(check_origin(bad).is_err() && check_origin(&format!("https://{bad}")).is_err(), "{bad}");
        }
        for bad in ["null", "not an origin", "https://a/b", "https://a//", "https://", "://a", "a", "1a://b", "https:a"]
        {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
        assert!(check_host("https://a").is_err());
    }

    #[test]
    fn the_authority_of_the_target_counts_like_the_header() {
        let rebound = Uri::from_static("http://evil.test/api/v1/agents");
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert!(guard().admit(&rebound, &headers).is_err());
        let http2 = Uri::from_static("http://localhost:8080/api/v1/agents");
        assert!(guard().admit(&http2, &HeaderMap::new()).is_ok());
    }

    #[test]
    fn what_the_listener_itself_served_on_loopback_may_call_it() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:80", "localhost"] {
            assert!(admits(&[(HOST, host), (ORIGIN, &format!("http://{host}"))]), "{host}");
        }
        for (host, origin) in [
            ("localhost:8080", "http://localhost:3000"),
            ("localhost:8080", "http://127.0.0.1:8080"),
            ("localhost:8080", "https://localhost:8080"),
            ("example.com", "http://example.com"),
        ] {
            assert!(!admits(&[(HOST, host), (ORIGIN, origin)]), "{origin}");
        }
    }

    #[test]
    fn an_origin_is_admitted_by_name_only() {
        let with = |origin| admits(&[(HOST, "localhost"), (ORIGIN, origin)]);
        assert!(with("https://app.example.com"));
        for bad in [
            "null",
            "http://localhost:8080",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://evil.test",
            "app.example.com",
            "",
        ] {
            assert!(!with(bad), "{bad}");
        }
        let twice = [(HOST, "localhost"), (ORIGIN, "https://app.example.com"), (ORIGIN, "https://app.example.com")];
        assert!(!admits(&twice));
    }
}
