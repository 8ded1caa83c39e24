//! Each kind of problem with its exact line, precedence, and the printed configuration.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::schema::{Kind, rows};
use crate::config::value::Limits;

mod variables;

fn none(_: &str) -> Option<String> {
    None
}

fn read(text: &str, variables: Variables<'_>) -> Result<Loaded, Problems> {
    let file = File {
        name: "netflume.yaml",
        text,
    };
    parse(Some(file), variables, Overrides::default())
}

#[track_caller]
fn good(text: &str) -> Config {
    match read(text, &none) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    }
}

#[track_caller]
fn wrong(text: &str, expected: &str) {
    match read(text, &none) {
        Ok(_) => panic!("accepted"),
        Err(problems) => assert_eq!(problems.to_string(), expected),
    }
}

#[test]
fn several_problems_are_several_lines_in_the_order_of_the_file() {
    wrong(
        "\
exporters:
  otlp_grpc:
    endpoint: http://127.0.0.1:4317
    compression: lzma
receivers:
  ebpf:
    intervall: 10s
    group_by: conection
",
        "\
netflume.yaml:4:18: exporters.otlp_grpc.compression: found `lzma`, allowed are gzip, zstd, none
netflume.yaml:7:5: receivers.ebpf.intervall: unknown key, did you mean `interval`?
netflume.yaml:8:15: receivers.ebpf.group_by: found `conection`, allowed are service, connection (did you mean `connection`?)",
    );
}

#[test]
fn a_key_unlike_any_other_gets_the_list_of_keys() {
    wrong(
        "extensions: { health: { zzz: 1 } }\n",
        "netflume.yaml:1:25: extensions.health.zzz: unknown key, allowed are endpoint",
    );
    wrong(
        "input: 1\nreceivers: {ebpf: }\n",
        "netflume.yaml:1:1: input: unknown key, allowed are receivers, exporters, extensions, logs, metrics, service",
    );
}

#[test]
fn values_of_a_wrong_type_say_what_was_found_and_what_is_allowed() {
    let case = |key: &str, value: &str, message: &str| {
        let column = key.len() + 5;
        wrong(
            &format!("receivers:\n  ebpf:\n  {key}: {value}\n")
                .replace(&format!("  {key}"), &format!("    {key}")),
            &format!(
                "netflume.yaml:3:{}: receivers.ebpf.{key}: {message}",
                column + 2
            ),
        );
    };
    case("netflow", "yes", "found `yes`, allowed are true, false");
    case("netflow", "[1]", "found a list, allowed are true, false");
    case(
        "max_connections",
        "many",
        "found `many`, allowed is a whole number from 1024 to 4194304",
    );
    case(
        "max_connections",
        "12",
        "found `12`, allowed is a whole number from 1024 to 4194304",
    );
    case(
        "interval",
        "15 parsecs",
        "found `15 parsecs`, allowed is a duration from 1s to 24h, such as `15s` or `1h30m`",
    );
    case(
        "interval",
        "15",
        "found `15`, allowed is a duration from 1s to 24h, such as `15s` or `1h30m`",
    );
    case(
        "interval",
        "{a: 1}",
        "found a map, allowed is a duration from 1s to 24h, such as `15s` or `1h30m`",
    );
}

#[test]
fn a_bad_endpoint_or_size_or_header_is_told() {
    wrong(
        "exporters: { otlp_grpc: { endpoint: collector } }\n",
        "netflume.yaml:1:37: exporters.otlp_grpc.endpoint: found `collector`, allowed is `host:port`, or a URL such as \
         `http://127.0.0.1:4317`, `https://collector:4317` or `unix:///run/otlp.sock`",
    );
    wrong(
        "exporters: { otlp_grpc: { max_request_size: 3 potatoes } }\n",
        "netflume.yaml:1:45: exporters.otlp_grpc.max_request_size: found `3 potatoes`, allowed is a size from 64KiB to 256MiB",
    );
    wrong(
        "exporters:\n  otlp:\n    headers:\n      a: b\n      x-tenant: 12\n",
        "netflume.yaml:5:17: exporters.otlp_grpc.headers: found `12`, allowed is text (in quotes)",
    );
    wrong(
        "extensions: { health: { endpoint: \"13133\" } }\n",
        "netflume.yaml:1:35: extensions.health.endpoint: found `13133`, allowed is an address and port to listen on, \
         such as `127.0.0.1:13133`, `[::1]:13133` or `0.0.0.0:13133`",
    );
}

#[test]
fn a_map_is_needed_where_keys_stand() {
    wrong(
        "receivers: [ebpf]\n",
        "netflume.yaml:1:12: receivers: found a list, allowed is a map with ebpf, cilium",
    );
    wrong(
        "- a\n",
        "netflume.yaml:1:1: found a list, allowed is a map with receivers, exporters, extensions, logs, metrics, service",
    );
}

#[test]
fn a_repeated_key_is_told_also_under_its_other_name() {
    wrong(
        "exporters:\n  console:\n  otlp: {}\n  otlp_grpc: {}\n",
        "netflume.yaml:4:3: exporters.otlp_grpc: the key stands here a second time",
    );
}

#[test]
fn keys_of_later_versions_and_of_the_collector_are_refused_with_the_reason() {
    let version = env!("CARGO_PKG_VERSION");
    wrong(
        "receivers:\n  ebpf: { HttpFlow: true }\n  network_observer: {}\n",
        &format!(
            "netflume.yaml:2:11: receivers.ebpf.HttpFlow: not in this version ({version})\n\
             netflume.yaml:3:3: receivers.network_observer: not in this version ({version})"
        ),
    );
    wrong(
        "service:\n  pipelines:\n    logs: {}\n",
        "netflume.yaml:2:3: service.pipelines: there is nothing to wire: what has a key runs, and every receiver feeds every exporter",
    );
    wrong(
        "exporters:\n  otlp/backup: {}\n",
        "netflume.yaml:2:3: exporters.otlp/backup: components have no names after a slash here: there is one of each type",
    );
}

#[test]
fn text_that_is_not_yaml_is_told_with_its_place() {
    let problems = read("receivers: [ebpf\n", &none).unwrap_err().to_string();
    assert!(
        problems.starts_with("netflume.yaml:2:1: not valid YAML: "),
        "{problems}"
    );
    assert_eq!(problems.lines().count(), 1);
}

#[test]
fn variables_are_expanded_with_the_type_that_the_key_wants() {
    let variables = |name: &str| match name {
        "CONNECTIONS" => Some("2048".to_owned()),
        "TENANT" => Some("12".to_owned()),
        _ => None,
    };
    let text = "\
receivers: { ebpf: { max_connections: \"${env:CONNECTIONS}\", interval: \"${env:INTERVAL:-5s}\" } }
exporters: { otlp: { headers: { x-tenant: \"${env:TENANT}\" } } }
";
    let config = read(text, &variables).unwrap().config;
    let ebpf = config.receivers.ebpf.unwrap();
    assert_eq!(
        (ebpf.kernel.max_connections, ebpf.interval),
        (2048, Duration::from_secs(5))
    );
    let otlp = config.exporters.otlp_grpc.unwrap();
    assert_eq!(
        otlp.client.headers,
        [("x-tenant".to_owned(), "12".to_owned())]
    );
    wrong(
        "receivers:\n  ebpf:\n    interval: ${env:NOT_SET}\n",
        "netflume.yaml:3:15: receivers.ebpf.interval: environment variable NOT_SET is not set; `${env:NOT_SET:-default}` would give a default",
    );
}

#[test]
fn the_seeds_spelling_is_read_with_bare_numbers_as_seconds() {
    let config =
        good("receivers: { ebpf: { Interval: 15, GroupBy: connection, MaxFlows: 100 } }\n");
    let ebpf = config.receivers.ebpf.unwrap();
    assert_eq!(
        (ebpf.interval, ebpf.table_options().max_flows),
        (Duration::from_secs(15), 100)
    );
}

#[test]
fn without_a_file_the_kernel_is_shown_on_the_console() {
    let config = parse(None, &none, Overrides::default()).unwrap().config;
    assert!(config.receivers.ebpf.is_some() && config.exporters.console.is_some());
    assert!(config.exporters.otlp_grpc.is_none() && config.receivers.cilium.is_none());
    let variables =
        |name: &str| (name == "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT").then(|| "http://a:1".to_owned());
    let config = parse(None, &variables, Overrides::default())
        .unwrap()
        .config;
    assert!(config.exporters.otlp_grpc.is_some() && config.exporters.console.is_some());
}

#[test]
fn a_component_needs_only_its_key() {
    let config = good("receivers:\n  cilium:\nexporters:\n  console:\n");
    assert_eq!(
        config.extensions.hubble_observer,
        Some(extensions::HubbleObserver::default()),
        "the Observer API comes with the receiver"
    );
    let config = good("receivers:\n  cilium:\nexporters:\n  console:\nextensions:\n  health:\n");
    assert_eq!(config.extensions.hubble_observer, None);
    assert!(config.receivers.cilium.is_some() && config.receivers.ebpf.is_none());
    assert!(config.extensions.health.is_some() && config.extensions.prometheus.is_none());
}

#[test]
fn empty_sections_that_leave_nothing_to_do_are_refused() {
    wrong(
        "exporters: {}\nreceivers: {}\n",
        "netflume.yaml:2:12: receivers: none is there, so there is nothing to do; allowed are ebpf, cilium\n\
         netflume.yaml:1:12: exporters: none is there, so records go nowhere; allowed are otlp_grpc, console \
         (or extensions.prometheus)",
    );
    good("exporters: {}\nextensions: { prometheus: {} }\n");
}

#[test]
fn an_observer_api_that_others_could_read_is_refused() {
    let case = |keys: &str, expected: &str| {
        wrong(
            &format!("receivers: {{ cilium: }}\nextensions:\n  hubble_observer: {{ {keys} }}\n"),
            expected,
        );
    };
    case(
        "endpoint: \"0.0.0.0:4244\"",
        "netflume.yaml:3:32: extensions.hubble_observer.endpoint: other hosts could read flows in plain text: set `tls`, or \
         listen on 127.0.0.1, [::1], localhost or a unix socket",
    );
    case(
        "endpoint: here",
        "netflume.yaml:3:32: extensions.hubble_observer.endpoint: found `here`, allowed is a unix socket such as \
         `unix:///var/run/netflume/hubble.sock`, or an address and port such as `127.0.0.1:4244`",
    );
    case(
        "tls: { cert_file: /a }",
        "netflume.yaml:3:27: extensions.hubble_observer.tls: TLS needs both `cert_file` and `key_file`",
    );
    case(
        "tls: { cert_file: /a, key_file: /b }",
        "netflume.yaml:3:27: extensions.hubble_observer.tls: goes with a TCP endpoint only; a unix socket is guarded by its \
         file permissions",
    );
    wrong(
        "extensions:\n  hubble_observer:\n",
        "netflume.yaml:2:19: extensions.hubble_observer: there are no flows to show without `receivers.cilium`",
    );
    good(
        "receivers: { cilium: }\nextensions: { hubble_observer: { endpoint: \"0.0.0.0:4244\", tls: { cert_file: /a, key_file: /b } } }\n",
    );
}

#[test]
fn half_an_identity_is_refused() {
    wrong(
        "exporters:\n  otlp:\n    endpoint: a:1\n    tls:\n      cert_file: /a\n",
        "netflume.yaml:5:7: exporters.otlp_grpc.tls: mTLS needs both a certificate (`cert_file` or `cert_pem`) and its \
         key (`key_file` or `key_pem`)",
    );
    wrong(
        "exporters:\n  otlp:\n    tls: { ca_file: /a, ca_pem: b }\n",
        "netflume.yaml:3:21: exporters.otlp_grpc.tls.ca_file: set beside `ca_pem`, allowed is one of the two",
    );
}

#[test]
fn examples_in_errors_are_allowed() {
    for row in rows() {
        let Kind::Value(limits, setting) = &row.kind else {
            continue;
        };
        let mut config = Config::default();
        let setting = setting(&mut config);
        let Limits::Duration(..) = limits else {
            continue;
        };
        let words = setting.allowed(limits).to_string();
        let examples: Vec<_> = words.split('`').skip(1).step_by(2).collect();
        assert!(!examples.is_empty(), "{}: {words}", row.path);
        for example in examples {
            let node = tree::parse(example).unwrap();
            assert_eq!(setting.set(&node, limits), Ok(()), "{}: {words}", row.path);
        }
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides {
        output: Some(Format::Json),
    };
    let file = File {
        name: "a",
        text: "exporters: { console: { format: text } }\n",
    };
    let config = parse(Some(file), &none, overrides).unwrap().config;
    assert_eq!(config.exporters.console.unwrap().format, Format::Json);
}

#[test]
fn every_key_has_a_meaning_and_its_default_is_allowed() {
    let mut defaults = Config::default();
    for row in rows() {
        assert!(row.doc.ends_with('.'), "{}: {}", row.path, row.doc);
        assert!(
            row.parent().is_empty() || rows().any(|parent| parent.path == row.parent()),
            "{}: its parent has no row",
            row.path
        );
        assert_eq!(
            rows().filter(|other| other.path == row.path).count(),
            1,
            "{}",
            row.path
        );
        if let Kind::Value(limits, setting) = &row.kind {
            let setting = setting(&mut defaults);
            assert!(
                !setting.allowed(limits).to_string().is_empty(),
                "{}",
                row.path
            );
            if let Some(default) = setting.show(limits) {
                let node = tree::parse(&default).unwrap();
                assert_eq!(
                    setting.set(&node, limits),
                    Ok(()),
                    "{}: {default}",
                    row.path
                );
                assert_eq!(setting.show(limits), Some(default), "{}", row.path);
            }
        }
    }
}

#[track_caller]
fn reads_back(config: &Config) {
    let printed = print::effective(config, true);
    match read(&printed, &none) {
        Ok(loaded) => assert_eq!(&loaded.config, config, "{printed}"),
        Err(problems) => panic!("{problems}\n{printed}"),
    }
}

#[test]
fn the_printed_default_shows_every_key_and_reads_back() {
    let config = parse(None, &none, Overrides::default()).unwrap().config;
    let printed = print::effective(&config, false);
    for row in rows() {
        let is_own = rows()
            .any(|group| matches!(group.kind, Kind::Override) && row.path.starts_with(group.path));
        assert!(
            is_own || printed.contains(&format!("{}:", row.name())),
            "{}",
            row.path
        );
    }
    reads_back(&config);
}

#[test]
fn a_printed_configuration_with_all_kinds_of_values_reads_back() {
    reads_back(&good(
        "\
receivers:
  ebpf: { interval: 1m30s, scope: pod, loopback: false, process: { read_environment: true, max_command_line: 64 } }
  cilium:
    socket: \"/a b\"
    metrics:
    - dns:query;labelsContext=source_ip,source_pod
    - { name: flow, contextOptions: [{ name: sourceContext, values: [pod, ip] }], includeFilters: [{ http_path: [\"^/a$$\"] }] }
    max_series: 5
    logs: { include: [{ verdict: [DROPPED, 1], tcp_flags: [{ SYN: true }] }], exclude: [{ sourcePod: [a/] }], sampling_rate: 0.25 }
    redact: { http_urlquery: false, http_headers_deny: [cookie] }
exporters:
  otlp_grpc:
    endpoint: unix:///run/a.sock
    headers: { a: \"b: $$c\", \"x y\": \"1\" }
    max_request_size: 1MiB
    tls: { ca_pem: \"-----BEGIN\\nabc\\n\", insecure: true }
    retry_on_failure: { multiplier: 2, max_elapsed_time: 0s }
    logs: { endpoint: \"https://logs:1\", tls: { insecure: false }, headers: {} }
  console: { format: json }
extensions:
  prometheus: { endpoint: \"[::1]:9\" }
  hubble_observer: { endpoint: \"a:4244\", capacity: 1000, tls: { cert_file: /a, key_file: /b, client_ca_file: /c } }
logs: { body: none }
metrics: { temporality: delta }
service: { telemetry: { logs: { level: debug }, export: false } }
",
    ));
}

#[test]
fn secrets_are_printed_only_on_request() {
    let config = good(
        "exporters: { otlp: { headers: { authorization: hush }, tls: { key_pem: hush, cert_pem: c } } }\n",
    );
    assert!(!print::effective(&config, false).contains("hush"));
    assert_eq!(print::effective(&config, true).matches("hush").count(), 2);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z_:{}\\[\\]\\n \"$0-9-]{0,120}") {
        let _unused = read(&text, &none).map_err(|problems| problems.to_string());
    }
}
