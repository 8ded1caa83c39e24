//! A receiver that netflume does not know runs, is recorded and replayed: nothing but its own file had to be written.

#![expect(clippy::unwrap_used, reason = "a test ends where its harness fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_netflume-own-receiver"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the program says where its output goes, which is after all sources have started.
fn started(child: &mut Child) -> String {
    let mut seen = String::new();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    while !seen.contains("(Ctrl-C stops)") {
        seen.push_str(&lines.next().unwrap().unwrap());
        seen.push('\n');
    }
    seen
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

fn stdout(mut child: Child) -> String {
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

fn notes(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.contains("count"));
    lines
        .map(|line| line.rsplit("  ").next().unwrap().trim())
        .collect()
}

#[test]
fn a_receiver_from_outside_runs_and_its_last_batch_is_read_at_the_end() {
    let mut child = start(&["run"]);
    let banner = started(&mut child);
    assert!(
        banner.contains(", numbers\ncounting costs nothing\n"),
        "{banner}"
    );
    let mut lines = Vec::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while lines
        .iter()
        .filter(|line: &&String| line.contains("number 3"))
        .count()
        == 0
    {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "{lines:?}");
        lines.push(line);
    }
    interrupt(&child);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(rest.contains("number 4"), "{rest}");
    assert!(rest.contains("ticks "), "{rest}");
}

#[test]
fn what_it_recorded_is_replayed_with_the_times_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counted");
    let file = Path::to_str(&file).unwrap();
    let mut child = start(&["record", file]);
    started(&mut child);
    interrupt(&child);
    stdout(child);
    let text = stdout(start(&["replay", file]));
    let notes = notes(&text);
    let (ticks, numbers) = notes.split_last().unwrap();
    let expected: Vec<String> = (1..=numbers.len()).map(|n| format!("number {n}")).collect();
    assert_eq!(numbers, expected);
    // Two seconds between two batches, the first of which begins the first second.
    assert_eq!(*ticks, format!("ticks {}", numbers.len() - 1));
}
