//! What a metric family is: a row of one table, [`TABLE`], which the writers, the documentation
//! and the tests read.

use super::families;
use super::series::Series;
use super::subjects::{Counts, Master, Now};
use observer_model::fact::Usage;
use observer_model::views::metrics_view::{AppView, MasterExitsView, ObserverView};

/// All families, in the order of the exposition.
pub const TABLE: &[&[Family]] = &[
    families::worker_counts::FAMILIES,
    families::worker_gauges::FAMILIES,
    families::app::FAMILIES,
    families::master::FAMILIES,
    families::master_gauges::FAMILIES,
    families::observer::FAMILIES,
    families::process::FAMILIES,
];

/// A metric family.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// Labels besides those of the subject (see [`Read`]).
    pub labels: &'static [&'static str],
    /// A noun phrase: what is counted, and its unit.
    pub help: &'static str,
    pub read: Read,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The name in a `TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of a family's values, which its name ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// None: a number of what the family is named after, or 1 for what the labels say.
    One,
    Seconds,
    Bytes,
    /// Percent of one processor.
    Percent,
}

/// How the series of a family are read: by a function that is called for each subject.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// For each worker, slot or worker class, as `--worker-label` says, whose requests are
    /// observed.
    Counts(for<'a> fn(&Counts<'a>, &mut Series<'a>)),
    /// The same for live workers, observed or not.
    Now(for<'a> fn(&Now, &mut Series<'a>)),
    /// For each master whose requests are observed; series have the label `app` only, so those of
    /// masters of one app are added up.
    App(for<'a> fn(&'a AppView, &mut Series<'a>)),
    /// For each master whose requests are observed.
    ObservedMaster(for<'a> fn(&Master<'a>, &mut Series<'a>)),
    /// For each master.
    Master(for<'a> fn(&Master<'a>, &mut Series<'a>)),
    /// For each app that has masters or had one, with the label `app`.
    MasterExits(for<'a> fn(&'a MasterExitsView, &mut Series<'a>)),
    /// Once; series have no labels of a subject.
    Observer(for<'a> fn(&'a ObserverView, &mut Series<'a>)),
    /// Once, when the resources of the observer are known.
    Process(for<'a> fn(&'a Usage, &mut Series<'a>)),
}

/// All families, in the order of the exposition.
pub fn all() -> impl Iterator<Item = &'static Family> {
    TABLE.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_families_have_the_same_name() {
        let mut names = BTreeSet::new();
        for family in all() {
            assert!(names.insert(family.name), "{}", family.name);
        }
    }

    #[test]
    fn names_end_with_unit_and_type() {
        for family in all() {
            let name = family.name;
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{name}"
            );
            let base = name.strip_suffix("_total").unwrap_or(name);
            let units = [
                ("_seconds", Unit::Seconds),
                ("_bytes", Unit::Bytes),
                ("_percent", Unit::Percent),
            ];
            for (suffix, unit) in units {
                assert_eq!(base.ends_with(suffix), family.unit == unit, "{name}");
            }
        }
    }

    #[test]
    fn help_is_one_phrase_that_needs_no_escaping() {
        for Family { name, help, .. } in all() {
            assert!(help.ends_with('.') && help.len() < 120, "{name}: {help}");
            assert!(!help.contains(['\\', '\n', '"']), "{name}: {help}");
            let first = help.chars().next();
            assert!(
                first.is_some_and(|c| c.is_uppercase() || c == '1'),
                "{name}: {help}"
            );
        }
    }
}
