//! OTel names and units to Prometheus names.

/// A label's name: other characters are `_`, runs of `_` one, a leading digit gets `key_`.
#[must_use]
pub fn label_name(key: &str) -> String {
    let mut name = String::new();
    if key.starts_with(|c: char| c.is_ascii_digit()) {
        name.push_str("key_");
    }
    for c in key.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !name.ends_with('_') {
            name.push(c);
        }
    }
    name
}

/// A metric's name: its words joined by `_`, with its unit and, for a counter, `total` at the end.
#[must_use]
pub fn metric_name(name: &str, unit: &str, is_counter: bool, is_gauge: bool) -> String {
    let mut tokens: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric() && c != ':')
        .filter(|token| !token.is_empty())
        .collect();
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = clean_unit(unit_word(main.trim()));
    let per = clean_unit(per_word(per.trim()));
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&per.as_str()) {
        tokens.extend(["per", &per]);
    }
    if is_counter {
        tokens.retain(|token| *token != "total");
        tokens.push("total");
    }
    if is_gauge && unit == "1" {
        tokens.retain(|token| *token != "ratio");
        tokens.push("ratio");
    }
    let joined = tokens.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{joined}")
    } else {
        joined
    }
}

/// A unit fit for a name; nothing for an annotation (`{packet}`).
fn clean_unit(unit: &str) -> String {
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let words: Vec<_> = unit
        .split(|c: char| !c.is_ascii_alphanumeric() && c != ':')
        .filter(|word| !word.is_empty())
        .collect();
    words.join("_")
}

fn unit_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        "1" => "",
        other => other,
    }
}

fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}
