//! Patterns of names: text into a test, by the rules of Cilium `pkg/hubble/filters/patterns.go` and `k8s.go` (1.19).

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("the pattern is empty")]
    Empty,
    /// A character that no name has.
    #[error("`{0}` does not stand in names")]
    Character(char),
    /// `a..`
    #[error("the pattern ends with more than one dot")]
    Dots,
    /// More than `cluster/node`.
    #[error("the pattern has more than one slash")]
    Slashes,
    /// The pattern is too large for the expression that it becomes.
    #[error("the pattern is too large")]
    TooLarge,
}

/// A pattern of DNS names as an expression: `*` stands for any run of characters, dots included.
pub(super) fn dns_name(pattern: &str) -> Result<String, PatternError> {
    name(pattern)
}

/// A pattern of nodes as an expression: `cluster/node`, each part a pattern; a part that is missing or empty means any.
pub(super) fn node(pattern: &str) -> Result<String, PatternError> {
    const ANY: &str = r"[-0-9_a-z]+(?:\.[-0-9_a-z]+)*";
    let part = |text: &str| {
        if text.is_empty() {
            Ok(ANY.to_owned())
        } else {
            name(text)
        }
    };
    let (cluster, node) = pattern.split_once('/').unwrap_or(("", pattern));
    if pattern.is_empty() {
        return Err(PatternError::Empty);
    }
    if node.contains('/') {
        return Err(PatternError::Slashes);
    }
    Ok(format!("{}/{}", part(cluster)?, part(node)?))
}

/// An expression that has to match the whole text.
pub(super) fn whole(expression: &str) -> String {
    format!(r"\A(?:{expression})\z")
}

fn name(pattern: &str) -> Result<String, PatternError> {
    let pattern = pattern.trim();
    let pattern = pattern
        .strip_suffix('.')
        .unwrap_or(pattern)
        .to_ascii_lowercase();
    if pattern.is_empty() {
        return Err(PatternError::Empty);
    }
    if pattern.ends_with('.') {
        return Err(PatternError::Dots);
    }
    let mut expression = String::with_capacity(pattern.len() * 2);
    for c in pattern.chars() {
        match c {
            '.' => expression.push_str(r"\."),
            '*' => expression.push_str("[-.0-9a-z]*"),
            '-' | '_' | '0'..='9' | 'a'..='z' => expression.push(c),
            _ => return Err(PatternError::Character(c)),
        }
    }
    Ok(expression)
}

/// `namespace/name`: the name by prefix, the namespace exactly; both optional, a bare name means the namespace `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespacedPrefix {
    namespace: String,
    prefix: String,
}

impl NamespacedPrefix {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut parts = text.split('/');
        let (namespace, prefix) = match (parts.next(), parts.next()) {
            (None | Some(""), None) => return Err(PatternError::Empty),
            (Some(name), None) => ("default", name),
            (namespace, prefix) => (namespace.unwrap_or(""), prefix.unwrap_or("")),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    pub(super) fn matches(&self, namespace: &str, name: &str) -> bool {
        (!namespace.is_empty() || !name.is_empty())
            && name.starts_with(&self.prefix)
            && (self.namespace.is_empty() || self.namespace == namespace)
    }
}

/// The path of the URL of a request line, decoded: of an absolute URL or of `/path?query`. `None` for anything else.
pub(super) fn url_path(url: &str) -> Option<String> {
    let rest = if url.starts_with('/') {
        url
    } else {
        let (scheme, rest) = url.split_once("://")?;
        if scheme.is_empty()
            || !scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            return None;
        }
        rest.find(['/', '?'])
            .map_or("", |at| rest.get(at..).unwrap_or(""))
    };
    let path = rest.split('?').next().unwrap_or("");
    percent_decoded(path)
}

fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        out.push(decoded);
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::flow_filter::expression::{Budget, Expression};

    #[track_caller]
    fn matcher(expression: Result<String, PatternError>) -> Expression {
        Expression::new(&[whole(&expression.unwrap())], &mut Budget::default()).unwrap()
    }

    #[test]
    fn dns_patterns_are_anchored_and_blind_to_case_and_final_dot() {
        let names = matcher(dns_name("*.Example.com."));
        assert!(names.is_match("a.b.example.com"));
        assert!(
            !names.is_match("example.com")
                && !names.is_match("a.example.com.more")
                && !names.is_match("axexample.com")
        );
        assert_eq!(dns_name("a b"), Err(PatternError::Character(' ')));
        assert_eq!(dns_name("a.."), Err(PatternError::Dots));
        assert_eq!(dns_name(""), Err(PatternError::Empty));
    }

    #[test]
    fn node_patterns_have_a_cluster_and_a_node() {
        let any_cluster = matcher(node("k8s*"));
        assert!(any_cluster.is_match("default/k8s1") && !any_cluster.is_match("default/other"));
        let any_node = matcher(node("prod/"));
        assert!(any_node.is_match("prod/n.x") && !any_node.is_match("test/n"));
        assert_eq!(node("a/b/c"), Err(PatternError::Slashes));
    }

    #[test]
    fn namespaced_names_match_by_prefix() {
        let matches = |pattern, namespace, name| {
            NamespacedPrefix::parse(pattern)
                .unwrap()
                .matches(namespace, name)
        };
        assert!(matches("pod", "default", "pod-1") && !matches("pod", "kube-system", "pod-1"));
        assert!(matches("kube-system/", "kube-system", "x") && matches("/x", "any", "xy"));
        assert!(
            !matches("/", "", ""),
            "an end without names matches nothing"
        );
        assert_eq!(NamespacedPrefix::parse(""), Err(PatternError::Empty));
    }

    #[test]
    fn the_path_of_a_url_is_decoded() {
        assert_eq!(
            url_path("http://svc:80/a%20b?q=/x").as_deref(),
            Some("/a b")
        );
        assert_eq!(url_path("/a?b").as_deref(), Some("/a"));
        assert_eq!(url_path("http://svc?x").as_deref(), Some(""));
        assert_eq!(url_path("svc/a"), None);
        assert_eq!(url_path("/%zz"), None);
        assert_eq!(url_path("/%"), None);
    }
}
