//! The release files: a tarball, a Debian package, and a systemd unit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{distribution::Distribution, observer, root::Root, skip};
use tempfile::TempDir;

const UNIT: &str = "gunicorn-observer.service";
const OPTIONS: &str = "/etc/default/gunicorn-observer";
const PROGRAM: &str = "/usr/bin/gunicorn-observer";
/// What an operator adds, and what a newer package brings.
const ADDED: &str = "GUNICORN_OBSERVER_LISTEN=127.0.0.1:9919\n";
const BROUGHT: &str = "# A newer comment.\n";

#[test]
fn what_is_given_out_is_the_same_bytes_each_time() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let first = Distribution::shared()?;
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(first.folder())
        .output()?;
    ensure!(checked.status.success(), "{checked:?}");
    let second = Distribution::again()?;
    ensure!(first.sums()?.lines().count() == 3, "{}", first.sums()?);
    ensure!(
        first.sums()? == second.sums()?,
        "{}is not\n{}",
        first.sums()?,
        second.sums()?
    );
    Ok(())
}

#[test]
fn the_package_is_installed_upgraded_and_removed() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let made = Distribution::shared()?;
    let root = Root::new()?;
    root.run(&["dpkg", "-i", &root.receive(&made.file(".deb")?)?])?;
    works(&root, PROGRAM)?;
    let wants = format!("/etc/systemd/system/multi-user.target.wants/{UNIT}");
    ensure!(root.path(&wants).is_symlink(), "the unit is not enabled");
    verified(&root, &format!("/usr/lib/systemd/system/{UNIT}"))?;
    for path in [
        "/usr/share/man/man1/gunicorn-observer-run.1.gz",
        "/usr/share/bash-completion/completions/gunicorn-observer",
        "/usr/share/zsh/vendor-completions/_gunicorn-observer",
        "/usr/share/fish/vendor_completions.d/gunicorn-observer.fish",
        "/usr/share/doc/gunicorn-observer/copyright",
    ] {
        ensure!(root.path(path).exists(), "no {path}");
    }

    let options = fs::read_to_string(root.path(OPTIONS))?;
    let changed = format!("{options}{ADDED}");
    fs::write(root.path(OPTIONS), &changed)?;
    let folder = TempDir::new()?;
    let newer = newer(&made.file(".deb")?, folder.path())?;
    root.run(&["dpkg", "--force-confold", "-i", &root.receive(&newer)?])?;
    ensure!(
        fs::read_to_string(root.path(OPTIONS))? == changed,
        "the upgrade changed the operator's options"
    );
    let beside = fs::read_to_string(root.path(&format!("{OPTIONS}.dpkg-dist")))?;
    ensure!(beside == format!("{options}{BROUGHT}"), "{beside}");
    works(&root, PROGRAM)?;

    root.run(&["dpkg", "-r", "gunicorn-observer"])?;
    ensure!(!root.path(PROGRAM).exists(), "the program is left");
    ensure!(fs::read_to_string(root.path(OPTIONS))? == changed);
    root.run(&["dpkg", "-P", "gunicorn-observer"])?;
    let left = root.run(&[
        "find",
        "/etc",
        "/usr/bin",
        "/usr/lib/systemd",
        "/usr/share",
        "/var/lib/dpkg/info",
        "/var/lib/systemd",
        "-name",
        "*gunicorn-observer*",
    ])?;
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

#[test]
fn the_tarball_is_unpacked_below_usr_local() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let made = Distribution::shared()?;
    let root = Root::new()?;
    let tarball = root.receive(&made.file("-linux.tar.gz")?)?;
    let unpack = ["tar", "-xzf", &tarball, "--strip-components=1"];
    root.run(&[&unpack[..], &["-C", "/usr/local"]].concat())?;
    works(&root, "/usr/local/bin/gunicorn-observer")?;
    verified(&root, &format!("/usr/local/lib/systemd/system/{UNIT}"))?;

    let printed = observer::output(["completions", "fish"])?.stdout;
    let script = "/usr/local/share/fish/vendor_completions.d/gunicorn-observer.fish";
    ensure!(
        fs::read(root.path(script))? == printed,
        "{script} is another"
    );
    let documents = "/usr/local/share/doc/gunicorn-observer";
    let readme = fs::read_to_string(root.path(&format!("{documents}/README.md")))?;
    let links = readme.split("](").skip(1);
    let links = links.filter_map(|link| link.split([')', '#']).next());
    let mut followed = 0;
    for link in links.filter(|link| !link.contains("://")) {
        let path = root.path(&format!("{documents}/{link}"));
        ensure!(path.exists(), "README leads to {link}, which is not there");
        followed += 1;
    }
    ensure!(followed > 5, "only {followed} links in the README");
    Ok(())
}

/// The program runs there, and finds that it could observe.
fn works(root: &Root, program: &str) -> Result<()> {
    let version = format!("gunicorn-observer {}\n", env!("CARGO_PKG_VERSION"));
    ensure!(root.run(&[program, "--version"])? == version);
    let said = root.run(&[program, "doctor"])?;
    ensure!(said.contains("ok      eBPF programs"), "{said}");
    Ok(())
}

/// systemd has nothing to object to a unit there.
fn verified(root: &Root, unit: &str) -> Result<()> {
    let output = root.output(&["systemd-analyze", "verify", "--man=no", unit])?;
    ensure!(
        output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
        "{output:?}"
    );
    Ok(())
}

/// The next revision of a package, with other options.
fn newer(package: &Path, folder: &Path) -> Result<PathBuf> {
    let files = folder.join("files");
    let run = |command: &mut Command| -> Result<()> {
        let output = command.output().context("cannot start dpkg-deb")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    run(Command::new("dpkg-deb").arg("-R").args([package, &files]))?;
    let control = files.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let version = concat!("Version: ", env!("CARGO_PKG_VERSION"), "-");
    ensure!(text.contains(version), "{text}");
    fs::write(&control, text.replace(version, &format!("{version}9")))?;
    let options = files.join("etc/default/gunicorn-observer");
    let brought = fs::read_to_string(&options)? + BROUGHT;
    fs::write(&options, brought)?;
    let package = folder.join("newer.deb");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "-b"])
        .args([&files, &package]))?;
    Ok(package)
}
