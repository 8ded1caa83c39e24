//! Secrets out of command lines: what stands behind a telling name, and credentials in URLs.
//!
//! It knows obvious forms only: `--password=x`, `--token x`, `SECRET=x`, `api_key=x` in a query, `Authorization: x`,
//! `user:x` of curl, `-px` of MySQL's clients, `scheme://user:x@host`. A secret without a name beside it cannot be told from a word.

/// What stands in a secret's place.
pub const REDACTED: &str = "REDACTED";

/// Last parts of names behind which a secret stands.
const SECRET_ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "credential",
    "credentials",
    "authorization",
    "cookie",
];

/// Names that are secret as a whole word only.
const SECRET_WORDS: &[&str] = &["pass", "pwd", "pw", "auth", "sig", "signature"];

/// Words that are secret in front of a last word `key`: `api-key`, `access_key`.
const KEY_KINDS: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "account",
    "auth",
];

/// The arguments as one line, secrets replaced.
#[must_use]
pub fn command_line<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    let mut program = "";
    let mut secret_next = Next::Plain;
    for (n, arg) in args.into_iter().enumerate() {
        if n == 0 {
            program = arg.rsplit('/').next().unwrap_or(arg);
        } else {
            line.push(' ');
        }
        let next = std::mem::replace(&mut secret_next, Next::Plain);
        match next {
            Next::Secret if !arg.starts_with('-') => line.push_str(REDACTED),
            Next::Login if arg.contains(':') => {
                let user = arg.split(':').next().unwrap_or_default();
                line.push_str(user);
                line.push(':');
                line.push_str(REDACTED);
            }
            _ => secret_next = argument(program, arg, &mut line),
        }
    }
    line
}

/// What the next argument is.
enum Next {
    Plain,
    Secret,
    /// `user:password`.
    Login,
}

fn argument(program: &str, arg: &str, line: &mut String) -> Next {
    let mysql = program.starts_with("mysql") || program.starts_with("mariadb");
    if mysql && arg.starts_with("-p") && arg.len() > 2 {
        line.push_str("-p");
        line.push_str(REDACTED);
        return Next::Plain;
    }
    text(arg, line);
    match arg {
        "-u" | "--user" | "-U" | "--proxy-user" if matches!(program, "curl" | "wget") => {
            Next::Login
        }
        "-p" if program == "sshpass" => Next::Secret,
        _ if arg.starts_with('-') && is_secret(arg.trim_start_matches('-')) => Next::Secret,
        _ => Next::Plain,
    }
}

/// Writes one argument; looks for `name=secret`, `name: secret` and `://user:secret@` anywhere in it.
fn text(arg: &str, line: &mut String) {
    let mut rest = arg;
    let mut at_start = true;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, from) = rest.split_at(at);
        let name_at = before
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
            .last()
            .map_or(before.len(), |(at, _)| at);
        let name = before.get(name_at..).unwrap_or_default();
        let whole = at_start && name_at == 0;
        at_start = false;
        line.push_str(before);
        if let Some(after) = from.strip_prefix("://") {
            line.push_str("://");
            rest = authority(after, line);
            continue;
        }
        let (sign, value) = from.split_at(1);
        line.push_str(sign);
        rest = value;
        if !is_secret(name.trim_start_matches('-')) {
            continue;
        }
        let blanks = value.len() - value.trim_start_matches(' ').len();
        let (blank, value) = value.split_at(blanks);
        // A header's value is the rest of it; `name=value` goes on to what may stand between two of them.
        let end = if whole || sign == ":" {
            value.len()
        } else {
            value
                .find([' ', '&', ';', ',', '\'', '"', '\n'])
                .unwrap_or(value.len())
        };
        let (secret, after) = value.split_at(end);
        line.push_str(blank);
        if !secret.is_empty() {
            line.push_str(REDACTED);
        }
        rest = after;
    }
    line.push_str(rest);
}

/// Writes the user part of a URL's authority without its secrets. Gives what follows.
fn authority<'a>(after: &'a str, line: &mut String) -> &'a str {
    let end = after
        .find(['/', '?', '#', ' ', '\'', '"'])
        .unwrap_or(after.len());
    let (authority, _) = after.split_at(end);
    match authority.rfind('@') {
        Some(at) => {
            line.push_str(REDACTED);
            if authority.get(..at).is_some_and(|user| user.contains(':')) {
                line.push(':');
                line.push_str(REDACTED);
            }
            after.get(at..).unwrap_or_default()
        }
        None => after,
    }
}

/// Whether a secret is to be expected behind this name.
fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.rsplit(['-', '_', '.']);
    let last = words.next().unwrap_or_default();
    SECRET_ENDINGS.iter().any(|ending| last.ends_with(ending))
        || SECRET_WORDS.contains(&last)
        || last == "key" && words.next().is_some_and(|kind| KEY_KINDS.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_nothing_else() {
        let table = [
            ("app --password=hunter2,x", "app --password=REDACTED"),
            ("app --token abc -v", "app --token REDACTED -v"),
            ("app --token --verbose", "app --token --verbose"),
            ("app -password x", "app -password REDACTED"),
            (
                "env PGPASSWORD=a AWS_SECRET_ACCESS_KEY=b psql",
                "env PGPASSWORD=REDACTED AWS_SECRET_ACCESS_KEY=REDACTED psql",
            ),
            (
                "app clientSecret=a db.pass=b",
                "app clientSecret=REDACTED db.pass=REDACTED",
            ),
            (
                "curl https://u:p@h.example/a?x=1&api_key=k&y=2",
                "curl https://REDACTED:REDACTED@h.example/a?x=1&api_key=REDACTED&y=2",
            ),
            (
                "git clone https://tok@h/x.git",
                "git clone https://REDACTED@h/x.git",
            ),
            (
                "app postgres://u:p%40@db:5432/x",
                "app postgres://REDACTED:REDACTED@db:5432/x",
            ),
            ("curl -u me:pw h", "curl -u me:REDACTED h"),
            (
                "/usr/bin/curl --user me:pw",
                "/usr/bin/curl --user me:REDACTED",
            ),
            ("ps -u me:pw", "ps -u me:pw"),
            ("mysql -psecret -P 3306 db", "mysql -pREDACTED -P 3306 db"),
            ("nc -p80", "nc -p80"),
            ("sshpass -p x ssh h", "sshpass -p REDACTED ssh h"),
            // No secrets.
            ("app --password-file=/run/x", "app --password-file=/run/x"),
            (
                "app --tokenizer=bpe --key=a --bypass=1",
                "app --tokenizer=bpe --key=a --bypass=1",
            ),
            ("nginx: worker process", "nginx: worker process"),
            ("app http://h:80/a@b", "app http://h:80/a@b"),
            ("java -Dx.y=z -jar a.jar", "java -Dx.y=z -jar a.jar"),
            ("app é=ü --pässword", "app é=ü --pässword"),
            ("", ""),
        ];
        for (line, expected) in table {
            assert_eq!(command_line(line.split(' ')), expected);
        }
    }

    #[test]
    fn headers_and_scripts_inside_one_argument_are_read() {
        assert_eq!(
            command_line(["curl", "-H", "Authorization: Bearer abc.def", "h"]),
            "curl -H Authorization: REDACTED h"
        );
        assert_eq!(
            command_line(["sh", "-c", "export TOKEN='a b'; run --secret=x; echo done"]),
            "sh -c export TOKEN='a b'; run --secret=REDACTED; echo done"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(args in proptest::collection::vec("\\PC{0,40}", 0..5)) {
            let line = command_line(args.iter().map(String::as_str));
            proptest::prop_assert!(args.is_empty() == line.is_empty() || args.join(" ").is_empty());
        }

        #[test]
        fn words_without_signs_are_left_alone(args in proptest::collection::vec("[a-zäß€/. ]{0,9}", 1..5)) {
            proptest::prop_assert_eq!(command_line(args.iter().map(String::as_str)), args.join(" "));
        }

        #[test]
        fn a_named_secret_never_comes_through(secret in "[a-z]{9}[a-z0-9!@:=&]{0,9}", name in "(db_)?(password|token)") {
            let line = command_line(["app", &format!("--{name}={secret}")]);
            proptest::prop_assert!(!line.contains(&secret));
        }
    }
}
