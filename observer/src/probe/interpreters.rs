//! Attachments to interpreters: one for each hook and file, shared by all processes that map the file,
//! as long as one of them needs it.

use super::detach::Link;
use super::features::PythonHook;
use crate::cpython::target::{Collector, ProbePoint};
use crate::process::maps::FileNumber;
use anyhow::{Result, bail};
use observer_model::event::Pid;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Interpreter files whose garbage collections are seen where each place is attached by itself. Each
/// takes about a tenth of a second to detach at shutdown, and all of them have two seconds.
const MAX_GC_FILES: usize = 1;

#[derive(Default)]
struct Attached {
    /// Offsets in the file.
    places: BTreeSet<u64>,
    links: Vec<Link>,
    users: HashSet<Pid>,
}

/// The attachments to all interpreters.
#[derive(Default)]
pub(super) struct Interpreters {
    attached: BTreeMap<(PythonHook, FileNumber), Attached>,
    /// The interpreter file whose garbage collections are seen, also after its last process exited.
    gc_file: Option<FileNumber>,
}

impl Interpreters {
    /// Makes sure that the places of a hook are attached for a process. `attach` is called for places
    /// of one file that are not yet.
    ///
    /// # Errors
    /// Those of `attach`.
    pub(super) fn attach(
        &mut self,
        pid: Pid,
        hook: PythonHook,
        points: &[ProbePoint],
        mut attach: impl FnMut(&[&ProbePoint]) -> Result<Vec<Link>>,
    ) -> Result<()> {
        let mut files: BTreeMap<FileNumber, Vec<&ProbePoint>> = BTreeMap::new();
        for point in points {
            files.entry(point.probed).or_default().push(point);
        }
        for (file, points) in files {
            let known = self.attached.get(&(hook, file));
            let is_new = |point: &&ProbePoint| {
                known.is_none_or(|known| !known.places.contains(&point.file_offset))
            };
            let new: Vec<_> = points.into_iter().filter(is_new).collect();
            let links = if new.is_empty() {
                Vec::new()
            } else {
                attach(&new)?
            };
            let attached = self.attached.entry((hook, file)).or_default();
            attached.users.insert(pid);
            attached.places.extend(new.iter().map(|it| it.file_offset));
            attached.links.extend(links);
        }
        Ok(())
    }

    /// Whether the garbage collector of an interpreter may be attached to, and notes that it is.
    ///
    /// # Errors
    /// When that of another interpreter is, or was.
    pub(super) fn allow_gc(&mut self, collector: &Collector) -> Result<()> {
        let file = collector.begins.first().map(|point| point.probed);
        // Never another file: detaching one and attaching another would make requests wait.
        let is_allowed = match self.gc_file {
            Some(_) => self.gc_file == file,
            None => self.files() <= MAX_GC_FILES,
        };
        if !is_allowed {
            bail!(
                "only those of the first interpreter are before Linux 6.6, to keep shutdown short"
            );
        }
        self.gc_file = file;
        Ok(())
    }

    /// Number of interpreter files.
    fn files(&self) -> usize {
        let places = self.attached.keys();
        let of_interpreters = places.filter(|(hook, _)| *hook == PythonHook::DatetimeNow);
        of_interpreters.count()
    }

    /// A process does not need these hooks any more. Returns the attachments that no process needs, to
    /// be detached from the last to the first.
    pub(super) fn release(
        &mut self,
        pid: Pid,
        is_released: impl Fn(PythonHook) -> bool,
    ) -> Vec<Link> {
        let unused = self.attached.extract_if(.., |(hook, _), attached| {
            is_released(*hook) && attached.users.remove(&pid) && attached.users.is_empty()
        });
        let unused: Vec<_> = unused.collect();
        let links = unused.into_iter().rev();
        links.flat_map(|(_, attached)| attached.links).collect()
    }

    /// Every hook of a file, with its number of places.
    pub(super) fn places(&self) -> impl Iterator<Item = (PythonHook, u32)> {
        let attached = self.attached.iter();
        attached.map(|(&(hook, _), attached)| {
            (
                hook,
                u32::try_from(attached.places.len()).unwrap_or(u32::MAX),
            )
        })
    }

    /// Hands out all attachments, at shutdown.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        let attached = std::mem::take(&mut self.attached).into_values();
        attached.flat_map(|attached| attached.links).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::insn::Placement;

    fn point(inode: u64, file_offset: u64) -> ProbePoint {
        let file = FileNumber { dev: 1, inode };
        ProbePoint {
            path_to_open: "/usr/bin/python3".into(),
            opened: file,
            probed: file,
            file_offset,
            placement: Placement {
                offset: 0,
                emulated: true,
            },
        }
    }

    fn collector(inode: u64) -> Collector {
        Collector {
            begins: vec![point(inode, 64)],
            ends: vec![point(inode, 64)],
        }
    }

    #[test]
    fn collections_are_seen_again_after_the_gunicorn_of_the_first_interpreter_restarted() {
        let mut interpreters = Interpreters::default();
        assert!(interpreters.allow_gc(&collector(7)).is_ok());
        // Its last process exited: nothing is attached.
        assert!(interpreters.allow_gc(&collector(7)).is_ok());
        assert!(interpreters.allow_gc(&collector(8)).is_err());
    }

    #[test]
    fn each_place_is_attached_once_and_those_of_a_file_together() {
        let mut interpreters = Interpreters::default();
        let mut calls: Vec<Vec<u64>> = Vec::new();
        let mut attach = |pid, points: &[ProbePoint]| {
            let attached = interpreters.attach(pid, PythonHook::ExceptionAsked, points, |new| {
                calls.push(new.iter().map(|point| point.file_offset).collect());
                Ok(Vec::new())
            });
            attached.unwrap();
        };
        attach(1, &[point(7, 64), point(7, 80), point(8, 64)]);
        attach(2, &[point(7, 80)]);
        attach(3, &[point(7, 80), point(7, 96)]);
        assert_eq!(calls, [vec![64, 80], vec![64], vec![96]]);
        let places = |interpreters: &Interpreters| -> u32 {
            interpreters.places().map(|(_, places)| places).sum()
        };
        assert_eq!(places(&interpreters), 4);
        interpreters.release(1, |_| true);
        assert_eq!(places(&interpreters), 3);
        interpreters.release(2, |hook| hook == PythonHook::GcEnds);
        interpreters.release(3, |_| true);
        assert_eq!(places(&interpreters), 3);
        interpreters.release(2, |_| true);
        assert_eq!(places(&interpreters), 0);
    }
}
