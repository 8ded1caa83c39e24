//! `${env:NAME}` and `${env:NAME:-default}` in values into what the environment holds, as the Collector does it; `$$` is `$`.

use crate::config::tree::{Node, Step};

/// Looks a variable up: the process environment, or a test's own.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a value could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The variable has no value and no default.
    #[error("environment variable {0} is not set; `${{env:{0}:-default}}` would give a default")]
    Unset(String),
    /// `${` without `}`.
    #[error("`${{` without `}}`; a plain dollar sign is written `$$`")]
    Open,
    /// Not `env`, or no name.
    #[error("found `${{{0}}}`, allowed are `${{env:NAME}}` and `${{env:NAME:-default}}`")]
    Form(String),
}

/// Expands all text in the tree; what fails stays as it is and is told with its path.
pub fn expand(root: &mut Node, variables: Variables<'_>) -> Vec<(Vec<Step>, ExpandError)> {
    let mut errors = Vec::new();
    walk(root, variables, &mut Vec::new(), &mut errors);
    errors
}

fn walk(
    node: &mut Node,
    variables: Variables<'_>,
    path: &mut Vec<Step>,
    errors: &mut Vec<(Vec<Step>, ExpandError)>,
) {
    let children: Box<dyn Iterator<Item = &mut Node>> = match node {
        Node::Text(text) => {
            match expand_text(text, variables) {
                Ok(Some(expanded)) => *node = expanded,
                Ok(None) => {}
                Err(error) => errors.push((path.clone(), error)),
            }
            return;
        }
        Node::List(nodes) => Box::new(nodes.iter_mut()),
        Node::Map(entries) => Box::new(entries.iter_mut().map(|(_, node)| node)),
        _ => return,
    };
    for (n, child) in children.enumerate() {
        path.push(Step::Value(n));
        walk(child, variables, path, errors);
        path.pop();
    }
}

/// `None`: there is nothing to expand.
fn expand_text(text: &str, variables: Variables<'_>) -> Result<Option<Node>, ExpandError> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut expanded = String::new();
    let mut rest = text;
    let mut plain = false;
    let mut variables_seen = 0;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        plain |= !before.is_empty();
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            plain = true;
            rest = after;
        } else if let Some(reference) = after.strip_prefix('{') {
            let (inside, after) = reference.split_once('}').ok_or(ExpandError::Open)?;
            expanded.push_str(&lookup(inside, variables)?);
            variables_seen += 1;
            rest = after;
        } else {
            expanded.push('$');
            plain = true;
            rest = after;
        }
    }
    expanded.push_str(rest);
    plain |= !rest.is_empty();
    Ok(Some(if variables_seen == 1 && !plain {
        Node::Variable(expanded)
    } else {
        Node::Text(expanded)
    }))
}

fn lookup(reference: &str, variables: Variables<'_>) -> Result<String, ExpandError> {
    // Without a scheme it is the environment, as in the Collector.
    let inside = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(ExpandError::Form(reference.to_owned()));
    }
    variables(name)
        .or_else(|| default.map(str::to_owned))
        .ok_or_else(|| ExpandError::Unset(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("collector".into()),
            "PORT" => Some("4317".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &Result<Option<Node>, ExpandError>) {
        assert_eq!(&expand_text(text, &variables), expected, "{text}");
    }

    #[test]
    fn variables_are_replaced_and_a_lone_one_has_no_type_yet() {
        check("plain", &Ok(None));
        check("${env:PORT}", &Ok(Some(Node::Variable("4317".into()))));
        check("${PORT}", &Ok(Some(Node::Variable("4317".into()))));
        check(
            "${env:HOST}:${env:PORT}",
            &Ok(Some(Node::Text("collector:4317".into()))),
        );
        check(
            "${env:NONE:-x:-y}",
            &Ok(Some(Node::Variable("x:-y".into()))),
        );
        check("${env:EMPTY:-x}", &Ok(Some(Node::Variable(String::new()))));
        check("a$$b $c", &Ok(Some(Node::Text("a$b $c".into()))));
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        check("${env:NONE}", &Err(ExpandError::Unset("NONE".into())));
        check("${env:HOST", &Err(ExpandError::Open));
        check(
            "${file:/etc/x}",
            &Err(ExpandError::Form("file:/etc/x".into())),
        );
        assert_eq!(
            ExpandError::Unset("A".into()).to_string(),
            "environment variable A is not set; `${env:A:-default}` would give a default"
        );
        assert_eq!(
            ExpandError::Open.to_string(),
            "`${` without `}`; a plain dollar sign is written `$$`"
        );
        assert_eq!(
            ExpandError::Form("file:x".into()).to_string(),
            "found `${file:x}`, allowed are `${env:NAME}` and `${env:NAME:-default}`"
        );
    }

    #[test]
    fn errors_inside_the_tree_have_their_path() {
        let mut root = Node::Map(vec![(
            "a".into(),
            Node::List(vec![Node::Whole(1), Node::Text("${env:NONE}".into())]),
        )]);
        assert_eq!(
            expand(&mut root, &variables),
            [(
                vec![Step::Value(0), Step::Value(1)],
                ExpandError::Unset("NONE".into())
            )]
        );
    }
}
