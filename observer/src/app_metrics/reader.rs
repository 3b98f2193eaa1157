//! Reads the metrics of all apps.

use super::error::{Errors, Reason};
use super::exposition;
use super::exposition::App;
use super::file_name::FileName;
use super::folder::{self, Folder, FolderId};
use super::merge::Merge;
use crate::metrics::labels::Labels;
use crate::metrics::subjects;
use crate::process::procfs::ProcFs;
use observer_model::event::Pid;
use observer_model::views::running_master::RunningMaster;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Workers of a master that are asked for its folder.
const MAX_ASKED: usize = 2;
/// Most processes of a master.
const MAX_PROCESSES: usize = 10_000;
/// Most bytes of all files of an app.
const MAX_READ_BYTES: usize = 256 << 20;
/// Most bytes of the exposition.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// What a scrape found.
#[derive(Debug, Default)]
pub struct Scrape {
    pub text: String,
    /// By app.
    pub errors: BTreeMap<String, Errors>,
}

impl Scrape {
    fn errors(&mut self, app: &str) -> &mut Errors {
        self.errors.entry(app.to_owned()).or_default()
    }
}

/// A folder, and the masters whose processes write to it.
struct Shared<'a> {
    folder: Folder,
    masters: Vec<&'a RunningMaster>,
}

/// Reads the metrics of these masters' apps. It blocks.
#[must_use]
pub fn read(procfs: &ProcFs, masters: &[RunningMaster]) -> Scrape {
    let mut scrape = Scrape::default();
    let mut apps = Vec::new();
    let mut room = MAX_TEXT_BYTES;
    for (labels, folders) in by_labels(procfs, masters, &mut scrape) {
        let reserved = labels.iter().map(|(name, _)| *name).collect();
        let app = labels.first().map_or("", |(_, app)| app);
        let mut merge = Merge::new(reserved, room);
        let mut budget = MAX_READ_BYTES;
        for shared in &folders {
            let errors = scrape.errors(app);
            if let Err(error) = shared.read(procfs, &mut merge, &mut budget, errors) {
                errors.add(Reason::Folder, || error.to_string());
            }
        }
        let (families, bytes) = merge.finish();
        room = room.saturating_sub(bytes);
        apps.push(App {
            name: app.to_owned(),
            labels: Labels::of(&labels),
            families,
        });
    }
    scrape.text = exposition::encode(&apps, |app, family| {
        let errors = scrape.errors.entry(app.name.clone()).or_default();
        errors.add(Reason::Type, || family.to_owned());
    });
    scrape.errors.retain(|_, errors| !errors.is_empty());
    scrape
}

/// The labels of an app's series.
type AppLabels<'a> = Vec<(&'static str, &'a str)>;

/// Each folder once, by the labels of the first master that has it: masters with the same labels are one
/// app, as in `/metrics`.
fn by_labels<'a>(
    procfs: &ProcFs,
    masters: &'a [RunningMaster],
    scrape: &mut Scrape,
) -> BTreeMap<AppLabels<'a>, Vec<Shared<'a>>> {
    let mut sorted: Vec<_> = masters.iter().map(|of| (labels(of), of)).collect();
    sorted.sort_by(|a, b| (&a.0, a.1.pid).cmp(&(&b.0, b.1.pid)));
    let mut found: BTreeMap<FolderId, (AppLabels<'a>, Shared<'a>)> = BTreeMap::new();
    for (labels, master) in sorted {
        let folder = match folder_of(procfs, master) {
            Ok(Some(folder)) => folder,
            Ok(None) => continue,
            Err(error) => {
                let errors = scrape.errors(&master.app);
                errors.add(Reason::Folder, || error.to_string());
                continue;
            }
        };
        let Ok(id) = folder.id() else {
            continue;
        };
        let shared = || Shared {
            folder,
            masters: Vec::new(),
        };
        let (_, shared) = found.entry(id).or_insert_with(|| (labels, shared()));
        shared.masters.push(master);
    }
    let mut by_labels: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (labels, shared) in found.into_values() {
        by_labels.entry(labels).or_default().push(shared);
    }
    by_labels
}

fn labels(master: &RunningMaster) -> AppLabels<'_> {
    let app = [("app", &*master.app)].into_iter();
    app.chain(subjects::pod(&master.pod)).collect()
}

/// The folder of the first process that names one.
fn folder_of(procfs: &ProcFs, master: &RunningMaster) -> io::Result<Option<Folder>> {
    let workers = master.workers.iter().take(MAX_ASKED);
    let mut failed = Ok(None);
    for &pid in workers.chain([&master.pid]) {
        match folder::of_process(procfs.root(), pid) {
            Ok(Some(folder)) => return Ok(Some(folder)),
            Ok(None) => {}
            Err(error) => failed = Err(error),
        }
    }
    // A worker that just exited is no failure.
    failed.or_else(|error| match procfs.process(master.pid) {
        Ok(_) => Err(error),
        Err(_) => Ok(None),
    })
}

impl Shared<'_> {
    fn read(
        &self,
        procfs: &ProcFs,
        merge: &mut Merge,
        budget: &mut usize,
        errors: &mut Errors,
    ) -> io::Result<()> {
        let names = self.folder.names()?;
        if names.is_cut {
            errors.add(Reason::FileLimit, || {
                let limit = folder::MAX_FILES;
                format!("more than {limit} files")
            });
        }
        let processes = self.processes(procfs);
        let live = own_pids(procfs, &processes);
        let users = users(procfs, &processes);
        for name in in_order(names.files, &live) {
            match self.folder.read(&name, &users, *budget) {
                Ok(Some(bytes)) => {
                    *budget -= bytes.len();
                    merge.file(&name, &bytes, errors);
                }
                Ok(None) => {}
                Err(reason) => errors.add(reason, || name.name),
            }
        }
        Ok(())
    }

    /// The masters, their workers, and what these started.
    fn processes(&self, procfs: &ProcFs) -> BTreeSet<Pid> {
        let mut all: BTreeSet<Pid> = self.masters.iter().map(|master| master.pid).collect();
        let mut next: Vec<_> = all.iter().copied().collect();
        while let Some(pid) = next.pop() {
            for child in procfs.children(pid).unwrap_or_default() {
                if all.len() < MAX_PROCESSES && all.insert(child.pid) {
                    next.push(child.pid);
                }
            }
        }
        all
    }
}

/// The PIDs that processes have in their own namespaces, which is what they call themselves.
fn own_pids(procfs: &ProcFs, processes: &BTreeSet<Pid>) -> BTreeSet<Pid> {
    let own = |pid: &Pid| procfs.namespace_pids(*pid).ok()?.last().copied();
    processes.iter().filter_map(own).collect()
}

fn users(procfs: &ProcFs, processes: &BTreeSet<Pid>) -> BTreeSet<u32> {
    let user = |pid: &Pid| procfs.user(*pid).ok();
    processes.iter().filter_map(user).collect()
}

/// The files to merge: those of live processes first, because the first one that has a family says what
/// it is. Those that only count while their process lives are left out after its exit.
fn in_order(mut files: Vec<FileName>, live: &BTreeSet<u32>) -> Vec<FileName> {
    files.retain(|file| !file.is_live || file.is_of(live));
    files.sort_by_cached_key(|file| (!file.is_of(live), file.clone()));
    files
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
