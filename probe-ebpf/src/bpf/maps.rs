//! The maps, and safe access to their values.
//!
//! A value is kernel memory that lives at least as long as the program runs (RCU). All values are
//! integers. Only the thread that serves a connection or request works on it. Userspace deletes
//! entries of dead processes only, so no other access races.

use super::scratch::Scratch;
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf},
};
use probe_ebpf::abi::{
    CapturedFrameRecord, Conn, ConnKey, Established, ExceptionRecord, Flow, GcRun, Gil, NO_LAYOUT,
    ObjectKey, Role, StackRecord, StackWalk, Stat, Tail, Target, Thread,
};
use probe_ebpf::gunicorn::Code;
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
/// Classified code objects.
#[map]
pub static CODES: LruHashMap<ObjectKey, Code> = LruHashMap::with_max_entries(16384, 0);
/// Accepted connections.
#[map]
pub static CONNS: HashMap<ConnKey, Conn> = HashMap::with_max_entries(16384, 0);
/// Requests between entry and exit, by their request object.
#[map]
pub static FLOWS: HashMap<ObjectKey, Flow> = HashMap::with_max_entries(16384, 0);
/// Descriptors of connections, by the Python object of the connection.
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
/// The `struct sock` that a thread connects to a Unix socket, by tgid << 32 | tid.
#[map]
pub static CONNECTING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);
/// The thread that connects a `struct sock` to a Unix socket.
#[map]
pub static CONNECTING_SOCKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);
/// Current garbage collections, by tgid << 32 | tid.
#[map]
pub static GC_RUNS: LruHashMap<u64, GcRun> = LruHashMap::with_max_entries(8192, 0);
/// Global interpreter locks, by tgid; empty without `--gil`.
#[map]
pub static GILS: HashMap<u32, Gil> = HashMap::with_max_entries(8192, 0);
/// Start of each thread's current GIL wait, by tgid << 32 | tid.
#[map]
pub static GIL_WAITS: HashMap<u64, u64> = HashMap::with_max_entries(32768, 0);
/// Total GIL wait of each process's threads, in nanoseconds, by tgid.
#[map]
pub static GIL_WAITED: PerCpuHashMap<u32, u64> = PerCpuHashMap::with_max_entries(8192, 0);
/// Counters, by [`Stat`].
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT, 0);
/// Scratch space by thread, tgid << 32 | tid. By CPU would not do: from Linux 7.2 on a thread may be
/// preempted in a program on a system call while another thread runs the program on the same CPU.
#[map]
pub static SCRATCH: LruHashMap<u64, Scratch> = LruHashMap::with_max_entries(1024, 0);
/// An empty [`Scratch`]: too large for the stack.
#[map]
pub static NEW_SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);
/// Programs that others continue with, by [`Tail`].
#[map]
pub static TAILS: ProgramArray = ProgramArray::with_max_entries(Tail::COUNT, 0);
/// An empty exception record: too large for the stack.
#[map]
pub static NEW_EXCEPTION: Array<ExceptionRecord> = Array::with_max_entries(1, 0);
/// An empty stack record: too large for the stack.
#[map]
pub static NEW_STACK: Array<StackRecord> = Array::with_max_entries(1, 0);
/// Exception records being filled, by tgid << 32 | tid.
#[map]
pub static EXCEPTION_ROOMS: HashMap<u64, ExceptionRecord> = HashMap::with_max_entries(256, 0);
/// Captured-frame records being filled, by tgid << 32 | tid.
#[map]
pub static CAPTURED_FRAME_ROOMS: HashMap<u64, CapturedFrameRecord> =
    HashMap::with_max_entries(256, 0);
/// Stack records being filled, by tgid << 32 | tid.
#[map]
pub static STACK_ROOMS: HashMap<u64, StackRecord> = HashMap::with_max_entries(16, 0);
/// An empty captured-frame record.
#[map]
pub static NEW_CAPTURED_FRAME: Array<CapturedFrameRecord> = Array::with_max_entries(1, 0);
/// Walks through the threads of a process, by the thread that walks, tgid << 32 | tid.
#[map]
pub static STACK_WALKS: LruHashMap<u64, StackWalk> = LruHashMap::with_max_entries(1024, 0);
/// The program that continues with the next thread.
#[map]
pub static STACK_TAILS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Hits that deep captures may use and have used, by [`CaptureBudget`].
#[map]
pub static CAPTURE_BUDGET: Array<u64> = Array::with_max_entries(2, 0);
/// An empty connection: too large for the stack.
#[map]
pub static NEW_CONN: Array<Conn> = Array::with_max_entries(1, 0);

/// Creates the current thread's scratch space if it has none. Separate from [`scratch`], so that the
/// verifier walks the code behind it once, not once for each path.
#[inline(always)]
pub fn make_scratch() {
    let id = current();
    if SCRATCH.get_ptr(id).is_none()
        && let Some(new) = NEW_SCRATCH.get(0)
    {
        // The map is never full: it evicts the least recently used entry.
        let _ = SCRATCH.insert(id, new, 0);
    }
}

/// The current thread's scratch space.
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

/// Adds one to a counter.
#[inline(always)]
pub fn count(stat: Stat) {
    if let Some(value) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: a per-CPU integer; a lost race with ourselves costs one count.
        unsafe { *value += 1 };
    }
}

/// The target with this pid, if it may serve requests: masters and bystanders do not.
#[inline(always)]
pub fn serving_target(tgid: u32) -> Option<&'static Target> {
    // SAFETY: see the module's first lines.
    unsafe { TARGETS.get(tgid) }.filter(|target| {
        target.role != Role::Master as u32 && target.role != Role::Bystander as u32
    })
}

/// Whether a process's requests are seen by its system calls alone: its Python is not read.
#[inline(always)]
pub fn is_timed_by_socket(tgid: u32) -> bool {
    serving_target(tgid).is_some_and(|target| target.layout == NO_LAYOUT)
}

/// The serving target with this pid, if its Python is not read.
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

/// The connection behind a descriptor, if it belongs to this process and not to an earlier one with
/// the same pid.
#[inline(always)]
pub fn conn(key: &ConnKey, generation: u64) -> Option<&'static mut Conn> {
    // SAFETY: see the module's first lines.
    let conn = unsafe { &mut *CONNS.get_ptr_mut(key)? };
    (conn.generation == generation).then_some(conn)
}

/// The open request of a request object, if it belongs to this process.
#[inline(always)]
pub fn flow(key: &ObjectKey, generation: u64) -> Option<&'static mut Flow> {
    // SAFETY: see the module's first lines.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(key)? };
    (flow.generation == generation).then_some(flow)
}

/// The state of a thread, if it belongs to this process.
#[inline(always)]
pub fn thread(id: u64, generation: u64) -> Option<&'static mut Thread> {
    // SAFETY: see the module's first lines.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(id)? };
    (thread.generation == generation).then_some(thread)
}

/// The thread whose system call returns, if its start was remembered. The generation need not be
/// checked: the call began in this very thread.
#[inline(always)]
pub fn calling_thread(id: u64) -> Option<&'static mut Thread> {
    // SAFETY: see the module's first lines.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(id)? };
    (thread.fd >= 0).then_some(thread)
}
