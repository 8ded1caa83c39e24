//! The kernel tests on other kernels: Debian's cloud kernels, booted under QEMU in software emulation with nothing but busybox, netflume and the tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::run::{self as cmd, command};

use crate::setup::STATIC_TARGET;

/// A kernel, and where apt finds it.
struct Kernel {
    version: &'static str,
    /// Debian release whose package lists have it.
    suite: &'static str,
    /// Package that depends on the release's newest kernel of that version.
    package: &'static str,
}

const KERNELS: &[Kernel] = &[
    Kernel { version: "5.10", suite: "bullseye", package: "linux-image-cloud-amd64" },
    Kernel { version: "6.1", suite: "bookworm", package: "linux-image-cloud-amd64" },
    Kernel { version: "6.12", suite: "bookworm", package: "linux-image-6.12-cloud-amd64" },
];

/// Modules that the tests need, each after the ones it depends on; what a kernel has built in is not there as a file.
const MODULES: &[&str] = &["veth", "dummy", "inet_diag", "tcp_diag", "udp_diag"];

/// Emulation is some ten times slower than the machine; more than this is a hang.
const DEADLINE: Duration = Duration::from_secs(900);

/// Runs the kernel tests on the kernels named, or on all.
pub(crate) fn run(versions: &[String]) -> Result<()> {
    if let Some(unknown) = versions.iter().find(|version| !KERNELS.iter().any(|kernel| kernel.version == version.as_str())) {
        let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.version).collect();
        bail!("unknown kernel `{unknown}`, known are {}", known.join(", "));
    }
    crate::setup::packages()?;
    let programs = build()?;
    let mut failed = Vec::new();
    for kernel in KERNELS.iter().filter(|kernel| versions.is_empty() || versions.iter().any(|version| version == kernel.version)) {
        let start = Instant::now();
        match kernel.test(&programs) {
            Ok(result) => println!("   {}: {result}, {} s", kernel.version, start.elapsed().as_secs()),
            Err(error) => {
                println!("   {}: FAILED, {} s: {error:#}", kernel.version, start.elapsed().as_secs());
                failed.push(kernel.version);
            }
        }
    }
    if !failed.is_empty() {
        bail!("kernel tests failed on {}", failed.join(", "));
    }
    Ok(())
}

/// The README's table of supported kernels, from the last runs.
pub(crate) fn table() -> Result<()> {
    println!("| kernel | kernel tests | netflow by | udp by |\n|---|---|---|---|");
    for kernel in KERNELS {
        let console = fs::read_to_string(kernel.work().join("console.txt"))
            .with_context(|| format!("no result for {0}: run `cargo xtask kernels {0}` first", kernel.version))?;
        let result = verdict(&console).unwrap_or_else(|error| format!("**failed**: {error}"));
        let line = |name: &str| console.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
        println!("| {} | {result} | {} | {} |", line("kernel-release"), line("netflow "), line("udp "));
    }
    Ok(())
}

/// Statically built programs that go into the emulated machine: their names there, and their files.
fn build() -> Result<Vec<(&'static str, PathBuf)>> {
    // Some optimisation, because emulation is slow; no debug information, because it is carried in memory.
    let cargo = |line: &str| {
        let mut cargo = command(&format!("cargo {line} --target {STATIC_TARGET}"));
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_PROFILE_DEV_STRIP", "symbols");
        cargo
    };
    Ok(vec![
        ("netflume", cmd::cargo_executable(&mut cargo("build --package netflume"), "netflume")?),
        ("kernel-tests", cmd::cargo_executable(&mut cargo("test --no-run --package netflume-tests --test kernel"), "kernel")?),
    ])
}

impl Kernel {
    fn work(&self) -> PathBuf {
        cache::root().join("target/kernels").join(self.version)
    }

    /// Boots it once; what the tests said.
    fn test(&self, programs: &[(&str, PathBuf)]) -> Result<String> {
        let files = self.fetch()?;
        let work = self.work();
        let initrd = initramfs(&work, &files, programs)?;
        let release = fs::read_to_string(files.join("release"))?;
        println!("   booting {release} in software emulation");
        let console = self.boot(&files.join("vmlinuz"), &initrd)?;
        fs::write(work.join("console.txt"), format!("kernel-release {release}\n{console}"))?;
        verdict(&console).inspect_err(|_| {
            let tail: Vec<&str> = console.lines().rev().take(60).collect();
            println!("--- end of the console of {} ---", self.version);
            tail.iter().rev().for_each(|line| println!("{line}"));
            println!("--- whole console: {} ---", work.join("console.txt").display());
        })
    }

    /// Kernel image, its release and modules, from the cache folder or from Debian. Nothing is installed.
    fn fetch(&self) -> Result<PathBuf> {
        let _lock = cache::lock("kernels")?;
        let cache = cache::dir()?.join("kernels");
        let kept = cache.join(self.version);
        if kept.join("release").is_file() {
            return Ok(kept);
        }
        // Own lists and caches: the machine's apt configuration stays as it is, and the suite need not be the machine's.
        let apt_dir = cache.join(format!("apt-{}", self.suite));
        fs::create_dir_all(apt_dir.join("lists/partial"))?;
        fs::create_dir_all(apt_dir.join("cache/archives/partial"))?;
        let signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org";
        let suite = self.suite;
        fs::write(apt_dir.join("sources.list"), format!("{signed}/debian {suite} main\n{signed}/debian-security {suite}-security main\n"))?;
        let apt = |line: &str| {
            let dir = apt_dir.display();
            let mut apt = command(line);
            apt.current_dir(&apt_dir).env("LC_ALL", "C");
            for option in [
                format!("Dir::Etc::sourcelist={dir}/sources.list"),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                format!("Dir::State::lists={dir}/lists"),
                format!("Dir::Cache={dir}/cache"),
                "APT::Sandbox::User=".to_owned(),
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
                "Acquire::Languages=none".to_owned(),
                "Acquire::Retries=3".to_owned(),
            ] {
                apt.args(["-o", &option]);
            }
            apt
        };
        println!("   fetching Debian's {} kernel into {}", self.version, kept.display());
        cmd::output(&mut apt("apt-get -qq update"))?;
        let depends = cmd::output(apt("apt-cache depends").arg(self.package))?;
        let image = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-")))
            .with_context(|| format!("package {} of {suite} names no kernel:\n{depends}", self.package))?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        let fresh = cache.join(format!("{}.new", self.version));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(fresh.join("modules"))?;
        cmd::output(apt("apt-get -qq download").arg(image).current_dir(&fresh))?;
        let package = only_file(&fresh, "deb")?;
        cmd::output(command("dpkg-deb --extract").arg(&package).arg(fresh.join("package")))?;
        fs::rename(fresh.join(format!("package/boot/vmlinuz-{release}")), fresh.join("vmlinuz"))?;
        let found = cmd::output(command("find").arg(fresh.join("package")).args(["-name", "*.ko*"]))?;
        for (at, name) in MODULES.iter().enumerate() {
            for path in found.lines().map(Path::new) {
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let target = fresh.join(format!("modules/{at:02}-{name}.ko"));
                if file == format!("{name}.ko") {
                    fs::copy(path, &target)?;
                } else if file == format!("{name}.ko.xz") {
                    fs::copy(path, target.with_extension("ko.xz"))?;
                    cmd::output(command("xz --decompress").arg(target.with_extension("ko.xz")))?;
                }
            }
        }
        fs::remove_file(&package)?;
        fs::remove_dir_all(fresh.join("package"))?;
        fs::write(fresh.join("release"), &release)?;
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&fresh, &kept)?;
        Ok(kept)
    }

    /// Runs QEMU until the machine switches itself off; shows and gives its console.
    fn boot(&self, image: &Path, initrd: &Path) -> Result<String> {
        // Two processors, so that events really come from more than one.
        let mut qemu = command("qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -nographic -no-reboot -serial stdio");
        qemu.arg("-kernel").arg(image).arg("-initrd").arg(initrd);
        qemu.args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init"]);
        println!("   $ {}", cmd::shown(&qemu));
        let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start QEMU")?;
        let stdout = child.stdout.take().context("QEMU has no output")?;
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            // Consoles may carry any byte.
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let end = Instant::now() + DEADLINE;
        let mut console = String::new();
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    println!("   {} | {line}", self.version);
                    console.push_str(&line);
                    console.push('\n');
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    console.push_str(&format!("xtask: not over after {} s, stopped\n", DEADLINE.as_secs()));
                    child.kill()?;
                    break;
                }
            }
        }
        child.wait()?;
        Ok(console)
    }
}

/// What the tests said, if they ran, all passed, and the first process of the machine agrees.
fn verdict(console: &str) -> Result<String> {
    let result = console.lines().find_map(|line| line.strip_prefix("test result: ")).context("the tests did not come to a result")?;
    let exit = console.lines().find_map(|line| line.strip_prefix("NETFLUME-EXIT ")).context("the tests did not end")?;
    if exit.trim() != "0" {
        bail!("exit status {exit}, {result}");
    }
    let passed = result.strip_prefix("ok. ").and_then(|rest| rest.split_once(" passed")).map(|(count, _)| count.trim());
    match passed.and_then(|count| count.parse::<u32>().ok()) {
        Some(1..) => Ok(format!("{} passed", passed.unwrap_or_default())),
        _ => bail!("no test passed: {result}"),
    }
}

/// Lays out the root folder of the emulated machine and packs it.
fn initramfs(work: &Path, kernel: &Path, programs: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let root = work.join("root");
    let _ = fs::remove_dir_all(&root);
    for dir in ["bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let add = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?)
    };
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
    add(busybox.context("busybox is not installed")?, "bin/busybox")?;
    for (name, path) in programs {
        add(path, &format!("bin/{name}"))?;
    }
    for module in fs::read_dir(kernel.join("modules"))? {
        let module = module?;
        add(&module.path(), &format!("modules/{}", module.file_name().to_string_lossy()))?;
    }
    fs::write(root.join("init"), include_str!("init.sh"))?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    let initrd = work.join("initramfs.cpio");
    cmd::output(command("busybox sh -c").arg("find . | busybox cpio -o -H newc > ../initramfs.cpio").current_dir(&root))?;
    Ok(initrd)
}

fn only_file(dir: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries.into_iter().find(|path| path.extension().is_some_and(|e| e == extension)).with_context(|| format!("no .{extension} in {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn only_passed_tests_and_a_clean_exit_count() {
        let ok = "test a ... ok\n\ntest result: ok. 12 passed; 0 failed; 0 ignored\nNETFLUME-EXIT 0\n";
        assert_eq!(verdict(ok).unwrap(), "12 passed");
        for bad in [
            "",
            "test result: ok. 12 passed; 0 failed\n",
            "NETFLUME-EXIT 0\n",
            "test result: ok. 0 passed; 0 failed\nNETFLUME-EXIT 0\n",
            "test result: FAILED. 11 passed; 1 failed\nNETFLUME-EXIT 101\n",
            "test result: ok. 12 passed; 0 failed\nNETFLUME-EXIT 139\n",
        ] {
            assert!(verdict(bad).is_err(), "{bad}");
        }
    }
}
