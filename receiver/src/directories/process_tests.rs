//! The process directory, over a folder that plays /proc.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use netflume_core::model::resource::Value;

const SECOND: u64 = 1_000_000_000;
const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

struct Fake {
    root: tempfile::TempDir,
}

/// A process as /proc shows it.
struct Shown<'a> {
    start: u64,
    exe: &'a str,
    cmdline: &'a str,
    cgroup: &'a str,
}

const CURL: Shown<'_> = Shown {
    start: 100,
    exe: "/usr/bin/curl",
    cmdline: "curl\0--token\0abc\0http://h\0",
    cgroup: "0::/system.slice/job.service\n",
};

impl Fake {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::create_dir(root.path().join("cgroup")).unwrap();
        Self { root }
    }

    fn start(&self, pid: u32, shown: &Shown<'_>) {
        self.exit(pid);
        let directory = self.root.path().join("proc").join(pid.to_string());
        fs::create_dir(&directory).unwrap();
        let stat = format!(
            "{pid} (a) b (c) S 1 1 1 0 -1 4194304 97 0 0 0 0 0 0 0 20 0 1 0 {} 3133440 354 1\n",
            shown.start
        );
        fs::write(directory.join("stat"), stat).unwrap();
        fs::write(directory.join("cmdline"), shown.cmdline).unwrap();
        fs::write(directory.join("cgroup"), shown.cgroup).unwrap();
        fs::write(
            directory.join("environ"),
            "A=b\0OTEL_SERVICE_NAME=cart\0OTEL_RESOURCE_ATTRIBUTES=service.namespace=shop\0",
        )
        .unwrap();
        std::os::unix::fs::symlink(shown.exe, directory.join("exe")).unwrap();
    }

    fn exit(&self, pid: u32) {
        let directory = self.root.path().join("proc").join(pid.to_string());
        if directory.exists() {
            fs::remove_dir_all(directory).unwrap();
        }
    }

    /// Makes a cgroup. Gives its id.
    fn cgroup(&self, path: &str) -> u64 {
        let directory = self.root.path().join("cgroup").join(path);
        fs::create_dir_all(&directory).unwrap();
        fs::metadata(&directory).unwrap().ino()
    }

    fn directory(&self, options: Options) -> ProcessDirectory {
        let roots = host::Roots {
            proc: self.root.path().join("proc"),
            cgroup: self.root.path().join("cgroup"),
            ..host::Roots::default()
        };
        ProcessDirectory::new(
            options,
            &roots,
            &Host::default(),
            service::Options::default(),
        )
    }
}

fn owner(pid: u32, name: &str) -> Owner {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Owner {
        pid,
        comm,
        ..Owner::default()
    }
}

fn service_name(identity: &Identity) -> String {
    let attributes = &identity.resource.attributes;
    let value = attributes.iter().find(|(name, _)| *name == "service.name");
    match value {
        Some((_, Value::Text(text))) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_living_process_is_named_from_proc() {
    let fake = Fake::new();
    fake.start(7, &CURL);
    let mut directory = fake.directory(Options::default());
    let identity = directory.identify(&owner(7, "curl"), 5 * SECOND);
    assert_eq!(
        *identity.process,
        Process {
            pid: 7,
            executable_name: "curl".into(),
            executable_path: Some("/usr/bin/curl".into()),
            command_line: Some("curl --token REDACTED http://h".into()),
            container_id: None,
        }
    );
    assert_eq!(service_name(&identity), "job");
    assert!(Arc::ptr_eq(
        &identity,
        &directory.identify(&owner(7, "curl"), 6 * SECOND)
    ));
}

#[test]
fn names_stay_after_the_exit() {
    let fake = Fake::new();
    fake.start(7, &CURL);
    let mut directory = fake.directory(Options::default());
    let identity = directory.identify(&owner(7, "curl"), 5 * SECOND);
    fake.exit(7);
    let later = directory.identify(&owner(7, "curl"), 60 * SECOND);
    assert!(Arc::ptr_eq(&identity, &later));
}

#[test]
fn a_process_that_had_exited_has_what_the_kernel_told() {
    let fake = Fake::new();
    let cgroup_id = fake.cgroup(&format!("docker/{ID}"));
    let mut directory = fake.directory(Options::default());
    let identity = directory.identify(
        &Owner {
            cgroup_id,
            ..owner(7, "wget")
        },
        5 * SECOND,
    );
    assert_eq!(identity.process.executable_name, "wget");
    assert_eq!(identity.process.executable_path, None);
    assert_eq!(identity.process.container_id.as_deref(), Some(ID));
    // Also when the pid is another process's by now, which started later.
    fake.start(8, &Shown { start: 600, ..CURL });
    let identity = directory.identify(&owner(8, "wget"), 5 * SECOND);
    assert_eq!(identity.process.executable_name, "wget");
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let fake = Fake::new();
    fake.start(7, &CURL);
    let mut directory = fake.directory(Options::default());
    let first = directory.identify(&owner(7, "curl"), 5 * SECOND);
    fake.start(
        7,
        &Shown {
            start: 550,
            cmdline: "curl\0other\0",
            ..CURL
        },
    );
    let second = directory.identify(&owner(7, "curl"), 7 * SECOND);
    assert_eq!(second.process.command_line.as_deref(), Some("curl other"));
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(directory.len(), 1);
}

#[test]
fn another_program_in_the_same_process_is_read_again_but_a_thread_is_not() {
    let fake = Fake::new();
    fake.start(7, &CURL);
    let mut directory = fake.directory(Options::default());
    let first = directory.identify(&owner(7, "curl"), 5 * SECOND);
    let thread = directory.identify(&owner(7, "resolver"), 5 * SECOND);
    assert!(Arc::ptr_eq(&first, &thread));
    fake.start(
        7,
        &Shown {
            exe: "/usr/bin/wget (deleted)",
            ..CURL
        },
    );
    let second = directory.identify(&owner(7, "wget"), 5 * SECOND);
    assert_eq!(second.process.executable_name, "wget");
}

#[test]
fn a_container_is_told_from_the_cgroup_of_the_process() {
    let fake = Fake::new();
    let cgroup = format!("0::/kubepods/burstable/pod6a4f1d4e-8a0b-4c3f-9d53-1d7b2c1f0e11/{ID}\n");
    let shown = Shown {
        cgroup: &cgroup,
        ..CURL
    };
    fake.start(7, &shown);
    let mut directory = fake.directory(Options::default());
    let identity = directory.identify(&owner(7, "curl"), 5 * SECOND);
    assert_eq!(identity.process.container_id.as_deref(), Some(ID));
    let names: Vec<_> = identity
        .resource
        .attributes
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert!(names.contains(&"k8s.pod.uid") && names.contains(&"service.instance.id"));
    assert!(
        !names.contains(&"process.pid"),
        "no series for each process"
    );
}

#[test]
fn a_socket_without_process_is_told_by_its_cgroup() {
    let fake = Fake::new();
    let cgroup_id = fake.cgroup("system.slice/nginx.service");
    let mut directory = fake.directory(Options::default());
    let of = |cgroup_id| Owner {
        cgroup_id,
        ..Owner::default()
    };
    let identity = directory.identify(&of(cgroup_id), SECOND);
    assert_eq!(service_name(&identity), "nginx");
    assert_eq!(identity.process.pid, 0);
    assert!(Arc::ptr_eq(
        &identity,
        &directory.identify(&of(cgroup_id), SECOND)
    ));
    assert_eq!(
        service_name(&directory.identify(&of(0), SECOND)),
        "unknown_service"
    );
    assert!(directory.is_empty());
}

#[test]
fn the_environment_of_a_process_is_read_only_when_asked() {
    let fake = Fake::new();
    fake.start(7, &CURL);
    let closed = fake
        .directory(Options::default())
        .identify(&owner(7, "curl"), 5 * SECOND);
    assert!(closed.resource.extra.is_empty());
    let open = fake
        .directory(Options {
            read_process_environment: true,
            ..Options::default()
        })
        .identify(&owner(7, "curl"), 5 * SECOND);
    assert_eq!(
        open.resource.extra,
        [
            ("service.namespace".to_owned(), "shop".to_owned()),
            ("service.name".to_owned(), "cart".to_owned())
        ]
    );
}

#[test]
fn the_directory_is_bounded_and_forgets_who_was_not_asked_for() {
    let fake = Fake::new();
    let mut directory = fake.directory(Options {
        max_processes: 8,
        ..Options::default()
    });
    let first = directory.identify(&owner(1, "a"), 0);
    for pid in 2..100 {
        directory.identify(&owner(pid, "b"), 0);
        assert!(Arc::ptr_eq(&first, &directory.identify(&owner(1, "a"), 0)));
    }
    assert!(directory.len() <= 8);
}

#[test]
fn long_command_lines_are_cut() {
    let fake = Fake::new();
    let cmdline = "x".repeat(10_000);
    let shown = Shown {
        cmdline: &cmdline,
        ..CURL
    };
    fake.start(7, &shown);
    let identity = fake
        .directory(Options::default())
        .identify(&owner(7, "x"), 5 * SECOND);
    let line = identity.process.command_line.as_deref().unwrap();
    assert_eq!(line.len(), 1024);
}

#[test]
fn this_very_process_is_found_in_the_real_proc() {
    let mut directory = ProcessDirectory::new(
        Options::default(),
        &host::Roots::default(),
        &Host::default(),
        service::Options::default(),
    );
    let identity = directory.identify(&owner(std::process::id(), "x"), u64::MAX);
    let exe = std::env::current_exe().unwrap();
    assert_eq!(identity.process.executable_path.as_deref(), exe.to_str());
}
