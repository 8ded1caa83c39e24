//! Answers of the agent's API as changes of a [`Directory`], and as they stand in a recording.
//!
//! In a recording each answer is one batch, all integers little-endian:
//!
//! | bytes | field |
//! | --- | --- |
//! | 8 | when it was asked for, nanoseconds since 1970 |
//! | 2 | length of the path |
//! | length | the path under `/v1/`, or [`LINKS`] |
//! | the rest | the body: JSON |

use serde::de::DeserializeOwned;

use super::api::{Cgroups, Endpoint, Healthz, Identity, IpEntry, Lookup, ServiceEntry};
use super::{Directory, Table};

/// The path that stands for our own interfaces, which are no answer of the agent: `[[2, "eth0"], …]`.
pub const LINKS: &str = "links";

/// The paths under `/v1/` of the agent's lists, in the order in which they are applied.
pub const LISTS: [&str; 7] = [
    "healthz",
    "endpoint",
    "identity",
    "ip",
    "service",
    "cgroup-dump-metadata",
    "fqdn/cache",
];

/// An answer, or what is kept with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// When it was asked for, nanoseconds since 1970.
    pub asked_ns: u64,
    /// The path under `/v1/`, or [`LINKS`].
    pub path: &'a str,
    /// JSON.
    pub body: &'a [u8],
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A recorded answer ends before its body.
    #[error("recorded answer of the Cilium agent: {found} bytes, its head has {wanted}")]
    Short {
        /// Bytes there.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// A recorded path is no text.
    #[error("recorded answer of the Cilium agent: its path is not UTF-8")]
    Path,
    /// Nothing is known of this path.
    #[error("GET {0}: not one of the answers that are used")]
    Unknown(String),
    /// The body is not the JSON that was to be expected.
    #[error("GET {path}: {source}")]
    Json {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Which agent it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// Major and minor version.
    pub version: Option<(u16, u16)>,
    /// `cluster/node`.
    pub node: Option<String>,
}

/// What an answer changes, as of when it was asked for.
#[derive(Debug)]
pub struct Change {
    /// Nanoseconds since 1970.
    pub asked_ns: u64,
    /// What it is about.
    pub content: Content,
}

/// What an answer is about.
#[derive(Debug)]
pub enum Content {
    /// A whole table.
    Table(Table, Box<Directory>),
    /// One endpoint.
    Endpoint(Box<Endpoint>),
    /// One identity.
    Identity(Box<Identity>),
    /// Number and name of our own interfaces.
    Links(Vec<(u32, String)>),
    /// Which agent it is.
    Agent(AgentInfo),
}

impl Answer<'_> {
    /// As it stands in a recording. Paths are our own, and short.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.path.len()).unwrap_or(u16::MAX);
        [
            &self.asked_ns.to_le_bytes()[..],
            &length.to_le_bytes(),
            self.path.as_bytes(),
            self.body,
        ]
        .concat()
    }
}

impl<'a> Answer<'a> {
    /// Reads one as it stands in a recording.
    ///
    /// # Errors
    /// It ends too early, or its path is no text.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, AnswerError> {
        let short = |wanted| AnswerError::Short {
            found: bytes.len(),
            wanted,
        };
        let (asked, rest) = bytes.split_first_chunk().ok_or_else(|| short(10))?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| short(10))?;
        let length = usize::from(u16::from_le_bytes(*length));
        let parts = rest.split_at_checked(length);
        let (path, body) = parts.ok_or_else(|| short(10 + length))?;
        Ok(Self {
            asked_ns: u64::from_le_bytes(*asked),
            path: std::str::from_utf8(path).map_err(|_| AnswerError::Path)?,
            body,
        })
    }

    /// What it changes.
    ///
    /// # Errors
    /// Its path is not known, or its body is not what was to be expected.
    pub fn change(&self) -> Result<Change, AnswerError> {
        let content = match self.path.split_once('/') {
            Some(("endpoint", _)) => Content::Endpoint(Box::new(self.read()?)),
            Some(("identity", _)) => Content::Identity(Box::new(self.read()?)),
            _ => self.list()?,
        };
        Ok(Change {
            asked_ns: self.asked_ns,
            content,
        })
    }

    fn list(&self) -> Result<Content, AnswerError> {
        let mut filled = Box::new(Directory::default());
        let table = match self.path {
            "healthz" => {
                let health: Healthz = self.read()?;
                return Ok(Content::Agent(AgentInfo {
                    version: health.version(),
                    node: health.node().map(str::to_owned),
                }));
            }
            LINKS => return Ok(Content::Links(self.read()?)),
            "endpoint" => {
                let list: Vec<Endpoint> = self.read()?;
                list.iter().for_each(|one| filled.add_endpoint(one));
                Table::Endpoints
            }
            "identity" => {
                let list: Vec<Identity> = self.read()?;
                list.iter().for_each(|one| filled.add_identity(one));
                Table::Identities
            }
            "ip" => {
                let list: Vec<IpEntry> = self.read()?;
                list.iter().for_each(|one| filled.add_ip(one));
                Table::Prefixes
            }
            "service" => {
                filled.replace_services(&self.read::<Vec<ServiceEntry>>()?);
                Table::Services
            }
            "cgroup-dump-metadata" => {
                filled.replace_cgroups(&self.read::<Cgroups>()?);
                Table::Cgroups
            }
            "fqdn/cache" => {
                filled.replace_names(&self.read::<Vec<Lookup>>()?);
                Table::Names
            }
            other => return Err(AnswerError::Unknown(other.to_owned())),
        };
        Ok(Content::Table(table, filled))
    }

    /// Go writes an empty list as null.
    fn read<T: DeserializeOwned + Default>(&self) -> Result<T, AnswerError> {
        let read = serde_json::from_slice::<Option<T>>(self.body);
        read.map(Option::unwrap_or_default)
            .map_err(|source| AnswerError::Json {
                path: self.path.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_answer_reads_back_and_every_prefix_is_an_error_or_a_shorter_body() {
        let answer = Answer {
            asked_ns: 7,
            path: "identity/4711",
            body: br#"{"id":4711}"#,
        };
        let bytes = answer.to_bytes();
        assert_eq!(Answer::from_bytes(&bytes).unwrap(), answer);
        for length in 0..bytes.len() {
            match Answer::from_bytes(&bytes[..length]) {
                Ok(cut) => {
                    assert!(length >= 10 + answer.path.len());
                    assert_eq!((cut.asked_ns, cut.path), (7, answer.path));
                    assert!(cut.change().is_err(), "{cut:?}");
                }
                Err(error) => assert!(matches!(error, AnswerError::Short { .. }), "{error}"),
            }
        }
        let mut odd = bytes.clone();
        odd[10] = 0xff;
        assert!(matches!(Answer::from_bytes(&odd), Err(AnswerError::Path)));
    }

    #[test]
    fn each_path_has_its_own_change() {
        let content = |path, body: &str| {
            let answer = Answer {
                asked_ns: 1,
                path,
                body: body.as_bytes(),
            };
            answer.change().map(|change| change.content)
        };
        let table = |path, body| match content(path, body) {
            Ok(Content::Table(table, filled)) => (table, filled.counts()),
            other => panic!("{path}: {other:?}"),
        };
        // Go writes an empty list as null; the reserved identities are always there.
        assert_eq!(table("endpoint", "null"), (Table::Endpoints, [0, 11, 0, 0]));
        let identities = r#"[{"id":1001,"labels":["k8s:a"]}]"#;
        assert_eq!(
            table("identity", identities),
            (Table::Identities, [0, 12, 0, 0])
        );
        let prefixes = r#"[{"cidr":"10.0.0.1/32","identity":1}]"#;
        assert_eq!(table("ip", prefixes), (Table::Prefixes, [0, 11, 1, 0]));
        assert_eq!(table("service", "[]").0, Table::Services);
        assert_eq!(table("cgroup-dump-metadata", "{}").0, Table::Cgroups);
        assert_eq!(table("fqdn/cache", "null").0, Table::Names);
        assert!(matches!(
            content("endpoint/7", "{}"),
            Ok(Content::Endpoint(_))
        ));
        assert!(matches!(
            content("identity/7", r#"{"id":7}"#),
            Ok(Content::Identity(_))
        ));
        let Ok(Content::Links(links)) = content(LINKS, r#"[[2,"eth0"]]"#) else {
            panic!("links");
        };
        assert_eq!(links, [(2, "eth0".to_owned())]);
        let Ok(Content::Agent(agent)) = content("healthz", r#"{"cilium":{"msg":"1.19.4 (x)"}}"#)
        else {
            panic!("an agent");
        };
        assert_eq!((agent.version, agent.node), (Some((1, 19)), None));
        assert!(matches!(
            content("policy", "{}"),
            Err(AnswerError::Unknown(_))
        ));
        assert!(matches!(content("ip", "{"), Err(AnswerError::Json { .. })));
    }
}
