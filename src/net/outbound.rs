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

/// `url` without the credentials that it may carry: those before its host, and what stands behind a `?` or a `#`. It is read as
/// [`check_outbound`] and the client that sends to it do, and of what they can't read nothing is shown.
pub fn without_credentials(url: &str) -> String {
    const HIDDEN: &str = "[not shown]";
    let parsed = reqwest::Url::parse(url).ok();
    let Some((url, host)) = parsed.as_ref().and_then(|url| Some((url, url.host_str()?))) else {
        return HIDDEN.to_owned();
    };
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "[not shown]@" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let behind = |mark: char, part: Option<&str>| part.map(|_| format!("{mark}{HIDDEN}")).unwrap_or_default();
    let (query, fragment) = (behind('?', url.query()), behind('#', url.fragment()));
    format!("{}://{user}{host}{port}{}{query}{fragment}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        for (url, shown) in [
            ("https://api.example.com/v1", "https://api.example.com/v1"),
            ("https://me:pass@word@api.example.com:8443/v1", "https://[not shown]@api.example.com:8443/v1"),
            ("http://[::1]:1/v1", "http://[::1]:1/v1"),
            ("http://127.0.0.1:1?key=abc", "http://127.0.0.1:1/?[not shown]"),
            ("https://token@h", "https://[not shown]@h/"),
            ("https:/me:pass@h.example/v1", "https://[not shown]@h.example/v1"),
            ("https:///me:pass@h.example/v1", "https://[not shown]@h.example/v1"),
            ("https:me:pass@h.example/v1", "https://[not shown]@h.example/v1"),
            ("https:\\\\me:pass@h.example\\v1", "https://[not shown]@h.example/v1"),
            ("ht\ntps://:pass@h.example/v1", "https://[not shown]@h.example/v1"),
            ("https://h.example/v1#key=abc", "https://h.example/v1#[not shown]"),
            ("https://h.example/v1?a#b?c", "https://h.example/v1?[not shown]#[not shown]"),
            ("https://h.example#@pass", "https://h.example/#[not shown]"),
            ("me:pass@h.example/v1", "[not shown]"),
            ("//me:pass@h.example/v1", "[not shown]"),
            ("https://", "[not shown]"),
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
