//! The Cilium agent's API, played by a test: the fixtures' answers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};

/// Answers at `socket` until the test ends, with `tests/fixtures/cilium/1.19.4/api`.
///
/// # Errors
/// The path is taken or cannot be written.
pub fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || converse(stream));
        }
    });
    Ok(())
}

/// Question after question, until the client leaves.
fn converse(mut stream: UnixStream) -> Option<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cilium/1.19.4/api");
    let mut question = Vec::new();
    loop {
        while !question.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            question.extend(byte);
        }
        let text = String::from_utf8(std::mem::take(&mut question)).ok()?;
        let path = text.strip_prefix("GET /v1/")?.split(' ').next()?;
        let file = folder.join(format!("{}.json", path.replace('/', "-")));
        let (status, body) = match fs::read(file) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n"
        )
        .ok()?;
        stream.write_all(&body).ok()?;
    }
}
