//! Where requests come from: the other end of the connection, or whom a proxy in front speaks for.

use crate::domain::quoted;
use crate::error::{Error, Result};
use axum::http::HeaderMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What a proxy tells its callers' addresses by. No standard has it; every proxy writes it.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a TCP connection comes from; put into its requests by the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

/// Whose request this is. `peer` is the other end of its connection.
///
/// Behind a proxy on this machine that is who the last hop of `X-Forwarded-For` names: what stands before it may be anybody's word, the
/// last one is the proxy's own. A proxy that doesn't say it would make one and the same caller of everybody, and of every network a
/// lie, so that a request without it is an error.
pub(super) fn source(peer: Option<IpAddr>, headers: &HeaderMap, behind_proxy: bool) -> Result<Option<IpAddr>> {
    let is_the_proxy = behind_proxy && peer.is_none_or(|peer| peer.to_canonical().is_loopback());
    if is_the_proxy { forwarded_for(headers).map(Some) } else { Ok(peer) }
}

/// As whom a source is counted: of IPv6, everybody has a /64 to themselves, and as many addresses as they like.
pub(super) fn counted_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        of_four => of_four,
    }
}

fn forwarded_for(headers: &HeaderMap) -> Result<IpAddr> {
    let wrong = |reason: String| {
        Error::invalid_input(format!("the header `X-Forwarded-For` {reason}")).hint(
            "`http.behind_proxy` is on: the proxy in front has to add its caller's address to this header (nginx: \
             `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for`). Without one, switch the setting off; on the station's \
             own machine, call `stn` without `--url`",
        )
    };
    let last = headers.get_all(X_FORWARDED_FOR).iter().next_back().ok_or_else(|| wrong("is missing".to_owned()))?;
    let text = last.to_str().map_err(|_| wrong("is no text of ASCII characters".to_owned()))?;
    let hop = text.rsplit(',').next().unwrap_or_default().trim();
    address(hop).ok_or_else(|| wrong(format!("ends with {}, which is no IP address", quoted(hop))))
}

/// The address in `192.0.2.1`, `192.0.2.1:4000`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4000`.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    bare().or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn told(lines: &[&str]) -> Result<Option<IpAddr>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        source(Some(IpAddr::from([127, 0, 0, 1])), &headers, true)
    }

    #[test]
    fn behind_a_proxy_the_last_hop_that_it_wrote_is_who_asks() {
        for (lines, from) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["127.0.0.1, 10.0.0.1,192.0.2.1 "], "192.0.2.1"),
            (&["10.0.0.1", "10.0.0.2, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1:4000"], "192.0.2.1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:4000"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
        ] {
            assert_eq!(told(lines).unwrap(), Some(from.parse().unwrap()), "{lines:?}");
        }
    }

    #[test]
    fn a_proxy_that_names_nobody_is_an_error_that_says_what_it_has_to_do() {
        for (lines, told_of) in [
            (&[][..], "`X-Forwarded-For` is missing"),
            (&[""], "ends with"),
            (&["192.0.2.1, "], "ends with"),
            (&["192.0.2.1, unknown"], "ends with `unknown`"),
            (&["192.0.2.1", "_hidden"], "ends with `_hidden`"),
            (&["192.0.2.256"], "no IP address"),
            (&["[192.0.2.1]"], "no IP address"),
            (&["192.0.2.1:port"], "no IP address"),
            (&["é"], "ASCII"),
        ] {
            let error = told(lines).unwrap_err();
            assert!(error.message().contains(told_of), "{lines:?}: {error}");
            assert!(error.hint_text().unwrap().contains("`http.behind_proxy`"), "{error:?}");
        }
    }

    #[test]
    fn an_address_of_ipv6_counts_as_its_network_and_one_of_ipv4_as_itself() {
        for (source, counted) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(counted_as(source.parse().unwrap()), counted.parse::<IpAddr>().unwrap(), "{source}");
        }
    }

    #[test]
    fn nobody_but_a_proxy_on_this_machine_is_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, "192.0.2.1".parse().unwrap());
        let (near, far): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        for (peer, behind_proxy, from) in [(near, false, near), (far, false, far), (far, true, far)] {
            assert_eq!(source(Some(peer), &headers, behind_proxy).unwrap(), Some(from), "{peer} {behind_proxy}");
        }
        for loopback in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            let from = source(Some(loopback.parse().unwrap()), &headers, true).unwrap();
            assert_eq!(from, Some("192.0.2.1".parse().unwrap()), "{loopback}");
        }
    }
}
