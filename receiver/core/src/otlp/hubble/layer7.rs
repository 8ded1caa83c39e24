//! The layer-7 part of a flow, field by field.

use crate::key;
use crate::model::flow::texts::dns_type_name;
use crate::model::flow::{Dns, Http, Kafka, L7Record, Layer7};
use crate::otlp::fields::{Fields, FieldsExt};

/// Writes a `flow.Layer7`.
pub(super) fn layer7(l7: &Layer7, out: &mut impl Fields) {
    out.enumeration(key!("type"), l7.kind.name(), l7.kind.0);
    out.number64_unless_zero(key!("latency_ns"), l7.latency_ns);
    match &l7.record {
        L7Record::Dns(record) => out.object(key!("dns"), |out| dns(record, out)),
        L7Record::Http(record) => out.object(key!("http"), |out| http(record, out)),
        L7Record::Kafka(record) => out.object(key!("kafka"), |out| kafka(record, out)),
        // The schema has nothing for other protocols.
        L7Record::Generic(_) | L7Record::None => {}
    }
}

fn dns(dns: &Dns, out: &mut impl Fields) {
    let types = |types: &[u16]| {
        types
            .iter()
            .map(|number| dns_type_name(*number).unwrap_or("Unknown"))
            .collect()
    };
    let (qtypes, rrtypes): (Vec<&str>, Vec<&str>) = (types(&dns.qtypes), types(&dns.rrtypes));
    out.text_unless_empty(key!("query"), &dns.query);
    out.texts_unless_empty(key!("ips"), &dns.ips);
    out.number_unless_zero(key!("ttl"), dns.ttl);
    out.texts_unless_empty(key!("cnames"), &dns.cnames);
    out.text_unless_empty(key!("observation_source"), &dns.observation_source);
    out.number_unless_zero(key!("rcode"), dns.rcode);
    out.texts_unless_empty(key!("qtypes"), &qtypes);
    out.texts_unless_empty(key!("rrtypes"), &rrtypes);
}

fn http(http: &Http, out: &mut impl Fields) {
    out.number_unless_zero(key!("code"), http.code);
    out.text_unless_empty(key!("method"), &http.method);
    out.text_unless_empty(key!("url"), &http.url);
    out.text_unless_empty(key!("protocol"), &http.protocol);
    if !http.headers.is_empty() {
        out.objects(key!("headers"), http.headers.iter(), |out, (key, value)| {
            out.text_unless_empty(key!("key"), key);
            out.text_unless_empty(key!("value"), value);
        });
    }
}

fn kafka(kafka: &Kafka, out: &mut impl Fields) {
    out.number_unless_zero(key!("error_code"), kafka.error_code);
    out.number_unless_zero(key!("api_version"), kafka.api_version);
    out.text_unless_empty(key!("api_key"), &kafka.api_key);
    out.number_unless_zero(key!("correlation_id"), kafka.correlation_id);
    out.text_unless_empty(key!("topic"), &kafka.topic);
}
