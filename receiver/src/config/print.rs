//! A [`Config`] as YAML that reads back to itself, every key with its meaning, what is allowed and its default.

use std::fmt::Write as _;

use crate::config::Config;
use crate::config::schema::{Kind, Row, rows};
use crate::config::units::{show_duration, show_size};
use crate::config::value::{Allowed, Limits, Setting};

/// Columns of a printed comment.
const WIDTH: usize = 110;
/// Stands where a secret would.
const REDACTED: &str = "\"[redacted]\"";
/// Last parts of keys whose values are secrets.
const SECRETS: &[&str] = &["headers", "key_pem"];

/// Prints the effective configuration. Components that do not run are printed as comments, with their defaults. `secrets`:
/// headers and private keys are shown (else the text is safe to pass on, and those keys are printed as comments).
#[must_use]
pub fn effective(config: &Config, secrets: bool) -> String {
    let mut text = String::new();
    // Looking at a value inside a component turns it on: that happens in copies.
    let mut shown = config.clone();
    let mut defaults = Config::default();
    for row in rows() {
        let off = rows().any(|component| {
            is_within(row.path, component.path)
                && matches!(component.kind, Kind::Component { is_on, .. } if !is_on(config))
        });
        match &row.kind {
            Kind::Override if !any_set(row, &mut shown) => {}
            Kind::Group | Kind::Component { .. } | Kind::Override => {
                comment(&mut text, row, row.doc);
                line(&mut text, row, off, "");
            }
            Kind::Value(limits, setting) => {
                let value = setting(&mut shown).show(limits);
                let default = setting(&mut defaults).show(limits);
                let is_override = rows().any(|group| {
                    is_within(row.path, group.path) && matches!(group.kind, Kind::Override)
                });
                if is_override && value.is_none() {
                    continue;
                }
                let mut doc = row.doc.to_owned();
                if let Some(bounds) = bounds(limits, setting(&mut defaults)) {
                    let _infallible = write!(doc, " Allowed: {bounds}.");
                }
                if row.is_live() {
                    doc.push_str(" Live.");
                }
                if default != value {
                    let default = default.as_deref().unwrap_or("not set");
                    let _infallible = write!(doc, " Default: {default}.");
                }
                if !is_override {
                    comment(&mut text, row, &doc);
                }
                let is_secret = SECRETS.contains(&row.name())
                    && !secrets
                    && value.as_deref().is_some_and(|value| value != "{}");
                let value = if is_secret {
                    Some(REDACTED.to_owned())
                } else {
                    value
                };
                let off = off || is_secret || value.is_none();
                line(
                    &mut text,
                    row,
                    off,
                    &value.map(|value| format!(" {value}")).unwrap_or_default(),
                );
            }
        }
    }
    text
}

/// What is allowed, in short; nothing where the value itself shows it.
fn bounds(limits: &Limits, setting: &dyn Setting) -> Option<String> {
    match (limits, setting.allowed(limits)) {
        (_, Allowed::OneOf(["true", "false"]))
        | (Limits::Any | Limits::Text(..), Allowed::Form(_) | Allowed::Reason(_)) => None,
        (_, Allowed::OneOf(words)) => Some(words.join(", ")),
        (Limits::Count(low, high), _) => Some(format!("{low} to {high}")),
        (Limits::Size(low, high), _) => {
            Some(format!("{} to {}", show_size(*low), show_size(*high)))
        }
        (Limits::Real(low, high), _) => Some(format!("{low} to {high}")),
        (Limits::Duration(low, high), _) => Some(format!(
            "{} to {}",
            show_duration(*low),
            show_duration(*high)
        )),
    }
}

fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn any_set(group: &Row, config: &mut Config) -> bool {
    rows()
        .filter(|row| is_within(row.path, group.path))
        .any(|row| match &row.kind {
            Kind::Value(limits, setting) => setting(config).show(limits).is_some(),
            _ => false,
        })
}

fn indent(row: &Row) -> usize {
    2 * row.path.matches('.').count()
}

fn comment(text: &mut String, row: &Row, doc: &str) {
    let indent = indent(row);
    if indent == 0 && !text.is_empty() {
        text.push('\n');
    }
    let mut column = 0;
    for word in doc.split(' ') {
        let width = word.chars().count() + 1;
        if column == 0 || column + width > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            let _infallible = write!(text, "{:indent$}#", "");
            column = indent + 1;
        }
        let _infallible = write!(text, " {word}");
        column += width;
    }
    text.push('\n');
}

fn line(text: &mut String, row: &Row, off: bool, value: &str) {
    let indent = indent(row);
    let mark = if off { "#" } else { "" };
    let _infallible = writeln!(text, "{:indent$}{mark}{}:{value}", "", row.name());
}
