//! What of an HTTP flow nobody should read later: passwords, query strings, header values.

use crate::model::flow::{Http, Kafka};

/// What stands in the place of what was taken out; the text is Hubble's.
pub const REDACTED: &str = "HUBBLE_REDACTED";

/// What to take out. The comparison with Hubble runs with [`Redaction::hubble`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// Passwords in the user info of URLs. Default: true.
    pub user_info: bool,
    /// Query and fragment of URLs. Default: true.
    pub url_query: bool,
    /// Values of headers that are in no list. Default: true. With an empty `headers_allow` and a filled `headers_deny` only the denied
    /// ones are taken out.
    pub headers: bool,
    /// Headers whose values stay, lower case. Default: those that carry no user data and that traces and filters need.
    pub headers_allow: Vec<Box<str>>,
    /// Headers whose values go, lower case. Default: none.
    pub headers_deny: Vec<Box<str>>,
    /// The name of a Kafka request. Default: false; it is an operation, not a secret.
    pub kafka_api_key: bool,
}

impl Default for Redaction {
    fn default() -> Self {
        const ALLOWED: [&str; 9] = [
            ":authority",
            "accept",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "user-agent",
            "x-envoy-upstream-service-time",
            "x-request-id",
        ];
        Self {
            user_info: true,
            url_query: true,
            headers: true,
            headers_allow: ALLOWED.iter().map(|name| Box::from(*name)).collect(),
            headers_deny: Vec::new(),
            kafka_api_key: false,
        }
    }
}

impl Redaction {
    /// Hubble's own default: passwords only.
    #[must_use]
    pub const fn hubble() -> Self {
        Self {
            user_info: true,
            url_query: false,
            headers: false,
            headers_allow: Vec::new(),
            headers_deny: Vec::new(),
            kafka_api_key: false,
        }
    }

    /// Takes out of an HTTP record what must not be seen.
    pub fn http(&self, http: &mut Http) {
        if let Some(url) = self.url(&http.url) {
            http.url = url;
        }
        if self.headers {
            for (name, value) in &mut http.headers {
                if !self.keeps(name) {
                    *value = REDACTED.into();
                }
            }
        }
    }

    /// Takes out of a Kafka record what must not be seen.
    pub fn kafka(&self, kafka: &mut Kafka) {
        if self.kafka_api_key {
            kafka.api_key = REDACTED.into();
        }
    }

    fn keeps(&self, name: &str) -> bool {
        let among = |list: &[Box<str>]| list.iter().any(|listed| listed.eq_ignore_ascii_case(name));
        if among(&self.headers_allow) {
            return true;
        }
        !self.headers_deny.is_empty() && self.headers_allow.is_empty() && !among(&self.headers_deny)
    }

    /// The URL without its secrets; `None` when it has none.
    fn url(&self, url: &str) -> Option<Box<str>> {
        let (front, end) = match url.find(['?', '#']) {
            Some(at) => url.split_at(at),
            None => (url, ""),
        };
        let end = if self.url_query { "" } else { end };
        let password = if self.user_info {
            password(front)
        } else {
            None
        };
        match password {
            Some(at) => {
                let (before, after) = (front.get(..at.start)?, front.get(at.end..)?);
                Some(format!("{before}{REDACTED}{after}{end}").into())
            }
            None if front.len() + end.len() < url.len() => Some(format!("{front}{end}").into()),
            None => None,
        }
    }
}

/// Where the password stands in `scheme://user:password@host/path`.
fn password(front: &str) -> Option<std::ops::Range<usize>> {
    let authority_start = if front.starts_with("//") {
        2
    } else {
        front.find("://")? + 3
    };
    let rest = front.get(authority_start..)?;
    let authority = rest.split('/').next()?;
    let user_info = authority.get(..authority.rfind('@')?)?;
    let colon = user_info.find(':')?;
    Some(authority_start + colon + 1..authority_start + user_info.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(redaction: &Redaction, url: &str) -> String {
        redaction.url(url).unwrap_or_else(|| url.into()).into()
    }

    #[test]
    fn passwords_and_queries_leave_the_url() {
        let all = Redaction::default();
        assert_eq!(
            url(&all, "http://a:b@h/p?q=1#f"),
            "http://a:HUBBLE_REDACTED@h/p"
        );
        assert_eq!(url(&all, "http://a@h/p"), "http://a@h/p");
        assert_eq!(url(&all, "/p?user=x:y@z"), "/p");
        assert_eq!(url(&all, "http://h/a:b@c"), "http://h/a:b@c");
        assert_eq!(url(&all, ""), "");
        let hubble = Redaction::hubble();
        assert_eq!(
            url(&hubble, "http://a:b@h/p?q=1#f"),
            "http://a:HUBBLE_REDACTED@h/p?q=1#f"
        );
    }

    #[test]
    fn header_values_go_unless_a_list_keeps_them() {
        let http = Http {
            headers: vec![
                ("Cookie".into(), "secret".into()),
                ("Host".into(), "h".into()),
            ],
            ..Http::default()
        };
        let values = |redaction: &Redaction| {
            let mut http = http.clone();
            redaction.http(&mut http);
            http.headers
                .into_iter()
                .map(|(_, value)| value.into_string())
                .collect::<Vec<_>>()
        };
        let lists = |allow: &[&str], deny: &[&str]| Redaction {
            headers_allow: allow.iter().map(|name| Box::from(*name)).collect(),
            headers_deny: deny.iter().map(|name| Box::from(*name)).collect(),
            ..Redaction::default()
        };
        assert_eq!(values(&Redaction::default()), [REDACTED, "h"]);
        assert_eq!(values(&Redaction::hubble()), ["secret", "h"]);
        assert_eq!(values(&lists(&[], &[])), [REDACTED, REDACTED]);
        assert_eq!(values(&lists(&[], &["cookie"])), [REDACTED, "h"]);
        assert_eq!(values(&lists(&["cookie"], &[])), ["secret", REDACTED]);
    }
}
