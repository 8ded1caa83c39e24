//! The connections that the programs remember, asked one by one for those that no descriptor leads to: an iterator over their map, at
//! 0.4 µs for each of the others. Where descriptors have led to all of them, this look is left out.

use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use netflume_ebpf::counter;

use super::SourceError;
use super::hooks::KernelReport;
use super::load::{refusal, settle};
use super::{pass, total};

pub(super) const HOOK: &str = "iter/bpf_map_elem";
const PROGRAM: &str = "remembered";
const MAP: &str = "CONNECTIONS";

/// Of `enum bpf_cmd` and `enum bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_LINK_CREATE: i32 = 28;
const BPF_ITER_CREATE: i32 = 33;
const BPF_TRACE_ITER: u32 = 28;

/// The iterator, made for the map.
#[derive(Debug)]
pub(super) struct Entries {
    link: OwnedFd,
}

/// `union bpf_attr` of BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: i32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Points to a `union bpf_iter_link_info`.
    info: u64,
    info_bytes: u32,
    reserved: u32,
}

/// `union bpf_attr` of BPF_ITER_CREATE.
#[repr(C)]
struct IterCreate {
    link: i32,
    flags: u32,
}

impl Entries {
    /// None: the kernel does not offer it, and the report has the reason.
    pub(super) fn load(ebpf: &mut Ebpf, types: &Btf, report: &mut KernelReport) -> Option<Self> {
        let result = load(ebpf, types);
        settle(
            report,
            HOOK,
            &result.as_ref().map(drop).map_err(Clone::clone),
        );
        result.ok().map(|link| Self { link })
    }

    /// Appends a record of each connection that nothing else reported in this pass.
    pub(super) fn read(&self, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        let attributes = IterCreate {
            link: self.link.as_raw_fd(),
            flags: 0,
        };
        let result = bpf(BPF_ITER_CREATE, &attributes)
            .and_then(|iterator| File::from(iterator).read_to_end(bytes));
        result.map(drop).map_err(|e| SourceError::Io {
            action: "read the connections that are remembered",
            reason: e.to_string(),
        })
    }
}

/// The programs' counts before a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    forgotten: u64,
    seen: u64,
}

impl Before {
    /// None: they cannot be read.
    pub(super) fn pass(counters: &PerCpuArray<MapData, u64>) -> Option<Self> {
        Some(Self {
            forgotten: total(counters, counter::FORGOTTEN)?,
            seen: total(counters, counter::SEEN)?,
        })
    }

    /// The pass came to every connection that was remembered at any time since its beginning.
    ///
    /// Connections come and go meanwhile, and the processors' counts are not read at one moment. What was remembered until now, less what
    /// was forgotten before the pass, is never too small; what the pass came to is exact, and part of it. So a connection that came,
    /// or went unseen, leaves the two unequal, which only costs a look.
    pub(super) fn all_seen(self, counters: &PerCpuArray<MapData, u64>) -> bool {
        let seen = total(counters, counter::SEEN).map(|now| now.wrapping_sub(self.seen));
        let remembered = total(counters, counter::REMEMBERED);
        seen.is_some() && seen == remembered.map(|now| now.wrapping_sub(self.forgotten))
    }
}

/// Finds connections that are older than the programs and that no descriptor leads to, once: from then on they are remembered.
/// Namespaces that we may not enter are left out.
pub(super) fn find_older(ebpf: &mut Ebpf, types: &Btf, report: &KernelReport) {
    let result = pass::load(ebpf, pass::TCP, "tcp", types).and_then(|()| {
        let passes = if report.may_enter_namespaces {
            pass::Passes::Tcp
        } else {
            pass::Passes::TcpHere
        };
        let found = passes.run(ebpf, &mut Vec::new());
        found.map_err(|e| e.to_string())
    });
    if let Err(reason) = result {
        tracing::debug!(
            reason,
            "older connections without a descriptor are not found"
        );
    }
}

fn load(ebpf: &mut Ebpf, types: &Btf) -> Result<OwnedFd, String> {
    let missing = || "not in the object".to_owned();
    let Some(Map::HashMap(map)) = ebpf.map(MAP) else {
        return Err(missing());
    };
    // `union bpf_iter_link_info`: the map.
    let info = map.fd().as_fd().as_raw_fd();
    let program = ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
    let program: &mut Iter = program.try_into().map_err(|e: ProgramError| refusal(&e))?;
    program
        .load("bpf_map_elem", types)
        .map_err(|e| refusal(&e))?;
    let attributes = LinkCreate {
        program: program.fd().map_err(|e| refusal(&e))?.as_fd().as_raw_fd(),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: &raw const info as u64,
        info_bytes: 4,
        reserved: 0,
    };
    bpf(BPF_LINK_CREATE, &attributes).map_err(|e| e.to_string())
}

/// The system call, for commands that give a descriptor.
fn bpf<T>(command: i32, attributes: &T) -> Result<OwnedFd, Error> {
    // SAFETY: the attributes are those of the command, in their full length; what they point to lives until the call ends. The
    // descriptor is new and owned by nothing else.
    unsafe {
        let result = libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        );
        match i32::try_from(result) {
            Ok(descriptor) if descriptor >= 0 => Ok(OwnedFd::from_raw_fd(descriptor)),
            _ => Err(Error::last_os_error()),
        }
    }
}
