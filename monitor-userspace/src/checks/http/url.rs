//! URLs of HTTP: taken apart, and followed when a server says where else to go (RFC 3986, without what HTTP does not need).

use std::fmt;

use hyper::Uri;

use crate::checks::net::place::Place;

/// The longest that is followed.
const LONGEST: usize = 8192;

/// What may stand in a failure: no query, no user, no password, and not without end.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => text.to_owned(),
    };
    text.chars().take(200).collect()
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) place: Place,
    pub(super) tls: bool,
    /// As it stands in `Host`: without the port where that is the usual one.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Url {
    /// From what is configured.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let text = shown(text);
            format!(
                "`{text}` cannot be asked for: {why}; write it as \"http://127.0.0.1:8080/health\" or \"https://example.org/\""
            )
        };
        if text.len() > LONGEST {
            return Err(format!("a URL of {} bytes is too long", text.len()));
        }
        let text = text.split('#').next().unwrap_or(text);
        let scheme = text
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        if has_scheme(text) && !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(wrong("only http and https are spoken"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it does not begin with http:// or https://")),
        };
        let whole = uri.authority().map_or("", |it| it.as_str());
        if whole.contains('@') {
            return Err("a URL with a user or a password in it is not taken: write `headers = { authorization = { file = \"…\" } }`".to_owned());
        }
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if tls { 443 } else { 80 };
        // What is no port is passed over by the parser.
        let port = match whole.strip_prefix(host) {
            Some("") => Some(usual),
            Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
            None => None,
        };
        let port = port
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("its port is none"))?;
        let place = Place::new(bare, port).map_err(|why| wrong(&why))?;
        let authority = if port == usual {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            place,
            tls,
            authority,
            path,
        })
    }

    /// Where a `Location` leads to from here.
    pub(super) fn follow(&self, location: &str) -> Result<Self, String> {
        let scheme = if self.tls { "https" } else { "http" };
        let whole = if has_scheme(location) {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else {
            let (path, query) = match self.path.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (self.path.as_str(), None),
            };
            let path = match location.chars().next() {
                None | Some('#') => {
                    query.map_or(path.to_owned(), |query| format!("{path}?{query}"))
                }
                Some('?') => format!("{path}{location}"),
                Some('/') => plain(location),
                Some(_) => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    plain(&format!("{folder}/{location}"))
                }
            };
            format!("{scheme}://{}{path}", self.authority)
        };
        Self::parse(&whole)
    }

    /// Whether both are the same server: what is secret goes to no other.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.tls == other.tls && self.place == other.place
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold what is nobody's business.
        let path = self.path.split('?').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

fn has_scheme(location: &str) -> bool {
    let before = location.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme = before.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|it| it.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Without `.` and `..` in its path.
fn plain(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let mut parts: Vec<&str> = Vec::new();
    let mut last = "";
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
        last = part;
    }
    if matches!(last, "." | "..") {
        parts.push("");
    }
    let path = format!("/{}", parts.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let from = Url::parse("https://example.org:8443/a/b?c=1#d").expect("a URL");
        assert_eq!(from.authority, "example.org:8443");
        for (location, to) in [
            ("/x/../y", "https://example.org:8443/y"),
            ("z?q", "https://example.org:8443/a/z"),
            ("../..", "https://example.org:8443/"),
            ("//other.example/p", "https://other.example/p"),
            ("http://[::1]:81/", "http://[::1]:81/"),
            ("?e=2", "https://example.org:8443/a/b"),
            ("", "https://example.org:8443/a/b"),
        ] {
            assert_eq!(
                from.follow(location).map(|it| it.to_string()),
                Ok(to.to_owned()),
                "{location}"
            );
        }
        for location in [
            "file:///etc/passwd",
            "gopher://x/",
            "javascript:alert(1)",
            "http://",
            "https://u:p@h/",
        ] {
            assert!(from.follow(location).is_err(), "{location}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "/health",
            "ftp://h/",
            "http://",
            "http://h:0/",
            "http://h:/",
            "http://h:99999/",
            "http://user:secret@h/",
            "http://a b/",
            "http://bücher/",
        ] {
            let error = Url::parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
        let plain = Url::parse("http://127.0.0.1").expect("a URL");
        assert_eq!(
            (
                plain.authority.as_str(),
                plain.path.as_str(),
                plain.place.port
            ),
            ("127.0.0.1", "/", 80)
        );
    }
}
