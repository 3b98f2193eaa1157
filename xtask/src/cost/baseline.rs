//! Earlier counts, and their comparison with new ones.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Instructions by name.
pub type Counts = BTreeMap<String, u64>;

/// A count may differ by this fraction …
const PERCENT: u64 = 5;
/// … or by this many instructions.
const INSTRUCTIONS: u64 = 20;

const HEAD: &str = "# Instructions: of the observer's work with a recording, and those that the kernel's verifier walks.
# `cargo xtask test cost` compares with this, and with `--write` writes it. See docs/TESTING.md.

";

/// All counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The compiler of userspace.
    pub compiler: String,
    #[serde(default)]
    pub userspace: Counts,
    /// Programs, by series of kernels.
    #[serde(default)]
    pub kernel: BTreeMap<String, Counts>,
}

/// The outcome of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub same: usize,
    /// Counts that differ by more than is accepted, or that one side lacks.
    pub differences: Vec<String>,
    /// Counts that could not be compared, with the reason.
    pub notes: Vec<String>,
}

impl Baseline {
    /// Reads the file; without one, no counts are known.
    pub fn read(file: &Path) -> Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        toml::from_str(&text).with_context(|| format!("{name} is not as it was written"))
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The new counts, with those of other kernels, which cannot be counted here.
    pub fn renewed(self, now: Self) -> Self {
        let mut kernel = self.kernel;
        kernel.extend(now.kernel);
        Self { kernel, ..now }
    }

    /// Compares with what is counted now.
    pub fn held(&self, now: &Self) -> Held {
        let mut held = Held::default();
        if self.compiler == now.compiler {
            held.compare("", &self.userspace, &now.userspace);
        } else {
            held.notes.push(format!(
                "userspace NOT compared: it was counted as built by `{}`, and this is `{}`; \
                 `--write` replaces them",
                self.compiler, now.compiler
            ));
        }
        for (series, counts) in &now.kernel {
            match self.kernel.get(series) {
                Some(known) => held.compare("program ", known, counts),
                None => held.notes.push(format!(
                    "programs NOT compared: nothing was counted on a kernel {series}, \
                     `--write` adds it"
                )),
            }
        }
        held
    }
}

impl Held {
    fn compare(&mut self, what: &str, known: &Counts, now: &Counts) {
        for (name, &now) in now {
            match known.get(name) {
                Some(&known) if is_close(known, now) => self.same += 1,
                Some(&known) => self.differences.push(format!(
                    "{what}{name}: {now} instructions, {known} before: {:+.1} %",
                    percent(known, now)
                )),
                None => self.differences.push(format!(
                    "{what}{name}: {now} instructions, not known before"
                )),
            }
        }
        let gone = known.keys().filter(|name| !now.contains_key(*name));
        self.differences
            .extend(gone.map(|name| format!("{what}{name}: is no longer there")));
    }
}

fn is_close(known: u64, now: u64) -> bool {
    let accepted = INSTRUCTIONS.max(known * PERCENT / 100);
    known.abs_diff(now) <= accepted
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn percent(known: u64, now: u64) -> f64 {
    (now as f64 - known as f64) * 100.0 / known as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        let own = |&(name, count): &(&str, u64)| (name.to_owned(), count);
        counts.iter().map(own).collect()
    }

    fn known() -> Baseline {
        Baseline {
            compiler: "rustc 1".to_owned(),
            userspace: counts(&[("decode", 1_000_000), ("model", 2_000_000)]),
            kernel: [(
                "6.18".to_owned(),
                counts(&[("datetime_now", 1000), ("small", 30)]),
            )]
            .into(),
        }
    }

    #[test]
    fn up_to_five_percent_is_the_same() {
        let mut now = known();
        now.userspace = counts(&[("decode", 1_050_000), ("model", 1_900_000)]);
        now.kernel = [(
            "6.18".to_owned(),
            counts(&[("datetime_now", 1050), ("small", 50)]),
        )]
        .into();
        let held = known().held(&now);
        assert_eq!((held.same, held.differences.len()), (4, 0));
    }

    #[test]
    fn a_count_that_grew_or_shrank_is_reported_with_its_name_and_by_how_much() {
        let mut now = known();
        now.userspace = counts(&[("decode", 1_117_000), ("model", 1_000_000)]);
        now.kernel = [(
            "6.18".to_owned(),
            counts(&[("datetime_now", 1051), ("new", 5)]),
        )]
        .into();
        let held = known().held(&now);
        let expected = [
            "decode: 1117000 instructions, 1000000 before: +11.7 %",
            "model: 1000000 instructions, 2000000 before: -50.0 %",
            "program datetime_now: 1051 instructions, 1000 before: +5.1 %",
            "program new: 5 instructions, not known before",
            "program small: is no longer there",
        ];
        assert_eq!(held.differences, expected);
    }

    #[test]
    fn another_compiler_or_kernel_is_reported_and_not_compared() {
        let mut now = known();
        now.compiler = "rustc 2".to_owned();
        now.userspace.clear();
        now.kernel = [("7.2".to_owned(), counts(&[("datetime_now", 9)]))].into();
        let held = known().held(&now);
        assert_eq!((held.same, held.differences.len()), (0, 0));
        assert!(held.notes[0].contains("`rustc 1`, and this is `rustc 2`"));
        assert!(held.notes[1].contains("on a kernel 7.2"));
        // Accepted, it is there beside the other.
        let renewed = known().renewed(now.clone());
        assert_eq!(renewed.kernel.len(), 2);
        assert_eq!(
            renewed.held(&now),
            Held {
                same: 1,
                ..Held::default()
            }
        );
    }
}
