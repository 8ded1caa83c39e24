//! The program as its user calls it: what it prints where, and its exit status.

use std::io::Read;
use std::process::{Command, Output, Stdio};

fn netflume(line: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netflume"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(line.split_whitespace())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => output,
        Err(error) => panic!("netflume does not start: {error}"),
    }
}

#[track_caller]
fn check(output: &Output, status: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(status));
}

#[test]
fn without_a_command_there_is_help_and_one_hint() {
    let output = netflume("", &[]);
    let help = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert_eq!(
        help.lines().last(),
        Some("`sudo netflume run` shows the connections of this machine")
    );
    for command in ["run", "check", "doctor", "record", "replay"] {
        let named = help
            .lines()
            .any(|line| line.starts_with(&format!("  {command}")));
        assert!(named, "{command}: {help}");
    }
}

#[test]
fn version_and_help_are_asked_for_and_fine() {
    let version = concat!("netflume ", env!("CARGO_PKG_VERSION"), "\n");
    check(&netflume("--version", &[]), 0, version, "");
    assert_eq!(netflume("run --help", &[]).status.code(), Some(0));
}

#[test]
fn a_bad_command_line_or_configuration_has_status_2() {
    assert_eq!(netflume("run --nonsense", &[]).status.code(), Some(2));
    check(
        &netflume("check -c no/such/file.yaml", &[]),
        2,
        "",
        "netflume: configuration file no/such/file.yaml: No such file or directory (os error 2)\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netflume.yaml");
    std::fs::write(
        &file,
        "receivers:\n  ebpf:\n    intervall: 5s\n    scope: galaxy\n",
    )
    .unwrap();
    let name = file.display();
    let expected = format!(
        "{name}:3:5: receivers.ebpf.intervall: unknown key, did you mean `interval`?\n\
         {name}:4:12: receivers.ebpf.scope: found `galaxy`, allowed are host, pod\n"
    );
    for command in ["check", "run", "doctor"] {
        check(
            &netflume(&format!("{command} -c {name}"), &[]),
            2,
            "",
            &expected,
        );
    }
}

#[test]
fn check_prints_what_check_reads_as_the_same() {
    let first = netflume(
        "check",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")],
    );
    assert_eq!(first.status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netflume.yaml");
    std::fs::write(&file, &first.stdout).unwrap();
    let second = netflume(&format!("check -c {}", file.display()), &[]);
    check(&second, 0, &String::from_utf8_lossy(&first.stdout), "");
    assert!(String::from_utf8_lossy(&first.stdout).contains("    endpoint: http://127.0.0.1:9\n"));
}

#[test]
fn what_is_ignored_is_said_once_on_stderr() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let output = netflume("check", &variables);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "netflume: ignored: OTEL_EXPORTER_OTLP_PROTOCOL: found `http/protobuf`, netflume speaks grpc only \
         (port 4317 of a Collector); grpc is used\n"
    );
}

#[test]
fn an_endpoint_that_cannot_be_used_ends_the_start_and_a_path_is_left_out() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for command in ["check", "run"] {
        check(
            &netflume(command, &[(name, "grpcs://collector:4317")]),
            2,
            "",
            "OTEL_EXPORTER_OTLP_ENDPOINT: found scheme `grpcs`; allowed are host:port, http://host:port, \
             https://host:port, unix:///path\n",
        );
    }
    let output = netflume("check", &[(name, "http://127.0.0.1:9/v1/logs")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "netflume: ignored: OTEL_EXPORTER_OTLP_ENDPOINT: path `/v1/logs`: OTLP over gRPC has none; \
         requests go to http://127.0.0.1:9\n"
    );
    let effective = String::from_utf8_lossy(&output.stdout);
    assert!(
        effective.contains("    endpoint: http://127.0.0.1:9\n"),
        "{effective}"
    );
}

#[test]
fn doctor_answers_in_json_too() {
    let output = netflume("doctor --json", &[]);
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"cilium"), "{names:?}");
    assert!(report["machine"].as_str().unwrap().starts_with("kernel "));
}

#[test]
fn a_recording_that_is_none_has_status_1_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.rec");
    std::fs::write(&file, "not a recording, but long enough to be one").unwrap();
    let output = netflume(&format!("replay {}", file.display()), &[]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with(&format!("netflume: {}: ", file.display())),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_netflume"))
        .args(["doctor", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before the program has looked at anything.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr, "");
}

#[test]
fn an_address_in_use_is_named_with_its_key_and_the_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netflume.yaml");
    std::fs::write(
        &file,
        format!("extensions: {{ health: {{ endpoint: \"{address}\" }} }}\n"),
    )
    .unwrap();
    let output = netflume(&format!("run -c {}", file.display()), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "netflume: extensions.health cannot listen on {address}: Address already in use (os error 98)\n"
        )
    );
}
