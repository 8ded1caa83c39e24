//! What each fuzz target does with its bytes: decode them, and check what must hold for any bytes. A panic is a finding.
//!
//! The binaries in `fuzz_targets/` hand libFuzzer's inputs to these functions; the test below hands them the [`seeds`], so that plain `cargo test`
//! covers both.

pub mod cilium;
pub mod seeds;

use netflume::config::{self, Loaded, Overrides, Problems, print, schema::File};
use netflume_core::decode::btf::{Btf, Kind};
use netflume_core::decode::kernel;
use netflume_core::decode::packet::{self, Start};
use netflume_core::decode::recording::{Reader, Writer};
use netflume_core::model::flow::TunnelProtocol;
use netflume_ebpf::Header;

/// A target: its name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; each has a binary of its name.
pub const TARGETS: &[Target] = &[
    ("btf", btf),
    ("cilium_access_log", cilium::access_log),
    ("cilium_agent", cilium::agent),
    ("cilium_event", cilium::event),
    ("cilium_flow", cilium::flow),
    ("cilium_monitor", cilium::monitor),
    ("config", config),
    ("gob", cilium::gob),
    ("kernel_record", kernel_record),
    ("packet_head", packet_head),
    ("replay", replay),
];

/// Type information of a kernel: every question has an answer, whatever the bytes say.
pub fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data) else {
        return;
    };
    for path in ["a", "a.b", "a.b.c", "inner.deep"] {
        let offset = btf.offset("outer", path);
        assert_eq!(
            offset,
            btf.offset("outer", path),
            "the same question, another answer"
        );
    }
    let typedef = btf.has(Kind::Typedef, "same");
    assert!(
        !(typedef && btf.has(Kind::Func, "same")) || data.len() > 24,
        "names from a header alone"
    );
}

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

/// Records of our kernel programs: no more of them than fit into the bytes.
pub fn kernel_record(data: &[u8]) {
    let mut events = 0;
    let records = kernel::decode(data, |_| events += 1);
    assert_eq!(records, events, "a record without an event or an error");
    let most = data.len() / size_of::<Header>() + 1;
    assert!(
        records <= most as u64,
        "{records} records in {} bytes",
        data.len()
    );
}

/// The head of a packet, with and without a tunnel.
pub fn packet_head(data: &[u8]) {
    for start in [Start::Ethernet, Start::Ipv4, Start::Ipv6] {
        for overlay in [
            None,
            Some(TunnelProtocol::VXLAN),
            Some(TunnelProtocol::GENEVE),
        ] {
            if let Ok(packet) = packet::decode(data, start, overlay) {
                assert!(
                    !data.is_empty() || packet.ip.is_none(),
                    "headers from no bytes"
                );
            }
        }
    }
}

/// A recorded file: reading ends, and what was read can be written.
pub fn replay(data: &[u8]) {
    let Ok(reader) = Reader::new(data) else {
        return;
    };
    let mut again = Vec::new();
    let Ok(mut writer) = Writer::new(&mut again) else {
        return;
    };
    for batch in reader.map_while(Result::ok) {
        assert!(
            writer.write(&batch).is_ok(),
            "what was read cannot be written"
        );
    }
    assert!(again.len() <= data.len(), "more was read than there is");
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
