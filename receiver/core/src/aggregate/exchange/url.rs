//! The parts of a URL as proxies log it: absolute, or only a path.

use std::fmt::Write as _;

use crate::semconv::exchange::value::REDACTED;

/// Keys of a query whose values are signatures or credentials (semantic conventions, `url.full`).
const SIGNATURES: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// A URL. What is not there is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Url<'a> {
    pub(super) scheme: Option<&'a str>,
    pub(super) has_user: bool,
    /// Host with its port, if it has one.
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// Never fails: what has no scheme and no authority is a path. The fragment is left out.
    pub(super) fn parse(text: &'a str) -> Self {
        let text = text.split('#').next().unwrap_or_default();
        let (front, query) = match text.split_once('?') {
            Some((front, query)) => (front, Some(query)),
            None => (text, None),
        };
        let (scheme, rest) = match front.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), Some(rest)),
            _ => (None, front.strip_prefix("//")),
        };
        let Some(rest) = rest else {
            return Self {
                path: front,
                query,
                ..Self::default()
            };
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (has_user, authority) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        Self {
            scheme,
            has_user,
            authority: Some(authority).filter(|text| !text.is_empty()),
            path,
            query,
        }
    }

    /// `url.full`: absolute, credentials and signatures replaced. `None` without scheme and host.
    pub(super) fn full(&self) -> Option<String> {
        let mut full = format!("{}://", self.scheme?);
        if self.has_user {
            // Writing to a String cannot fail.
            write!(full, "{REDACTED}:{REDACTED}@").unwrap_or_default();
        }
        full.push_str(self.authority?);
        full.push_str(self.path);
        if let Some(query) = self.query() {
            full.push('?');
            full.push_str(&query);
        }
        Some(full)
    }

    /// `url.query`: signatures replaced. `None` when empty.
    pub(super) fn query(&self) -> Option<String> {
        let query = self.query.filter(|query| !query.is_empty())?;
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if SIGNATURES.contains(&key) => format!("{key}={REDACTED}"),
            _ => pair.to_owned(),
        });
        Some(pairs.collect::<Vec<_>>().join("&"))
    }

    /// The port that the scheme implies.
    pub(super) fn default_port(&self) -> Option<u16> {
        match self.scheme {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Host and port of an authority without a user, or of a `Host` header. An IPv6 address loses its brackets.
pub(super) fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    if let Some((host, after)) = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        let port = after.strip_prefix(':').and_then(|port| port.parse().ok());
        return (host, port);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (Option<&str>, Option<&str>, &str, Option<&str>) {
        let url = Url::parse(text);
        (url.scheme, url.authority, url.path, url.query)
    }

    #[test]
    fn what_proxies_log_is_taken_apart() {
        assert_eq!(
            parts("http://u:p@h:81/a/b?q=1#f"),
            (Some("http"), Some("h:81"), "/a/b", Some("q=1"))
        );
        assert_eq!(
            parts("/only?x=http://y"),
            (None, None, "/only", Some("x=http://y"))
        );
        assert_eq!(parts("//h/p"), (None, Some("h"), "/p", None));
        assert_eq!(
            parts("http://h?q"),
            (Some("http"), Some("h"), "", Some("q"))
        );
        assert_eq!(parts("*"), (None, None, "*", None));
        assert_eq!(parts(""), (None, None, "", None));
        assert_eq!(host_and_port("h:81"), ("h", Some(81)));
        assert_eq!(host_and_port("[fd00::1]:80"), ("fd00::1", Some(80)));
        assert_eq!(host_and_port("[fd00::1]"), ("fd00::1", None));
        assert_eq!(host_and_port("h"), ("h", None));
    }

    #[test]
    fn no_credentials_are_shown() {
        let url = Url::parse("https://me:secret@h/p?a=1&sig=abc&X-Amz-Signature=1=2");
        let full = "https://REDACTED:REDACTED@h/p?a=1&sig=REDACTED&X-Amz-Signature=REDACTED";
        assert_eq!(url.full().as_deref(), Some(full));
        assert_eq!(Url::parse("/p?a").full(), None);
        assert_eq!(
            Url::parse("http://h/?").full().as_deref(),
            Some("http://h/")
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_taken_apart(text in "\\PC{0,40}", near in "(http)?:?/{0,3}[a@:\\[\\]é]{0,6}[/?#=&]{0,4}") {
            for text in [text, near] {
                let url = Url::parse(&text);
                let _parts = (url.full(), url.query(), url.authority.map(host_and_port));
            }
        }
    }
}
