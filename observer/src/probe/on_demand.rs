//! Programs that are attached only while a master needs them, such as those on `read` and `write`.
//!
//! They would slow down the whole host, and most masters do without.

use super::absent::Refusal;
use super::attach::attach_feature;
use super::detach::{Detacher, Link};
use super::features::{Feature, Need, When};
use super::load::LoadedObject;
use super::status::Status;
use observer_model::event::Pid;
use std::collections::{BTreeSet, HashMap};

/// The needs of each master, and the features attached for them.
#[derive(Debug, Default)]
pub(super) struct OnDemand {
    needs: Needs,
    attached: Vec<Attached>,
}

#[derive(Debug)]
struct Attached {
    feature: &'static Feature,
    links: Vec<Link>,
}

impl OnDemand {
    /// Notes that a master and its workers have a need.
    pub(super) fn need(&mut self, pid: Pid, need: Need) {
        self.needs.add(pid, need);
    }

    /// Makes sure that a feature is attached.
    ///
    /// # Errors
    /// When the kernel refuses to attach a program.
    pub(super) fn attach(
        &mut self,
        feature: &'static Feature,
        object: &mut LoadedObject,
        status: &Status,
    ) -> Result<(), Refusal> {
        if !self.is_attached(feature) {
            let links = attach_feature(object, feature)?;
            status.set_host(feature, true);
            self.attached.push(Attached { feature, links });
        }
        Ok(())
    }

    fn is_attached(&self, feature: &Feature) -> bool {
        let mut names = self.attached.iter().map(|attached| attached.feature.name);
        names.any(|name| name == feature.name)
    }

    /// A master and its workers have a need no more.
    pub(super) fn no_need(
        &mut self,
        pid: Pid,
        need: Need,
        detacher: &mut Detacher,
        status: &Status,
    ) {
        if self.needs.remove_one(pid, need) {
            self.detach_unused(detacher, status);
        }
    }

    /// A master and its workers need nothing any more.
    pub(super) fn release(&mut self, pid: Pid, detacher: &mut Detacher, status: &Status) {
        if self.needs.remove(pid) {
            self.detach_unused(detacher, status);
        }
    }

    fn detach_unused(&mut self, detacher: &mut Detacher, status: &Status) {
        let needs = &self.needs;
        let unused = self
            .attached
            .extract_if(.., |attached| !needs.want(attached.feature));
        for Attached { feature, links } in unused {
            status.set_host(feature, false);
            detacher.detach(links);
        }
    }

    /// Hands out the attached programs, at shutdown.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        let attached = self.attached.drain(..);
        attached.flat_map(|attached| attached.links).collect()
    }
}

/// Whether a feature is there for a need.
pub(super) fn serves(feature: &Feature, need: Need) -> bool {
    matches!(feature.attached, When::Needed(needs) if needs.contains(&need))
}

/// The needs of each master.
#[derive(Debug, Default)]
struct Needs(HashMap<Pid, BTreeSet<Need>>);

impl Needs {
    fn add(&mut self, pid: Pid, need: Need) {
        self.0.entry(pid).or_default().insert(need);
    }

    /// Whether the master had it.
    fn remove_one(&mut self, pid: Pid, need: Need) -> bool {
        self.0
            .get_mut(&pid)
            .is_some_and(|needs| needs.remove(&need))
    }

    /// Whether the master had any.
    fn remove(&mut self, pid: Pid) -> bool {
        self.0.remove(&pid).is_some()
    }

    /// Whether any master has a need that this feature serves.
    fn want(&self, feature: &Feature) -> bool {
        let mut needs = self.0.values().flatten();
        needs.any(|&need| serves(feature, need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::features::Backend;

    const fn feature(needs: &'static [Need]) -> Feature {
        Feature {
            name: "accept",
            without: "",
            attached: When::Needed(needs),
            is_late: false,
            backends: &[Backend::Taps],
            programs: &[],
        }
    }

    #[test]
    fn a_feature_is_wanted_until_the_last_master_that_needs_it_is_released() {
        let both = feature(&[Need::SocketLevel, Need::UnixListeners]);
        let one = feature(&[Need::UnixListeners]);
        let mut needs = Needs::default();
        needs.add(1, Need::SocketLevel);
        assert!(needs.want(&both) && !needs.want(&one));
        needs.add(2, Need::UnixListeners);
        needs.add(2, Need::SocketLevel);
        assert!(needs.remove(2) && !needs.remove(2));
        assert!(needs.want(&both) && !needs.want(&one));
        assert!(needs.remove(1));
        assert!(!needs.want(&both));
    }
}
