//! The maps, and safe access to their values.
//!
//! A value is kernel memory that lives at least as long as the program runs (RCU). All values are
//! integers. Only the thread that serves a connection or request works on it. Userspace deletes
//! entries of dead processes only, so no other access races.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf},
};
use probe_ebpf::abi::{
    CONN_PLACE_COUNT, Call, CapturedFrameRecord, Conn, Established, ExceptionRecord, GcRun, Gil,
    IoTail, Mode, NO_LAYOUT, ObjectKey, PythonTail, Role, SocketTail, StackRecord, StackWalk, Stat,
    TARGET_PLACE_COUNT, THREAD_PLACE_COUNT, Tail, Target, Thread, conn_place, target_flags,
};
use probe_ebpf::gunicorn::{CODE_PLACE_COUNT, Code, SHAPES, Transport, code_place};
use probe_ebpf::machine::kernel::Scratch;
use probe_ebpf::python::Layout;
use probe_ebpf::python::fields::Shape;

/// Records for userspace.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);
/// Observed processes, by tgid.
#[map]
pub static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(8192, 0);
/// The same by the low bits of tgid: what most processes of a host find empty costs next to nothing.
/// Where two targets share a place, the second is in `TARGETS` only.
#[map]
pub static TARGET_PLACES: Array<Target> = Array::with_max_entries(TARGET_PLACE_COUNT, 0);
/// What reports sockets, by [`Mode`].
#[map]
pub static MODES: Array<u32> = Array::with_max_entries(Mode::COUNT, 0);
/// Interpreter builds.
#[map]
pub static LAYOUTS: Array<Layout> = Array::with_max_entries(64, 0);
/// Classified code objects, as they were learned. What is read for each request is in `CODE_PLACES`, if a
/// code object has its place.
#[map]
pub static CODES: LruHashMap<ObjectKey, Code> = LruHashMap::with_max_entries(4096, 0);
/// The same by their place.
#[map]
pub static CODE_PLACES: Array<Code> = Array::with_max_entries(CODE_PLACE_COUNT, 0);
/// A new code object: large for the stack.
#[map]
pub static NEW_CODE: Array<Code> = Array::with_max_entries(1, 0);
/// Connections, by their `struct sock`, and requests without one, by their request object. Their close
/// is not seen on every kernel: the longest unused one makes room.
#[map]
pub static CONNS: LruHashMap<ObjectKey, Conn> = LruHashMap::with_max_entries(16384, 0);
/// The same by their place. Where two connections share one, the second is in `CONNS` only.
#[map]
pub static CONN_PLACES: Array<Conn> = Array::with_max_entries(CONN_PLACE_COUNT, 0);
/// The `struct sock` of connections, by their Python object.
#[map]
pub static CLIENTS: LruHashMap<ObjectKey, u64> = LruHashMap::with_max_entries(16384, 0);
/// Threads of targets, by tgid << 32 | tid.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(8192, 0);
/// The same by their place. Where two threads share one, the second is in `THREADS` only.
#[map]
pub static THREAD_PLACES: Array<Thread> = Array::with_max_entries(THREAD_PLACE_COUNT, 0);
/// A new thread: too large for the stack.
#[map]
pub static NEW_THREAD: Array<Thread> = Array::with_max_entries(1, 0);
/// System calls that have not returned, by tgid << 32 | tid.
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(16384, 0);
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
/// Programs that the one on `datetime.now` continues with, by [`PythonTail`].
#[map]
pub static PYTHON_TAILS: ProgramArray = ProgramArray::with_max_entries(PythonTail::COUNT, 0);
/// Programs that those on reads and writes of sockets continue with, by [`IoTail`].
#[map]
pub static IO_TAILS: ProgramArray = ProgramArray::with_max_entries(IoTail::COUNT, 0);
/// Programs that the one on closed sockets continues with, by [`SocketTail`].
#[map]
pub static SOCKET_TAILS: ProgramArray = ProgramArray::with_max_entries(SocketTail::COUNT, 0);
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

/// The target with this pid.
#[inline(always)]
pub fn target(tgid: u32) -> Option<&'static Target> {
    let place = TARGET_PLACES.get(tgid & (TARGET_PLACE_COUNT - 1))?;
    if place.tgid == tgid && place.generation != 0 {
        return Some(place);
    }
    if place.flags & target_flags::SHARED == 0 {
        return None;
    }
    // SAFETY: see the module's first lines.
    unsafe { TARGETS.get(tgid) }
}

/// The target with this pid whose last thread has exited. The kernel closes its files only then. What the
/// target was stays in its place until another one takes that.
#[inline(always)]
pub fn exited_target(tgid: u32) -> Option<&'static Target> {
    let place = TARGET_PLACES.get(tgid & (TARGET_PLACE_COUNT - 1))?;
    (place.tgid == tgid && place.generation == 0).then_some(place)
}

/// The connection that an exited target left.
#[inline(always)]
pub fn left_conn(key: ObjectKey) -> Option<&'static Conn> {
    let place = CONN_PLACES.get(conn_place(key.address))?;
    if place.key == key {
        return Some(place);
    }
    if place.is_shared == 0 {
        return None;
    }
    // SAFETY: see the module's first lines.
    unsafe { CONNS.get(key) }
}

/// Observes a process. False if there is no room.
#[inline(always)]
pub fn keep_target(tgid: u32, target: &Target) -> bool {
    if TARGETS.insert(tgid, target, 0).is_err() {
        return false;
    }
    if let Some(place) = TARGET_PLACES.get_ptr_mut(tgid & (TARGET_PLACE_COUNT - 1)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.generation == 0 || place.tgid == tgid {
            let shared = place.flags & target_flags::SHARED;
            *place = *target;
            place.flags |= shared;
        } else {
            place.flags |= target_flags::SHARED;
        }
    }
    true
}

/// Stops to observe a process; false if it was no target.
#[inline(always)]
pub fn forget_target(tgid: u32) -> bool {
    if let Some(place) = TARGET_PLACES.get_ptr_mut(tgid & (TARGET_PLACE_COUNT - 1)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.tgid == tgid {
            place.generation = 0;
        }
    }
    TARGETS.remove(tgid).is_ok()
}

/// A process is another program from now on: nothing is left of the target.
#[inline(always)]
pub fn clear_target(tgid: u32) {
    if let Some(place) = TARGET_PLACES.get_ptr_mut(tgid & (TARGET_PLACE_COUNT - 1)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.tgid == tgid && place.generation == 0 {
            place.tgid = 0;
        }
    }
}

/// A classified code object.
#[inline(always)]
pub fn code(key: ObjectKey) -> Option<&'static mut Code> {
    // SAFETY: see the module's first lines. Threads that write to it write the same.
    let place = unsafe { &mut *CODE_PLACES.get_ptr_mut(code_place(key))? };
    if place.key == key {
        return Some(place);
    }
    // SAFETY: as above.
    Some(unsafe { &mut *CODES.get_ptr_mut(key)? })
}

/// A code object as it was learned: always in `CODES`.
#[inline(always)]
pub fn learned_code(key: ObjectKey) -> Option<&'static mut Code> {
    if CODES.get_ptr(key).is_none() {
        // It made room for others.
        let place = CODE_PLACES.get(code_place(key))?;
        if place.key == key {
            let _ = CODES.insert(key, place, 0);
        }
    }
    // SAFETY: see the module's first lines.
    Some(unsafe { &mut *CODES.get_ptr_mut(key)? })
}

/// Room for a code object that is not classified yet: in `CODES`, so that the verifier follows one pointer.
#[inline(always)]
pub fn new_code(key: ObjectKey, generation: u64) -> Option<&'static mut Code> {
    let _ = CODES.insert(key, NEW_CODE.get(0)?, 0);
    // SAFETY: see the module's first lines.
    let code = unsafe { &mut *CODES.get_ptr_mut(key)? };
    code.key = key;
    code.generation = generation;
    Some(code)
}

/// A code object is classified: from now on it is where its place is, if that is free.
#[inline(always)]
pub fn keep_code(code: &Code) {
    let Some(place) = CODE_PLACES.get_ptr_mut(code_place(code.key)) else {
        return;
    };
    // SAFETY: see the module's first lines.
    let place = unsafe { &mut *place };
    let is_dead = |target: &Target| target.generation != place.generation;
    if place.key.address == 0 || place.key == code.key || target(place.key.tgid).is_none_or(is_dead)
    {
        *place = *code;
    }
}

/// The same for where the attributes of an object are.
#[inline(always)]
pub fn keep_shape(key: ObjectKey, kind: u32, shape: &Shape) {
    if let Some(place) = CODE_PLACES.get_ptr_mut(code_place(key)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.key == key
            && let Some(kept) = place.shapes.get_mut(kind as usize & (SHAPES - 1))
        {
            *kept = *shape;
        }
    }
}

/// The same for where a transport keeps its descriptor.
#[inline(always)]
pub fn keep_transport(key: ObjectKey, transport: Transport) {
    if let Some(place) = CODE_PLACES.get_ptr_mut(code_place(key)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.key == key {
            place.transport = transport;
        }
    }
}

/// The same for where a request ends without an exception.
#[inline(always)]
pub fn keep_calm(key: ObjectKey, instruction: u64) {
    if let Some(place) = CODE_PLACES.get_ptr_mut(code_place(key)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.key == key {
            place.calm = instruction;
        }
    }
}

/// A thread is gone.
#[inline(always)]
pub fn forget_thread(id: u64) {
    if let Some(place) = THREAD_PLACES.get_ptr_mut(id as u32 & (THREAD_PLACE_COUNT - 1)) {
        // SAFETY: see the module's first lines.
        let place = unsafe { &mut *place };
        if place.id == id {
            place.id = 0;
            return;
        }
    }
    let _ = THREADS.remove(id);
}

/// The target with this pid, if it may serve requests: masters and bystanders do not.
#[inline(always)]
pub fn serving_target(tgid: u32) -> Option<&'static Target> {
    target(tgid).filter(|target| {
        target.role != Role::Master as u32 && target.role != Role::Bystander as u32
    })
}

/// The value of a mode.
#[inline(always)]
pub fn mode(mode: Mode) -> u32 {
    MODES.get(mode as u32).copied().unwrap_or(0)
}

/// The layout of the interpreter of a target whose requests Python shows.
#[inline(always)]
pub fn layout(target: &Target) -> Option<&'static Layout> {
    (!target.is_by_socket())
        .then(|| any_layout(target))
        .flatten()
}

/// The layout of the interpreter of a target of whose requests Python shows the exceptions.
#[inline(always)]
pub fn exceptions_layout(target: &Target) -> Option<&'static Layout> {
    (!target.is_by_socket() || target.flags & target_flags::TASKS != 0)
        .then(|| any_layout(target))
        .flatten()
}

/// The layout of a target's interpreter.
#[inline(always)]
pub fn any_layout(target: &Target) -> Option<&'static Layout> {
    (target.layout != NO_LAYOUT)
        .then(|| LAYOUTS.get(target.layout))
        .flatten()
}
