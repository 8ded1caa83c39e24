//! Why a connect found no way, where the kernel programs saw only that it did: the routes are asked again.
//!
//! A datagram socket that connects sends nothing, but looks for a route as TCP does and fails as TCP does.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use netflume_ebpf::{ConnectionRecord, NO_WAY, kind};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use zerocopy::FromBytes;

use super::pass::namespaces;

/// Answers of one batch, by network namespace and peer.
type Answers = HashMap<(u32, [u8; 16]), u16>;

/// Fills in the reasons that are missing in whole records.
pub(super) fn fill_in_reasons(bytes: &mut [u8]) {
    let mut answers = Answers::new();
    let mut rest = bytes;
    while let Some(length) = rest
        .first_chunk::<2>()
        .map(|size| u16::from_ne_bytes(*size))
    {
        let length = usize::from(length);
        let Some((record, after)) = std::mem::take(&mut rest).split_at_mut_checked(length.max(2))
        else {
            return;
        };
        rest = after;
        if let Ok((record, _)) = ConnectionRecord::mut_from_prefix(record)
            && record.header.kind == kind::CONNECTION
            && record.error == NO_WAY
        {
            let question = (record.netns, record.peer_address);
            let answer = answers.entry(question);
            record.error = *answer.or_insert_with(|| ask_in(record.netns, record.peer_address));
        }
    }
}

/// The errno with which a connect fails in that network namespace; [`NO_WAY`] if that is unknown.
fn ask_in(netns: u32, peer: [u8; 16]) -> u16 {
    let inode = |file: &File| file.metadata().map_or(0, |metadata| metadata.ino());
    let own = File::open("/proc/thread-self/ns/net");
    if own.is_ok_and(|own| inode(&own) == u64::from(netns)) {
        return ask(peer);
    }
    let Some(namespace) = namespaces()
        .into_iter()
        .find(|n| inode(n) == u64::from(netns))
    else {
        return NO_WAY;
    };
    // A thread of its own, which stays in that namespace until it ends.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_or(NO_WAY, |()| ask(peer))
        });
        thread.join().unwrap_or(NO_WAY)
    })
}

fn ask(peer: [u8; 16]) -> u16 {
    let peer = Ipv6Addr::from(peer).to_canonical();
    let unreachable = u16::try_from(libc::ENETUNREACH).unwrap_or(NO_WAY);
    let any: IpAddr = match peer {
        IpAddr::V4(Ipv4Addr::BROADCAST) => return unreachable,
        // TCP has no multicast.
        peer if peer.is_multicast() => return unreachable,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The discard service's port: nothing is sent there.
    let connected =
        UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(SocketAddr::new(peer, 9)));
    let errno = connected.err().and_then(|error| error.raw_os_error());
    errno
        .and_then(|errno| u16::try_from(errno).ok())
        .unwrap_or(NO_WAY)
}

#[cfg(test)]
mod tests {
    use netflume_ebpf::Header;
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn only_missing_reasons_are_filled_in() {
        let record = |error| ConnectionRecord {
            header: Header {
                size: u16::try_from(size_of::<ConnectionRecord>()).unwrap(),
                kind: kind::CONNECTION,
                ..Header::default()
            },
            // A multicast address: every host answers alike.
            peer_address: "ff05::1".parse::<Ipv6Addr>().unwrap().octets(),
            netns: u32::try_from(std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino())
                .unwrap(),
            error,
            ..ConnectionRecord::default()
        };
        let mut bytes = [record(NO_WAY), record(0), record(111), record(NO_WAY)]
            .map(|r| r.as_bytes().to_vec())
            .concat();
        fill_in_reasons(&mut bytes);
        let errors: Vec<u16> = bytes
            .chunks(size_of::<ConnectionRecord>())
            .map(|record| ConnectionRecord::read_from_bytes(record).unwrap().error)
            .collect();
        assert_eq!(errors, [101, 0, 111, 101]);
        // Nothing is read beyond the end.
        fill_in_reasons(&mut bytes[..100]);
        fill_in_reasons(&mut [0; 7]);
        fill_in_reasons(&mut [200, 0]);
    }

    #[test]
    fn a_peer_that_has_a_way_gives_no_reason() {
        assert_eq!(ask(Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()), NO_WAY);
    }
}
