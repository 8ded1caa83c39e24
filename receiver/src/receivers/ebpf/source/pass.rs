//! One look at every open connection: the kernel's iterators, read.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::hooks::KernelReport;
use super::load::{refusal, settle};
use super::{KernelOptions, Pass, SourceError};

pub(super) const TASK_FILE_HOOK: &str = "iter/task_file";
pub(super) const TCP_HOOK: &str = "iter/tcp";
/// Not a hook: what [`TCP_HOOK`] needs beside it.
pub(super) const ENTER: &str = "setns (CAP_SYS_ADMIN)";
const TASK_FILE: &str = "task_file";
pub(super) const TCP: &str = "tcp_sockets";

/// Which iterators serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    /// One for the whole host.
    TaskFile,
    /// One in each network namespace.
    Tcp,
    /// In our own network namespace: we may not enter others.
    TcpHere,
    /// None: connections are only told when they end.
    None,
}

impl Passes {
    /// Loads the first that works.
    pub(super) fn load(
        ebpf: &mut Ebpf,
        types: &Btf,
        options: &KernelOptions,
        report: &mut KernelReport,
    ) -> Self {
        if options.pass != Pass::Tcp {
            let result = load(ebpf, TASK_FILE, "task_file", types);
            settle(report, TASK_FILE_HOOK, &result);
            if result.is_ok() {
                return Self::TaskFile;
            }
        }
        if options.tcp && options.pass != Pass::TaskFile {
            let result = load(ebpf, TCP, "tcp", types);
            settle(report, TCP_HOOK, &result);
            if result.is_ok() {
                if !report.may_enter_namespaces {
                    return Self::TcpHere;
                }
                settle(report, ENTER, &result);
                return Self::Tcp;
            }
        }
        Self::None
    }

    /// It sees only sockets that descriptors lead to, or only those of one network namespace.
    pub(super) fn misses_some(self) -> bool {
        matches!(self, Self::TaskFile | Self::TcpHere)
    }

    /// Appends what one pass says.
    pub(super) fn run(self, ebpf: &mut Ebpf, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        let failed = |reason| SourceError::Io {
            action: "read the kernel's iterator",
            reason,
        };
        match self {
            Self::TaskFile => read(ebpf, TASK_FILE, bytes).map_err(failed),
            Self::TcpHere => read(ebpf, TCP, bytes).map_err(failed),
            Self::Tcp => {
                let namespaces = namespaces();
                // A thread of its own, which ends in another network namespace than it began in.
                std::thread::scope(|scope| {
                    let reader = scope.spawn(|| {
                        let mut failures = Vec::new();
                        for namespace in namespaces {
                            let entered = move_into_link_name_space(
                                namespace.as_fd(),
                                Some(LinkNameSpaceType::Network),
                            );
                            let result = entered
                                .map_err(|e| e.to_string())
                                .and_then(|()| read(ebpf, TCP, bytes));
                            failures.extend(result.err());
                        }
                        failures
                    });
                    match reader.join() {
                        Ok(failures) if failures.is_empty() => Ok(()),
                        Ok(failures) => Err(failed(failures.join("; "))),
                        Err(_) => Err(failed("the reading thread panicked".to_owned())),
                    }
                })
            }
            Self::None => Ok(()),
        }
    }
}

pub(super) fn load(ebpf: &mut Ebpf, name: &str, target: &str, types: &Btf) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("not in the object")?;
    let program: &mut Iter = program.try_into().map_err(|e: ProgramError| refusal(&e))?;
    program.load(target, types).map_err(|e| refusal(&e))
}

fn read(ebpf: &mut Ebpf, name: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("not in the object")?;
    let program: &mut Iter = program.try_into().map_err(|e: ProgramError| refusal(&e))?;
    let link = program.attach().map_err(|e| refusal(&e))?;
    let link = program.take_link(link).map_err(|e| refusal(&e))?;
    let mut file = link.into_file().map_err(|e| e.to_string())?;
    file.read_to_end(bytes).map_err(|e| e.to_string())?;
    Ok(())
}

/// The network namespaces that threads of this host live in; namespaces that nobody is in at the moment are not found.
pub(super) fn namespaces() -> Vec<File> {
    let mut known = HashSet::new();
    let mut files = Vec::new();
    for process in entries("/proc".into()) {
        for thread in entries(process.join("task")) {
            let Ok(file) = File::open(thread.join("ns/net")) else {
                continue;
            };
            let Ok(inode) = file.metadata().map(|m| m.ino()) else {
                continue;
            };
            if known.insert(inode) {
                files.push(file);
            }
        }
    }
    files
}

/// Entries of a folder whose names are numbers.
fn entries(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|e| {
            e.file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
        })
        .map(|e| e.path())
}
