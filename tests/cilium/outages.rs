//! What is wrong with a socket is told in one clear line, and on it goes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use netflume_core::decode::cilium::values_lost;
use netflume_tests::agent;
use netflume_tests::page::Page;
use netflume_tests::wait;

use crate::support::{Place, config, is_decoded, payloads, run, stream};

/// The one line about an outage.
fn assert_one_line(said: &str, expected: &str) {
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains(expected),
        "expected one line with `{expected}`:\n{said}"
    );
}

/// Writes the whole stream and waits until it is decoded.
fn is_read(agent: &mut UnixStream, page: std::net::SocketAddr, before: u64) -> Result<()> {
    agent.write_all(&fs::read(stream("trace"))?)?;
    let expected = before + payloads(&stream("trace"))?.0;
    wait::until("the stream is decoded", || {
        let page = Page::read(page).ok()?;
        (page.stage("logs").received == expected && is_decoded(&page)).then_some(())
    })
}

#[test]
#[ignore = "runs the program"]
fn a_missing_socket_is_named_once_and_read_when_it_is_there() -> Result<()> {
    let place = Place::new()?;
    let (mut netflume, page) = run(&place.socket(), "")?;
    netflume.says("WARN")?;
    let listener = UnixListener::bind(place.socket())?;
    is_read(&mut listener.accept()?.0, page, 0)?;
    let socket = place.socket();
    let line = format!(
        "no socket at {}: is the Cilium agent running here?",
        socket.display()
    );
    netflume.says("receivers.cilium reads")?;
    let said = netflume.stderr();
    // The connection has ended by now, or will soon: what was said before counts.
    let (before, _) = said.split_once("receivers.cilium reads").context("said")?;
    assert_one_line(before, &line);
    Ok(())
}

#[test]
#[ignore = "runs the program"]
fn garbage_is_told_once_however_often_it_comes() -> Result<()> {
    let place = Place::new()?;
    let listener = UnixListener::bind(place.socket())?;
    let (mut netflume, page) = run(&place.socket(), "")?;
    let (mut before, mut lost) = (0, 0);
    for garbage in [[b'H'; 200], [0xf8; 200], [0x02; 200]] {
        let mut agent = listener.accept()?.0;
        // After good messages and as the first bytes.
        if garbage[0] == 0xf8 {
            is_read(&mut agent, page, before)?;
            before += payloads(&stream("trace"))?.0;
        }
        agent.write_all(&garbage)?;
        lost += values_lost(&garbage);
    }
    is_read(&mut listener.accept()?.0, page, before)?;
    let page = Page::read(page)?;
    let malformed = [("stage", "source"), ("reason", "malformed")];
    assert_eq!(page.count("netflume_dropped_total", &malformed), lost);
    drop(listener);
    netflume.says("receivers.cilium reads")?;
    let said = netflume.stderr();
    let garbage = said
        .lines()
        .filter(|line| line.contains("what came is no monitor stream"));
    assert_eq!(garbage.count(), 1, "{said}");
    Ok(())
}

#[test]
#[ignore = "runs the program"]
fn a_stream_that_comes_byte_by_byte_is_read_in_silence() -> Result<()> {
    let place = Place::new()?;
    let listener = UnixListener::bind(place.socket())?;
    let (netflume, page) = run(&place.socket(), "")?;
    let (mut agent, _) = listener.accept()?;
    let bytes = fs::read(stream("agent"))?;
    for byte in &bytes {
        agent.write_all(&[*byte])?;
    }
    let (samples, losses) = payloads(&stream("agent"))?;
    wait::until("the stream is decoded", || {
        let page = Page::read(page).ok()?;
        let socket = page.source("cilium");
        let all = socket.received == samples + losses && socket.bytes == bytes.len() as u64;
        (all && is_decoded(&page)).then_some(())
    })?;
    assert!(!netflume.stderr().contains("WARN"), "{}", netflume.stderr());
    Ok(())
}

/// netflume as another user, in the folder, with its output there.
struct Nobody(Child);

impl Nobody {
    const ID: u32 = 65_534;

    fn run(place: &Place, settings: &Path) -> Result<Self> {
        // Where the program was built, another user may not look.
        let program = place.path("netflume");
        fs::copy(agent::program()?, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let child = Command::new("setpriv")
            .args([
                "--reuid",
                &Self::ID.to_string(),
                "--regid",
                &Self::ID.to_string(),
            ])
            .arg("--clear-groups")
            .arg(program)
            .args(["run", "--config"])
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.path("stderr"))?)
            .spawn()
            .context("setpriv, of util-linux")?;
        Ok(Self(child))
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        // It is gone either way; there is nobody to tell.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
#[ignore = "needs root, to become another user"]
fn without_permission_the_line_says_what_is_needed_and_the_permission_is_found_later() -> Result<()>
{
    let place = Place::new()?;
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755))?;
    let listener = UnixListener::bind(place.socket())?;
    fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o600))?;
    let settings = place.path("netflume.yaml");
    fs::write(&settings, config(&place.socket(), ""))?;
    let _netflume = Nobody::run(&place, &settings)?;
    let said = || fs::read_to_string(place.path("stderr")).unwrap_or_default();
    wait::until("the line", || said().contains("WARN").then_some(())).with_context(said)?;
    let line = format!(
        "{}: permission denied: run as root, or as a member of the socket's group",
        place.socket().display()
    );
    fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o666))?;
    let mut agent = listener.accept()?.0;
    agent.write_all(&fs::read(stream("trace"))?)?;
    wait::until("it reads", || {
        said().contains("receivers.cilium reads").then_some(())
    })?;
    assert_one_line(&said(), &line);
    Ok(())
}
