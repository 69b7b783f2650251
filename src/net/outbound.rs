//! Where requests may go.

use super::guard::is_loopback;

/// Checks that a request may go to `url`: over https anywhere, over plain http to this machine only, because everybody on the way reads
/// what plain http carries, credentials too. The error is a phrase that follows the name of the setting; it shows no more of the address
/// than its host, since the rest may hold a secret.
pub fn check_outbound(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?)));
    match host {
        Some(("https", _)) => Ok(()),
        Some(("http", host)) if is_loopback(host) => Ok(()),
        Some(("http", host)) => Err(format!(
            "`http://{host}` is plain http to another machine, which anybody on the way can read and change"
        )),
        Some((scheme, host)) => Err(format!("`{scheme}://{host}` is no http or https URL")),
        None => Err("it is no http or https URL".to_owned()),
    }
}

/// What to do about an address that [`check_outbound`] refuses.
pub const OUTBOUND_HINT: &str = "use https, or reach it through a loopback address such as http://127.0.0.1:8080";

/// `url` without the credentials that it may carry: those before its host, and what stands behind a `?`.
pub fn without_credentials(url: &str) -> String {
    const HIDDEN: &str = "[not shown]";
    let (rest, query) = url.split_once('?').map_or((url, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = rest.split_once("://").map_or(("", rest), |(scheme, rest)| (scheme, rest));
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let colon = if scheme.is_empty() { "" } else { "://" };
    let query = query.map(|_| format!("?{HIDDEN}")).unwrap_or_default();
    format!("{scheme}{colon}{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        for (url, shown) in [
            ("https://api.example.com/v1", "https://api.example.com/v1"),
            ("https://me:pass@word@api.example.com:8443/v1", "https://[not shown]@api.example.com:8443/v1"),
            ("http://127.0.0.1:1?key=abc", "http://127.0.0.1:1?[not shown]"),
            ("https://token@h", "https://[not shown]@h"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn requests_go_over_https_or_stay_on_this_machine() {
        for good in [
            "https://api.example.com/v1",
            "HTTPS://10.0.0.1",
            "http://127.0.0.1:11434/v1",
            "http://127.9.9.9",
            "http://[::1]:8080/mcp",
            "http://LOCALHOST:1/",
        ] {
            assert_eq!(check_outbound(good), Ok(()), "{good}");
        }
        for (bad, named) in [
            ("http://api.example.com/v1?key=hidden", "`http://api.example.com`"),
            ("http://10.0.0.1:9000", "`http://10.0.0.1`"),
            ("http://localhost.evil.test", "`http://localhost.evil.test`"),
            ("http://localhost@evil.test/", "`http://evil.test`"),
            ("http://user:hidden@127.0.0.1.evil.test/", "evil.test`"),
            ("http://0.0.0.0:80", "`http://0.0.0.0`"),
            ("ftp://127.0.0.1", "no http or https URL"),
            ("file:///etc/passwd", "no http or https URL"),
            ("127.0.0.1:8080", "no http or https URL"),
            ("https://", "no http or https URL"),
        ] {
            let reason = check_outbound(bad).unwrap_err();
            assert!(reason.contains(named) && !reason.contains("hidden"), "{bad}: {reason}");
        }
    }
}
