//! What could not be read of applications' own metrics.

use std::collections::BTreeMap;

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A folder could not be opened or listed.
    Folder,
    /// A folder has too many files.
    FileLimit,
    /// A file could not be opened or read, or is no regular file.
    File,
    /// A file belongs to another user than the processes of its master.
    Owner,
    /// A file, or all files of a folder, are too large.
    FileSize,
    /// A file ends, or goes on, other than its lengths say.
    Malformed,
    /// The key of a value is not one that `prometheus_client` writes, or is too long.
    Key,
    /// A family has another type elsewhere.
    Type,
    /// There are too many series.
    SeriesLimit,
}

impl Reason {
    /// Every reason, and its name in metrics.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Folder, "folder"),
        (Self::FileLimit, "file_limit"),
        (Self::File, "file"),
        (Self::Owner, "owner"),
        (Self::FileSize, "file_size"),
        (Self::Malformed, "malformed"),
        (Self::Key, "key"),
        (Self::Type, "type"),
        (Self::SeriesLimit, "series_limit"),
    ];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(reason, _)| *reason == self);
        named.map_or("unknown", |(_, name)| name)
    }
}

/// Errors of one scrape, by reason, each with an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    found: BTreeMap<Reason, (u64, String)>,
}

impl Errors {
    /// Counts an error; `example` names what it is about.
    pub fn add(&mut self, reason: Reason, example: impl FnOnce() -> String) {
        let (count, _) = self.found.entry(reason).or_insert_with(|| (0, example()));
        *count += 1;
    }

    /// Each reason with its count and its first example.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64, &str)> {
        let found = self.found.iter();
        found.map(|(reason, (count, example))| (*reason, *count, &**example))
    }

    /// How often there was this error.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.found.get(&reason).map_or(0, |(count, _)| *count)
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// The total of each reason, which begins at 0.
#[must_use]
pub fn no_errors() -> BTreeMap<String, u64> {
    let all = Reason::ALL.iter();
    all.map(|(_, name)| ((*name).to_owned(), 0)).collect()
}
