//! A qemu guest that runs one command on this machine's files, under another kernel.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use end_to_end::process;

use super::kernels::Image;
use crate::command;

/// The settings of a guest.
pub struct Guest<'a> {
    pub image: &'a Image,
    /// More words for its kernel's command line.
    pub append: &'a str,
    pub processors: u32,
    /// The guest is stopped after this time.
    pub bound: Duration,
}

/// Bytes of a failed guest's log that are printed.
const SHOWN: usize = 6000;

impl Guest<'_> {
    /// A folder for the command's files: `/run/results` in the guest.
    pub fn results(&self) -> PathBuf {
        self.image.folder.join("results")
    }

    /// Boots the guest, runs `command`, and returns its output.
    pub fn run(&self, command: &Command) -> Result<String> {
        let results = self.results();
        if results.exists() {
            fs::remove_dir_all(&results)
                .with_context(|| format!("cannot remove {}", results.display()))?;
        }
        fs::create_dir_all(&results)?;
        fs::write(results.join("command"), script(command))?;
        let console = self.image.folder.join("console");
        let mut qemu = self.qemu(&results);
        let log = File::create(&console)?;
        let mut child = qemu
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let ended = process::wait_for(&mut child, self.bound)?;
        if ended.is_none() {
            process::end(&mut child, Duration::from_secs(5));
        }
        let output = fs::read_to_string(results.join("output")).unwrap_or_default();
        let said = || format!("{}\n{}", tail(&console), tail(&results.join("log")));
        match fs::read_to_string(results.join("status")) {
            // A report lists what failed.
            Ok(_) if !output.is_empty() => Ok(output),
            Ok(status) => bail!("the command ended with {}:\n{}", status.trim(), said()),
            Err(_) if ended.is_none() => bail!("not done after {:?}:\n{}", self.bound, said()),
            Err(_) => bail!("the guest ended before its command:\n{}", said()),
        }
    }

    /// The command that starts it.
    pub fn shown(&self) -> Result<String> {
        let shown = command::shown(&self.qemu(&self.results()));
        let start = shown.find("qemu-system");
        Ok(shown[start.context("no qemu")?..].to_owned())
    }

    /// Exits with us.
    fn qemu(&self, results: &Path) -> Command {
        let mut qemu = process::bound_to_us("qemu-system-x86_64");
        let share = |tag: &str, path: &Path, options: &str| {
            format!(
                "local,mount_tag={tag},path={},security_model=none,multidevs=remap{options}",
                path.display()
            )
        };
        // By translation, which is slow and works everywhere.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "3072"])
            .args(["-smp", &self.processors.to_string()])
            .args(["-nic", "none", "-nographic", "-no-reboot", "-kernel"])
            .arg(self.image.kernel())
            .arg("-initrd")
            .arg(self.image.initramfs())
            .args(["-virtfs", &share("host", Path::new("/"), ",readonly=on")])
            .args(["-virtfs", &share("results", results, "")])
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 {}", self.append).trim_end());
        qemu
    }
}

/// The command, as a shell in the guest runs it.
fn script(command: &Command) -> String {
    let folder = command.get_current_dir().unwrap_or_else(|| Path::new("/"));
    format!(
        "cd '{}' && exec env {}\n",
        folder.display(),
        command::shown(command)
    )
}

fn tail(path: &Path) -> String {
    end_of(&fs::read_to_string(path).unwrap_or_default())
}

fn end_of(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(SHOWN);
    text.chars().skip(skipped).collect()
}
