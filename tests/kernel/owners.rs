//! Who owns which end, and what is left out because it is our own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use netflume_core::aggregate::netflow::{FlowTable, GroupBy, Options};
use netflume_core::model::netflow::{Identity, KernelEvent, Owner, Phase, Process, Role};
use netflume_tests::wait::until;

use crate::support::{Helper, Watch, set_option, sockets};

/// Helper: accepts connections one by one, sends back what comes until the end of it.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn serve() {
    if !Helper::is_me("owners::serve") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Helper::say(&listener.local_addr().unwrap().to_string());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    }
}

pub(crate) fn server() -> (Helper, SocketAddr) {
    let mut helper = Helper::start("owners::serve");
    let address = helper.hear().parse().unwrap();
    (helper, address)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn an_accepted_connection_belongs_to_the_process_that_accepted_it() {
    let mut watch = Watch::start();
    let (helper, to) = server();
    let mut client = TcpStream::connect(to).unwrap();
    let from = client.local_addr().unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    watch.collect();
    let (ours, theirs) = (watch.last(from, to), watch.last(to, from));
    assert_eq!(
        (ours.role, ours.owner.pid),
        (Role::Client, std::process::id())
    );
    assert_eq!(
        (theirs.role, theirs.owner.pid),
        (Role::Server, helper.pid()),
        "found by the iterator"
    );
    assert!(
        theirs.owner.comm.starts_with(&ours.owner.comm[..4]),
        "the same program: {theirs:?}"
    );
    // A second one that no iterator sees: the closing process tells.
    let mut short = TcpStream::connect(to).unwrap();
    let from = short.local_addr().unwrap();
    drop(client);
    short.write_all(b"hi").unwrap();
    short.read_exact(&mut [0; 2]).unwrap();
    drop(short);
    until("both ends to close", || {
        watch.drain();
        (!watch.about(to, from).is_empty() && !watch.about(from, to).is_empty()).then_some(())
    })
    .unwrap();
    assert_eq!(watch.last(from, to).owner.pid, std::process::id());
    assert_eq!(watch.last(to, from).owner.pid, helper.pid());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_killed_process_is_still_named() {
    let mut watch = Watch::start();
    let (helper, to) = server();
    let mut client = TcpStream::connect(to).unwrap();
    let from = client.local_addr().unwrap();
    // Connected is not accepted: on a busy machine the kernel may not have made the other end yet.
    client.write_all(b"hi").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    let pid = helper.pid();
    helper.kill();
    drop(client);
    let end = watch.closed(to, from);
    assert_eq!((end.phase, end.owner.pid), (Phase::Closed, pid));
}

/// Helper: connects to the address that it is given, exchanges a few bytes, closes, and says from where.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn connect_and_close() {
    if !Helper::is_me("owners::connect_and_close") {
        return;
    }
    let to: SocketAddr = Helper::listen().parse().unwrap();
    let mut stream = TcpStream::connect(to).unwrap();
    let from = stream.local_addr().unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(stream);
    Helper::say(&from.to_string());
    Helper::listen();
}

/// A stream that survives `execve`, as descriptors of programs that hand them on do.
fn inheritable(stream: &impl AsRawFd) {
    // SAFETY: a flag of a descriptor that we own.
    let result = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETFD, 0) };
    assert_eq!(result, 0);
}

/// A program that does nothing but live, and keeps what it inherits.
fn sleeper() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
    sleep
}

/// Helper: connects to the address that it is given and leaves the connection to a child.
#[test]
#[ignore = "needs root and a BTF kernel"]
#[expect(clippy::zombie_processes, reason = "the child is to outlive us")]
fn connect_for_a_child() {
    if !Helper::is_me("owners::connect_for_a_child") {
        return;
    }
    let to: SocketAddr = Helper::listen().parse().unwrap();
    let stream = TcpStream::connect(to).unwrap();
    inheritable(&stream);
    let child = sleeper().spawn().unwrap();
    let from = stream.local_addr().unwrap();
    Helper::say(&format!("{from} {}", child.id()));
    Helper::listen();
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_child_that_outlives_its_parent_has_the_connection_from_the_next_pass_on() {
    let mut watch = Watch::start();
    let (_server, to) = server();
    let mut parent = Helper::start("owners::connect_for_a_child");
    parent.tell(&to.to_string());
    let answer = parent.hear();
    let (from, child) = answer.split_once(' ').unwrap();
    let (from, child): (SocketAddr, u32) = (from.parse().unwrap(), child.parse().unwrap());
    let owner = |watch: &mut Watch| {
        watch.collect();
        watch.last(from, to).owner
    };
    for _ in 0..3 {
        assert_eq!(owner(&mut watch).pid, parent.pid(), "both hold it");
    }
    let pid = parent.pid();
    parent.kill();
    if child < pid {
        // Numbers began anew in between: a pass comes to the child first.
        watch.collect();
    }
    let heir = owner(&mut watch);
    assert_eq!(heir.pid, child);
    assert_eq!(heir.comm, *b"sleep\0\0\0\0\0\0\0\0\0\0\0");
    kill(child);
    assert_eq!(watch.closed(from, to).owner.pid, child);
}

fn kill(pid: u32) {
    // SAFETY: no pointers.
    let result = unsafe { libc::kill(pid.try_into().unwrap(), libc::SIGKILL) };
    assert_eq!(result, 0);
}

/// Helper: connects to the address that it is given, and becomes another program.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn connect_and_become_another() {
    if !Helper::is_me("owners::connect_and_become_another") {
        return;
    }
    let to: SocketAddr = Helper::listen().parse().unwrap();
    let stream = TcpStream::connect(to).unwrap();
    inheritable(&stream);
    Helper::say(&stream.local_addr().unwrap().to_string());
    Helper::listen();
    panic!("{}", sleeper().exec());
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_process_that_becomes_another_program_is_named_anew() {
    let mut watch = Watch::start();
    let (_server, to) = server();
    let mut helper = Helper::start("owners::connect_and_become_another");
    helper.tell(&to.to_string());
    let from: SocketAddr = helper.hear().parse().unwrap();
    watch.collect();
    let before = watch.last(from, to).owner;
    assert_eq!(before.pid, helper.pid());
    assert!(!before.comm.starts_with(b"sleep"), "{before:?}");
    helper.tell("now");
    let after = until("the new name", || {
        watch.collect();
        let owner = watch.last(from, to).owner;
        owner.comm.starts_with(b"sleep").then_some(owner)
    });
    assert_eq!(after.unwrap().pid, helper.pid());
}

/// Helper: one of several servers. Accepts connections, answers each with its process id, and keeps them all.
#[test]
#[ignore = "needs root and a BTF kernel"]
fn serve_with_others() {
    if !Helper::is_me("owners::serve_with_others") {
        return;
    }
    let listener = match std::env::var(LISTENER) {
        // SAFETY: the descriptor was left open for us, and nothing else uses it.
        Ok(inherited) => unsafe { TcpListener::from_raw_fd(inherited.parse().unwrap()) },
        Err(_) => sockets::listener_in_group(Helper::listen().parse().unwrap()),
    };
    Helper::say(&listener.local_addr().unwrap().to_string());
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.write_all(&std::process::id().to_ne_bytes()).unwrap();
        kept.push(stream);
    }
}

const LISTENER: &str = "NETFLUME_TEST_LISTENER";

/// Pairs of a client's port and a process.
type Pids = Vec<(u16, u32)>;

/// Connections that are reset before any pass: which client was accepted by which process, and whom the table names.
fn named_after_resets(to: SocketAddr, watch: &mut Watch) -> (Pids, Pids) {
    let mut accepted: Pids = (0..40)
        .map(|_| {
            let mut client = TcpStream::connect(to).unwrap();
            let mut pid = [0; 4];
            client.read_exact(&mut pid).unwrap();
            let port = client.local_addr().unwrap().port();
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            set_option(&client, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
            drop(client);
            (port, u32::from_ne_bytes(pid))
        })
        .collect();
    watch.collect();
    let mut table = FlowTable::new(
        Options {
            group_by: GroupBy::Connection,
            ..Options::default()
        },
        Arc::default(),
    );
    let identify = |owner: &Owner, _| {
        let process = Process {
            pid: owner.pid,
            ..Process::default()
        };
        Arc::new(Identity {
            process: process.into(),
            ..Identity::default()
        })
    };
    for listener in &watch.listeners {
        table.apply(&KernelEvent::Listener(*listener), identify);
    }
    for state in &watch.connections {
        table.apply(&KernelEvent::Connection(*state), identify);
    }
    table.settle(identify);
    let mut named = Vec::new();
    table.flush(
        0,
        |record| {
            if record.local == to.into() {
                named.push((record.peer.port, record.process.pid));
            }
        },
        |_| {},
    );
    accepted.sort_unstable();
    named.sort_unstable();
    (accepted, named)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_reset_connection_is_of_the_one_of_several_processes_that_accepted_it() {
    // Processes that inherited one socket.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    inheritable(&listener);
    let inherited = listener.as_raw_fd().to_string();
    let mut forked: Vec<Helper> = (0..4)
        .map(|_| Helper::start_with("owners::serve_with_others", &[(LISTENER, &inherited)]))
        .collect();
    let shared: SocketAddr = forked[0].hear().parse().unwrap();
    // Processes with a socket each on the same port.
    let mut group: Vec<Helper> = (0..4)
        .map(|_| Helper::start("owners::serve_with_others"))
        .collect();
    let mut to = SocketAddr::from(([127, 0, 0, 1], 0));
    for helper in &mut group {
        helper.tell(&to.to_string());
        to = helper.hear().parse().unwrap();
    }
    for to in [shared, to] {
        let mut watch = Watch::start();
        let (accepted, named) = named_after_resets(to, &mut watch);
        assert_eq!(named, accepted, "{to}");
        let mut servers: Vec<u32> = accepted.into_iter().map(|(_, pid)| pid).collect();
        servers.sort_unstable();
        servers.dedup();
        assert!(
            servers.len() > 1,
            "only one of several was asked: {servers:?}"
        );
    }
}
