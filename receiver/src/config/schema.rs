//! The table of all keys, and the walk of a YAML tree along it.
//!
//! Every key has one row: its path, what it means, its bounds, and where in [`Config`] its value lives. Reading, the printed
//! effective configuration and its comments all come from these rows; defaults come from the values themselves.

use crate::config::Config;
use crate::config::problem::{Cause, Problem};
use crate::config::tree::{Node, Step, locate};
use crate::config::value::{Limits, Setting, nearest};

/// One row of the table.
pub struct Row {
    /// Dotted path, snake_case.
    pub path: &'static str,
    /// What it means, in one sentence or two.
    pub doc: &'static str,
    /// What stands there.
    pub kind: Kind,
    /// What a reload does with a change.
    pub apply: Apply,
}

/// What a reload of the configuration does with a changed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// As the key above; at the top a restart.
    Inherit,
    /// It is taken over while everything runs.
    Live,
    /// The component that it belongs to is started anew; `service` and `exporters.console` belong to the program.
    Restart,
}

/// What stands at a path.
pub enum Kind {
    /// Only further keys.
    Group,
    /// Further keys that count for one signal only; printed where one of them is set.
    Override,
    /// Something that runs when its key is there.
    Component {
        /// Whether it runs.
        is_on: fn(&Config) -> bool,
        /// Makes it run with its defaults (keeping what is set), or not run.
        turn: fn(&mut Config, bool),
    },
    /// A value, with its bounds. A value inside a component turns the component on.
    Value(Limits, fn(&mut Config) -> &mut dyn Setting),
}

impl Row {
    /// A row for a group of keys.
    #[must_use]
    pub const fn group(path: &'static str, doc: &'static str) -> Self {
        Self {
            path,
            doc,
            kind: Kind::Group,
            apply: Apply::Inherit,
        }
    }

    /// A row for a component.
    #[must_use]
    pub const fn component(
        path: &'static str,
        doc: &'static str,
        is_on: fn(&Config) -> bool,
        turn: fn(&mut Config, bool),
    ) -> Self {
        Self {
            path,
            doc,
            kind: Kind::Component { is_on, turn },
            apply: Apply::Inherit,
        }
    }

    /// A row for a value.
    #[must_use]
    pub const fn value(
        path: &'static str,
        limits: Limits,
        setting: fn(&mut Config) -> &mut dyn Setting,
        doc: &'static str,
    ) -> Self {
        Self {
            path,
            doc,
            kind: Kind::Value(limits, setting),
            apply: Apply::Inherit,
        }
    }

    /// The same, but a reload takes a change over while everything runs, here and below.
    #[must_use]
    pub const fn live(mut self) -> Self {
        self.apply = Apply::Live;
        self
    }

    /// Whether a reload takes a change over while everything runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self.apply {
            Apply::Live => true,
            Apply::Restart => false,
            Apply::Inherit => rows()
                .find(|row| row.path == self.parent())
                .is_some_and(Self::is_live),
        }
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// The path without its last part; empty at the top.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }
}

/// The tables of all rooms, in the order in which they are printed.
pub const TABLES: &[&[Row]] = &[
    crate::config::receivers::ROWS,
    crate::config::cilium::ROWS,
    crate::config::exporters::ROWS,
    crate::config::otlp_grpc::ROWS,
    crate::config::otlp_grpc::LOGS_ROWS,
    crate::config::otlp_grpc::METRICS_ROWS,
    crate::config::otlp_grpc::TRACES_ROWS,
    crate::config::exporters::CONSOLE_ROWS,
    crate::config::extensions::ROWS,
    crate::config::service::ROWS,
];

/// Other names of keys: what the Collector calls them.
const ALIASES: &[(&str, &str)] = &[
    ("exporters.otlp", "exporters.otlp_grpc"),
    ("exporters.debug", "exporters.console"),
    ("extensions.health_check", "extensions.health"),
];

/// Keys that a reader of the Collector's or the seeds' documentation may write, and why they are not here.
const NOT_HERE: &[(&str, &str)] = &[
    ("receivers.network_observer", NOT_YET),
    ("receivers.cilium_windows", NOT_YET),
    ("receivers.ebpf.httpflow", NOT_YET),
    ("receivers.ebpf.dnsflow", NOT_YET),
    ("receivers.ebpf.bash", NOT_YET),
    ("processors", NOT_YET),
    (
        "exporters.otlp_http",
        "not in this version: netflume speaks OTLP over gRPC, use `otlp_grpc`",
    ),
    (
        "exporters.otlphttp",
        "not in this version: netflume speaks OTLP over gRPC, use `otlp_grpc`",
    ),
    ("exporters.otlp_grpc.sending_queue.storage", NOT_YET),
    ("exporters.otlp_grpc.sending_queue.batch", NOT_YET),
    (
        "exporters.otlp_grpc.sending_queue.block_on_overflow",
        NOT_YET,
    ),
    ("exporters.otlp_grpc.sending_queue.wait_for_result", NOT_YET),
    ("exporters.otlp_grpc.balancer_name", NOT_YET),
    ("exporters.otlp_grpc.read_buffer_size", NOT_YET),
    ("exporters.otlp_grpc.write_buffer_size", NOT_YET),
    ("exporters.otlp_grpc.wait_for_ready", NOT_YET),
    ("exporters.otlp_grpc.tls.min_version", NOT_YET),
    ("exporters.otlp_grpc.tls.max_version", NOT_YET),
    ("exporters.otlp_grpc.tls.cipher_suites", NOT_YET),
    ("exporters.otlp_grpc.tls.curve_preferences", NOT_YET),
    ("exporters.otlp_grpc.tls.reload_interval", NOT_YET),
    ("exporters.otlp_grpc.auth", NOT_YET),
    ("service.pipelines", NO_PIPELINES),
    ("service.extensions", NO_PIPELINES),
    ("connectors", NO_PIPELINES),
];
const NOT_YET: &str = concat!("not in this version (", env!("CARGO_PKG_VERSION"), ")");
const NO_PIPELINES: &str =
    "there is nothing to wire: what has a key runs, and every receiver feeds every exporter";

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().copied().flatten()
}

fn children(parent: &str) -> impl Iterator<Item = &'static Row> {
    rows().filter(move |row| row.parent() == parent)
}

/// What a file said: the problems, and the paths of the keys that it set.
#[derive(Debug, Default)]
pub struct Applied {
    /// In the order of the file.
    pub problems: Vec<Problem>,
    /// Paths of rows, with the way to their values.
    pub explicit: Vec<(&'static str, Vec<Step>)>,
}

impl Applied {
    /// Whether the file set this key (or turned this component on).
    #[must_use]
    pub fn is_set(&self, path: &str) -> bool {
        self.steps(path).is_some()
    }

    /// The way to the value of a key that the file set.
    #[must_use]
    pub fn steps(&self, path: &str) -> Option<&[Step]> {
        self.explicit
            .iter()
            .find(|(set, _)| *set == path)
            .map(|(_, steps)| steps.as_slice())
    }
}

/// A file's text with the name by which problems call it.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// As the user named it.
    pub name: &'a str,
    /// Its content.
    pub text: &'a str,
}

impl File<'_> {
    /// A problem at the node or key at the end of `steps`.
    #[must_use]
    pub fn problem(&self, steps: &[Step], path: impl Into<String>, cause: Cause) -> Problem {
        Problem {
            source: self.name.to_owned(),
            position: locate(self.text, steps),
            path: path.into(),
            cause,
        }
    }
}

/// Sets in `config` what the tree says.
pub fn apply(config: &mut Config, root: &Node, file: File<'_>) -> Applied {
    let mut applied = Applied::default();
    Walk {
        config,
        file,
        applied: &mut applied,
        steps: Vec::new(),
    }
    .map("", root);
    applied
        .problems
        .sort_by_key(|problem| problem.position.map(|at| (at.line, at.column)));
    applied
}

struct Walk<'w> {
    config: &'w mut Config,
    file: File<'w>,
    applied: &'w mut Applied,
    steps: Vec<Step>,
}

impl Walk<'_> {
    /// A node at a path under which only keys stand.
    fn map(&mut self, parent: &str, node: &Node) {
        let entries = match node {
            Node::Map(entries) => entries.as_slice(),
            Node::Null => &[],
            _ => {
                let cause = Cause::NotAMap {
                    found: node.found(),
                    allowed: children(parent).map(Row::name).collect(),
                };
                return self.report(parent, cause);
            }
        };
        let mut seen: Vec<&'static str> = Vec::new();
        for (n, (key, value)) in entries.iter().enumerate() {
            self.steps.push(Step::Key(n));
            match find(parent, key) {
                Ok(row) if seen.contains(&row.path) => self.report(row.path, Cause::Repeated),
                Ok(row) => {
                    seen.push(row.path);
                    self.steps.pop();
                    self.steps.push(Step::Value(n));
                    self.row(row, value, key);
                }
                Err(cause) => self.report(&join(parent, key), cause),
            }
            self.steps.pop();
        }
    }

    fn row(&mut self, row: &'static Row, value: &Node, spelling: &str) {
        match &row.kind {
            Kind::Group | Kind::Override => {
                self.applied.explicit.push((row.path, self.steps.clone()));
                self.map(row.path, value);
            }
            Kind::Component { turn, .. } => {
                turn(self.config, true);
                self.applied.explicit.push((row.path, self.steps.clone()));
                self.map(row.path, value);
            }
            // A key without a value keeps its default, as in the Collector.
            Kind::Value(..) if *value == Node::Null => {}
            Kind::Value(limits, setting) => {
                let value = seconds(value, spelling, limits);
                match setting(self.config).set(&value, limits) {
                    Ok(()) => self.applied.explicit.push((row.path, self.steps.clone())),
                    Err(mismatch) => {
                        let mut inside: Vec<_> =
                            mismatch.inside.iter().copied().map(Step::Value).collect();
                        if let (true, Some(Step::Value(n))) = (mismatch.at_key, inside.last()) {
                            let key = Step::Key(*n);
                            inside.pop();
                            inside.push(key);
                        }
                        let depth = self.steps.len();
                        self.steps.extend(inside);
                        self.report(row.path, Cause::Value(mismatch));
                        self.steps.truncate(depth);
                    }
                }
            }
        }
    }

    fn report(&mut self, path: &str, cause: Cause) {
        let problem = self.file.problem(&self.steps, path, cause);
        self.applied.problems.push(problem);
    }
}

/// In the spelling of the seeds (`FlushOutL4Interval: 15`) a bare number of a duration is seconds, as it is there.
fn seconds(value: &Node, spelling: &str, limits: &Limits) -> Node {
    match (value.typed(), limits) {
        (Node::Whole(number), Limits::Duration(..)) if is_camel_case(spelling) => {
            Node::Text(format!("{number}s"))
        }
        _ => value.clone(),
    }
}

/// The row that a key means: by its name, by the Collector's name, or by its name in CamelCase.
fn find(parent: &str, key: &str) -> Result<&'static Row, Cause> {
    let path = join(parent, key);
    let canonical = ALIASES
        .iter()
        .find(|(alias, _)| *alias == path)
        .map_or(path.as_str(), |(_, canonical)| canonical);
    if let Some(row) = rows().find(|row| row.path == canonical) {
        return Ok(row);
    }
    if is_camel_case(key)
        && let Some(row) = children(parent).find(|row| squash(row.name()) == squash(key))
    {
        return Ok(row);
    }
    let squashed = squash(&path);
    if let Some((_, why)) = NOT_HERE.iter().find(|(path, _)| squash(path) == squashed) {
        return Err(Cause::NotHere(why));
    }
    if let Some((kind, _)) = key.split_once('/')
        && find(parent, kind).is_ok()
    {
        return Err(Cause::NotHere(
            "components have no names after a slash here: there is one of each type",
        ));
    }
    let allowed: Vec<_> = children(parent).map(Row::name).collect();
    Err(Cause::UnknownKey {
        nearest: nearest(key, allowed.iter().copied()).map(str::to_owned),
        allowed,
    })
}

/// The dotted path of the node at the end of the steps, with keys as the file spells them.
#[must_use]
pub fn path_of(root: &Node, steps: &[Step]) -> String {
    let mut path = String::new();
    let mut node = root;
    for step in steps {
        let (Step::Key(n) | Step::Value(n)) = *step;
        match node {
            Node::Map(entries) => {
                let Some((key, value)) = entries.get(n) else {
                    break;
                };
                path = join(&path, key);
                node = value;
            }
            Node::List(nodes) => {
                let Some(value) = nodes.get(n) else { break };
                path = format!("{path}[{n}]");
                node = value;
            }
            _ => break,
        }
    }
    path
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

fn is_camel_case(key: &str) -> bool {
    key.contains(|c: char| c.is_ascii_uppercase()) && !key.contains(['_', '-'])
}

/// One spelling for `FlushOutL4Interval` and `flush_out_l4_interval`.
fn squash(key: &str) -> String {
    key.chars()
        .filter(|c| *c != '_')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}
