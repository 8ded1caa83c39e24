//! One machine under QEMU in software emulation, with nothing but busybox and the programs given to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use xtask::cache;
use xtask::run::{self as cmd, command};

use crate::kernel_tests;

/// Emulation is some ten times slower than the machine; more than this is a hang.
const SECONDS: u32 = 900;

/// Runs QEMU until the machine switches itself off; shows and gives its console.
pub(crate) fn boot(name: &str, image: &Path, initrd: &Path) -> Result<String> {
    // `timeout` also ends the machine when this program is gone. Two processors, so that events really come from more than one.
    let mut qemu = command(&format!(
        "timeout {SECONDS} qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -display none -no-reboot -serial stdio"
    ));
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initrd);
    qemu.args([
        "-append",
        "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init",
    ]);
    println!("   $ {}", cmd::shown(&qemu));
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = qemu.spawn().context("cannot start QEMU")?;
    let mut reader = BufReader::new(child.stdout.take().context("QEMU has no output")?);
    let mut console = String::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        // A console may carry any byte.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        println!("   {name} | {text}");
        console.push_str(text);
        console.push('\n');
        line.clear();
    }
    // 124: what `timeout` says when it had to act.
    if child.wait()?.code() == Some(124) {
        console.push_str(&format!("not over after {SECONDS} s, stopped\n"));
    }
    Ok(console)
}

/// Lays out the root folder of the emulated machine and packs it.
pub(crate) fn initramfs(
    work: &Path,
    modules: &Path,
    programs: &[(&str, PathBuf)],
) -> Result<PathBuf> {
    let root = work.join("root");
    cache::remove(&root)?;
    for dir in [
        "bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp", "var",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    let add = |from: &Path, to: &str| -> Result<()> {
        let to = root.join(to);
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?)
    };
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists());
    add(busybox.context("busybox is not installed")?, "bin/busybox")?;
    for (name, path) in programs {
        add(path, &format!("bin/{name}"))?;
    }
    for module in fs::read_dir(modules)? {
        let module = module?;
        add(
            &module.path(),
            &format!("modules/{}", module.file_name().to_string_lossy()),
        )?;
    }
    fs::write(root.join("init"), include_str!("init.sh"))?;
    let arguments = kernel_tests::arguments()?.join(" ");
    fs::write(root.join("kernel-tests.arguments"), arguments)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )?;
    let initrd = work.join("initramfs.cpio");
    cmd::output(
        command("busybox sh -c")
            .arg("find . | busybox cpio -o -H newc > ../initramfs.cpio")
            .current_dir(&root),
    )?;
    Ok(initrd)
}
