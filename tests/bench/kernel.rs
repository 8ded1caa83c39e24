//! What the kernel source costs. Root only; other work on the machine shows in the figures.
//!
//! ```text
//! cargo xtask bench kernel pass [CONNECTIONS [NAMESPACES]]
//! cargo xtask bench kernel connect [PAIRS [CYCLES]]
//! cargo xtask bench kernel udp [PAIRS [CYCLES]]
//! cargo xtask bench kernel programs [CYCLES]
//! cargo xtask bench kernel memory [CONNECTIONS]
//! ```
//!
//! `pass`: CPU time of one interval over 2 × CONNECTIONS established sockets (default 10,000 connections), spread over NAMESPACES
//! network namespaces (default: the host's own): the iterator alone, with decoding, and with the update of the flow table.
//! `programs`: the kernel's own account of each program during such cycles: runs and nanoseconds a cycle; CYCLES of TCP.
//! `memory`: resident memory and kernel maps of `netflume run`: idle, with CONNECTIONS, after they ended at once.
//! `connect`: CPU time that our hooks add to one connect + accept + close on loopback: runs without and with them in turn.
//! `udp`: what they add to one send + receive on loopback, between connected sockets and between sockets that name their peer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark: it prints, and a panic is how it fails"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use netflume::receivers::ebpf::source::{KernelOptions, KernelSource};
use netflume_core::aggregate::netflow::{FlowTable, Options};
use netflume_core::decode::kernel::decode;
use netflume_core::model::batch::Batch;
use netflume_core::model::netflow::Identity;
use netflume_tests::namespace::loopback_up;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 21;
/// Descriptors are limited to 20,000 a process: each worker holds both ends of so many connections at most.
const CONNECTIONS_OF_ONE_WORKER: usize = 2_500;

fn main() {
    raise_descriptor_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: usize| arguments.get(at).map_or(default, |a| a.parse().unwrap());
    match arguments.first().map(String::as_str) {
        Some("pass") => pass(number(1, 10_000), number(2, 0)),
        Some("connect") => {
            let options = KernelOptions {
                udp: false,
                ..KernelOptions::default()
            };
            added(
                "connect + accept + close",
                &["cycle"],
                number(1, 21),
                number(2, 4_000),
                &options,
            );
        }
        Some("udp") => {
            let options = KernelOptions {
                tcp: false,
                ..KernelOptions::default()
            };
            for peer in ["connected", "named"] {
                let what = format!("send + receive, peer {peer}");
                added(
                    &what,
                    &["datagrams", peer],
                    number(1, 101),
                    number(2, 20_000),
                    &options,
                );
            }
        }
        Some("programs") => {
            programs("connect + accept + close", &["cycle"], number(1, 4_000));
            programs(
                "send + receive, peer connected",
                &["datagrams", "connected"],
                100_000,
            );
            programs(
                "send + receive, peer named",
                &["datagrams", "named"],
                100_000,
            );
        }
        Some("memory") => memory(number(1, 10_000)),
        Some("hold") => hold(number(1, 0), number(2, 0)),
        Some("cycle") => cycle(),
        Some("datagrams") => datagrams(arguments[1] == "connected"),
        _ => panic!("usage: netflume-bench-kernel pass|connect|udp|programs|memory"),
    }
}

/// Workers that hold so many connections between them, all made.
fn holders(connections: usize, namespaces: usize) -> Vec<Worker> {
    (0..connections.div_ceil(CONNECTIONS_OF_ONE_WORKER))
        .map(|at| {
            let rest = connections - at * CONNECTIONS_OF_ONE_WORKER;
            let share = rest.min(CONNECTIONS_OF_ONE_WORKER);
            let namespaces = namespaces * share / connections;
            let mut worker = Worker::start(&["hold", &share.to_string(), &namespaces.to_string()]);
            assert_eq!(worker.hear(), "ready");
            worker
        })
        .collect()
}

/// The program itself, with its defaults but a short interval: idle, with the connections, and after they all ended at once.
fn memory(connections: usize) {
    let program = std::env::current_exe().unwrap().with_file_name("netflume");
    let config = std::env::temp_dir().join(format!("netflume-memory-{}.yaml", std::process::id()));
    std::fs::write(&config, "receivers: { ebpf: { interval: 1s } }\n").unwrap();
    let mut netflume = Command::new(&program)
        .args(["run", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}; cargo build --release makes it", program.display()));
    let pid = netflume.id();
    // Three intervals: what is to be told was told.
    let settle = || std::thread::sleep(Duration::from_secs(3));
    settle();
    println!("idle                     {}", Memory::of(pid));
    let workers = holders(connections, 0);
    settle();
    println!("{connections:6} connections       {}", Memory::of(pid));
    drop(workers);
    settle();
    println!("after their end          {}", Memory::of(pid));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&netflume),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(netflume.stdout.as_mut().unwrap(), &mut said).unwrap();
    netflume.wait().unwrap();
    std::fs::remove_file(config).unwrap();
    println!("{}", said.lines().last().unwrap_or_default());
}

/// Memory of a process, KiB.
struct Memory {
    resident: u64,
    peak: u64,
    /// Of its kernel maps and programs, as the kernel charges them.
    kernel: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let number = |text: &str, key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
        let kernel = descriptors.filter_map(|entry| {
            let info = std::fs::read_to_string(entry.ok()?.path()).ok()?;
            number(&info, "memlock:")
        });
        Self {
            resident: number(&status, "VmRSS:").unwrap(),
            peak: number(&status, "VmHWM:").unwrap(),
            kernel: kernel.sum::<u64>() / 1024,
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "{:5.1} MiB: resident {:5.1} (most ever {:5.1}), kernel maps {:5.1}",
            mib(self.resident + self.kernel),
            mib(self.resident),
            mib(self.peak),
            mib(self.kernel)
        )
    }
}

fn pass(connections: usize, namespaces: usize) {
    let workers = holders(connections, namespaces);
    let mut source = KernelSource::start(&KernelOptions::default(), Arc::default()).unwrap();
    let mut table = FlowTable::new(Options::default(), Arc::default());
    let nobody: Arc<Identity> = Arc::default();
    let (mut read, mut decoded, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let mut sockets = 0;
    for _ in 0..ROUNDS {
        let mut batches: Vec<Batch> = Vec::new();
        let start = cpu_time(ClockId::ProcessCPUTime);
        source.collect(&mut batches).unwrap();
        read.push(cpu_time(ClockId::ProcessCPUTime) - start);
        let middle = cpu_time(ClockId::ProcessCPUTime);
        sockets = 0;
        batches.iter().for_each(|b| {
            sockets += decode(&b.bytes, |event| {
                std::hint::black_box(&event);
            })
        });
        let decoding = cpu_time(ClockId::ProcessCPUTime) - middle;
        decoded.push(decoding);
        let middle = cpu_time(ClockId::ProcessCPUTime);
        for batch in &batches {
            decode(&batch.bytes, |event| {
                table.apply(&event.unwrap(), |_, _| Arc::clone(&nobody))
            });
        }
        let ended = cpu_time(ClockId::ProcessCPUTime);
        all.push(*read.last().unwrap() + (ended - middle));
        table.flush(0, drop, |_| {});
    }
    println!("{}", source.report());
    println!(
        "{sockets} records a pass, {namespaces} network namespaces, {} processes",
        workers.len()
    );
    println!("iterator to bytes        {}", Spread::of(&mut read));
    println!("bytes to events          {}", Spread::of(&mut decoded));
    println!("iterator to flow table   {}", Spread::of(&mut all));
}

/// What the hooks add to a cycle of the worker: runs without and with them in turn.
fn added(what: &str, worker: &[&str], pairs: usize, cycles: usize, options: &KernelOptions) {
    let mut worker = Worker::start(worker);
    let run = |worker: &mut Worker| -> f64 {
        worker.tell(&cycles.to_string());
        worker.hear().parse().unwrap()
    };
    run(&mut worker);
    let (mut without, mut with, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let attached = |worker: &mut Worker| {
            let mut source = KernelSource::start(options, Arc::default()).unwrap();
            std::thread::scope(|scope| {
                let running = scope.spawn(|| run(worker));
                serve(&mut source, || running.is_finished());
                running.join().unwrap()
            })
        };
        // In turn, so that what drifts on the machine hits both alike.
        let (a, b) = if pair % 2 == 0 {
            let b = attached(&mut worker);
            (run(&mut worker), b)
        } else {
            let a = run(&mut worker);
            (a, attached(&mut worker))
        };
        without.push(a);
        with.push(b);
        added.push(b - a);
    }
    println!("{pairs} pairs of {cycles} cycles of {what}, µs of CPU (user + system) a cycle");
    println!("without  {}", Spread::of(&mut without));
    println!("with     {}", Spread::of(&mut with));
    println!("added    {}", Spread::of(&mut added));
}

fn programs(what: &str, worker: &[&str], cycles: usize) {
    let enabled = "/proc/sys/kernel/bpf_stats_enabled";
    let before = std::fs::read_to_string(enabled).unwrap();
    let mut worker = Worker::start(worker);
    let source = KernelSource::start(&KernelOptions::default(), Arc::default()).unwrap();
    std::fs::write(enabled, "1").unwrap();
    worker.tell(&cycles.to_string());
    println!(
        "{what}: {} µs of CPU a cycle, the accounting included",
        worker.hear()
    );
    std::fs::write(enabled, before.trim()).unwrap();
    for program in aya::programs::loaded_programs().filter_map(Result::ok) {
        if program.run_count() > 0 {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let (runs, took) = (program.run_count(), program.run_time());
            println!(
                "{name:16} {:6.2} runs, {:6.0} ns a cycle; {:5.0} ns a run",
                runs as f64 / cycles as f64,
                took.as_nanos() as f64 / cycles as f64,
                took.as_nanos() as f64 / runs as f64,
            );
        }
    }
    drop(source);
}

/// Drains the ring when it asks for it, as the pipeline does.
fn serve(source: &mut KernelSource, done: impl Fn() -> bool) {
    let timeout = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut batches = Vec::new();
    while !done() {
        let mut ready = [PollFd::new(&*source, PollFlags::IN)];
        poll(&mut ready, Some(&timeout)).unwrap();
        source.drain(&mut batches);
        batches.clear();
    }
}

/// Worker: makes connections, says so, holds them until its input ends.
fn hold(connections: usize, namespaces: usize) {
    let mut kept = Vec::new();
    for namespace in 0..namespaces.max(1) {
        if namespaces > 0 {
            // SAFETY: concerns this thread alone; the process has no other.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            loopback_up();
        }
        let share = connections * (namespace + 1) / namespaces.max(1)
            - connections * namespace / namespaces.max(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..share {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            kept.push((client, listener.accept().unwrap().0));
        }
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(kept);
}

/// Worker: for each number that it hears, so many cycles; says the microseconds of CPU that one took.
fn cycle() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut host = 1_u32;
    for line in std::io::stdin().lines() {
        let cycles: u32 = line.unwrap().parse().unwrap();
        // Another address each time: connections in TIME_WAIT keep their ports.
        host += 1;
        let to = (Ipv4Addr::from(0x7f00_0000 + host), port);
        let start = cpu_time(ClockId::ProcessCPUTime);
        for _ in 0..cycles {
            let client = TcpStream::connect(to).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop(client);
            drop(server);
        }
        let took = cpu_time(ClockId::ProcessCPUTime) - start;
        println!("{}", took.as_secs_f64() * 1e6 / f64::from(cycles));
    }
}

/// Worker: for each number that it hears, so many datagrams sent and received; says the microseconds of CPU that one took.
fn datagrams(connected: bool) {
    let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let to = b.local_addr().unwrap();
    if connected {
        a.connect(to).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
    }
    let mut buffer = [0; 64];
    for line in std::io::stdin().lines() {
        let cycles: u32 = line.unwrap().parse().unwrap();
        let start = cpu_time(ClockId::ProcessCPUTime);
        for _ in 0..cycles {
            if connected {
                a.send(&buffer).unwrap();
                b.recv(&mut buffer).unwrap();
            } else {
                a.send_to(&buffer, to).unwrap();
                b.recv_from(&mut buffer).unwrap();
            }
        }
        let took = cpu_time(ClockId::ProcessCPUTime) - start;
        println!("{}", took.as_secs_f64() * 1e6 / f64::from(cycles));
    }
}

/// Another process of this very program.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
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

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// Median, smallest and largest.
struct Spread(f64, f64, f64);

impl Spread {
    fn of<T: Figure>(figures: &mut [T]) -> Self {
        let mut values: Vec<f64> = figures.iter().map(Figure::value).collect();
        values.sort_by(f64::total_cmp);
        Self(
            values[values.len() / 2],
            values[0],
            values[values.len() - 1],
        )
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "median {:8.3}  min {:8.3}  max {:8.3}",
            self.0, self.1, self.2
        )
    }
}

trait Figure {
    fn value(&self) -> f64;
}

impl Figure for Duration {
    /// Milliseconds.
    fn value(&self) -> f64 {
        self.as_secs_f64() * 1e3
    }
}

impl Figure for f64 {
    fn value(&self) -> f64 {
        *self
    }
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
}
