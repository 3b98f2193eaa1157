//! The features that this kernel does not support, and why.

use super::features::{Feature, When};
use serde::Serialize;

/// Why a program is not available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub program: &'static str,
    /// The reason in one line.
    pub why: String,
    /// The verifier's log; empty if something else failed.
    pub log: String,
}

/// Absent features, each with the first refusal of one of its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absent(Vec<(&'static Feature, Refusal)>);

impl Absent {
    /// Records that a program of a feature is not available.
    pub fn add(&mut self, feature: &'static Feature, refusal: Refusal) {
        if self.why(feature).is_none() {
            self.0.push((feature, refusal));
        }
    }

    /// Why a feature is absent, if it is.
    #[must_use]
    pub fn why(&self, feature: &Feature) -> Option<&Refusal> {
        let mut of_feature = self.iter().filter(|(it, _)| it.name == feature.name);
        of_feature.next().map(|(_, refusal)| refusal)
    }

    /// Whether the feature of this name is absent.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(feature, _)| feature.name == name)
    }

    /// Every absent feature and the reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Feature, &Refusal)> {
        self.0.iter().map(|(feature, refusal)| (*feature, refusal))
    }

    /// The refusal of a required feature.
    #[must_use]
    pub fn required(&self) -> Option<&Refusal> {
        let mut required = self
            .iter()
            .filter(|(feature, _)| feature.attached == When::Required);
        required.next().map(|(_, refusal)| refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::features::programs;

    fn refuse(absent: &mut Absent, name: &str) -> Refusal {
        let (feature, program) = programs()
            .find(|(_, program)| program.name == name)
            .unwrap();
        let refusal = Refusal {
            program: program.name,
            why: "too large".to_owned(),
            log: String::new(),
        };
        absent.add(feature, refusal.clone());
        refusal
    }

    #[test]
    fn a_refused_program_disables_its_own_feature_only() {
        let mut absent = Absent::default();
        let first = refuse(&mut absent, "request_read");
        refuse(&mut absent, "enter_recvfrom");
        let found: Vec<_> = absent.iter().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, &first);
        assert_eq!(absent.required(), None);
        let required = refuse(&mut absent, "process_exit");
        assert_eq!(absent.required(), Some(&required));
    }
}
