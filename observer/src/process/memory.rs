//! Memory of another process.

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use probe_ebpf::memory::{Fault, Memory};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::IoSliceMut;

/// Read at once: the smallest page size of Linux, so an unmapped neighbour hides nothing.
const PAGE_BYTES: usize = 4096;
const PAGE_MASK: u64 = PAGE_BYTES as u64 - 1;
/// Pages that a [`Snapshot`] keeps by default: 8 MiB.
const MAX_PAGES: usize = 2048;
/// Reads that a [`Snapshot`] serves: a hundred times what a thousand workers need. Bounds the walk of
/// structures without an end.
const MAX_READS: u32 = 400_000;

/// Memory of a running process, read by `process_vm_readv(2)`: needs `CAP_SYS_PTRACE`, does not stop
/// the process.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: i32,
    denial: Cell<Option<Errno>>,
}

impl ProcessMemory {
    /// Memory of a process, by its PID in the observer's PID namespace.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        // A pid that does not fit is no pid: reads of -1 fail with ESRCH.
        Self {
            pid: i32::try_from(pid).unwrap_or(-1),
            denial: Cell::new(None),
        }
    }

    /// Why no read can succeed, if the last failure says so: the process exited (`ESRCH`) or must not
    /// be read (`EPERM`).
    #[must_use]
    pub fn denial(&self) -> Option<Errno> {
        self.denial.get()
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let base = usize::try_from(address).map_err(|_| Fault)?;
        let len = buf.len();
        let remote = [RemoteIoVec { base, len }];
        match process_vm_readv(
            Pid::from_raw(self.pid),
            &mut [IoSliceMut::new(buf)],
            &remote,
        ) {
            Ok(read) if read == len => Ok(()),
            Ok(_) => Err(Fault),
            Err(errno) => {
                if matches!(errno, Errno::ESRCH | Errno::EPERM) {
                    self.denial.set(Some(errno));
                }
                Err(Fault)
            }
        }
    }
}

/// Reads whole pages of another [`Memory`] once and keeps them: thousands of small reads become
/// dozens of calls, and a second read returns the same.
#[derive(Debug)]
pub struct Snapshot<M> {
    inner: M,
    max_pages: usize,
    reads_left: Cell<u32>,
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE_BYTES]>>>>,
}

impl<M: Memory> Snapshot<M> {
    /// An empty snapshot of at most 8 MiB; further reads are faults.
    pub fn new(inner: M) -> Self {
        Self::with_max_pages(inner, MAX_PAGES)
    }

    /// An empty snapshot of at most this many pages; further reads are faults.
    pub fn with_max_pages(inner: M, max_pages: usize) -> Self {
        Self {
            inner,
            max_pages,
            reads_left: Cell::new(MAX_READS),
            pages: RefCell::default(),
        }
    }

    /// The memory that it reads.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn copy_from_page(&self, page: u64, offset: usize, out: &mut [u8]) -> Result<(), Fault> {
        let mut pages = self.pages.borrow_mut();
        if !pages.contains_key(&page) {
            if pages.len() >= self.max_pages {
                return Err(Fault);
            }
            let mut bytes = Box::new([0; PAGE_BYTES]);
            let read = self.inner.read(page, bytes.as_mut_slice());
            pages.insert(page, read.ok().map(|()| bytes));
        }
        let bytes = pages.get(&page).and_then(Option::as_ref).ok_or(Fault)?;
        let end = offset.checked_add(out.len()).ok_or(Fault)?;
        out.copy_from_slice(bytes.get(offset..end).ok_or(Fault)?);
        Ok(())
    }
}

impl<M: Memory> Memory for Snapshot<M> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.reads_left
            .set(self.reads_left.get().checked_sub(1).ok_or(Fault)?);
        let mut address = address;
        let mut rest = buf;
        while !rest.is_empty() {
            let offset = usize::try_from(address & PAGE_MASK).map_err(|_| Fault)?;
            let take = rest.len().min(PAGE_BYTES - offset);
            let (now, later) = rest.split_at_mut(take);
            self.copy_from_page(address & !PAGE_MASK, offset, now)?;
            rest = later;
            if !rest.is_empty() {
                address = address.checked_add(take as u64).ok_or(Fault)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// For tests: a process with a few ranges of bytes.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct PageMap {
        ranges: BTreeMap<u64, Vec<u8>>,
        reads: Cell<usize>,
    }

    impl PageMap {
        pub(crate) fn put(&mut self, address: u64, bytes: &[u8]) {
            self.ranges.insert(address, bytes.to_vec());
        }

        /// Changes bytes within a range.
        pub(crate) fn patch(&mut self, address: u64, bytes: &[u8]) {
            let around = self.ranges.range_mut(..=address).next_back();
            let (start, range) = around.expect("no range begins before");
            let from = usize::try_from(address - start).expect("it is far");
            range[from..from + bytes.len()].copy_from_slice(bytes);
        }

        pub(crate) fn put_words(&mut self, address: u64, words: &[u64]) {
            self.put(
                address,
                &words
                    .iter()
                    .flat_map(|w| w.to_le_bytes())
                    .collect::<Vec<_>>(),
            );
        }
    }

    impl Memory for PageMap {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
            self.reads.set(self.reads.get() + 1);
            let (start, bytes) = self.ranges.range(..=address).next_back().ok_or(Fault)?;
            let from = usize::try_from(address - start).map_err(|_| Fault)?;
            let to = from.checked_add(buf.len()).ok_or(Fault)?;
            buf.copy_from_slice(bytes.get(from..to).ok_or(Fault)?);
            Ok(())
        }
    }

    #[test]
    fn a_snapshot_reads_each_page_once_and_across_pages() {
        let mut map = PageMap::default();
        let bytes: Vec<u8> = (0..8192u32)
            .map(|i| u8::try_from(i / 64 % 256).unwrap())
            .collect();
        map.put(0x10000, &bytes);
        let snapshot = Snapshot::new(map);
        let mut buf = [0; 128];
        snapshot.read(0x10000 + 4096 - 64, &mut buf).unwrap();
        assert_eq!(buf[..], bytes[4096 - 64..4096 + 64]);
        snapshot.read(0x10000, &mut buf).unwrap();
        assert_eq!(snapshot.inner().reads.get(), 2);
    }

    #[test]
    fn unmapped_memory_the_end_of_the_address_space_and_too_many_pages_are_faults() {
        let mut map = PageMap::default();
        map.put(0, &[0; 3 * 4096]);
        map.put(u64::MAX - 4095, &[1; 4096]);
        let snapshot = Snapshot::with_max_pages(map, 2);
        assert_eq!(snapshot.word(u64::MAX - 7), Ok(0x0101_0101_0101_0101));
        assert_eq!(snapshot.word(u64::MAX - 3), Err(Fault));
        assert_eq!(snapshot.word(0), Ok(0));
        assert_eq!(
            snapshot.word(4096),
            Err(Fault),
            "only two pages may be kept"
        );
    }

    #[test]
    fn the_own_process_is_readable() {
        let value = 0x1122_3344_5566_7788_u64;
        let memory = ProcessMemory::new(std::process::id());
        assert_eq!(memory.word(std::ptr::from_ref(&value) as u64), Ok(value));
        assert_eq!(memory.word(8), Err(Fault));
        assert_eq!(memory.denial(), None);
    }

    #[test]
    fn a_missing_process_is_distinguished_from_a_bad_address() {
        let memory = ProcessMemory::new(u32::MAX);
        assert_eq!(memory.word(4096), Err(Fault));
        assert_eq!(memory.denial(), Some(Errno::ESRCH));
    }
}
