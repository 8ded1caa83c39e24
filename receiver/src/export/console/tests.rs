//! What a person sees.

use std::slice;

use super::*;
use crate::written::Written;
use netflume_core::model::netflow::{
    ConnectError, Direction, NetflowRecord, Process, Role, Transport,
};
use netflume_core::model::printable::is_printable;

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record(name: &str, pid: u32, local: &str, peer: &str) -> NetflowRecord {
    NetflowRecord {
        unix_ns: 43_471_000_000_000,
        transport: Transport::Tcp,
        direction: Direction::Outgoing,
        role: Role::Client,
        local: local.parse::<std::net::SocketAddr>().unwrap().into(),
        peer: peer.parse::<std::net::SocketAddr>().unwrap().into(),
        client_port_masked: true,
        overflow: false,
        peer_nat: None,
        peer_domain: None,
        local_kubernetes: None,
        peer_kubernetes: None,
        process: Arc::new(Process {
            pid,
            executable_name: name.to_owned(),
            ..Process::default()
        }),
        netns: 1,
        preexisting: false,
        bytes_read: 14_336,
        bytes_written: 1229,
        packets_read: 0,
        packets_written: 0,
        retransmits: 0,
        rtt_us: 12_000,
        rtt_var_us: 0,
        tcp_closed: 1,
        tcp_established: 1,
        failed: Vec::new(),
        resource: Arc::default(),
    }
}

fn console(options: ConsoleOptions) -> (Console, Written, Ledger) {
    let (output, ledger) = (Written::default(), Ledger::default());
    let console = Console::new(Box::new(output.clone()), options);
    (console, output, ledger)
}

fn show(
    console: &mut Console,
    records: &[NetflowRecord],
    ledger: &Ledger,
) -> Result<(), ConsoleError> {
    let lines: Vec<_> = records.iter().map(Line::from).collect();
    console.lines(&lines, ledger)
}

#[test]
fn records_are_aligned_lines_under_one_header() {
    let (mut console, output, ledger) = console(ConsoleOptions::default());
    let mut incoming = record("nginx", 812, "10.0.2.15:80", "10.0.7.9:50000");
    incoming.direction = Direction::Incoming;
    incoming.rtt_us = 400;
    incoming.tcp_closed = 0;
    incoming.tcp_established = 12;
    incoming.bytes_written = 3_250_586;
    let mut refused = record("app", 99, "10.0.2.15:40000", "10.0.9.1:5432");
    (refused.bytes_read, refused.bytes_written, refused.rtt_us) = (0, 0, 0);
    (refused.tcp_established, refused.tcp_closed) = (0, 0);
    refused.failed = vec![(ConnectError::Refused, 3)];
    let mut udp = record("systemd-resolved", 5, "10.0.2.15:1", "[2001:db8::1]:53");
    udp.transport = Transport::Udp;
    (udp.tcp_established, udp.tcp_closed) = (0, 0);
    let curl = record("curl", 4711, "10.0.2.15:40000", "93.184.216.34:443");
    show(&mut console, &[curl, incoming, refused, udp], &ledger).unwrap();
    console.finish(0).unwrap();
    assert_eq!(
        output.text(),
        "\
TIME      KIND    WHO                 LOCAL              PEER                   OUT       IN        RTT     NOTES
12:04:31  tcp  →  curl[4711]          10.0.2.15:*        93.184.216.34:443      1.2 KiB   14 KiB    12 ms   1 opened, 1 closed
12:04:31  tcp  ←  nginx[812]          10.0.2.15:80       10.0.7.9:*             3.1 MiB   14 KiB    0.4 ms  12 opened
12:04:31  tcp  →  app[99]             10.0.2.15:*        10.0.9.1:5432          –         –         –       3 refused
12:04:31  udp  →  systemd-resolv…[5]  10.0.2.15:*        [2001:db8::1]:53       1.2 KiB   14 KiB    12 ms
4 records shown, 0 lost
"
    );
    let entry = ledger.entry(Stage::Console);
    assert_eq!((entry.passed, entry.dropped_total()), (4, 0));
}

#[test]
fn on_a_terminal_the_header_comes_again_after_a_page_and_when_a_column_grew() {
    let headers = |options, batches: &[&[NetflowRecord]]| {
        let (mut console, output, ledger) = console(options);
        for batch in batches {
            show(&mut console, batch, &ledger).unwrap();
        }
        output.text().matches("TIME").count()
    };
    let terminal = ConsoleOptions {
        terminal: true,
        ..ConsoleOptions::default()
    };
    let short = record("a", 1, "10.0.0.1:1", "10.0.0.2:2");
    let long = record("a", 1, "10.0.0.1:1", "[2001:db8:1:2:3:4:5:6]:443");
    let page = vec![short.clone(); PAGE_LINES];
    assert_eq!(headers(terminal.clone(), &[&page]), 1);
    assert_eq!(
        headers(terminal.clone(), &[&page, slice::from_ref(&short)]),
        2
    );
    assert_eq!(
        headers(
            terminal,
            &[
                slice::from_ref(&short),
                slice::from_ref(&long),
                slice::from_ref(&long)
            ]
        ),
        2
    );
    assert_eq!(
        headers(ConsoleOptions::default(), &[&page, &page, &[long]]),
        1
    );
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let mut failed = record("a", 1, "10.0.0.1:1", "10.0.0.2:2");
    failed.failed = vec![(ConnectError::TimedOut, 1), (ConnectError::Reset, 2)];
    failed.retransmits = 1;
    for colour in [false, true] {
        let options = ConsoleOptions {
            colour,
            ..ConsoleOptions::default()
        };
        let (mut console, output, ledger) = console(options);
        show(&mut console, slice::from_ref(&failed), &ledger).unwrap();
        assert_eq!(output.text().contains('\x1b'), colour);
        assert!(
            output
                .text()
                .contains("1 opened, 1 closed, 1 timed out, 2 reset, 1 retransmit")
        );
    }
}

#[test]
fn a_reader_that_went_away_is_told_apart_from_a_full_disk_and_both_are_booked() {
    for (kind, closed) in [
        (io::ErrorKind::BrokenPipe, true),
        (io::ErrorKind::StorageFull, false),
    ] {
        let ledger = Ledger::default();
        let mut console = Console::new(Box::new(Broken(kind)), ConsoleOptions::default());
        let one = [record("a", 1, "10.0.0.1:1", "10.0.0.2:2")];
        let error = show(&mut console, &one, &ledger).unwrap_err();
        assert_eq!(matches!(error, ConsoleError::Closed), closed);
        let entry = ledger.entry(Stage::Console);
        assert_eq!(entry.passed, 0);
        assert_eq!(entry.dropped, [(Reason::OutputFailed, 1)]);
    }
}

#[test]
fn times_are_shown_by_the_clock_of_the_zone() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let console = Console::new(
        Box::new(io::sink()),
        ConsoleOptions {
            time_zone: zone,
            ..ConsoleOptions::default()
        },
    );
    let at = |seconds: u64| console.time(seconds * 1_000_000_000 + 999_999_999);
    // 2026-01-15 and 2026-07-15, both at 23:30:05 UTC.
    assert_eq!(at(1_768_519_805), "00:30:05");
    assert_eq!(at(1_784_158_205), "01:30:05");
    assert_eq!(console.time(u64::MAX), "01:34:33");
}

#[test]
fn no_text_of_others_moves_the_cursor_or_begins_a_line() {
    let hostile = "a\x1b[31m\r\n\u{9b}2J\u{202e}";
    let line = Line {
        kind: hostile.to_owned(),
        who: hostile.to_owned(),
        local: hostile.to_owned(),
        peer: hostile.to_owned(),
        notes: hostile.to_owned(),
        ..Line::default()
    };
    let out = Written::default();
    let mut console = Console::new(Box::new(out.clone()), ConsoleOptions::default());
    console.lines(&[line], &Ledger::default()).unwrap();
    let text = out.text();
    assert_eq!(text.lines().count(), 2, "{text:?}");
    assert!(
        text.chars().all(|c| c == '\n' || is_printable(c)),
        "{text:?}"
    );
    assert_eq!(
        text.matches(r"a\u{1b}[31m\r\n\u{9b}2J\u{202e}").count(),
        5,
        "{text:?}"
    );
}
