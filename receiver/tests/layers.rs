//! The pure centre stays pure: these modules name no socket, file, clock, runtime or kernel.

use std::path::{Path, PathBuf};

const PURE: &[&str] = &["decode", "model", "aggregate", "otlp"];
const SHELL: &[&str] = &[
    "tokio::",
    "tonic::",
    "aya::",
    "hyper::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "crate::source::kernel",
    "crate::export::client",
    "crate::serve",
    "crate::pipeline",
];

fn rust_files(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a readable source folder") {
            rust_files(&entry.expect("a readable entry").path(), out);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        out.push(path.to_owned());
    }
}

#[test]
fn the_pure_centre_names_nothing_of_the_shell() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in PURE {
        rust_files(&src.join(format!("{module}.rs")), &mut files);
        rust_files(&src.join(module), &mut files);
    }
    assert!(
        files.len() > PURE.len(),
        "the modules were not found under {}",
        src.display()
    );
    let mut found = Vec::new();
    let is_test = |file: &Path| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name == "tests.rs" || name.ends_with("_tests.rs"))
    };
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        // Tests may read fixtures and decode with foreign libraries.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for name in SHELL.iter().filter(|name| line.contains(**name)) {
                found.push(format!("{}:{}: {name}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
