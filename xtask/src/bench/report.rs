//! The document that measurements are written to.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result};

use super::Measured;
use crate::workspace::Workspace;

/// Puts what was measured in place of what the document has for that part.
pub fn write(workspace: &Workspace, name: &str, measured: &Measured) -> Result<()> {
    let docs = workspace.root.join("docs");
    let file = docs.join("BENCHMARKS.md");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut part = format!(
        "On {}, `cargo xtask bench {name}`:\n\n{}\n",
        machine()?,
        measured.text
    );
    for (raw, csv) in &measured.raw {
        part.push_str(&format!("\nEvery window is in `docs/benchmarks/{raw}`.\n"));
        save(&docs.join("benchmarks").join(raw), csv)?;
    }
    for (picture, svg) in &measured.pictures {
        save(&docs.join("images").join(picture), svg)?;
    }
    let text = replaced(&text, name, &part)
        .with_context(|| format!("{} has no place for `{name}`", file.display()))?;
    save(&file, &text)
}

/// Writes a file, and the folder it is in.
fn save(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The text with the lines between a part's two marks replaced.
fn replaced(text: &str, name: &str, part: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{part}{end}{after}"))
}

/// What was measured on.
fn machine() -> Result<String> {
    let kernel = nix::sys::utsname::uname().context("cannot read the version of the kernel")?;
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let release = kernel.release().to_string_lossy();
    // Behind that is what its builder calls it.
    let release = release.split('-').next().unwrap_or_default();
    Ok(format!("{cores} cores of {model}, Linux {release}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_that_was_measured_is_replaced() {
        let text = "# A\n<!-- a -->\nold\n<!-- end of a -->\nkept\n<!-- b -->\n<!-- end of b -->\n";
        let new = "# A\n<!-- a -->\nnew\n<!-- end of a -->\nkept\n<!-- b -->\n<!-- end of b -->\n";
        assert_eq!(replaced(text, "a", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(text, "c", "new\n"), None);
    }
}
