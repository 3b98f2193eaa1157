//! Threads of a process as the kernel numbers them: here, and in the process's own pid namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{DIRECT, Layout};

use super::elf::Machine;

/// Threads looked at.
const MAX_TASKS: usize = 8192;

/// The threads of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// The process's pid, here.
    pub process: u32,
    /// From the number in the innermost pid namespace to that here.
    pub(crate) numbers: BTreeMap<u32, u32>,
}

impl Tasks {
    /// Those of the process with this pid; a thread that ends meanwhile is left out.
    ///
    /// # Errors
    /// When they cannot be listed: the process went, or it may not be looked at.
    pub fn read(proc_root: &Path, pid: u32) -> io::Result<Self> {
        let folder = proc_root.join(format!("{pid}/task"));
        let mut found = Self {
            process: pid,
            ..Self::default()
        };
        for entry in fs::read_dir(folder)?.take(MAX_TASKS) {
            let entry = entry?;
            let Some(tid) = entry.file_name().to_str().and_then(|tid| tid.parse().ok()) else {
                continue;
            };
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
                continue;
            };
            found.numbers.insert(inner(&status).unwrap_or(tid), tid);
            if let Some(process) = field(&status, "Tgid:").and_then(|own| own.parse().ok()) {
                found.process = process;
            }
        }
        Ok(found)
    }

    /// Which of them a `PyThreadState` belongs to; `None` where it does not tell.
    ///
    /// It knows its number itself from 3.11 on. Before, glibc does, in the `struct pthread` that
    /// `thread_id` points to. Neither is trusted unless there is such a thread: CPython up to
    /// 3.11.1 kept the number of the parent in a forked child.
    pub fn of_thread<M: Memory>(&self, mem: &M, layout: &Layout, tstate: u64) -> Option<u32> {
        let number = match layout.tstate_native_thread_id {
            DIRECT => {
                let at = tstate.checked_add(u64::from(layout.tstate_thread_id))?;
                let pthread = mem.word(at).ok()?;
                u64::from(int(mem, pthread.checked_add(TID_IN_PTHREAD)?).ok()?)
            }
            native => mem.word(tstate.checked_add(u64::from(native))?).ok()?,
        };
        self.numbers.get(&u32::try_from(number).ok()?).copied()
    }
}

/// `struct pthread` → `tid`, behind a header and a list (`nptl/descr.h`; the header's size is
/// that of `tcbhead_t` on x86-64, and of padding on aarch64, glibc 2.31 to 2.43).
const TID_IN_PTHREAD: u64 = match Machine::HOST {
    Machine::X86_64 => 720,
    Machine::Aarch64 => 208,
};

fn int<M: Memory>(mem: &M, at: u64) -> Result<u32, Fault> {
    let mut bytes = [0; 4];
    mem.read(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// The last of the numbers of `NSpid`, which kernels without pid namespaces lack.
fn inner(status: &str) -> Option<u32> {
    let numbers = field(status, "NSpid:")?;
    numbers.split_ascii_whitespace().next_back()?.parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::PageMap;
    use super::*;
    use probe_ebpf::python::tables::{CPYTHON_3_10, CPYTHON_3_11};

    /// A process whose threads are 10 and 12 here, and 1 and 3 inside; 11 just ended.
    fn tasks() -> Tasks {
        let root = tempfile::tempdir().unwrap();
        for (tid, inner) in [(10, "\t1"), (12, "\t3")] {
            let folder = root.path().join(format!("10/task/{tid}"));
            fs::create_dir_all(&folder).unwrap();
            let status = format!("Name:\tgunicorn\nTgid:\t10\nNSpid:\t{tid}{inner}\n");
            fs::write(folder.join("status"), status).unwrap();
        }
        fs::create_dir_all(root.path().join("10/task/11")).unwrap();
        assert!(Tasks::read(root.path(), 13).is_err());
        Tasks::read(root.path(), 10).unwrap()
    }

    #[test]
    fn a_thread_state_knows_its_number_in_its_own_namespace() {
        let tasks = tasks();
        assert_eq!(tasks.process, 10);
        let mut memory = PageMap::default();
        let of = |memory: &PageMap| tasks.of_thread(memory, &CPYTHON_3_11, 0x1000);
        for (number, expected) in [(3, Some(12)), (1, Some(10)), (2, None), (1 << 32 | 3, None)] {
            memory.put_words(0x1000 + 160, &[number]);
            assert_eq!(of(&memory), expected, "{number}");
        }
        assert_eq!(of(&PageMap::default()), None);
    }

    #[test]
    fn before_that_the_c_library_knows_it() {
        let mut memory = PageMap::default();
        memory.put_words(0x1000 + 176, &[0x7000]);
        memory.put_words(0x7000 + TID_IN_PTHREAD, &[0xffff_ffff_0000_0003]);
        let found = tasks().of_thread(&memory, &CPYTHON_3_10, 0x1000);
        assert_eq!(found, Some(12));
    }

    #[test]
    fn this_process_has_this_thread() {
        let tasks = Tasks::read(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!(tasks.process, std::process::id());
        assert!(tasks.numbers.len() > 1);
    }
}
