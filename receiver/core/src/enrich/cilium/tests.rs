//! Look-ups and resolution; flows themselves are compared with Hubble's in `tests/oracle_check`.

use super::update::{Refresh, apply, prefix};
use super::*;
use crate::decode::cilium::agent::{Notification, agent_event};

fn pod(name: &str) -> Arc<Pod> {
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        ..Pod::default()
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    directory.set_identity(1001, ["k8s:app=web"]);
    directory.set_identity(1002, ["k8s:app=db"]);
    directory.set_endpoint(LocalEndpoint {
        id: 7,
        identity: 1001,
        pod: Some(pod("web")),
        labels: Arc::new(labels::of(1001, ["k8s:app=web"])),
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
    });
    directory.set_prefix(ip("0.0.0.0"), 0, 2, None);
    directory.set_prefix(ip("::"), 0, 10, None);
    directory.set_prefix(ip("10.0.0.0"), 8, 99, None);
    directory.set_prefix(ip("10.0.1.5"), 32, 1002, Some(pod("db")));
    directory
}

#[test]
fn the_longest_prefix_names_the_identity() {
    let directory = directory();
    assert_eq!(directory.identity_at(ip("10.0.1.5")), Some(1002));
    assert_eq!(directory.identity_at(ip("10.9.9.9")), Some(99));
    assert_eq!(directory.identity_at(ip("11.0.0.1")), Some(2));
    assert_eq!(directory.identity_at(ip("2001:db8::1")), Some(10));
    assert_eq!(directory.identity_at(ip("::ffff:10.9.9.9")), Some(99));
    assert_eq!(Directory::default().identity_at(ip("10.0.0.1")), None);
}

#[test]
fn an_ipv4_address_is_never_in_an_ipv6_prefix() {
    let mut directory = Directory::default();
    directory.set_prefix(ip("::"), 0, 10, None);
    assert_eq!(directory.identity_at(ip("10.0.0.1")), None);
}

#[test]
fn a_local_endpoint_is_known_by_its_address() {
    let directory = directory();
    let end = directory.resolve(Some(ip("fd00::1")), 0);
    assert_eq!((end.id, end.identity, end.pod_name()), (7, 1001, "web"));
    // What the datapath enforced wins, the endpoint's labels stay.
    let end = directory.resolve(Some(ip("10.0.0.1")), 1002);
    assert_eq!(
        (end.id, end.identity, &*end.labels()[0]),
        (7, 1002, "k8s:app=web")
    );
}

#[test]
fn another_end_is_known_by_the_ip_cache_and_its_identity() {
    let directory = directory();
    let end = directory.resolve(Some(ip("10.0.1.5")), 0);
    assert_eq!((end.id, end.identity, end.pod_name()), (0, 1002, "db"));
    assert_eq!(&*end.labels()[0], "k8s:app=db");
    let end = directory.resolve(Some(ip("10.0.1.5")), 1001);
    assert_eq!(
        (end.identity, &*end.labels()[0], end.pod_name()),
        (1001, "k8s:app=web", "db")
    );
    let end = directory.resolve(None, 0);
    assert_eq!((end.identity, &*end.labels()[0]), (0, "reserved:unknown"));
    let end = directory.resolve(Some(ip("11.0.0.1")), 4711);
    assert_eq!((end.identity, end.labels().len()), (4711, 0));
}

#[test]
fn what_is_removed_is_not_found() {
    let mut directory = directory();
    directory.remove_endpoint(7);
    assert!(directory.endpoint_at(ip("10.0.0.1")).is_none() && directory.endpoint(7).is_none());
    directory.remove_prefix(ip("10.0.1.5"), 32);
    assert_eq!(directory.identity_at(ip("10.0.1.5")), Some(99));
    assert!(directory.pod_at(ip("10.0.1.5")).is_none());
}

#[test]
fn an_address_that_moved_to_a_new_endpoint_stays_with_it() {
    let mut directory = directory();
    let mut moved = directory.endpoint(7).unwrap().clone();
    moved.id = 8;
    directory.set_endpoint(moved);
    directory.remove_endpoint(7);
    assert_eq!(directory.endpoint_at(ip("10.0.0.1")).unwrap().id, 8);
}

#[test]
fn notifications_keep_the_ip_cache_and_say_what_to_ask() {
    let mut directory = directory();
    let mut notify = |kind, text: &str| {
        let text = text.into();
        apply(
            &agent_event(&Notification { kind, text }, 0),
            &mut directory,
            &mut Vec::new(),
        )
    };
    assert_eq!(
        notify(2, r#"{"time":"2026-01-02T03:04:05Z"}"#),
        Refresh::All
    );
    assert_eq!(notify(3, r#"{"id":7}"#), Refresh::Endpoint(7));
    assert_eq!(notify(4, r#"{"id":7,"error":"x"}"#), Refresh::None);
    assert_eq!(notify(7, r#"{"id":8}"#), Refresh::Endpoint(8));
    assert_eq!(notify(8, r#"{"id":8}"#), Refresh::EndpointGone(8));
    assert_eq!(notify(8, r#"{"id":70000}"#), Refresh::None);
    assert_eq!(notify(12, r#"{"id":8}"#), Refresh::Services);
    let upsert = r#"{"cidr":"10.0.2.2/32","id":1001,"namespace":"shop","pod-name":"new"}"#;
    assert_eq!(notify(9, upsert), Refresh::None);
    assert_eq!(
        notify(9, r#"{"cidr":"10.0.2.3/32","id":5555}"#),
        Refresh::Identity(5555)
    );
    assert_eq!(
        notify(10, r#"{"cidr":"10.0.1.5/32","id":1002}"#),
        Refresh::None
    );
    assert_eq!(directory.resolve(Some(ip("10.0.2.2")), 0).pod_name(), "new");
    assert_eq!(directory.identity_at(ip("10.0.2.3")), Some(5555));
    assert_eq!(directory.identity_at(ip("10.0.1.5")), Some(99));
}

#[test]
fn prefixes_are_checked() {
    assert_eq!(prefix("10.0.0.1"), Some((ip("10.0.0.1"), 32)));
    assert_eq!(prefix("fd00::/8"), Some((ip("fd00::"), 8)));
    for bad in [
        "",
        "10.0.0.1/33",
        "fd00::/129",
        "10.0.0.1/",
        "x/8",
        "10.0.0.0/-1",
    ] {
        assert_eq!(prefix(bad), None, "{bad}");
    }
}

#[test]
fn the_agents_api_fills_the_tables() {
    let mut directory = Directory::default();
    let endpoint = r#"{"id":77,"status":{"state":"ready","identity":{"id":1001,"labels":["k8s:b","k8s:a=1"],"labelsSHA256":"x"},
        "external-identifiers":{"k8s-pod-name":"web","k8s-namespace":"shop","pod-name":"shop/web"},
        "networking":{"addressing":[{"ipv4":"10.0.0.1","ipv6":"fd00::1"}]}}}"#;
    directory.add_endpoint(&serde_json::from_str(endpoint).unwrap());
    directory
        .add_endpoint(&serde_json::from_str(r#"{"id":78,"status":{"identity":null}}"#).unwrap());
    let end = directory.resolve(Some(ip("fd00::1")), 0);
    assert_eq!(
        (end.id, end.identity, end.namespace(), end.pod_name()),
        (77, 1001, "shop", "web")
    );
    assert_eq!(end.labels(), ["k8s:a=1".into(), "k8s:b".into()]);
    assert!(directory.endpoint(78).is_none());

    let entry = r#"{"cidr":"10.0.1.5/32","identity":1001,"hostIP":"192.168.0.2","encryptKey":0,
        "metadata":{"source":"k8s","namespace":"shop","name":"api"}}"#;
    directory.add_ip(&serde_json::from_str(entry).unwrap());
    assert_eq!(directory.resolve(Some(ip("10.0.1.5")), 0).pod_name(), "api");

    let services = r#"[
        {"status":{"realized":{"id":1,"frontend-address":{"ip":"10.96.0.10","port":53,"protocol":"tcp","scope":"external"},"flags":{"name":"dns","namespace":"sys"}}}},
        {"status":{"realized":{"id":2,"frontend-address":{"ip":"10.96.0.10","port":53,"protocol":"UDP"},"flags":{"name":"dns-udp","namespace":"sys"}}}},
        {"status":{"realized":{"id":3,"frontend-address":{"ip":"10.96.0.11","port":80,"scope":"internal"},"flags":{"name":"x","namespace":"sys"}}}}]"#;
    let services: Vec<api::ServiceEntry> = serde_json::from_str(services).unwrap();
    directory.replace_services(&services);
    assert_eq!(
        &*directory.service(Some(ip("10.96.0.10")), 53).unwrap().name,
        "dns"
    );
    assert!(directory.service(Some(ip("10.96.0.11")), 80).is_none());

    let names = r#"[{"fqdn":"b.example.","ips":["1.2.3.4"],"endpoint-id":77},{"fqdn":"a.example.","ips":["1.2.3.4","x"],"endpoint-id":77}]"#;
    let names: Vec<api::Lookup> = serde_json::from_str(names).unwrap();
    directory.replace_names(&names);
    assert_eq!(
        &*directory.names(77, Some(ip("1.2.3.4"))).unwrap(),
        ["a.example".into(), "b.example".into()]
    );

    let cgroups = r#"{"pod-metadatas":[{"name":"web","namespace":"shop","containers":[{"cgroup-id":4711,"cgroup-path":"/x"}],"ips":["10.0.0.1","fd00::1"]}]}"#;
    directory.replace_cgroups(&serde_json::from_str(cgroups).unwrap());
    assert_eq!(directory.cgroup_address(4711, true), Some(ip("fd00::1")));
}
