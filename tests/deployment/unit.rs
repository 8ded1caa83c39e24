//! The systemd unit: read by systemd's own tools, and its user, capabilities and system call filter put into effect by an OCI runtime.
//!
//! Not proven here: systemd itself starting it (there is none on a test machine), and what it does to mounts.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netflume_tests::fake_collector::FakeCollector;
use netflume_tests::{traffic, wait};
use serde_json::json;

use crate::container::{Container, capabilities};
use crate::image::{Image, names, render, values};

/// The program where the unit expects it.
const PROGRAM: &str = "/usr/local/bin/netflume";

fn unit() -> Result<String> {
    let path = xtask::cache::root().join("docker/systemd/netflume.service");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The words of a setting.
fn setting<'a>(unit: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let mut lines = unit.lines().filter_map(|line| line.split_once('='));
    let found = lines.find(|(key, _)| *key == name);
    let (_, words) = found.with_context(|| format!("the unit has no {name}"))?;
    Ok(words.split_whitespace().collect())
}

fn systemd_analyze(args: &[&str]) -> Result<String> {
    let out = Command::new("systemd-analyze")
        .args(args)
        .output()
        .context("systemd-analyze")?;
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success(), "systemd-analyze {args:?}: {stderr}");
    // It reports what it does not know as a warning.
    ensure!(stderr.is_empty(), "systemd-analyze {args:?}: {stderr}");
    Ok(String::from_utf8(out.stdout)?)
}

/// The system calls of a filter: groups (`@…`) hold calls and other groups.
fn system_calls(filter: &[&str]) -> Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    let mut next: Vec<String> = filter.iter().map(|&word| word.to_owned()).collect();
    // systemd adds this one by itself.
    next.push("@default".to_owned());
    while let Some(word) = next.pop() {
        if !calls.insert(word.clone()) || !word.starts_with('@') {
            continue;
        }
        let listed = systemd_analyze(&["syscall-filter", &word])?;
        let listed = listed.lines().skip(1).map(str::trim);
        next.extend(
            listed
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    calls.retain(|call| !call.starts_with('@'));
    Ok(calls)
}

#[test]
#[ignore = "needs systemd-analyze, and the image: cargo xtask test deployment"]
fn systemd_knows_every_setting_of_the_unit_and_finds_it_well_protected() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netflume.service");
    let file = file.to_string_lossy();
    let program = Image::get()?.root().join("netflume");
    let here = unit()?.replace(PROGRAM, &program.to_string_lossy());
    fs::write(&*file, &here)?;
    systemd_analyze(&["verify", "--man=no", &file])?;
    // From 0 (no rights) to 10, here in tenths; with all capabilities it would be above 5.
    systemd_analyze(&["security", "--offline=true", "--threshold=30", &file])?;
    // That it looks at all.
    fs::write(&*file, here.replace("ProtectHome=", "ProtectHomes="))?;
    assert!(systemd_analyze(&["verify", "--man=no", &file]).is_err());
    Ok(())
}

#[test]
#[ignore = "needs root, buildah, crun and systemd-analyze: cargo xtask test deployment"]
fn the_unit_reports_connections_with_its_user_capabilities_and_system_calls() -> Result<()> {
    let unit = unit()?;
    assert_eq!(setting(&unit, "DynamicUser")?, ["yes"]);
    let granted = setting(&unit, "AmbientCapabilities")?;
    assert_eq!(granted, setting(&unit, "CapabilityBoundingSet")?);
    let calls = system_calls(&setting(&unit, "SystemCallFilter")?)?;
    assert!(
        calls.contains("bpf") && !calls.contains("mount"),
        "{calls:?}"
    );

    let collector = FakeCollector::start()?;
    let mut values = values(&collector, "flows");
    values.push("config.receivers.ebpf.interval=1s".to_owned());
    let root = Image::get()?.root();
    let mut service = Container::start_as(&root, &render(&values)?, "unit", |spec| {
        let process = &mut spec["process"];
        process["user"] = json!({ "uid": 61_184, "gid": 61_184 });
        for set in [
            "bounding",
            "inheritable",
            "permitted",
            "effective",
            "ambient",
        ] {
            process["capabilities"][set] = json!(granted);
        }
        // What systemd does to a process that makes another call.
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{ "names": calls, "action": "SCMP_ACT_ALLOW" }],
        });
    })?;
    wait::until("a netflow record", || {
        traffic::tcp(Ipv4Addr::LOCALHOST.into(), 1000, 2000).ok()?;
        names(&collector).contains("netflow").then_some(())
    })
    .with_context(|| service.stderr())?;
    let status = service.status()?;
    // NET_ADMIN, SYS_PTRACE, PERFMON, BPF.
    let expected: u64 = [12, 19, 38, 39].iter().map(|bit| 1_u64 << bit).sum();
    assert_eq!(capabilities(&status, "CapPrm")?, expected);
    assert!(
        status.contains("\nUid:\t61184\t61184\t61184\t61184\n"),
        "{status}"
    );
    // A filter is in effect.
    assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
    assert!(service.stop()?.success(), "{}", service.stderr());
    Ok(())
}
