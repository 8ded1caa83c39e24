//! What the semantic conventions say of an exchange: name, attributes, failure, and the series it counts in.

use std::fmt::Display;
use std::sync::Arc;

use super::red::place;
use super::url::{Url, host_and_port};
use super::{Exchange, Outcome};
use crate::enrich::cilium::redaction::REDACTED;
use crate::model::flow::texts::dns_type_name;
use crate::model::flow::{
    Dns, Endpoint, Flow, Http, Kafka, L4, L7Record, TrafficDirection, Verdict, address_text,
};
use crate::model::metrics::{AttributeValue, Attributes};
use crate::model::resource::Value;
use crate::semconv::cilium::attribute as cilium;
use crate::semconv::exchange::{attribute as name, value};
use crate::semconv::{attribute, value as known};

/// Methods that the conventions know; others are [`value::OTHER`].
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
/// Answers of a DNS response beyond which none is shown.
const ANSWERS_MAX: usize = 32;

/// Where the proxy stands that saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the client: traffic that leaves its pod, or an unknown direction.
    Client,
    /// At the server: traffic that arrives at its pod.
    Server,
}

/// What is said of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub(super) side: Side,
    /// Low cardinality.
    pub(super) name: String,
    /// Of the span, sorted by name.
    pub(super) attributes: Attributes,
    /// `error.type`.
    pub(super) error: Option<String>,
    /// Place of the metric, and its attributes, sorted by name.
    pub(super) series: Option<(usize, Attributes)>,
}

/// Attributes under way.
#[derive(Default)]
struct Bag(Attributes);

impl Bag {
    fn text(&mut self, key: &'static str, text: impl AsRef<str>) {
        let text = text.as_ref();
        if !text.is_empty() {
            let value = Value::Text(Arc::from(text));
            self.0.push((key, AttributeValue::Value(value)));
        }
    }

    fn shown(&mut self, key: &'static str, shown: Option<impl Display>) {
        if let Some(shown) = shown {
            self.text(key, shown.to_string());
        }
    }

    fn int(&mut self, key: &'static str, number: impl Into<i64>) {
        self.0
            .push((key, AttributeValue::Value(Value::Int(number.into()))));
    }

    fn port(&mut self, key: &'static str, port: u16) {
        if port != 0 {
            self.int(key, port);
        }
    }

    fn sorted(mut self) -> Attributes {
        self.0.sort_by_key(|(key, _)| *key);
        self.0
    }
}

impl Side {
    /// Of the proxy that saw a flow.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        match flow.direction {
            TrafficDirection::INGRESS => Self::Server,
            _ => Self::Client,
        }
    }
}

/// What is said of an exchange. `None` when its request was not seen.
#[must_use]
pub fn of(exchange: &Exchange) -> Option<Said> {
    let request = exchange.request.as_ref()?;
    let side = Side::of(request);
    let response = exchange.response.as_ref().and_then(Flow::l7_record);
    let mut bag = common(request, side);
    let (name, failed, series) = match request.l7_record()? {
        L7Record::Http(http) => {
            // A proxy's own answer to what it denied may stand in the record of the request.
            let flows = [&exchange.response, &exchange.request];
            let records = flows
                .into_iter()
                .flatten()
                .filter_map(|flow| flow.l7.as_deref());
            let code = records.map(|l7| l7.status).find(|code| *code != 0);
            of_http(exchange, request, http, code, side, &mut bag)
        }
        L7Record::Dns(dns) => {
            let response = match response {
                Some(L7Record::Dns(response)) => Some(response),
                _ => None,
            };
            of_dns(exchange, request, dns, response, &mut bag)
        }
        L7Record::Kafka(kafka) => {
            let code = match response {
                Some(L7Record::Kafka(response)) => response.error_code,
                _ => 0,
            };
            of_kafka(exchange, request, kafka, code, side, &mut bag)
        }
        L7Record::Generic(generic) => {
            bag.text(name::NETWORK_PROTOCOL_NAME, &generic.protocol);
            server(&mut bag, request, None);
            let protocol = match &*generic.protocol {
                "" => "unknown",
                protocol => protocol,
            };
            (protocol.to_owned(), refused(exchange), None)
        }
        L7Record::None => return None,
    };
    if let Some(failed) = &failed {
        bag.text(attribute::ERROR_TYPE, failed);
    }
    Some(Said {
        side,
        name,
        attributes: bag.sorted(),
        error: failed,
        series,
    })
}

/// What went wrong whatever the protocol.
fn refused(exchange: &Exchange) -> Option<String> {
    let verdict = |flow: &Option<Flow>| flow.as_ref().map(|flow| flow.verdict);
    let of = [verdict(&exchange.request), verdict(&exchange.response)];
    match exchange.outcome {
        Outcome::Denied => Some(value::POLICY_DENIED.to_owned()),
        Outcome::Unanswered => Some(value::TIMEOUT.to_owned()),
        _ if of.contains(&Some(Verdict::ERROR)) => Some(value::OTHER.to_owned()),
        _ => None,
    }
}

/// Both ends, by the request: its source is the client.
fn common(request: &Flow, side: Side) -> Bag {
    let mut bag = Bag::default();
    let ip = request.ip.as_ref();
    let client = ip.and_then(|ip| ip.source).map(address_text);
    let peer = match side {
        Side::Client => {
            let server = ip.and_then(|ip| ip.destination).map(address_text);
            bag.shown(attribute::NETWORK_PEER_ADDRESS, server);
            request.destination_port()
        }
        Side::Server => {
            let text = client.map(|address| address.to_string());
            bag.shown(attribute::CLIENT_ADDRESS, text.as_ref());
            bag.shown(attribute::NETWORK_PEER_ADDRESS, text);
            request.source_port()
        }
    };
    bag.port(attribute::NETWORK_PEER_PORT, peer);
    match request.l4 {
        Some(L4::Tcp { .. }) => bag.text(attribute::NETWORK_TRANSPORT, known::TCP),
        Some(L4::Udp { .. }) => bag.text(attribute::NETWORK_TRANSPORT, known::UDP),
        _ => {}
    }
    bag.text(cilium::VERDICT, request.verdict.name().unwrap_or_default());
    let direction = request.direction.name().unwrap_or_default();
    bag.text(cilium::TRAFFIC_DIRECTION, direction);
    let mut end = |identity, namespace, pod, end: &Endpoint| {
        if end.identity != 0 {
            bag.int(identity, end.identity);
        }
        bag.text(namespace, end.namespace());
        bag.text(pod, end.pod_name());
    };
    end(
        cilium::SOURCE_IDENTITY,
        attribute::SOURCE_K8S_NAMESPACE_NAME,
        attribute::SOURCE_K8S_POD_NAME,
        &request.source,
    );
    end(
        cilium::DESTINATION_IDENTITY,
        attribute::DESTINATION_K8S_NAMESPACE_NAME,
        attribute::DESTINATION_K8S_POD_NAME,
        &request.destination,
    );
    if let Some(service) = &request.destination_service {
        bag.text(attribute::DESTINATION_K8S_SERVICE_NAME, &service.name);
    }
    bag
}

/// `server.address` and `server.port`: as the client asked for it, else the one domain that it has for the address, else the address.
fn server(bag: &mut Bag, request: &Flow, asked: Option<(&str, Option<u16>)>) {
    let port = request.destination_port();
    if let Some((host, asked_port)) = asked {
        bag.text(attribute::SERVER_ADDRESS, host);
        bag.port(attribute::SERVER_PORT, asked_port.unwrap_or(port));
        return;
    }
    match request.destination_names.as_deref() {
        Some([name]) => bag.text(attribute::SERVER_ADDRESS, name),
        _ => {
            let address = request.ip.as_ref().and_then(|ip| ip.destination);
            bag.shown(attribute::SERVER_ADDRESS, address.map(address_text));
        }
    }
    bag.port(attribute::SERVER_PORT, port);
}

type Found = (String, Option<String>, Option<(usize, Attributes)>);

fn of_http(
    exchange: &Exchange,
    request: &Flow,
    http: &Http,
    code: Option<u32>,
    side: Side,
    bag: &mut Bag,
) -> Found {
    let header = |wanted: &str| {
        let found = http
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(wanted));
        found
            .map(|(_, value)| &**value)
            .filter(|value| *value != REDACTED && !value.is_empty())
    };
    let url = Url::parse(&http.url);
    let mut series = Bag::default();
    let method = METHODS
        .into_iter()
        .find(|known| *known == &*http.method)
        .unwrap_or(value::OTHER);
    if method == value::OTHER {
        bag.text(name::HTTP_REQUEST_METHOD_ORIGINAL, &http.method);
    }
    let authority = url
        .authority
        .or_else(|| header(":authority"))
        .or_else(|| header("host"));
    let asked = authority.map(|authority| {
        let (host, port) = host_and_port(authority);
        (host, port.or(url.default_port()))
    });
    let version = match http.protocol.strip_prefix("HTTP/") {
        Some(version @ ("1.0" | "1.1" | "2" | "3")) => version,
        // Cilium's word for it.
        Some("1") => "1.0",
        Some("2.0") => "2",
        Some("3.0") => "3",
        _ => "",
    };
    // A proxy that gave up before there was an answer logs no code.
    let code = code.filter(|code| (100..1000).contains(code));
    let bad = match side {
        Side::Client => 400,
        Side::Server => 500,
    };
    let failed = refused(exchange).or_else(|| {
        let failed = code.filter(|code| *code >= bad);
        failed.map(|code| code.to_string())
    });
    for bag in [&mut *bag, &mut series] {
        bag.text(name::HTTP_REQUEST_METHOD, method);
        bag.text(name::NETWORK_PROTOCOL_VERSION, version);
        if let Some(code) = code {
            bag.int(name::HTTP_RESPONSE_STATUS_CODE, code);
        }
    }
    if let Some(failed) = &failed {
        series.text(attribute::ERROR_TYPE, failed);
    }
    bag.text(name::URL_SCHEME, url.scheme.unwrap_or_default());
    server(bag, request, asked);
    let place = match side {
        Side::Client => {
            bag.shown(name::URL_FULL, url.full());
            server(&mut series, request, asked);
            place::HTTP_CLIENT
        }
        Side::Server => {
            bag.text(name::URL_PATH, url.path);
            bag.shown(name::URL_QUERY, url.query());
            series.text(name::URL_SCHEME, url.scheme.unwrap_or_default());
            place::HTTP_SERVER
        }
    };
    bag.text(
        name::USER_AGENT_ORIGINAL,
        header("user-agent").unwrap_or_default(),
    );
    let shown = if method == value::OTHER {
        "HTTP"
    } else {
        method
    };
    (shown.to_owned(), failed, Some((place, series.sorted())))
}

fn of_dns(
    exchange: &Exchange,
    request: &Flow,
    dns: &Dns,
    response: Option<&Dns>,
    bag: &mut Bag,
) -> Found {
    let types = dns
        .qtypes
        .iter()
        .map(|number| dns_type_name(*number).map_or_else(|| format!("TYPE{number}"), str::to_owned))
        .collect::<Vec<_>>()
        .join(",");
    let rcode = response.map(|response| rcode_name(response.rcode));
    let failed = refused(exchange).or_else(|| {
        let failed = rcode.as_deref().filter(|rcode| *rcode != "NOERROR");
        failed.map(str::to_ascii_lowercase)
    });
    bag.text(name::DNS_QUESTION_NAME, dns.query.trim_end_matches('.'));
    bag.text(name::DNS_QUESTION_TYPE, &types);
    bag.shown(name::DNS_RESPONSE_CODE, rcode);
    if let Some(response) = response {
        let answers = response.ips.iter().chain(&response.cnames);
        let answers: Vec<Arc<str>> = answers
            .take(ANSWERS_MAX)
            .map(|text| Arc::from(&**text))
            .collect();
        if !answers.is_empty() {
            let answers = AttributeValue::Value(Value::List(answers));
            bag.0.push((name::DNS_ANSWERS, answers));
        }
    }
    server(bag, request, None);
    let mut series = Bag::default();
    series.text(name::DNS_QUESTION_TYPE, &types);
    if let Some(failed) = &failed {
        series.text(attribute::ERROR_TYPE, failed);
    }
    let shown = match types.as_str() {
        "" => "DNS".to_owned(),
        types => format!("DNS {types}"),
    };
    (shown, failed, Some((place::DNS, series.sorted())))
}

/// RFC 6895 and its registry; numbers that have no name as the presentation form of newer types has it: `RCODE42`.
fn rcode_name(rcode: u32) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
        "NXRRSET", "NOTAUTH", "NOTZONE",
    ];
    let name = usize::try_from(rcode).ok().and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("RCODE{rcode}"), |name| (*name).to_owned())
}

fn of_kafka(
    exchange: &Exchange,
    request: &Flow,
    kafka: &Kafka,
    code: i32,
    side: Side,
    bag: &mut Bag,
) -> Found {
    let failed = refused(exchange).or_else(|| (code != 0).then(|| code.to_string()));
    let kind = match &*kafka.api_key {
        "produce" => value::SEND,
        "fetch" => value::RECEIVE,
        "offsetcommit" => value::SETTLE,
        _ => "",
    };
    let mut series = Bag::default();
    for bag in [&mut *bag, &mut series] {
        bag.text(name::MESSAGING_SYSTEM, value::KAFKA);
        bag.text(name::MESSAGING_OPERATION_NAME, &kafka.api_key);
        bag.text(name::MESSAGING_OPERATION_TYPE, kind);
        bag.text(name::MESSAGING_DESTINATION_NAME, &kafka.topic);
        server(bag, request, None);
    }
    if let Some(failed) = &failed {
        series.text(attribute::ERROR_TYPE, failed);
    }
    let words = [&*kafka.api_key, &*kafka.topic];
    let shown: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let shown = match shown.as_slice() {
        [] => value::KAFKA.to_owned(),
        words => words.join(" "),
    };
    let place = (side == Side::Client).then_some(place::MESSAGING);
    (shown, failed, place.map(|place| (place, series.sorted())))
}
