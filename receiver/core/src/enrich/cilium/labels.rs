//! Label lists as Hubble shows them.

use crate::decode::cilium::accesslog::Label;
use crate::model::flow::Labels;

/// The label that names the cluster.
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

/// Sorts labels bytewise; for identities of local scope only the longest `cidr:` prefix stays, since it implies the others.
#[must_use]
pub fn of<'a>(identity: u32, labels: impl IntoIterator<Item = &'a str>) -> Labels {
    let all: Vec<&str> = labels.into_iter().collect();
    // The scope is the highest byte: 1 for CIDRs and names, 2 for remote nodes.
    let local = matches!(identity >> 24, 1 | 2);
    let longest = if local { longest_prefix(&all) } else { None };
    let mut list: Vec<Box<str>> = all
        .iter()
        .filter(|label| !local || !label.starts_with("cidr:"))
        .chain(&longest)
        .map(|label| Box::from(*label))
        .collect();
    list.sort_unstable();
    Labels {
        cluster_name: cluster_name(all.iter().copied()).into(),
        list: list.into(),
    }
}

/// The labels of an access log: sorted, never filtered. The cluster is taken from a `k8s:` label only.
#[must_use]
pub fn of_access_log(labels: &[Label<'_>]) -> Labels {
    let mut list: Vec<Box<str>> = labels.iter().map(Label::text).collect();
    let cluster_name = access_log_cluster(&list).into();
    list.sort_unstable();
    Labels {
        list: list.into(),
        cluster_name,
    }
}

/// Whether [`of_access_log`] of `labels` is `known`. Looks no further than the order of the record, which the agent sorts.
#[must_use]
pub fn are_of_access_log(known: &Labels, labels: &[Label<'_>]) -> bool {
    let mut pairs = known.list.iter().zip(labels);
    known.list.len() == labels.len()
        && pairs.all(|(known, label)| label.is(known))
        && access_log_cluster(&known.list) == &*known.cluster_name
}

fn access_log_cluster(labels: &[Box<str>]) -> &str {
    let labels = labels.iter().map(|label| &**label);
    cluster_name(labels.filter(|label| label.starts_with("k8s:")))
}

/// The longest prefix; the first of equal ones, and never one of length zero.
fn longest_prefix<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let mut longest = (0, None);
    for label in labels {
        let Some(text) = label.strip_prefix("cidr:") else {
            continue;
        };
        if let Some(length) = prefix_length(text)
            && length > longest.0
        {
            longest = (length, Some(*label));
        }
    }
    longest.1
}

/// Colons of IPv6 addresses stand as dashes in labels.
fn prefix_length(text: &str) -> Option<u8> {
    let (address, length) = text.split_once('/')?;
    let address: std::net::IpAddr = address.replace('-', ":").parse().ok()?;
    let length: u8 = length.parse().ok()?;
    let most = if address.is_ipv6() { 128 } else { 32 };
    (length <= most).then_some(length)
}

fn cluster_name<'a>(labels: impl Iterator<Item = &'a str>) -> &'a str {
    labels
        .filter_map(|label| label.split_once(':')?.1.split_once('='))
        .find(|(key, _)| *key == CLUSTER)
        .map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_local_identity_only_the_longest_prefix_stays() {
        let labels = [
            "cidr:10.0.0.0/8",
            "reserved:world",
            "cidr:10.1.0.0/16",
            "cidr:0.0.0.0/0",
        ];
        let list = |identity| of(identity, labels).list.join(" ");
        assert_eq!(list(16_777_217), "cidr:10.1.0.0/16 reserved:world");
        assert_eq!(
            list(1000),
            "cidr:0.0.0.0/0 cidr:10.0.0.0/8 cidr:10.1.0.0/16 reserved:world"
        );
        let v6 = of(16_777_217, ["cidr:2001-db8--/32", "cidr:2001-db8-1--/48"]);
        assert_eq!(&*v6.list, ["cidr:2001-db8-1--/48".into()]);
    }

    #[test]
    fn the_cluster_is_named_by_its_label() {
        let labels = ["k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=blue"];
        assert_eq!(&*of(1000, labels).cluster_name, "blue");
        assert_eq!(&*of(1000, ["k8s:app=web"]).cluster_name, "");
        let other = [Label::Text("any:io.cilium.k8s.policy.cluster=blue".into())];
        assert_eq!(&*of_access_log(&other).cluster_name, "");
    }

    #[test]
    fn labels_of_a_record_are_recognised_without_being_made() {
        let parts = |source: &'static str, key: &'static str, value: &'static str| Label::Parts {
            source: source.into(),
            key: key.into(),
            value: value.into(),
        };
        let record = [
            parts("k8s", "app", "web"),
            parts("k8s", "io.cilium.k8s.policy.cluster", "blue"),
            parts("reserved", "host", ""),
        ];
        let known = of_access_log(&record);
        assert_eq!(
            known.list.join(" "),
            "k8s:app=web k8s:io.cilium.k8s.policy.cluster=blue reserved:host"
        );
        assert!(are_of_access_log(&known, &record));
        let texts: Vec<_> = known
            .list
            .iter()
            .map(|text| Label::Text((**text).into()))
            .collect();
        assert!(are_of_access_log(&known, &texts));
        for other in [
            parts("k8s", "app", "web2"),
            parts("k8s", "app", ""),
            parts("k8s", "ap", "web"),
            parts("any", "app", "web"),
            Label::Text("k8s:app".into()),
        ] {
            let record = [other, record[1].clone(), record[2].clone()];
            assert!(!are_of_access_log(&known, &record), "{:?}", record[0]);
        }
        assert!(!are_of_access_log(&known, &record[..2]));
        let elsewhere = Labels {
            cluster_name: "green".into(),
            ..known
        };
        assert!(!are_of_access_log(&elsewhere, &record));
    }
}
