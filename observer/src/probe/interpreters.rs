//! The interpreters the programs are attached to: once for each file and place, shared
//! by all processes that map it, as long as one does.

use super::attach::attach_interpreter;
use super::programs::Uprobe;
use crate::cpython::target::{Interpreter, ProbePoint};
use crate::probe::detach::{Detacher, Link};
use crate::process::maps::FileNumber;
use anyhow::{Result, anyhow, bail};
use aya::Ebpf;
use observer_model::event::Pid;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Garbage collections are seen of so many interpreter files: each place that a
/// program is attached to takes about a tenth of a second when the observer ends, and it has two
/// seconds for all.
const MAX_COLLECTORS: usize = 1;

/// A program, and a place in a file.
type Place = (Uprobe, FileNumber, u64);

struct Attached {
    link: Link,
    users: HashSet<Pid>,
}

/// At how many places each program is attached.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<Uprobe, u32>>>);

impl Counts {
    /// Of one program.
    #[must_use]
    pub fn of(&self, uprobe: Uprobe) -> u32 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&uprobe).copied().unwrap_or(0)
    }

    fn set(&self, uprobes: impl Iterator<Item = Uprobe>) {
        let mut counts = BTreeMap::new();
        for uprobe in uprobes {
            *counts.entry(uprobe).or_default() += 1;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// Owns the loaded programs; dropping it detaches all of them.
pub struct Interpreters {
    ebpf: Ebpf,
    /// Those of the whole host.
    host: Vec<Link>,
    attached: HashMap<Place, Attached>,
    detacher: Detacher,
    /// Garbage collections were begun to be seen.
    has_collected: bool,
    counts: Counts,
}

impl Drop for Interpreters {
    fn drop(&mut self) {
        let of_files = self.attached.drain().map(|(_, attached)| attached.link);
        let all = self.host.drain(..).chain(of_files).collect();
        self.detacher.detach_all(all);
    }
}

impl Interpreters {
    /// Attached are those of the whole `host`; `counts` are kept.
    #[must_use]
    pub fn new(ebpf: Ebpf, host: Vec<Link>, counts: Counts) -> Self {
        Self {
            ebpf,
            host,
            attached: HashMap::new(),
            detacher: Detacher::default(),
            has_collected: false,
            counts,
        }
    }

    /// All programs.
    pub fn programs(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Makes sure that requests of process `pid` are seen.
    ///
    /// # Errors
    /// When the file cannot be opened or the kernel refuses.
    pub fn attach(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        self.attach_at(pid, Uprobe::Request, &interpreter.now)
    }

    /// How many interpreters there are.
    fn files(&self) -> usize {
        let places = self.attached.keys();
        let of_interpreters = places.filter(|place| place.0 == Uprobe::Asked);
        let files: HashSet<_> = of_interpreters.map(|&(_, file, _)| file).collect();
        files.len()
    }

    /// Makes sure that exceptions are seen that it handles, as far as its interpreter has
    /// functions that tell: what is missing is among its shortcomings.
    ///
    /// # Errors
    /// Likewise.
    pub fn attach_asked(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let mut points = interpreter.asked.iter().flatten();
        points.try_for_each(|point| self.attach_at(pid, Uprobe::Asked, point))
    }

    /// Makes sure that its garbage collections are seen, as far as its interpreter tells where
    /// they begin and end.
    ///
    /// # Errors
    /// Likewise.
    pub fn attach_collector(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let Ok(collector) = &interpreter.collector else {
            return Ok(());
        };
        // Once only: what comes and goes would make all others wait, for requests too.
        let place = |point: &ProbePoint| {
            let uprobe = Uprobe::CollectionBegins;
            (uprobe, point.probed, point.file_offset)
        };
        let mut begins = collector.begins.iter().map(place);
        let is_seen = begins.any(|place| self.attached.contains_key(&place));
        if !is_seen && (self.has_collected || self.files() > MAX_COLLECTORS) {
            bail!(
                "those of the first interpreter are; of others that takes too long to be detached"
            );
        }
        self.has_collected = true;
        // The end first: what is seen to begin is seen to end.
        let ends = collector.ends.iter();
        ends.map(|point| (Uprobe::CollectionEnds, point))
            .chain(
                collector
                    .begins
                    .iter()
                    .map(|point| (Uprobe::CollectionBegins, point)),
            )
            .try_for_each(|(uprobe, point)| self.attach_at(pid, uprobe, point))
    }

    /// Begins to see every frame that an exception of its goes up.
    ///
    /// # Errors
    /// Likewise, or when its interpreter does not have the function.
    pub fn attach_unwound(&mut self, pid: Pid, interpreter: &Interpreter) -> Result<()> {
        let point = interpreter.unwound.as_ref();
        let point = point.map_err(|why| anyhow!("{why}"))?;
        self.attach_at(pid, Uprobe::CapturedFrame, point)
    }

    fn attach_at(&mut self, pid: Pid, uprobe: Uprobe, point: &ProbePoint) -> Result<()> {
        let place = (uprobe, point.probed, point.file_offset);
        if let Some(attached) = self.attached.get_mut(&place) {
            attached.users.insert(pid);
            return Ok(());
        }
        let link = attach_interpreter(&mut self.ebpf, uprobe, point)?;
        let users = HashSet::from([pid]);
        self.attached.insert(place, Attached { link, users });
        self.publish();
        Ok(())
    }

    /// Process `pid` needs its interpreter no more.
    pub fn release(&mut self, pid: Pid) {
        self.release_of(pid, |_| true);
    }

    /// … or only this of it.
    pub fn release_unwound(&mut self, pid: Pid) {
        self.release_of(pid, |uprobe| uprobe == Uprobe::CapturedFrame);
    }

    fn release_of(&mut self, pid: Pid, is_meant: impl Fn(Uprobe) -> bool) {
        let mut unused = Vec::new();
        for (place, attached) in &mut self.attached {
            if is_meant(place.0) && attached.users.remove(&pid) && attached.users.is_empty() {
                unused.push(*place);
            }
        }
        // Beginnings before ends, likewise.
        unused.sort_unstable();
        let unused = unused
            .iter()
            .filter_map(|place| self.attached.remove(place));
        let links = unused.map(|attached| attached.link).collect();
        self.detacher.detach(links);
        self.publish();
    }

    fn publish(&self) {
        self.counts.set(self.attached.keys().map(|place| place.0));
    }
}
