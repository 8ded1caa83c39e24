//! Failures, resets and connections that vanish.

use super::*;

#[test]
fn failures_are_told_by_reason_and_open_nothing() {
    let mut host = host();
    for (id, error) in [
        (1, Some(ConnectError::Refused)),
        (2, Some(ConnectError::Refused)),
        (3, Some(ConnectError::TimedOut)),
        (4, None),
    ] {
        host.see(ConnectionState {
            phase: Phase::Failed,
            role: Role::Unknown,
            error,
            ..tcp(id, 0, 0)
        });
    }
    let record = host.record();
    assert_eq!(numbers(&record), [0, 0, 0, 0]);
    assert_eq!(
        record.failed,
        [
            (ConnectError::Refused, 2),
            (ConnectError::TimedOut, 1),
            (ConnectError::Other, 1)
        ]
    );
    assert_eq!(record.role, Role::Client);
}

#[test]
fn a_failure_takes_back_an_opening_that_was_not_told() {
    let mut host = host();
    host.see(tcp(1, 0, 0));
    host.see(ConnectionState {
        phase: Phase::Failed,
        error: Some(ConnectError::Unreachable),
        ..tcp(1, 0, 0)
    });
    assert_eq!(numbers(&host.record()), [0, 0, 0, 0]);
    // One that was told as open is closed too, so that the open ones can be counted.
    host.see(tcp(2, 0, 0));
    host.record();
    host.see(ConnectionState {
        phase: Phase::Failed,
        ..tcp(2, 0, 0)
    });
    assert_eq!(numbers(&host.record()), [0, 1, 0, 0]);
}

#[test]
fn a_reset_connection_is_closed_and_failed() {
    let mut host = host();
    host.see(ConnectionState {
        error: Some(ConnectError::Reset),
        ..closed(tcp(1, 5, 0))
    });
    let record = host.record();
    assert_eq!(numbers(&record), [1, 1, 5, 0]);
    assert_eq!(record.failed, [(ConnectError::Reset, 1)]);
}

#[test]
fn a_connection_that_vanishes_is_told_as_closed_once() {
    let mut host = host();
    host.see(tcp(1, 5, 0));
    assert_eq!(numbers(&host.record()), [1, 0, 5, 0]);
    for _ in 0..5 {
        assert_eq!(host.flush(), []);
    }
    assert_eq!(numbers(&host.record()), [0, 1, 0, 0]);
    assert_eq!((host.table.stats().expired, host.active()), (1, 0));
    // It comes back: what was told is not told again.
    host.see(tcp(1, 9, 0));
    assert_eq!(numbers(&host.record()), [1, 0, 4, 0]);
    assert_eq!((host.table.stats().revived, host.active()), (1, 1));
}

#[test]
fn the_end_of_a_vanished_connection_brings_its_last_bytes_and_no_second_end() {
    let mut host = host();
    host.see(tcp(1, 5, 0));
    for _ in 0..7 {
        host.flush();
    }
    host.see(closed(tcp(1, 9, 0)));
    let record = host.record();
    assert_eq!(record.bytes_written, 4);
    assert_eq!(record.tcp_established, record.tcp_closed);
}

#[test]
fn vanished_connections_are_forgotten_in_the_end_and_first_when_room_is_short() {
    let mut host = Host::new(Options {
        max_connections: 2,
        expire_after_passes: 1,
        ..Options::default()
    });
    host.see(tcp(1, 0, 0));
    host.flush();
    host.flush();
    assert_eq!(host.table.stats().connections, 1);
    host.see(tcp(2, 0, 0));
    host.see(tcp(3, 0, 0));
    assert_eq!(host.table.stats().connections, 2, "no room for the third");
    host.flush();
    assert_eq!(host.table.stats().connections, 1);
    for _ in 0..=LOST_FACTOR {
        host.flush();
    }
    assert_eq!(host.table.stats().connections, 0);
}

/// A later subflow of a connection of Multipath TCP: a socket of its own, with the connection's ends.
fn part(id: u64, of: &ConnectionState, sent: u64) -> ConnectionState {
    ConnectionState {
        id,
        local: of.local,
        part: true,
        ..tcp(id, sent, 0)
    }
}

#[test]
fn a_part_moves_bytes_for_its_connection_and_neither_opens_nor_ends_it() {
    let mut host = Host::new(Options::default());
    let whole = tcp(1, 100, 0);
    host.see(whole);
    host.see(part(2, &whole, 30));
    let record = host.record();
    assert_eq!(
        (
            record.bytes_written,
            record.tcp_established,
            record.tcp_closed
        ),
        (130, 1, 0)
    );
    assert_eq!(host.active(), 1);
    host.see(closed(part(2, &whole, 35)));
    let record = host.record();
    assert_eq!(
        (
            record.bytes_written,
            record.tcp_established,
            record.tcp_closed
        ),
        (5, 0, 0)
    );
    host.see(ConnectionState {
        phase: Phase::Failed,
        error: Some(ConnectError::Refused),
        ..part(3, &whole, 0)
    });
    assert_eq!(host.flush(), []);
    host.see(closed(whole));
    assert_eq!(host.record().tcp_closed, 1);
}
