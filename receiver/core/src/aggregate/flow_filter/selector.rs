//! Label selectors in Kubernetes syntax, with Cilium's label sources: text into a test on `source:key=value` labels.
//!
//! `k8s:app in (a, b), !reserved:world, tier != db`. A key without a source means any source. As in Kubernetes, `!=` and
//! `notin` also hold when the label is not there. Cilium `pkg/hubble/filters/labels.go`, `labelparser.go` (1.19).

use std::net::IpAddr;

/// All of its requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    /// Empty means any.
    source: String,
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

/// Why a selector is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing where a key must stand.
    #[error("a key is missing in label selector `{0}`")]
    NoKey(String),
    /// Something else than an operator after a key.
    #[error(
        "label selector `{0}` has no operator that is known: =, ==, !=, in (…), notin (…), <, >"
    )]
    Operator(String),
    /// `in` without its list.
    #[error("label selector `{0}` lacks a list in parentheses")]
    List(String),
    /// `<` or `>` with something else than a whole number.
    #[error("label selector `{0}` compares with something that is no whole number")]
    Number(String),
}

impl Selector {
    /// Reads a selector. The empty one selects everything.
    ///
    /// # Errors
    /// The part that cannot be read, with the reason.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        split_outside_parentheses(text)
            .map(str::trim)
            .filter(|part| !part.is_empty() || !text.trim().is_empty())
            .map(Requirement::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether all requirements hold for these labels (`source:key=value` or `source:key`).
    pub fn matches<'a>(&self, labels: &(impl Iterator<Item = &'a str> + Clone)) -> bool {
        self.0
            .iter()
            .all(|requirement| requirement.holds(labels.clone()))
    }
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let end = rest
            .find(|c: char| c.is_whitespace() || "=!<>(,)".contains(c))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (source, key) = match name.split_once(':') {
            Some(("any", key)) => ("", key),
            Some((source, key)) => (source, key),
            None => ("", name),
        };
        if key.is_empty() {
            return Err(SelectorError::NoKey(text.to_owned()));
        }
        let test = Test::parse(rest.trim(), text)?;
        let test = match (negated, test) {
            (false, test) => test,
            (true, Test::Exists) => Test::Missing,
            (true, _) => return Err(SelectorError::Operator(text.to_owned())),
        };
        Ok(Self {
            source: source.to_owned(),
            key: key.to_owned(),
            test,
        })
    }

    fn holds<'a>(&self, mut labels: impl Iterator<Item = &'a str>) -> bool {
        let value = labels.find_map(|label| self.value_of(label));
        match (&self.test, value) {
            (Test::Exists, value) => value.is_some(),
            (Test::Missing, value) => value.is_none(),
            (Test::In(values), Some(value)) => values.iter().any(|v| v == value),
            (Test::NotIn(values), Some(value)) => values.iter().all(|v| v != value),
            (Test::NotIn(_), None) => true,
            (Test::Above(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|value| value > *bound)
            }
            (Test::Below(bound), Some(value)) => {
                value.parse::<i64>().is_ok_and(|value| value < *bound)
            }
            (Test::In(_) | Test::Above(_) | Test::Below(_), None) => false,
        }
    }

    /// The value of a label, if it is the one this is about. A `cidr` label is meant by every prefix that holds it.
    fn value_of<'a>(&self, label: &'a str) -> Option<&'a str> {
        let (source, rest) = label.split_once(':').unwrap_or(("", label));
        if !self.source.is_empty() && self.source != source {
            return None;
        }
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        let same = key == self.key
            || (source == "cidr" && self.source == "cidr" && prefix_holds(&self.key, key));
        same.then_some(value)
    }
}

impl Test {
    fn parse(rest: &str, whole: &str) -> Result<Self, SelectorError> {
        let word = |rest: &str, word: &str| {
            rest.strip_prefix(word)
                .filter(|rest| rest.starts_with(|c: char| c.is_whitespace() || c == '('))
                .map(|rest| rest.trim().to_owned())
        };
        let one = |value: &str| vec![value.trim().to_owned()];
        if rest.is_empty() {
            Ok(Self::Exists)
        } else if let Some(list) = word(rest, "notin") {
            Ok(Self::NotIn(values(&list, whole)?))
        } else if let Some(list) = word(rest, "in") {
            Ok(Self::In(values(&list, whole)?))
        } else if let Some(value) = rest.strip_prefix("!=") {
            Ok(Self::NotIn(one(value)))
        } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            Ok(Self::In(one(value)))
        } else if let Some(value) = rest.strip_prefix('>') {
            number(value, whole).map(Self::Above)
        } else if let Some(value) = rest.strip_prefix('<') {
            number(value, whole).map(Self::Below)
        } else {
            Err(SelectorError::Operator(whole.to_owned()))
        }
    }
}

fn number(text: &str, whole: &str) -> Result<i64, SelectorError> {
    text.trim()
        .parse()
        .map_err(|_| SelectorError::Number(whole.to_owned()))
}

fn values(list: &str, whole: &str) -> Result<Vec<String>, SelectorError> {
    list.strip_prefix('(')
        .and_then(|list| list.strip_suffix(')'))
        .map(|list| {
            list.split(',')
                .map(|value| value.trim().to_owned())
                .collect()
        })
        .ok_or_else(|| SelectorError::List(whole.to_owned()))
}

/// `10.0.0.0/8` holds `10.1.0.0/16`; in labels the colons of IPv6 are dashes.
fn prefix_holds(outer: &str, inner: &str) -> bool {
    let (Some((outer, outer_bits)), Some((inner, inner_bits))) = (prefix(outer), prefix(inner))
    else {
        return false;
    };
    outer_bits <= inner_bits && super::in_prefix(inner, outer, outer_bits)
}

fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.replace('-', ":").parse().ok()?;
    Some((address, bits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &[&str] = &[
        "k8s:app=shop",
        "k8s:tier=2",
        "reserved:world",
        "cidr:10.1.0.0/16",
    ];

    fn selects(text: &str) -> bool {
        Selector::parse(text)
            .unwrap()
            .matches(&LABELS.iter().copied())
    }

    #[test]
    fn requirements_hold_as_in_kubernetes() {
        for right in [
            "",
            "app",
            "k8s:app",
            "any:app",
            "app=shop",
            "app == shop",
            "k8s:app in (a, shop)",
            "app notin (a,b)",
            "nope != x",
            "nope notin (x)",
            "!nope",
            "! nope",
            "tier > 1",
            "tier<3",
            "app=shop,tier=2, reserved:world",
            "cidr:10.0.0.0/8",
            "reserved:world=",
        ] {
            assert!(selects(right), "{right}");
        }
        for wrong in [
            "nope",
            "k8s:world",
            "app=x",
            "app!=shop",
            "app notin (shop)",
            "app in ()",
            "!app",
            "tier > 2",
            "app > 1",
            "nope > 1",
            "app=shop,tier=3",
            "cidr:10.2.0.0/16",
            "cidr:10.1.0.0/24",
            "reserved:app",
        ] {
            assert!(!selects(wrong), "{wrong}");
        }
    }

    #[test]
    fn ipv6_prefixes_stand_in_labels_with_dashes() {
        let selector = Selector::parse("cidr:2001-db8--/32").unwrap();
        assert!(selector.matches(&["cidr:2001-db8-1--/48"].into_iter()));
        assert!(!selector.matches(&["cidr:2001-db9--/48"].into_iter()));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert_eq!(
            Selector::parse("=x"),
            Err(SelectorError::NoKey("=x".into()))
        );
        assert_eq!(
            Selector::parse("a,,b"),
            Err(SelectorError::NoKey(String::new()))
        );
        assert_eq!(
            Selector::parse("a ~ b"),
            Err(SelectorError::Operator("a ~ b".into()))
        );
        assert_eq!(
            Selector::parse("!a=b"),
            Err(SelectorError::Operator("!a=b".into()))
        );
        assert_eq!(
            Selector::parse("a in b"),
            Err(SelectorError::List("a in b".into()))
        );
        assert_eq!(
            Selector::parse("a > b"),
            Err(SelectorError::Number("a > b".into()))
        );
    }
}
