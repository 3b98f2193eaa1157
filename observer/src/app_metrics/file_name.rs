//! What the name of a file says: `counter_17.db`, `gauge_livesum_17.db` (`prometheus_client`,
//! `values.py`).

use std::collections::BTreeSet;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Counter,
    Gauge(Mode),
    Histogram,
    Summary,
}

/// How the gauges of several processes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// They do not: each has the label `pid`.
    All,
    Sum,
    Max,
    Min,
    MostRecent,
}

impl Kind {
    /// The name in a `TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// The name of a file with values of one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    pub kind: Kind,
    /// Only processes that live count.
    pub is_live: bool,
    /// PID in the process's own namespace, unless the application names processes in another way.
    pub process: String,
    /// The whole name.
    pub name: String,
}

impl FileName {
    /// Reads a name; `None` if it is not that of such a file.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".db")?;
        let (kind, rest) = stem.split_once('_')?;
        let (kind, is_live, process) = match kind {
            "counter" => (Kind::Counter, false, rest),
            "histogram" => (Kind::Histogram, false, rest),
            "summary" => (Kind::Summary, false, rest),
            "gauge" => {
                let (mode, process) = rest.split_once('_')?;
                let (is_live, mode) = match mode.strip_prefix("live") {
                    Some(mode) => (true, mode),
                    None => (false, mode),
                };
                (Kind::Gauge(Mode::parse(mode)?), is_live, process)
            }
            _ => return None,
        };
        (!process.is_empty()).then(|| Self {
            kind,
            is_live,
            process: process.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Whether its process is one of these. A process that is not named by its PID counts as one.
    #[must_use]
    pub fn is_of(&self, live: &BTreeSet<u32>) -> bool {
        self.process.parse().map_or(true, |pid| live.contains(&pid))
    }
}

impl Mode {
    fn parse(mode: &str) -> Option<Self> {
        Some(match mode {
            "all" => Self::All,
            "sum" => Self::Sum,
            "max" => Self::Max,
            "min" => Self::Min,
            "mostrecent" => Self::MostRecent,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_type_mode_and_process() {
        let parsed = |name| {
            let name = FileName::parse(name)?;
            Some((name.kind, name.is_live, name.process))
        };
        for (name, kind, is_live, process) in [
            ("counter_17.db", Kind::Counter, false, "17"),
            ("histogram_1.db", Kind::Histogram, false, "1"),
            ("summary_web_1.db", Kind::Summary, false, "web_1"),
            ("gauge_all_17.db", Kind::Gauge(Mode::All), false, "17"),
            ("gauge_liveall_17.db", Kind::Gauge(Mode::All), true, "17"),
            ("gauge_livemin_17.db", Kind::Gauge(Mode::Min), true, "17"),
            ("gauge_max_17.db", Kind::Gauge(Mode::Max), false, "17"),
            ("gauge_livesum_17.db", Kind::Gauge(Mode::Sum), true, "17"),
            (
                "gauge_livemostrecent_17.db",
                Kind::Gauge(Mode::MostRecent),
                true,
                "17",
            ),
        ] {
            let expected = Some((kind, is_live, process.to_owned()));
            assert_eq!(parsed(name), expected, "{name}");
        }
        for name in [
            "",
            ".db",
            "counter.db",
            "counter_.db",
            "counter_17",
            "counter_17.db.tmp",
            "gauge_17.db",
            "gauge_mean_17.db",
            "info_17.db",
            "Counter_17.db",
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    #[test]
    fn a_process_without_a_pid_counts_as_alive() {
        let live = BTreeSet::from([17]);
        for (name, expected) in [
            ("gauge_livesum_17.db", true),
            ("gauge_livesum_18.db", false),
            ("gauge_livesum_uwsgi-3.db", true),
        ] {
            assert_eq!(FileName::parse(name).unwrap().is_of(&live), expected);
        }
    }
}
