//! What is left out on purpose.

use std::net::SocketAddr;
use std::path::PathBuf;

use netflume::receivers::ebpf::source::{KernelOptions, Scope};

use crate::support::{Helper, Watch, in_new_namespace, options, pair};

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_pod_sees_itself_but_not_its_two_neighbours() {
    let neighbour = |work: &(dyn Fn() + Sync)| in_new_namespace(work);
    in_new_namespace(|| {
        let mut watch = Watch::with(&KernelOptions {
            scope: Scope::Pod,
            ..options()
        });
        let mut own = pair("127.0.0.1:0");
        own.exchange(1, 2);
        let (a, b) = (own.a, own.b);
        for _ in 0..2 {
            neighbour(&|| {
                let mut pair = pair("127.0.0.1:0");
                pair.exchange(3, 4);
                pair.close();
            });
        }
        watch.collect();
        own.close();
        watch.closed(a, b);
        watch.closed(b, a);
        let own = crate::support::own_namespace();
        assert!(
            watch.connections.iter().all(|c| c.netns == own),
            "{:?}",
            watch.connections
        );
        assert!(
            watch.listeners.iter().all(|l| l.netns == own),
            "{:?}",
            watch.listeners
        );
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn loopback_is_left_out_when_told_so() {
    let mut watch = Watch::with(&KernelOptions {
        loopback: false,
        ..options()
    });
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut pair = pair(address);
        pair.exchange(5, 6);
        watch.collect();
        let (a, b) = (pair.a, pair.b);
        pair.close();
        watch.collect();
        assert_eq!(watch.about(a, b).len() + watch.about(b, a).len(), 0);
    }
}

/// Helper: connects to itself each time it is told to, and says both ends.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn connect() {
    if !Helper::is_me("scope::connect") {
        return;
    }
    Helper::say("here");
    let mut kept = Vec::new();
    while !Helper::listen().is_empty() {
        let mut pair = pair("127.0.0.1:0");
        pair.exchange(1, 2);
        Helper::say(&format!("{} {}", pair.a, pair.b));
        kept.push(pair);
    }
}

/// Helper: watches its own pod; for two ends that it is told it says how much it has seen of them.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn watch() {
    if !Helper::is_me("scope::watch") {
        return;
    }
    Helper::say("here");
    Helper::listen();
    let mut watch = Watch::with(&KernelOptions {
        scope: Scope::Pod,
        ..options()
    });
    Helper::say("watching");
    loop {
        let ends = Helper::listen();
        let Some((a, b)) = ends.split_once(' ') else {
            return;
        };
        let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
        watch.collect();
        let seen = [watch.about(a, b).len(), watch.about(b, a).len()];
        Helper::say(&format!("{seen:?}"));
    }
}

/// A cgroup of the default hierarchy, gone with the value.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            (words.next()? == "cgroup2").then_some(path)
        });
        Self::at(PathBuf::from(mount.expect("cgroup v2 is mounted")).join(name))
    }

    fn at(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn inside(&self, name: &str) -> Self {
        Self::at(self.0.join(name))
    }

    fn take(&self, mut helper: Helper) -> Helper {
        assert_eq!(helper.hear(), "here");
        std::fs::write(self.0.join("cgroup.procs"), helper.pid().to_string()).unwrap();
        helper
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may hold it a moment longer.
        let gone = || std::fs::remove_dir(&self.0).is_ok().then_some(());
        netflume_tests::wait::until("the cgroup to be empty", gone).unwrap();
    }
}

/// What a watching process sees of connections that processes of its own cgroup, of a sibling in the same pod, and of
/// another pod make, all in the host's network namespace.
fn seen_on_the_host(pod: &str, variables: &[(&str, &str)]) -> [String; 2] {
    let own_pod = Cgroup::new(&format!("netflume-test-{pod}-{}", std::process::id()));
    let other_pod = Cgroup::new(&format!("netflume-test-{pod}-other-{}", std::process::id()));
    let (own, sibling) = (own_pod.inside("own"), own_pod.inside("sibling"));
    let mut sibling = (sibling.take(Helper::start("scope::connect")), sibling);
    let mut other = (other_pod.take(Helper::start("scope::connect")), other_pod);
    let mut watch = (own.take(Helper::start_with("scope::watch", variables)), own);
    watch.0.tell("watch");
    assert_eq!(watch.0.hear(), "watching");
    [&mut sibling.0, &mut other.0].map(|neighbour| {
        neighbour.tell("connect");
        watch.0.tell(&neighbour.hear());
        watch.0.hear()
    })
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_pod_on_the_hosts_network_sees_its_containers_but_not_its_neighbours() {
    let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.96.0.1")];
    assert_eq!(seen_on_the_host("pod", &kubernetes), ["[1, 1]", "[0, 0]"]);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_unit_on_the_hosts_network_sees_its_own_cgroup_alone() {
    assert_eq!(seen_on_the_host("unit", &[]), ["[0, 0]", "[0, 0]"]);
}
