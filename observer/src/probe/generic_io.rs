//! The programs on system calls that every process makes for anything, such as `read` and `write`.
//!
//! They would slow down the whole host, so they are attached only while a master is observed whose
//! workers may use these calls for connections, as uvloop does.

use super::absent::Absent;
use super::attach::attach_feature;
use super::attachments::Attachments;
use super::detach::{Detacher, Link};
use super::features::{FEATURES, When};
use anyhow::{Result, anyhow};
use aya::Ebpf;
use observer_model::event::Pid;
use std::collections::HashSet;

/// The masters that need these programs, and the attached programs.
#[derive(Debug, Default)]
pub(super) struct GenericIo {
    masters: HashSet<Pid>,
    links: Vec<Link>,
}

impl GenericIo {
    /// Makes sure that the programs are attached, for a master and its workers.
    ///
    /// # Errors
    /// When the kernel rejected a program or refuses to attach it.
    pub(super) fn need(
        &mut self,
        pid: Pid,
        ebpf: &mut Ebpf,
        absent: &Absent,
        attachments: &Attachments,
    ) -> Result<()> {
        if self.links.is_empty() {
            let features = FEATURES.iter();
            for feature in features.filter(|feature| feature.attached == When::GenericIo) {
                let refused = absent.why(feature).cloned().map_or(Ok(()), Err);
                let links = refused.and_then(|()| attach_feature(ebpf, feature));
                let links =
                    links.map_err(|refusal| anyhow!("no {}: {}", feature.name, refusal.why));
                self.links.extend(links?);
            }
            attachments.set_generic_io(true);
        }
        self.masters.insert(pid);
        Ok(())
    }

    /// A master and its workers do not need the programs any more.
    pub(super) fn release(&mut self, pid: Pid, detacher: &mut Detacher, attachments: &Attachments) {
        self.masters.remove(&pid);
        if self.masters.is_empty() && !self.links.is_empty() {
            attachments.set_generic_io(false);
            detacher.detach(std::mem::take(&mut self.links));
        }
    }

    /// Hands out the attached programs, at shutdown.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }
}
