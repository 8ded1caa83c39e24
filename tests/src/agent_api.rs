//! The Cilium agent's API, played by a test: the fixtures' answers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// An agent that lets its clients wait until this is dropped.
#[derive(Debug)]
pub struct Waiting(#[expect(dead_code, reason = "its end is what counts")] Sender<()>);

/// [`serve`], but no answer comes before the result is dropped.
///
/// # Errors
/// As for [`serve`].
pub fn serve_later(socket: &Path) -> Result<Waiting> {
    let (open, gate) = channel();
    serve_behind(socket, Some(gate))?;
    Ok(Waiting(open))
}

/// Answers at `socket` until the test ends, with `tests/fixtures/cilium/1.19.4/api`.
///
/// # Errors
/// The path is taken or cannot be written.
pub fn serve(socket: &Path) -> Result<()> {
    serve_behind(socket, None)
}

fn serve_behind(socket: &Path, gate: Option<Receiver<()>>) -> Result<()> {
    let gate = Arc::new(gate.map(Mutex::new));
    let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || converse(stream, gate.as_ref().as_ref()));
        }
    });
    Ok(())
}

/// Question after question, until the client leaves.
fn converse(mut stream: UnixStream, gate: Option<&Mutex<Receiver<()>>>) -> Option<()> {
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
        if let Some(gate) = gate {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing is ever sent: its other end is dropped.
            let _dropped = gate.recv();
        }
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
