//! Attachments to interpreters: one for each file and place, shared by all processes that map the file,
//! as long as one of them needs it.

use super::detach::Link;
use super::features::PythonHook;
use crate::cpython::target::{Collector, ProbePoint};
use crate::process::maps::FileNumber;
use anyhow::{Result, bail};
use observer_model::event::Pid;
use std::collections::{HashMap, HashSet};

/// Interpreter files whose garbage collections are seen. Each attachment takes about a tenth of a second
/// to detach at shutdown, and all of them have two seconds.
const MAX_GC_FILES: usize = 1;

/// A hook and a place in a file.
type HookPlace = (PythonHook, FileNumber, u64);

struct Attached {
    link: Link,
    users: HashSet<Pid>,
}

/// The attachments to all interpreters.
#[derive(Default)]
pub(super) struct Interpreters {
    attached: HashMap<HookPlace, Attached>,
    /// The interpreter file whose garbage collections are seen, also after its last process exited.
    gc_file: Option<FileNumber>,
}

fn place(hook: PythonHook, point: &ProbePoint) -> HookPlace {
    (hook, point.probed, point.file_offset)
}

impl Interpreters {
    /// Makes sure that a place is attached for a process, by `attach` if it is not yet.
    ///
    /// # Errors
    /// Those of `attach`.
    pub(super) fn attach(
        &mut self,
        pid: Pid,
        hook: PythonHook,
        point: &ProbePoint,
        attach: impl FnOnce() -> Result<Link>,
    ) -> Result<()> {
        let place = place(hook, point);
        if let Some(attached) = self.attached.get_mut(&place) {
            attached.users.insert(pid);
            return Ok(());
        }
        let link = attach()?;
        let users = HashSet::from([pid]);
        self.attached.insert(place, Attached { link, users });
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
            bail!("only those of the first interpreter are, to keep shutdown short");
        }
        self.gc_file = file;
        Ok(())
    }

    /// Number of interpreter files.
    fn files(&self) -> usize {
        let places = self.attached.keys();
        let of_interpreters = places.filter(|place| place.0 == PythonHook::ExceptionAsked);
        let files: HashSet<_> = of_interpreters.map(|&(_, file, _)| file).collect();
        files.len()
    }

    /// A process does not need these hooks any more. Returns the attachments that no process needs, to
    /// be detached from the last to the first.
    pub(super) fn release(
        &mut self,
        pid: Pid,
        is_released: impl Fn(PythonHook) -> bool,
    ) -> Vec<Link> {
        let mut unused = Vec::new();
        for (place, attached) in &mut self.attached {
            if is_released(place.0) && attached.users.remove(&pid) && attached.users.is_empty() {
                unused.push(*place);
            }
        }
        unused.sort_unstable_by(|one, other| other.cmp(one));
        let unused = unused
            .iter()
            .filter_map(|place| self.attached.remove(place));
        unused.map(|attached| attached.link).collect()
    }

    /// The hook of every attachment.
    pub(super) fn hooks(&self) -> impl Iterator<Item = PythonHook> {
        self.attached.keys().map(|place| place.0)
    }

    /// Hands out all attachments, at shutdown.
    pub(super) fn take_links(&mut self) -> Vec<Link> {
        let attached = self.attached.drain();
        attached.map(|(_, attached)| attached.link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::insn::Placement;

    fn collector(inode: u64) -> Collector {
        let file = FileNumber { dev: 1, inode };
        let point = ProbePoint {
            path_to_open: "/usr/bin/python3".into(),
            opened: file,
            probed: file,
            file_offset: 64,
            placement: Placement {
                offset: 0,
                emulated: true,
            },
        };
        Collector {
            begins: vec![point.clone()],
            ends: vec![point],
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
}
