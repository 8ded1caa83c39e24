//! Hubble's JSON: one line of text for each event.

use std::fmt::{Display, Write};

use super::{event_fields, timestamp};
use crate::key;
use crate::model::cilium::CiliumEvent;
use crate::model::flow::Node;
use crate::otlp::fields::Fields;
use crate::otlp::key::Key;
use crate::otlp::text::Ascii;

/// The object that `hubble observe -o json` prints a line of, for an event of any kind: `flow`, `agent_event`, `debug_event` or
/// `lost_events`, then `node_name` and `time` (`observer.ExportEvent`).
pub fn export_event(event: &CiliumEvent, node: &Node, out: &mut String) {
    let time_ns = match event {
        CiliumEvent::Flow(flow) => flow.time_ns,
        CiliumEvent::Agent(agent) => agent.time_ns,
        CiliumEvent::Debug(debug) => debug.time_ns,
        CiliumEvent::Lost(lost) => lost.time_ns,
    };
    let mut json = Json::new(out);
    json.object(event_key(event), |json| event_fields(event, node, json));
    if !node.name.is_empty() {
        json.text(key!("node_name"), &node.name);
    }
    let time = timestamp::time(i64::try_from(time_ns).unwrap_or(i64::MAX));
    json.ascii(key!("time"), &time);
    json.end();
}

/// The JSON of the event alone.
pub fn event(event: &CiliumEvent, node: &Node, out: &mut String) {
    let mut json = Json::new(out);
    event_fields(event, node, &mut json);
    json.end();
}

const fn event_key(event: &CiliumEvent) -> Key {
    match event {
        CiliumEvent::Flow(_) => key!("flow"),
        CiliumEvent::Agent(_) => key!("agent_event"),
        CiliumEvent::Debug(_) => key!("debug_event"),
        CiliumEvent::Lost(_) => key!("lost_events"),
    }
}

/// Writes an object at the end of a text; [`Json::end`] closes it.
#[derive(Debug)]
pub struct Json<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Json<'a> {
    /// Opens the object.
    pub fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push('}');
    }

    fn key(&mut self, key: Key) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        // Keys are field names of the schema: nothing in them needs escaping.
        self.out.push('"');
        self.out.push_str(key.name());
        self.out.push_str("\":");
    }

    fn list<T>(&mut self, values: impl Iterator<Item = T>, mut element: impl FnMut(&mut Self, T)) {
        self.out.push('[');
        for (i, value) in values.enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            element(self, value);
        }
        self.out.push(']');
    }

    fn nested(&mut self, content: impl FnOnce(&mut Self)) {
        self.out.push('{');
        self.first = true;
        content(self);
        self.first = false;
        self.out.push('}');
    }

    fn value(&mut self, value: impl Display) {
        // Writing to a String cannot fail.
        write!(self.out, "{value}").unwrap_or_default();
    }

    fn quoted(&mut self, value: &str) {
        self.out.push('"');
        escape(value, self.out);
        self.out.push('"');
    }
}

/// Writes through [`escape`].
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

/// RFC 8259 7: quotes, backslashes and control characters are escaped, everything else stays.
fn escape(text: &str, out: &mut String) {
    let needs_escape = |c: char| c < ' ' || c == '"' || c == '\\';
    let mut rest = text;
    while let Some(at) = rest.find(needs_escape) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let mut chars = from.chars();
        match chars.next().unwrap_or_default() {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            other => write!(out, "\\u{:04x}", u32::from(other)).unwrap_or_default(),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

impl Fields for Json<'_> {
    fn text(&mut self, key: Key, value: &str) {
        self.key(key);
        self.quoted(value);
    }

    fn ascii(&mut self, key: Key, value: &Ascii) {
        self.text(key, value.as_str());
    }

    fn display(&mut self, key: Key, value: impl Display) {
        self.key(key);
        self.out.push('"');
        write!(Escaped(self.out), "{value}").unwrap_or_default();
        self.out.push('"');
    }

    fn number(&mut self, key: Key, value: i64) {
        self.key(key);
        self.value(value);
    }

    fn number64(&mut self, key: Key, value: u64) {
        self.key(key);
        self.value(format_args!("\"{value}\""));
    }

    fn boolean(&mut self, key: Key, value: bool) {
        self.key(key);
        self.value(value);
    }

    fn object(&mut self, key: Key, content: impl FnOnce(&mut Self)) {
        self.key(key);
        self.nested(content);
    }

    fn texts<T: AsRef<str>>(&mut self, key: Key, values: impl Iterator<Item = T>) {
        self.key(key);
        self.list(values, |json, value| json.quoted(value.as_ref()));
    }

    fn objects<T>(
        &mut self,
        key: Key,
        values: impl Iterator<Item = T>,
        content: impl Fn(&mut Self, T),
    ) {
        self.key(key);
        self.list(values, |json, value| {
            json.nested(|json| content(json, value))
        });
    }
}
