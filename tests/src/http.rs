//! The smallest HTTP client, and the text format of Prometheus.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

/// Body of `GET path`.
///
/// # Errors
/// Nobody answers, or with another status than 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    get_as(address, path, "*/*")
}

/// Body of `GET path` in one of the `accept`ed types.
///
/// # Errors
/// As [`get`].
pub fn get_as(address: SocketAddr, path: &str, accept: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{path}: {head}");
    }
    Ok(body.to_owned())
}

/// One sample: its metric, labels and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub metric: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// The samples of a page in Prometheus's text format. Label values here hold neither quotes nor backslashes.
///
/// # Errors
/// A line makes no sense.
pub fn samples(page: &str) -> Result<Vec<Sample>> {
    let lines = page
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| sample(line).with_context(|| format!("not a sample: {line}")))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (metric, labels, value) = match line.split_once('{') {
        Some((metric, rest)) => {
            let (labels, value) = rest.rsplit_once("} ")?;
            (metric, labels, value)
        }
        None => {
            let (metric, value) = line.split_once(' ')?;
            (metric, "", value)
        }
    };
    let mut found = BTreeMap::new();
    for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once("=\"")?;
        found.insert(name.to_owned(), value.trim_end_matches('"').to_owned());
    }
    let value = value.split(' ').next()?.parse().ok()?;
    Some(Sample {
        metric: metric.to_owned(),
        labels: found,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::samples;

    #[test]
    fn samples_have_labels_and_values() {
        let page = "# TYPE a counter\na{b=\"c,d\",e=\"f\"} 12\nplain 0.5\n";
        let found = samples(page).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].metric.as_str(), found[0].value), ("a", 12.0));
        assert_eq!(found[0].labels["b"], "c,d");
        assert_eq!(found[0].labels["e"], "f");
        assert!(found[1].labels.is_empty());
        assert!(samples("one two three").is_err());
    }
}
