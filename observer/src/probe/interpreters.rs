//! The interpreters the `datetime.now` program is attached to: once for each
//! file and place, shared by all processes that map it, as long as one does.

use super::load;
use crate::event::Pid;
use crate::python::target::Interpreter;
use anyhow::Result;
use aya::Ebpf;
use aya::programs::uprobe::UProbeLinkId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place in a file: device, inode, offset.
type Place = (u64, u64, u64);

struct Attached {
    link: UProbeLinkId,
    users: HashSet<Pid>,
}

/// Owns the loaded programs; dropping it detaches all of them.
pub struct Interpreters {
    ebpf: Ebpf,
    attached: HashMap<Place, Attached>,
    count: Arc<AtomicU32>,
}

impl Interpreters {
    /// Nothing attached yet. `count` is kept at the number of places.
    #[must_use]
    pub fn new(ebpf: Ebpf, count: Arc<AtomicU32>) -> Self {
        Self {
            ebpf,
            attached: HashMap::new(),
            count,
        }
    }

    /// All programs.
    pub fn programs(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Makes sure that the interpreter of process `pid` is attached to.
    ///
    /// # Errors
    /// When the file cannot be opened or the kernel refuses.
    pub fn attach(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let point = &interpreter.now;
        let place = (point.dev, point.inode, point.file_offset);
        if let Some(attached) = self.attached.get_mut(&place) {
            attached.users.insert(pid);
            return Ok(());
        }
        let link =
            load::attach_interpreter(&mut self.ebpf, &point.path_to_open, point.file_offset)?;
        self.attached.insert(
            place,
            Attached {
                link,
                users: HashSet::from([pid]),
            },
        );
        self.publish();
        Ok(())
    }

    /// Process `pid` needs its interpreter no more.
    pub fn release(&mut self, pid: Pid) {
        let mut unused = Vec::new();
        for (place, attached) in &mut self.attached {
            attached.users.remove(&pid);
            if attached.users.is_empty() {
                unused.push(*place);
            }
        }
        for attached in unused
            .iter()
            .filter_map(|place| self.attached.remove(place))
            .collect::<Vec<_>>()
        {
            if let Err(error) = load::detach_interpreter(&mut self.ebpf, attached.link) {
                tracing::warn!("{error:#}");
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.count.store(
            u32::try_from(self.attached.len()).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
    }
}
