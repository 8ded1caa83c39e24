//! A source that watches the test's own sockets, a memory of what it said, namespaces, and a second process.

pub(crate) mod netlink;
pub(crate) mod sockets;
pub(crate) mod uring;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use netflume::receivers::ebpf::source::{KernelOptions, KernelSource};
use netflume_core::decode::kernel::decode;
use netflume_core::ledger::{Entry, Ledger, Stage};
use netflume_core::model::batch::Batch;
use netflume_core::model::netflow::{
    ConnectionState, Endpoint, KernelEvent, Listener, Overflow, Phase,
};

pub(crate) use netflume_tests::namespace::in_new_namespace;

/// A running source, and everything that it has said so far.
pub(crate) struct Watch {
    pub(crate) source: KernelSource,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) connections: Vec<ConnectionState>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) overflows: Vec<Overflow>,
}

impl Watch {
    /// With the options of a test: own sockets are not left out.
    pub(crate) fn start() -> Self {
        Self::with(&options())
    }

    pub(crate) fn with(options: &KernelOptions) -> Self {
        let ledger = Arc::new(Ledger::default());
        let source = KernelSource::start(options, Arc::clone(&ledger))
            .unwrap_or_else(|e| panic!("kernel tests need root and a kernel with BTF: {e}"));
        Self {
            source,
            ledger,
            connections: Vec::new(),
            listeners: Vec::new(),
            overflows: Vec::new(),
        }
    }

    /// One interval: drains and asks for every open connection.
    pub(crate) fn collect(&mut self) {
        let mut batches = Vec::new();
        self.source.collect(&mut batches).unwrap();
        self.take(&batches);
    }

    /// Between two intervals: only what the ring holds.
    pub(crate) fn drain(&mut self) {
        let mut batches = Vec::new();
        self.source.drain(&mut batches);
        self.take(&batches);
    }

    fn take(&mut self, batches: &[Batch]) {
        for batch in batches {
            decode(&batch.bytes, |event| match event.unwrap() {
                KernelEvent::Connection(state) => self.connections.push(state),
                KernelEvent::Listener(listener) => self.listeners.push(listener),
                KernelEvent::Overflow(overflow) => self.overflows.push(overflow),
            });
        }
    }

    /// Everything said about the connection with this local and peer address, in order.
    pub(crate) fn about(&self, local: SocketAddr, peer: SocketAddr) -> Vec<ConnectionState> {
        let (local, peer) = (Endpoint::from(local), Endpoint::from(peer));
        let all = self.connections.iter().copied();
        all.filter(|c| c.local == local && c.peer == peer).collect()
    }

    /// The last word about a connection.
    pub(crate) fn last(&self, local: SocketAddr, peer: SocketAddr) -> ConnectionState {
        *self
            .about(local, peer)
            .last()
            .unwrap_or_else(|| panic!("nothing was said about {local} -> {peer}"))
    }

    /// Collects until the connection's end was told, which for the accepting side may come a little after the test's own close.
    pub(crate) fn closed(&mut self, local: SocketAddr, peer: SocketAddr) -> ConnectionState {
        let end = netflume_tests::wait::until(&format!("end of {local} -> {peer}"), || {
            self.collect();
            let ended = |c: &ConnectionState| c.phase != Phase::Open;
            self.about(local, peer).last().copied().filter(ended)
        });
        end.unwrap_or_else(|error| {
            let told = self.about(local, peer);
            panic!("{error}; told {told:?}; books {:?}", self.books())
        })
    }

    /// The one failure towards this peer.
    pub(crate) fn failure(&mut self, peer: SocketAddr) -> ConnectionState {
        self.collect();
        let failed =
            |c: &&ConnectionState| c.phase == Phase::Failed && c.peer == Endpoint::from(peer);
        let failures: Vec<_> = self.connections.iter().filter(failed).collect();
        assert_eq!(failures.len(), 1, "{failures:?}");
        *failures[0]
    }

    pub(crate) fn books(&self) -> Entry {
        self.ledger.entry(Stage::Source)
    }
}

/// Those of a test: the test's own sockets are not left out.
pub(crate) fn options() -> KernelOptions {
    KernelOptions {
        exclude_own: false,
        ..KernelOptions::default()
    }
}

/// Both ends of a connection.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    pub(crate) a: SocketAddr,
    pub(crate) b: SocketAddr,
}

/// A connection to a listener at `address`, accepted.
pub(crate) fn pair(address: &str) -> Pair {
    let listener = TcpListener::bind(address).unwrap();
    connected(&listener, listener.local_addr().unwrap())
}

/// A connection to `listener` by the address `to`.
pub(crate) fn connected(listener: &TcpListener, to: SocketAddr) -> Pair {
    let client = TcpStream::connect(to).unwrap();
    let (server, _) = listener.accept().unwrap();
    let (a, b) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    Pair {
        client,
        server,
        a,
        b,
    }
}

impl Pair {
    /// Sends so many bytes there and back, and waits until they arrived.
    pub(crate) fn exchange(&mut self, there: usize, back: usize) {
        transfer(&mut self.client, &mut self.server, there);
        transfer(&mut self.server, &mut self.client, back);
    }

    /// Closes the client first, then the server.
    pub(crate) fn close(mut self) {
        use std::io::Read;
        self.client.shutdown(Shutdown::Write).unwrap();
        self.server.read_to_end(&mut Vec::new()).unwrap();
        drop(self.server);
        self.client.read_to_end(&mut Vec::new()).unwrap();
    }
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) {
    use std::io::Read;
    std::thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![7; bytes]).unwrap());
        to.read_exact(&mut vec![0; bytes]).unwrap();
    });
}

/// Inode of the calling thread's network namespace.
pub(crate) fn own_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    u32::try_from(inode).unwrap()
}

/// Makes a socket's kernel end deaf: everything that comes in is thrown away before TCP sees it.
pub(crate) fn deafen(socket: &impl AsRawFd) {
    let mut drop_all = libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut drop_all,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program);
}

/// Undoes [`deafen`].
pub(crate) fn undeafen(socket: &impl AsRawFd) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32);
}

pub(crate) fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) {
    // SAFETY: the pointer and length are those of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            libc::socklen_t::try_from(size_of::<T>()).unwrap(),
        )
    };
    assert_eq!(result, 0, "setsockopt: {}", std::io::Error::last_os_error());
}

/// A second process of this very file, which runs one test function as its main program.
///
/// The function fails unless it is started this way: [`Helper::is_me`].
pub(crate) struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

const HELPER: &str = "NETFLUME_TEST_HELPER";

impl Helper {
    /// Starts `test` (its full path in this file, `owners::serve`).
    pub(crate) fn start(test: &str) -> Self {
        Self::start_with(test, &[])
    }

    /// Starts it with these environment variables.
    pub(crate) fn start_with(test: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "--test-threads=1",
                test,
            ])
            .env(HELPER, test)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Whether this process was started as the helper `test`: always, because it is no test that could pass. `cargo xtask test kernel`
    /// leaves it out by this very call.
    pub(crate) fn is_me(test: &str) -> bool {
        let started = std::env::var(HELPER).unwrap_or_default();
        assert_eq!(
            started, test,
            "no test but what a second process runs: `cargo xtask test kernel` leaves it out"
        );
        true
    }

    /// In the helper: says one line to who started it.
    pub(crate) fn say(line: &str) {
        println!("\n@{line}");
    }

    /// In the helper: waits for one line of who started it; empty at the end.
    pub(crate) fn listen() -> String {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the helper one line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line that the helper says.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "the helper ended without an answer");
            if let Some(said) = line.trim().strip_prefix('@') {
                return said.to_owned();
            }
        }
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.input.take());
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
