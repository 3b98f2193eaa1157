//! The systemd unit, read: what it leaves the observer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Its path in the repository.
pub const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/systemd/gunicorn-observer.service"
);

/// Its settings by name, in order; a repeated one has several values.
pub struct Unit {
    lines: Vec<(String, String)>,
}

impl Unit {
    /// The repository's.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let settings = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let lines = settings
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { lines }
    }

    /// Every setting's name.
    pub fn names(&self) -> BTreeSet<&str> {
        self.lines.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The words of each line of a setting.
    pub fn lines<'u>(&'u self, name: &'u str) -> impl Iterator<Item = &'u str> {
        let of_name = self.lines.iter().filter(move |(other, _)| other == name);
        of_name.map(|(_, value)| value.as_str())
    }

    /// All words of a setting.
    pub fn words<'u>(&'u self, name: &'u str) -> BTreeSet<&'u str> {
        self.lines(name).flat_map(str::split_whitespace).collect()
    }

    /// The system calls that its filter lets through, of the sets that systemd has.
    pub fn system_calls(&self) -> Result<BTreeSet<String>> {
        Ok(filtered(self.lines("SystemCallFilter"), &Sets::known()?))
    }
}

/// Lines add or, with a `~`, take away (`systemd.exec(5)`); the first of ours adds.
fn filtered<'l>(lines: impl Iterator<Item = &'l str>, sets: &Sets) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for line in lines {
        let (denied, words) = match line.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, line),
        };
        for call in words.split_whitespace().flat_map(|word| sets.expand(word)) {
            if denied {
                calls.remove(&call);
            } else {
                calls.insert(call);
            }
        }
    }
    calls
}

/// systemd's sets of system calls, whose members may be sets again.
struct Sets(BTreeMap<String, Vec<String>>);

impl Sets {
    fn known() -> Result<Self> {
        let output = Command::new("systemd-analyze")
            .args(["syscall-filter", "--no-pager"])
            .stdin(Stdio::null())
            .output()
            .context("cannot run systemd-analyze: run `cargo xtask setup`")?;
        ensure!(output.status.success(), "systemd-analyze: {output:?}");
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(text: &str) -> Self {
        let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut name = None;
        for line in text.lines() {
            match line.strip_prefix("    ") {
                None if line.starts_with('@') => name = Some(line.to_owned()),
                Some(member) if !member.starts_with('#') => {
                    if let Some(name) = &name {
                        sets.entry(name.clone())
                            .or_default()
                            .push(member.to_owned());
                    }
                }
                _ => {}
            }
        }
        Self(sets)
    }

    fn expand(&self, word: &str) -> Vec<String> {
        match self.0.get(word) {
            Some(members) => members.iter().flat_map(|word| self.expand(word)).collect(),
            None => vec![word.to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sets, Unit, filtered};

    #[test]
    fn a_filter_is_made_of_its_lines_in_their_order() {
        let sets = Sets::parse(
            "@all\n    # What there is\n    @some\n    open\n\n@some\n    # A part\n    bpf\n    mount\n",
        );
        let unit = Unit::parse(
            "# A=1\n[Service]\nSystemCallFilter=@all\nSystemCallFilter=~@some\nSystemCallFilter=bpf\n",
        );
        let calls = filtered(unit.lines("SystemCallFilter"), &sets);
        assert_eq!(Vec::from_iter(&calls), ["bpf", "open"]);
        assert_eq!(Vec::from_iter(unit.names()), ["SystemCallFilter"]);
    }
}
