//! What each fuzz target does with its bytes: decode them, and check what must hold for any bytes. A panic is a finding.
//!
//! The binaries in `fuzz_targets/` hand libFuzzer's inputs to these functions; the test below hands them the [`seeds`], so that plain `cargo test`
//! covers both.

mod btf;
pub mod cilium;
pub mod seeds;

use std::net::IpAddr;

pub use btf::btf;

use netflume::config::{self, Loaded, Overrides, Problems, print, schema::File};
use netflume_core::decode::kernel;
use netflume_core::decode::packet::{self, Packet, Start};
use netflume_core::decode::recording::{Reader, Writer};
use netflume_core::model::batch::Batch;
use netflume_core::model::flow::{L4, TunnelProtocol};
use netflume_ebpf::Header;

/// A target: its name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; each has a binary of its name.
pub const TARGETS: &[Target] = &[
    ("btf", btf),
    ("cilium_access_log", cilium::access_log),
    ("cilium_agent", cilium::agent),
    ("cilium_api", cilium::api),
    ("cilium_event", cilium::event),
    ("cilium_flow", cilium::flow),
    ("cilium_monitor", cilium::monitor),
    ("config", config),
    ("gob", cilium::gob),
    ("kernel_record", kernel_record),
    ("packet_head", packet_head),
    ("replay", replay),
];

/// A configuration file: what is accepted, printed with its defaults, reads back as itself.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(loaded) = parse(text) else {
        return;
    };
    let printed = print::effective(&loaded.config, true);
    match parse(&printed) {
        Ok(again) => assert_eq!(again.config, loaded.config, "{printed}"),
        Err(problems) => panic!("{problems}\n{printed}"),
    }
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    let file = File {
        name: "fuzz.yaml",
        text,
    };
    config::parse(Some(file), &|_| None, Overrides::default())
}

/// Records of our kernel programs: each event is that of its own record alone, and no more are counted than fit into the bytes.
pub fn kernel_record(data: &[u8]) {
    let mut together = Vec::new();
    let (mut good, mut lost) = (0, 0);
    let count = kernel::decode(data, |event| match event {
        Ok(event) => {
            good += 1;
            together.push(event);
        }
        Err(error) => lost += error.records(),
    });
    assert_eq!(count, good + lost, "a record without an event or an error");
    let most = data.len().div_ceil(size_of::<Header>());
    assert!(
        count <= most as u64,
        "{count} records in {} bytes",
        data.len()
    );
    // Those before the first damage, one by one.
    let mut alone = Vec::new();
    for record in kernel::records(data) {
        let records = kernel::decode(record.bytes, |event| alone.extend(event));
        assert_eq!(records, 1, "a record that is two");
    }
    assert!(together.starts_with(&alone), "{together:?}\n{alone:?}");
}

/// The head of a packet, with and without a tunnel: what is reported of it stands in its bytes.
pub fn packet_head(data: &[u8]) {
    for start in [Start::Ethernet, Start::Ipv4, Start::Ipv6] {
        for overlay in [
            None,
            Some(TunnelProtocol::VXLAN),
            Some(TunnelProtocol::GENEVE),
        ] {
            let Ok(packet) = packet::decode(data, start, overlay) else {
                continue;
            };
            for ip in [packet.ip, packet.tunnel.and_then(|tunnel| tunnel.ip)] {
                // Both addresses, one behind the other.
                let addresses =
                    ip.and_then(|ip| Some([octets(ip.source?), octets(ip.destination?)].concat()));
                stands_in(data, addresses.as_deref(), &packet);
            }
            for l4 in [packet.l4, packet.tunnel.and_then(|tunnel| tunnel.l4)] {
                let ports = match l4 {
                    Some(
                        L4::Tcp {
                            source_port,
                            destination_port,
                            ..
                        }
                        | L4::Udp {
                            source_port,
                            destination_port,
                        }
                        | L4::Sctp {
                            source_port,
                            destination_port,
                            ..
                        },
                    ) => Some([source_port.to_be_bytes(), destination_port.to_be_bytes()].concat()),
                    Some(L4::Icmpv4 { kind, code } | L4::Icmpv6 { kind, code }) => {
                        Some(vec![kind, code])
                    }
                    _ => None,
                };
                stands_in(data, ports.as_deref(), &packet);
            }
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn stands_in(data: &[u8], bytes: Option<&[u8]>, packet: &Packet) {
    if let Some(bytes) = bytes {
        let found = data.windows(bytes.len()).any(|window| window == bytes);
        assert!(found, "{bytes:x?} of {packet:?} is not in the bytes");
    }
}

/// A recorded file: reading ends, and what was read, written again, is the same when it is read again.
pub fn replay(data: &[u8]) {
    let read = |data: &[u8]| -> Option<Vec<Batch>> {
        let reader = Reader::new(data).ok()?;
        Some(reader.map_while(Result::ok).collect())
    };
    let Some(batches) = read(data) else {
        return;
    };
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again).expect("memory takes it");
    for batch in &batches {
        writer.write(batch).expect("what was read can be written");
    }
    assert!(again.len() <= data.len(), "more was read than there is");
    assert_eq!(read(&again).as_ref(), Some(&batches));
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, seeds};

    #[test]
    fn every_target_takes_its_seeds_and_their_prefixes() {
        for (name, target) in TARGETS {
            let seeds = seeds::of(name).unwrap();
            assert!(!seeds.is_empty(), "no seeds for {name}");
            // A cut-off input is the commonest kind of damage. Many seeds or long ones say much the same.
            let cuts = 20_000 / seeds.len();
            for seed in seeds {
                target(&seed);
                let step = 1 + seed.len() / cuts.clamp(8, 64);
                for end in (0..seed.len()).step_by(step) {
                    target(&seed[..end]);
                }
            }
        }
    }

    /// A seed that is refused at once would lead the fuzzer nowhere.
    #[test]
    fn seeds_are_what_the_decoders_accept() {
        for seed in seeds::of("config").unwrap() {
            let text = std::str::from_utf8(&seed).unwrap();
            if let Err(problems) = super::parse(text) {
                panic!("{problems}\n{text}");
            }
        }
        let btf = |seed: &Vec<u8>| {
            let btf = netflume_core::decode::btf::Btf::parse(seed).unwrap();
            btf.offset("outer", "a.b") == Some(12)
        };
        assert!(seeds::of("btf").unwrap().iter().all(btf));
        let record = |seed: &Vec<u8>| {
            let mut good = 0;
            netflume_core::decode::kernel::decode(seed, |event| good += u64::from(event.is_ok()));
            good == 2
        };
        assert!(seeds::of("kernel_record").unwrap().iter().all(record));
    }
}
