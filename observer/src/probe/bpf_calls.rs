//! Calls of bpf(2) that aya does not make, or not for programs that it did not load itself.

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Bytes of the verifier's log, at most what kernels accept.
const LOG_BYTES: usize = (16 << 20) - 1;
/// A program whose load is interrupted is loaded again, this often in all.
const ATTEMPTS: u32 = 5;
/// `BPF_OBJ_NAME_LEN` of `linux/bpf.h`.
const NAME_BYTES: usize = 16;

/// Type of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub program_type: bpf_prog_type,
    /// Where it is attached, for types that can be in several places.
    pub attach_type: Option<bpf_attach_type>,
}

/// A program that the kernel rejected.
#[derive(Debug)]
pub(super) struct Rejected {
    pub error: io::Error,
    /// The verifier's log.
    pub log: String,
}

/// `BPF_PROG_LOAD` of `union bpf_attr`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_BYTES],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_RAW_TRACEPOINT_OPEN` of `union bpf_attr`.
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// `BPF_LINK_CREATE` of `union bpf_attr`, without what follows for single types.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// `BPF_LINK_CREATE` of `union bpf_attr`, for `uprobe_multi`.
#[repr(C)]
struct UprobeMultiCreate {
    link: LinkCreate,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    /// 0: in every process.
    pid: u32,
    padding: u32,
}

/// `BPF_MAP_UPDATE_ELEM` of `union bpf_attr`.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_MAP_LOOKUP_BATCH` of `union bpf_attr`.
#[repr(C)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Loads a program.
///
/// # Errors
/// When the kernel rejects it.
pub(super) fn load_program(
    kind: Kind,
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
) -> Result<OwnedFd, Rejected> {
    let load = |log: &mut [u8]| {
        let attr = ProgLoad {
            prog_type: kind.program_type as u32,
            insn_cnt: count(instructions),
            insns: address(instructions.as_ptr()),
            license: address(license.as_ptr()),
            log_level: (!log.is_empty()).into(),
            log_size: count(log),
            log_buf: if log.is_empty() {
                0
            } else {
                address(log.as_mut_ptr())
            },
            kern_version: 0,
            prog_flags: 0,
            prog_name: object_name(name),
            prog_ifindex: 0,
            expected_attach_type: kind.attach_type.map_or(0, |attach_type| attach_type as u32),
        };
        // SAFETY: the attribute's pointers are to slices and a string that outlive the call, with
        // their lengths; the kernel writes to the log alone, which is borrowed for that.
        unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attr) }
    };
    let is_interrupted = |result: &io::Result<OwnedFd>| {
        let error = result.as_ref().err();
        error.and_then(io::Error::raw_os_error) == Some(Errno::EAGAIN as i32)
    };
    // A signal interrupts the verifier.
    let mut results = (0..ATTEMPTS).map(|_| load(&mut []));
    let result = results.find(|result| !is_interrupted(result));
    let result = result.unwrap_or_else(|| Err(Errno::EAGAIN.into()));
    result.map_err(|error| {
        let mut log = vec![0; LOG_BYTES];
        // The same error once more.
        let _ = load(&mut log);
        let len = log.iter().position(|&byte| byte == 0);
        log.truncate(len.unwrap_or(LOG_BYTES));
        let log = String::from_utf8_lossy(&log).into_owned();
        Rejected { error, log }
    })
}

/// Attaches a program to a raw tracepoint.
///
/// # Errors
/// When the kernel refuses, as one without this tracepoint.
pub(super) fn attach_raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let attr = RawTracepointOpen {
        name: address(name.as_ptr()),
        prog_fd: number(program),
        padding: 0,
    };
    // SAFETY: the attribute's pointer is to a string that outlives the call; the kernel only reads it.
    unsafe { bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &attr) }
}

/// Attaches a program to a control group, beside other programs: for a link the kernel adds
/// `BPF_F_ALLOW_MULTI` itself, and refuses it as a flag (`cgroup_bpf_link_attach` in
/// `kernel/bpf/cgroup.c`).
///
/// # Errors
/// When the kernel refuses, as beside a program that allows no other.
pub(super) fn attach_to_control_group(
    program: BorrowedFd<'_>,
    control_group: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: number(program),
        target_fd: number(control_group),
        attach_type: attach_type as u32,
        flags: 0,
    };
    // SAFETY: the attribute has no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attr) }
}

/// Attaches a program at these offsets of a file, in every process that maps it.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn attach_uprobe_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
) -> io::Result<OwnedFd> {
    let attr = UprobeMultiCreate {
        link: LinkCreate {
            prog_fd: number(program),
            target_fd: 0,
            attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            flags: 0,
        },
        path: address(path.as_ptr()),
        offsets: address(offsets.as_ptr()),
        ref_ctr_offsets: 0,
        cookies: 0,
        cnt: count(offsets),
        multi_flags: 0,
        pid: 0,
        padding: 0,
    };
    // SAFETY: the attribute's pointers are to a string and to a slice with its length, which outlive
    // the call; the kernel only reads them.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attr) }
}

/// Puts a program into an array of programs.
///
/// # Errors
/// When the kernel refuses, as a program of another type than those before.
pub(super) fn put_program(
    map: BorrowedFd<'_>,
    index: u32,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let value = program.as_raw_fd().cast_unsigned();
    let attr = MapUpdate {
        map_fd: number(map),
        padding: 0,
        key: address(&raw const index),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: the attribute's pointers are to integers of the map's key and value size, which outlive
    // the call; the kernel only reads them.
    unsafe { call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Every value of an array, by one call.
///
/// # Errors
/// When the kernel refuses: before Linux 5.6.
pub(super) fn read_array<T: Pod>(map: BorrowedFd<'_>, entries: u32) -> io::Result<Vec<T>> {
    let len = usize::try_from(entries).unwrap_or(0);
    let mut keys = vec![0_u32; len];
    let mut values: Vec<T> = Vec::with_capacity(len);
    let mut last = 0_u32;
    let attr = MapBatch {
        in_batch: 0,
        out_batch: address(&raw mut last),
        keys: address(keys.as_mut_ptr()),
        values: address(values.as_mut_ptr()),
        count: entries,
        map_fd: number(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the attribute's pointers are to room for as many keys and values as it says, which
    // outlive the call.
    match unsafe { call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &attr) } {
        // There are no further entries.
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
        done => drop(done?),
    }
    // SAFETY: the kernel filled all values of an array, and any bytes are a valid value.
    unsafe { values.set_len(len) };
    Ok(values)
}

/// Makes a call that returns a new descriptor.
///
/// # Safety
/// As [`call`], with a command that returns a new descriptor.
unsafe fn bpf<T>(command: bpf_cmd, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { call(command, attr) }?;
    // SAFETY: these commands return a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a call.
///
/// # Safety
/// The attribute is the one of this command, and its pointers are valid for what the command does with
/// them.
unsafe fn call<T>(command: bpf_cmd, attr: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of the attribute, which is a live reference. For
    // its pointers see above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, attr, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor as attributes have it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn count<T>(slice: &[T]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}

/// A name with a zero at its end, cut to the kernel's length.
fn object_name(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let of_name = name.bytes().take(NAME_BYTES - 1);
    bytes
        .iter_mut()
        .zip(of_name)
        .for_each(|(byte, of_name)| *byte = of_name);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_have_the_layout_of_the_kernel() {
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(std::mem::offset_of!(UprobeMultiCreate, path), 16);
        assert_eq!(std::mem::offset_of!(UprobeMultiCreate, pid), 56);
        assert_eq!(size_of::<ProgLoad>(), 72);
        assert_eq!(size_of::<UprobeMultiCreate>(), 64);
        assert_eq!(size_of::<RawTracepointOpen>(), 16);
    }

    #[test]
    fn a_name_is_cut_and_ends_with_a_zero() {
        assert_eq!(&object_name("gc_ends"), b"gc_ends\0\0\0\0\0\0\0\0\0");
        assert_eq!(&object_name("a_name_too_long_for_it"), b"a_name_too_long\0");
    }
}
