//! Origins as browsers send them, from what operators write.

use url::{Host, Url};

/// Why a text is no origin that a browser sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("not an origin such as https://app.example")]
    Malformed,
    #[error("an origin has no path, query or user: write https://app.example")]
    MoreThanOrigin,
    #[error(
        "origins are compared as a whole, so there are no wildcards; without this setting every page may connect"
    )]
    Wildcard,
    #[error("the pages of browsers have http or https, which this is not")]
    NoPages,
}

/// The origin that `text` means, as the `Origin` header has it (RFC 6454, section 6.2): scheme and
/// host in lower case, the host in ASCII (IDNA), no default port. Slash at the end or not is the
/// same.
pub(crate) fn origin(text: &str) -> Result<String, OriginError> {
    let text = text.trim();
    if text.contains('*') {
        return Err(OriginError::Wildcard);
    }
    let (_, rest) = text.split_once("://").ok_or(OriginError::Malformed)?;
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(OriginError::Malformed);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '\\', '?', '#', '@']) {
        return Err(OriginError::MoreThanOrigin);
    }
    let url = Url::parse(text).map_err(|_| OriginError::Malformed)?;
    let host = match url.host() {
        Some(Host::Domain("")) | None => return Err(OriginError::Malformed),
        Some(host) => host.to_string().to_ascii_lowercase(),
    };
    let scheme = url.scheme();
    match scheme {
        "ws" | "wss" | "ftp" | "file" => Err(OriginError::NoPages),
        // Those beside http and https are of applications with a browser inside.
        _ => Ok(match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_as_browsers_send_it() {
        for (written, sent) in [
            ("https://app.example", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://a.example:443", "https://a.example"),
            ("https://a.example:0443/", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("https://a.example:80", "https://a.example:80"),
            ("https://a.example:", "https://a.example"),
            ("HTTPS://App.EXAMPLE", "https://app.example"),
            (" https://app.example/ ", "https://app.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://BÜCHER.example:8443", "https://xn--bcher-kva.example:8443"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://[0:0::1]:80", "http://[::1]"),
            ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
            ("http://[::ffff:192.0.2.1]", "http://[::ffff:c000:201]"),
            ("http://127.1", "http://127.0.0.1"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Ionic://LocalHost", "ionic://localhost"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            assert_eq!(origin(written).as_deref(), Ok(sent), "{written}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        use OriginError::{Malformed, MoreThanOrigin, NoPages, Wildcard};
        for (written, why) in [
            ("", Malformed),
            ("null", Malformed),
            ("app.example", Malformed),
            ("app.example:443", Malformed),
            ("https:app.example", Malformed),
            ("https:// app.example", Malformed),
            ("https://", Malformed),
            ("https:///", Malformed),
            ("://app", Malformed),
            ("https://:443", Malformed),
            ("https://a.example:65536", Malformed),
            ("https://a.example:port", Malformed),
            ("https://[::1", Malformed),
            ("https://[fe80::1%25eth0]", Malformed),
            ("https://a.ex ample", Malformed),
            ("https://a.example//", MoreThanOrigin),
            ("https://a.example/path", MoreThanOrigin),
            ("https://a.example?q", MoreThanOrigin),
            ("https://a.example#f", MoreThanOrigin),
            ("https://ann@a.example", MoreThanOrigin),
            ("https:///a.example", MoreThanOrigin),
            ("*", Wildcard),
            ("https://*.app.example", Wildcard),
            ("wss://app.example", NoPages),
            ("ftp://app.example", NoPages),
            ("file://host", NoPages),
        ] {
            assert_eq!(origin(written), Err(why), "{written}");
        }
    }
}
