//! Processes by pid: names read from /proc while the process lives, kept after it has exited.
//!
//! An entry belongs to one process, told by pid and start time, so a pid that is used again is another process. A process that
//! had exited before it was looked at has the name and the cgroup that the kernel told, and no more.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::cgroups::Cgroups;
use super::host;
use netflume_core::enrich::container::{self, CgroupNames};
use netflume_core::enrich::environment::pairs;
use netflume_core::enrich::host::Host;
use netflume_core::enrich::redact;
use netflume_core::enrich::service::{self, Resources, Service};
use netflume_core::model::netflow::{Identity, Owner, Process};

/// The process directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Processes that are remembered; the ones not asked for the longest go first. Default 8192.
    pub max_processes: usize,
    /// Bytes of a command line that are kept; it stands on every record of the process. Default 1024.
    pub max_command_line_bytes: usize,
    /// Whether secrets in command lines are replaced. Default: yes.
    pub redact_command_line: bool,
    /// Whether the environment of processes is read for `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`. Default: no, it
    /// holds secrets, even if nothing else of it is kept.
    pub read_process_environment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_processes: 8192,
            max_command_line_bytes: 1024,
            redact_command_line: true,
            read_process_environment: false,
        }
    }
}

/// An entry is believed for so long before its start time is compared again.
const TRUST_NS: u64 = 1_000_000_000;
/// Threads name themselves; so many names of one process are known before they are asked about again.
const COMMS_MAX: usize = 8;
/// `_SC_CLK_TCK` is 100 on every Linux that user space sees.
const TICK_NS: u64 = 10_000_000;
/// Longest environment that is looked through.
const ENVIRONMENT_MAX: usize = 128 * 1024;

/// Who is who on this host.
#[derive(Debug)]
pub struct ProcessDirectory {
    options: Options,
    proc: PathBuf,
    cgroups: Cgroups,
    resources: Resources,
    by_pid: HashMap<u32, Entry, RandomState>,
    /// Sockets whose process the kernel did not tell, by cgroup.
    by_cgroup: HashMap<u64, Arc<Identity>, RandomState>,
    /// Counts the questions.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    /// Clock ticks since boot; none: it had exited before it was looked at.
    start: Option<u64>,
    /// Names under which its threads were seen.
    comms: Vec<[u8; 16]>,
    cgroup_id: u64,
    checked_ns: u64,
    asked: u64,
}

impl ProcessDirectory {
    /// An empty directory.
    #[must_use]
    pub fn new(
        options: Options,
        roots: &host::Roots,
        host: &Host,
        service: service::Options,
    ) -> Self {
        Self {
            options,
            proc: roots.proc.clone(),
            cgroups: Cgroups::new(&roots.cgroup),
            resources: Resources::new(host, service),
            by_pid: HashMap::default(),
            by_cgroup: HashMap::default(),
            clock: 0,
        }
    }

    /// Reads processes with these options from now on; what is known stays.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// No process, and the resource of the host.
    pub fn nobody(&mut self) -> Arc<Identity> {
        Arc::new(Identity {
            process: Arc::default(),
            resource: self.resources.of(Service::default()),
        })
    }

    /// Who owns a socket that was seen at `boot_ns` nanoseconds since boot. Reads a few files for a process that is new or was
    /// not asked about for a second; never waits for anything else.
    pub fn identify(&mut self, owner: &Owner, boot_ns: u64) -> Arc<Identity> {
        self.clock += 1;
        if owner.pid == 0 {
            return self.of_cgroup(owner, boot_ns);
        }
        if let Some(entry) = self.by_pid.get_mut(&owner.pid) {
            entry.asked = self.clock;
            let known_name = entry.comms.contains(&owner.comm);
            if known_name && boot_ns.saturating_sub(entry.checked_ns) < TRUST_NS {
                return entry.identity.clone();
            }
            if still_the_same(&self.proc, owner, boot_ns, entry) {
                entry.checked_ns = boot_ns;
                if !known_name {
                    if entry.comms.len() == COMMS_MAX {
                        entry.comms.remove(0);
                    }
                    entry.comms.push(owner.comm);
                }
                return entry.identity.clone();
            }
        }
        let entry = self.look(owner, boot_ns);
        let identity = entry.identity.clone();
        if self.by_pid.len() >= self.options.max_processes.max(1) {
            self.forget_the_oldest();
        }
        self.by_pid.insert(owner.pid, entry);
        identity
    }

    /// Processes that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    fn of_cgroup(&mut self, owner: &Owner, boot_ns: u64) -> Arc<Identity> {
        if let Some(identity) = self.by_cgroup.get(&owner.cgroup_id) {
            return identity.clone();
        }
        let path = self.cgroups.path(owner.cgroup_id, boot_ns);
        let identity = Arc::new(Identity {
            process: Arc::default(),
            resource: self.resources.of(Service {
                names: path.as_deref().map(container::of_path).unwrap_or_default(),
                ..Service::default()
            }),
        });
        if path.is_some() || owner.cgroup_id == 0 {
            if self.by_cgroup.len() >= self.options.max_processes {
                self.by_cgroup.clear();
            }
            self.by_cgroup.insert(owner.cgroup_id, identity.clone());
        }
        identity
    }

    /// Reads what /proc says of a process.
    fn look(&mut self, owner: &Owner, boot_ns: u64) -> Entry {
        let directory = self.proc.join(owner.pid.to_string());
        let start = start_time(&directory).filter(|start| started_before(*start, boot_ns));
        let read = start.and_then(|start| {
            let facts = Facts::read(&directory, &self.options);
            // All of it is of one process only if that process is still there.
            (start_time(&directory) == Some(start)).then_some(facts)
        });
        let exited = read.is_none();
        let mut facts = read.unwrap_or_default();
        if facts.names == CgroupNames::default()
            && let Some(path) = self.cgroups.path(owner.cgroup_id, boot_ns)
        {
            facts.names = container::of_path(&path);
        }
        let comm = comm(&owner.comm);
        let executable = facts.executable_name().unwrap_or(comm);
        let resource = self.resources.of(Service {
            names: facts.names.clone(),
            executable: executable.clone(),
            environment: facts.environment,
        });
        let process = Process {
            pid: owner.pid,
            executable_name: executable,
            executable_path: facts.executable,
            command_line: facts.command_line,
            container_id: facts.names.container_id,
        };
        Entry {
            identity: Arc::new(Identity {
                process: process.into(),
                resource,
            }),
            start: start.filter(|_| !exited),
            comms: vec![owner.comm],
            cgroup_id: owner.cgroup_id,
            checked_ns: boot_ns,
            asked: self.clock,
        }
    }

    /// Makes room for a quarter of the entries at once, so that this is rare.
    fn forget_the_oldest(&mut self) {
        let mut asked: Vec<u64> = self.by_pid.values().map(|entry| entry.asked).collect();
        let quarter = asked.len() / 4;
        let (_, &mut limit, _) = asked.select_nth_unstable(quarter);
        self.by_pid.retain(|_, entry| entry.asked > limit);
    }
}

/// Whether the entry is of the process that holds the pid now, running the same program.
fn still_the_same(proc: &Path, owner: &Owner, boot_ns: u64, entry: &Entry) -> bool {
    let directory = proc.join(owner.pid.to_string());
    let now = start_time(&directory).filter(|start| started_before(*start, boot_ns));
    match (now, entry.start) {
        (Some(now), Some(then)) if now == then => {
            // A known name needs no second look; a new one is a thread's, or the program was replaced (execve).
            let process = &entry.identity.process;
            entry.comms.contains(&owner.comm) || executable(&directory) == process.executable_path
        }
        (Some(_), _) => false,
        // It has exited: the observation is of its last moments, unless its name and cgroup were never those of this entry.
        (None, _) => entry.comms.contains(&owner.comm) || entry.cgroup_id == owner.cgroup_id,
    }
}

/// What /proc says of one process.
#[derive(Debug, Default)]
struct Facts {
    executable: Option<String>,
    command_line: Option<String>,
    names: CgroupNames,
    environment: Vec<(String, String)>,
}

impl Facts {
    fn read(directory: &Path, options: &Options) -> Self {
        let cgroup = read_bounded(&directory.join("cgroup"), 64 * 1024).unwrap_or_default();
        Self {
            executable: executable(directory),
            command_line: command_line(directory, options),
            names: container::of_process(&String::from_utf8_lossy(&cgroup)),
            environment: if options.read_process_environment {
                environment(directory)
            } else {
                Vec::new()
            },
        }
    }

    fn executable_name(&self) -> Option<String> {
        let name = self.executable.as_deref()?.rsplit('/').next()?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// Path of the executable, in the process's own mount namespace.
fn executable(directory: &Path) -> Option<String> {
    let path = std::fs::read_link(directory.join("exe")).ok()?;
    let path = path.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    (!path.is_empty()).then(|| path.to_owned())
}

fn command_line(directory: &Path, options: &Options) -> Option<String> {
    let limit = options.max_command_line_bytes;
    let bytes = read_bounded(&directory.join("cmdline"), limit)?;
    let text = String::from_utf8_lossy(&bytes);
    let args = text.trim_end_matches('\0').split('\0');
    let line = if options.redact_command_line {
        redact::command_line(args)
    } else {
        args.collect::<Vec<_>>().join(" ")
    };
    (!line.is_empty()).then_some(line)
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` of a process, as resource attributes.
fn environment(directory: &Path) -> Vec<(String, String)> {
    let bytes = read_bounded(&directory.join("environ"), ENVIRONMENT_MAX).unwrap_or_default();
    let variable = |name: &str| {
        bytes.split(|byte| *byte == 0).find_map(|variable| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            let text = std::str::from_utf8(value).ok()?;
            (!text.is_empty()).then(|| text.to_owned())
        })
    };
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES");
    // As the specification has it: on any error the whole value is discarded.
    let mut attributes = attributes.and_then(|text| pairs(&text)).unwrap_or_default();
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        attributes.retain(|(key, _)| key != "service.name");
        attributes.push(("service.name".into(), name));
    }
    attributes
}

/// Field 22 of /proc/PID/stat: clock ticks since boot. The second field is a name in brackets that may hold anything.
fn start_time(directory: &Path) -> Option<u64> {
    let bytes = read_bounded(&directory.join("stat"), 1024)?;
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a process that started then can be the one that was seen at `boot_ns`.
fn started_before(start: u64, boot_ns: u64) -> bool {
    // The tick is rounded down, so it is not later than the start itself.
    start.saturating_mul(TICK_NS) <= boot_ns
}

/// The task's name as the kernel tells it.
fn comm(comm: &[u8; 16]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    String::from_utf8_lossy(comm.get(..end).unwrap_or_default()).into_owned()
}

/// The beginning of a file, `None` if it cannot be read.
pub(super) fn read_bounded(path: &Path, limit: usize) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
