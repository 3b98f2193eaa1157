//! The maps, and safe access to their values.
//!
//! A value is memory of the kernel's that lives at least as long as the program
//! runs (RCU). All values are integers. A connection or request is only ever
//! worked on by the thread that serves it, so what can race is what userspace
//! deletes: the dead.

use super::conn::Write;
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf},
};
use probe_ebpf::abi::{
    CapturedFrameRecord, Collection, Conn, ConnKey, Established, ExceptionRecord, Flow, Gil,
    NO_LAYOUT, ObjectKey, Role, StackRecord, StackWalk, Stat, Tail, Target, Thread,
};
use probe_ebpf::gunicorn::Code;
use probe_ebpf::http::{ResponseHead, Window};
use probe_ebpf::python::Layout;

/// Records for userspace.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);
/// Observed processes, by tgid.
#[map]
pub static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(8192, 0);
/// Interpreter builds.
#[map]
pub static LAYOUTS: Array<Layout> = Array::with_max_entries(64, 0);
/// Code objects already looked at.
#[map]
pub static CODES: LruHashMap<ObjectKey, Code> = LruHashMap::with_max_entries(16384, 0);
/// Accepted connections.
#[map]
pub static CONNS: HashMap<ConnKey, Conn> = HashMap::with_max_entries(16384, 0);
/// Requests between entry and exit, by their request object.
#[map]
pub static FLOWS: HashMap<ObjectKey, Flow> = HashMap::with_max_entries(16384, 0);
/// Descriptors of connections, by the Python object that stands for them.
#[map]
pub static CLIENTS: HashMap<ObjectKey, i32> = HashMap::with_max_entries(16384, 0);
/// Threads of targets, by tgid << 32 | tid.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(32768, 0);
/// When a TCP connection was established, by its `struct sock`.
#[map]
pub static SOCKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(32768, 0);
/// When a connection to a Unix socket was established, by the `struct sock` to be accepted.
#[map]
pub static UNIX_SOCKS: LruHashMap<u64, Established> = LruHashMap::with_max_entries(8192, 0);
/// The `struct sock` that a thread connects to a Unix socket, by tgid << 32 | tid; and the other way
/// round.
#[map]
pub static CONNECTING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static CONNECTING_SOCKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);
/// Threads that collect garbage, by tgid << 32 | tid.
#[map]
pub static COLLECTIONS: LruHashMap<u64, Collection> = LruHashMap::with_max_entries(8192, 0);
/// Global interpreter locks, by tgid: none but where their waits are asked for.
#[map]
pub static GILS: HashMap<u32, Gil> = HashMap::with_max_entries(8192, 0);
/// Since when threads wait for one, by tgid << 32 | tid.
#[map]
pub static GIL_WAITS: HashMap<u64, u64> = HashMap::with_max_entries(32768, 0);
/// How long threads waited for one, in nanoseconds, by tgid.
#[map]
pub static GIL_WAITED: PerCpuHashMap<u32, u64> = PerCpuHashMap::with_max_entries(8192, 0);
/// Counters, by [`Stat`].
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT, 0);
/// Room to look through what a thread reads and writes, by tgid << 32 | tid: from Linux 7.2 on a
/// thread may be preempted in a program on a system call, and another one run it on the same CPU.
#[map]
pub static SCRATCH: LruHashMap<u64, Scratch> = LruHashMap::with_max_entries(1024, 0);
/// Room of a thread that had none: too large for the stack.
#[map]
pub static NEW_SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);
/// Programs that others go on with, by [`Tail`].
#[map]
pub static TAILS: ProgramArray = ProgramArray::with_max_entries(Tail::ALL.len() as u32, 0);
/// An exception before anything is known of it: too large for the stack.
#[map]
pub static NEW_EXCEPTION: Array<ExceptionRecord> = Array::with_max_entries(1, 0);
/// A stack before anything is known of it: likewise.
#[map]
pub static NEW_STACK: Array<StackRecord> = Array::with_max_entries(1, 0);
/// Exceptions, steps of one and stacks that are being told, by tgid << 32 | tid.
#[map]
pub static EXCEPTION_ROOMS: HashMap<u64, ExceptionRecord> = HashMap::with_max_entries(256, 0);
#[map]
pub static UNWOUND_ROOMS: HashMap<u64, CapturedFrameRecord> = HashMap::with_max_entries(256, 0);
#[map]
pub static STACK_ROOMS: HashMap<u64, StackRecord> = HashMap::with_max_entries(16, 0);
/// A step before anything is known of it.
#[map]
pub static NEW_UNWOUND: Array<CapturedFrameRecord> = Array::with_max_entries(1, 0);
/// Threads whose process is looked through, by tgid << 32 | tid.
#[map]
pub static STACK_WALKS: LruHashMap<u64, StackWalk> = LruHashMap::with_max_entries(1024, 0);
/// The program that goes on with the next thread.
#[map]
pub static STACK_TAILS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Hits that closer looks may have and had, by [`LookWord`].
#[map]
pub static LOOK: Array<u64> = Array::with_max_entries(2, 0);
/// A connection before anything is known of it: too large for the stack.
#[map]
pub static NEW_CONN: Array<Conn> = Array::with_max_entries(1, 0);

/// What a thread looks through.
#[repr(C)]
pub struct Scratch {
    /// A piece of a message.
    pub window: Window,
    /// What the head of a response says.
    pub head: ResponseHead,
    /// A write that may begin a response.
    pub write: Write,
}

/// Sees to it that the current thread has its room. Apart from [`scratch`], so that the verifier
/// walks what comes after once, not for each way that leads there.
#[inline(always)]
pub fn make_scratch() {
    let id = current();
    if SCRATCH.get_ptr(id).is_none()
        && let Some(new) = NEW_SCRATCH.get(0)
    {
        // Full it is never: the least recently used one has to go.
        let _ = SCRATCH.insert(id, new, 0);
    }
}

/// The current thread's room.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: only this thread has this key, and it runs one program at a time.
    Some(unsafe { &mut *SCRATCH.get_ptr_mut(current())? })
}

/// The current thread: tgid << 32 | tid.
#[inline(always)]
pub fn current() -> u64 {
    bpf_get_current_pid_tgid()
}

/// Counts one `stat`.
#[inline(always)]
pub fn count(stat: Stat) {
    if let Some(value) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: a per-CPU integer; a lost race with ourselves costs one count.
        unsafe { *value += 1 };
    }
}

/// The target a process is, if it may serve requests: a master does not.
#[inline(always)]
pub fn serving_target(tgid: u32) -> Option<&'static Target> {
    // SAFETY: see the module's first lines.
    unsafe { TARGETS.get(tgid) }.filter(|target| {
        target.role != Role::Master as u32 && target.role != Role::Bystander as u32
    })
}

/// Whether nobody but the system calls can tell the requests of a process: its
/// Python is not read.
#[inline(always)]
pub fn is_told_by_socket(tgid: u32) -> bool {
    serving_target(tgid).is_some_and(|target| target.layout == NO_LAYOUT)
}

/// Likewise, one whose interpreter tells nothing.
#[inline(always)]
pub fn unread_target(tgid: u32) -> Option<&'static Target> {
    serving_target(tgid).filter(|target| target.layout == NO_LAYOUT)
}

/// The layout of a target's interpreter.
#[inline(always)]
pub fn layout(target: &Target) -> Option<&'static Layout> {
    (target.layout != NO_LAYOUT)
        .then(|| LAYOUTS.get(target.layout))
        .flatten()
}

/// The connection behind a descriptor, if it is of this process and not of an
/// earlier one with the same pid.
#[inline(always)]
pub fn conn(key: &ConnKey, generation: u64) -> Option<&'static mut Conn> {
    // SAFETY: see the module's first lines.
    let conn = unsafe { &mut *CONNS.get_ptr_mut(key)? };
    (conn.generation == generation).then_some(conn)
}

/// The open request of a request object, likewise.
#[inline(always)]
pub fn flow(key: &ObjectKey, generation: u64) -> Option<&'static mut Flow> {
    // SAFETY: see the module's first lines.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(key)? };
    (flow.generation == generation).then_some(flow)
}

/// What is known of a thread, likewise.
#[inline(always)]
pub fn thread(id: u64, generation: u64) -> Option<&'static mut Thread> {
    // SAFETY: see the module's first lines.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(id)? };
    (thread.generation == generation).then_some(thread)
}

/// The thread whose system call ends, if its beginning was of interest. No
/// generation is asked for: the call began in this very thread.
#[inline(always)]
pub fn calling_thread(id: u64) -> Option<&'static mut Thread> {
    // SAFETY: see the module's first lines.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(id)? };
    (thread.fd >= 0).then_some(thread)
}
