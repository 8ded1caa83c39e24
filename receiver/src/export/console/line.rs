//! A record to the cells of one line: who, from where to where, how much, what else.

use netflume_core::model::netflow::{ConnectError, Direction, Endpoint, NetflowRecord, Transport};

/// Characters of the name in the WHO column.
const NAME_WIDTH: usize = 15;
/// Stands where there is nothing.
const NOTHING: &str = "–";

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
    /// Protocol and direction: `tcp  →`.
    pub kind: String,
    /// Whose it is.
    pub who: String,
    /// The local end.
    pub local: String,
    /// The other end.
    pub peer: String,
    /// Bytes out.
    pub out: u64,
    /// Bytes in.
    pub r#in: u64,
    /// Round-trip time in microseconds; zero: not measured.
    pub rtt_us: u32,
    /// What else is to be said.
    pub notes: String,
    /// Something failed: the notes stand out.
    pub failed: bool,
}

impl From<&NetflowRecord> for Line {
    fn from(record: &NetflowRecord) -> Self {
        let transport = match record.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let (outgoing, arrow) = match record.direction {
            Direction::Outgoing => (true, '→'),
            Direction::Incoming => (false, '←'),
            Direction::Unknown => (false, '?'),
        };
        let masked = record.client_port_masked;
        let (local, peer) = if record.overflow {
            ("(others)".to_owned(), "(others)".to_owned())
        } else {
            (
                endpoint(record.local, None, masked && outgoing),
                endpoint(
                    record.peer,
                    record.peer_domain.as_deref(),
                    masked && !outgoing,
                ),
            )
        };
        Self {
            unix_ns: record.unix_ns,
            kind: format!("{transport}  {arrow}"),
            who: who(&record.process.executable_name, record.process.pid),
            local,
            peer,
            out: record.bytes_written,
            r#in: record.bytes_read,
            rtt_us: record.rtt_us,
            notes: notes(record),
            failed: !record.failed.is_empty(),
        }
    }
}

fn who(name: &str, pid: u32) -> String {
    let mut shown: String = name.chars().take(NAME_WIDTH).collect();
    if name.chars().count() > NAME_WIDTH {
        shown.pop();
        shown.push('…');
    }
    match (shown.is_empty(), pid) {
        (true, 0) => NOTHING.to_owned(),
        (false, 0) => shown,
        _ => format!("{shown}[{pid}]"),
    }
}

fn endpoint(endpoint: Endpoint, name: Option<&str>, masked: bool) -> String {
    let host = match (name, endpoint.ip()) {
        (Some(name), _) => name.to_owned(),
        // Nothing was bound or told: any address.
        (None, ip) if ip.is_unspecified() => "*".to_owned(),
        (None, std::net::IpAddr::V4(ip)) => ip.to_string(),
        (None, std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    if masked {
        format!("{host}:*")
    } else {
        format!("{host}:{}", endpoint.port)
    }
}

fn notes(record: &NetflowRecord) -> String {
    let failures = record.failed.iter().map(|(error, count)| {
        let word = match error {
            ConnectError::Refused => "refused",
            ConnectError::TimedOut => "timed out",
            ConnectError::Reset => "reset",
            ConnectError::Unreachable => "unreachable",
            ConnectError::Prohibited => "prohibited",
            ConnectError::Blackhole => "blackholed",
            ConnectError::AddressNotAvailable => "without a free port",
            ConnectError::Other => "failed",
        };
        (*count, word)
    });
    let retransmits = if record.retransmits == 1 {
        "retransmit"
    } else {
        "retransmits"
    };
    [
        (record.tcp_established, "opened"),
        (record.tcp_closed, "closed"),
    ]
    .into_iter()
    .chain(failures)
    .chain([(record.retransmits, retransmits)])
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect::<Vec<_>>()
    .join(", ")
}

/// `410 B`, `1.2 KiB`, `14 KiB`, `3.1 MiB`; rounded half up, so never `1024 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    if count == 0 {
        return NOTHING.to_owned();
    }
    let mut unit = 1_u128;
    let mut names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut name = names.next().unwrap_or_default();
    let count = u128::from(count);
    let rounded = |unit: u128| (count + unit / 2) / unit;
    for next in names {
        if rounded(unit) < 1024 {
            break;
        }
        unit *= 1024;
        name = next;
    }
    let tenths = (count * 10 + unit / 2) / unit;
    if unit > 1 && tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", rounded(unit))
    }
}

/// `85 µs`, `0.4 ms`, `12 ms`, `1.5 s`.
#[must_use]
pub fn round_trip(us: u32) -> String {
    let tenths = |unit: u64| (u64::from(us) * 10 + unit / 2) / unit;
    match us {
        0 => NOTHING.to_owned(),
        1..=99 => format!("{us} µs"),
        100..=9_949 => format!("{}.{} ms", tenths(1000) / 10, tenths(1000) % 10),
        9_950..=999_499 => format!("{} ms", (u64::from(us) + 500) / 1000),
        _ => format!("{}.{} s", tenths(1_000_000) / 10, tenths(1_000_000) % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_with_its_number_if_both_are_known() {
        assert_eq!(who("curl", 1), "curl[1]");
        assert_eq!(who("", 0), "–");
        assert_eq!(who("kworker", 0), "kworker");
    }

    #[test]
    fn addresses_are_short_and_unambiguous() {
        let shown = |address: &str| {
            let address: std::net::SocketAddr = address.parse().unwrap();
            endpoint(address.into(), None, false)
        };
        assert_eq!(shown("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(shown("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
        assert_eq!(shown("[2001:db8::1]:80"), "[2001:db8::1]:80");
        assert_eq!(shown("[::]:53"), "*:53");
        assert_eq!(shown("0.0.0.0:53"), "*:53");
        assert_eq!(
            endpoint(Endpoint::default(), Some("a.example"), true),
            "a.example:*"
        );
    }

    #[test]
    fn bytes_are_short_and_never_round_to_the_next_unit_wrongly() {
        let cases: &[(u64, &str)] = &[
            (0, "–"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_188, "9.9 KiB"),
            (10_189, "10 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(*count), *expected, "{count}");
        }
    }

    #[test]
    fn round_trips_have_two_digits() {
        let cases = [
            (0, "–"),
            (85, "85 µs"),
            (400, "0.4 ms"),
            (9_949, "9.9 ms"),
            (9_950, "10 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (u32::MAX, "4295.0 s"),
        ];
        for (us, expected) in cases {
            assert_eq!(round_trip(us), expected, "{us}");
        }
    }
}
