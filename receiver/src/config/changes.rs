//! What differs between two configurations, and what a reload has to do about it.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::config::schema::{Kind, Row, rows};

/// A key whose value differs, or a component that is turned on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// Dotted path.
    pub path: &'static str,
    /// Whether it is taken over while everything runs.
    pub live: bool,
}

impl Changed {
    /// The component that it belongs to: `receivers.ebpf`, `exporters.otlp_grpc`, `logs`, …
    #[must_use]
    pub fn component(&self) -> &'static str {
        let mut dots = self.path.match_indices('.');
        let end = match self.path.split('.').next() {
            Some("receivers" | "exporters" | "extensions") => dots.nth(1),
            _ => dots.next(),
        };
        end.map_or(self.path, |(end, _)| self.path.split_at(end).0)
    }
}

/// All changes, by path.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> BTreeSet<Changed> {
    // Looking at a value inside a component turns it on: that happens in copies.
    let (mut old_values, mut new_values) = (old.clone(), new.clone());
    rows()
        .filter(|row| match &row.kind {
            Kind::Group | Kind::Override => false,
            Kind::Component { is_on, .. } => is_on(old) != is_on(new),
            Kind::Value(limits, setting) => {
                is_on(row, old)
                    && is_on(row, new)
                    && setting(&mut old_values).show(limits)
                        != setting(&mut new_values).show(limits)
            }
        })
        .map(|row| Changed {
            path: row.path,
            live: row.is_live() && !matches!(row.kind, Kind::Component { .. }),
        })
        .collect()
}

/// Whether the component that a key belongs to runs.
fn is_on(row: &Row, config: &Config) -> bool {
    rows()
        .filter(|component| {
            let rest = row.path.strip_prefix(component.path);
            rest.is_some_and(|rest| rest.starts_with('.'))
        })
        .all(|component| match component.kind {
            Kind::Component { is_on, .. } => is_on(config),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::File;
    use crate::config::{Overrides, parse};

    fn config(text: &str) -> Config {
        let file = File {
            name: "a.yaml",
            text,
        };
        parse(Some(file), &|_| None, Overrides::default())
            .unwrap()
            .config
    }

    #[test]
    fn each_difference_is_found_once_with_its_component() {
        let old =
            config("receivers: {ebpf: {interval: 5s, scope: host}}\nexporters: {console: {}}\n");
        let new = config(
            "receivers: {ebpf: {interval: 6s, scope: pod}, cilium: {}}\nexporters: {console: {}}\nlogs: {body: none}\n",
        );
        let found: Vec<_> = changes(&old, &new)
            .iter()
            .map(|change| (change.path, change.component(), change.live))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "extensions.hubble_observer",
                    "extensions.hubble_observer",
                    false
                ),
                ("logs.body", "logs", true),
                ("receivers.cilium", "receivers.cilium", false),
                ("receivers.ebpf.interval", "receivers.ebpf", true),
                ("receivers.ebpf.scope", "receivers.ebpf", false),
            ]
        );
        assert!(changes(&new, &new).is_empty());
    }

    #[test]
    fn keys_below_a_live_one_are_live() {
        let live: BTreeSet<_> = rows()
            .filter(|row| row.is_live())
            .map(|row| row.path)
            .collect();
        for path in [
            "receivers.cilium.redact.http_urlquery",
            "exporters.otlp_grpc.endpoint",
            "exporters.otlp_grpc.logs.headers",
        ] {
            assert!(live.contains(path), "{path}");
        }
        assert!(!live.contains("receivers.ebpf.ring_size"));
    }
}
