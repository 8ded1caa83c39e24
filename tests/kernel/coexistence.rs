//! Nothing is attached exclusively, and nothing of ours outlives us.

use std::net::SocketAddr;

use netflume_tests::wait::until;

use crate::support::{Helper, Watch, options, pair};

/// Helper: a netflume of its own; says so when it watches, and reports on each line that it hears.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn watch_until_told() {
    if !Helper::is_me("coexistence::watch_until_told") {
        return;
    }
    let mut watch = Watch::with(&options());
    Helper::say("watching");
    loop {
        let line = Helper::listen();
        let Some((a, b)) = line.split_once(' ') else {
            return;
        };
        let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
        let end = watch.closed(a, b);
        Helper::say(&format!("{} {}", end.bytes_sent, end.bytes_received));
    }
}

fn watcher() -> Helper {
    let mut helper = Helper::start("coexistence::watch_until_told");
    assert_eq!(helper.hear(), "watching");
    helper
}

/// One connection of 3 bytes there and 4 back.
fn one_connection() -> (SocketAddr, SocketAddr) {
    let mut pair = pair("127.0.0.1:0");
    pair.exchange(3, 4);
    let ends = (pair.a, pair.b);
    pair.close();
    ends
}

fn assert_it_sees(helper: &mut Helper) {
    let (a, b) = one_connection();
    helper.tell(&format!("{a} {b}"));
    assert_eq!(helper.hear(), "3 4");
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn another_program_on_the_same_hooks_survives_our_start_stop_and_death() {
    let mut other = watcher();
    assert_it_sees(&mut other);
    let watch = Watch::start();
    assert_it_sees(&mut other);
    drop(watch);
    assert_it_sees(&mut other);
    let mut victim = watcher();
    assert_it_sees(&mut victim);
    assert_it_sees(&mut other);
    victim.kill();
    assert_it_sees(&mut other);
    let mut watch = Watch::start();
    other.kill();
    let (a, b) = one_connection();
    assert_eq!(watch.closed(a, b).bytes_sent, 3);
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn nothing_stays_behind_after_kill_9() {
    let victim = watcher();
    let its = programs_of(victim.pid());
    assert!(
        its.len() >= 2 && its.iter().all(|id| loaded().contains(id)),
        "{its:?}"
    );
    victim.kill();
    // The kernel frees programs a little after their last user is gone.
    until("its programs to go", || {
        let loaded = loaded();
        its.iter().all(|id| !loaded.contains(id)).then_some(())
    })
    .unwrap();
}

/// Numbers of all programs that are loaded into the kernel.
fn loaded() -> Vec<u32> {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    programs.map(|program| program.id()).collect()
}

/// Numbers of the programs that a process holds descriptors of.
fn programs_of(pid: u32) -> Vec<u32> {
    let mut ids: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .filter_map(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
