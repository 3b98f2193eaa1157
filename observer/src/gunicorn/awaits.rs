//! What each suspended task of asyncio awaits, read while the process runs.
//!
//! Nothing is stopped. A task counts if a second read right after the first finds the same frames at
//! the same instructions, and the same awaited object. Otherwise it is read again, up to
//! `MAX_ATTEMPTS` times.

use std::collections::HashMap;

use observer_model::Untrusted;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

use super::serving::Request;
use super::stacks::MAX_ATTEMPTS;
use crate::cpython::asyncio::{self, TaskLists, Tasks};
use crate::cpython::awaits::{Awaits, Frame, State};
use crate::cpython::object::Objects;
use crate::cpython::position::{Position, Positions};

/// Frames that are read of all tasks, once for each attempt: 4,096 tasks with a hundred frames.
const MAX_FRAMES: usize = 400_000;

/// A task of asyncio that is not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    address: u64,
    /// Such as `Task-12`.
    pub name: Option<Untrusted>,
    pub state: State,
    /// It changed at each attempt: nothing is known of its frames.
    pub is_changing: bool,
    /// The innermost frames are missing.
    pub is_cut: bool,
    /// The request that it serves, itself or for a task that awaits it.
    pub request: Option<Request>,
    /// Innermost first.
    pub frames: Vec<Position>,
    /// Class of the object that the innermost frame awaits, such as `_asyncio.Future`.
    pub awaits: Option<Untrusted>,
    /// Names of the tasks that it awaits.
    pub awaits_tasks: Vec<Untrusted>,
    /// Their addresses.
    awaited: Vec<u64>,
}

/// The tasks of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspended {
    /// Those that serve requests first.
    pub tasks: Vec<Task>,
    /// There are more tasks.
    pub is_cut: bool,
}

/// A variable of a function that has what the function awaits: a task, a collection of tasks, or an
/// object that has one.
struct Awaiter {
    file_end: &'static str,
    function: &'static str,
    variable: &'static str,
    attribute: Option<&'static str>,
}

const fn awaiter(
    file_end: &'static str,
    function: &'static str,
    variable: &'static str,
    attribute: Option<&'static str>,
) -> Awaiter {
    Awaiter {
        file_end,
        function,
        variable,
        attribute,
    }
}

/// Functions that wait for tasks by a future of their own. `wait_for` does up to 3.11, and a task that
/// is not written in C has a function to be awaited by; a task group of asyncio has two functions from
/// 3.12 on.
const AWAITERS: [Awaiter; 6] = [
    awaiter("asyncio/tasks.py", "_wait", "fs", None),
    awaiter("asyncio/tasks.py", "wait_for", "fut", None),
    awaiter("asyncio/futures.py", "__await__", "self", None),
    awaiter("asyncio/taskgroups.py", "__aexit__", "self", Some("_tasks")),
    awaiter("asyncio/taskgroups.py", "_aexit", "self", Some("_tasks")),
    awaiter(
        "anyio/_backends/_asyncio.py",
        "__aexit__",
        "self",
        Some("_tasks"),
    ),
];
/// Attribute of the future of `asyncio.gather` with what it gathers (`Lib/asyncio/tasks.py`).
const GATHERED: &str = "_children";

/// All tasks of the main interpreter that are not done. Each call of `memory` must return the memory
/// as it is then.
///
/// # Errors
/// [`Fault`] when the tasks cannot be listed.
pub fn suspended<M: Memory>(
    memory: impl Fn() -> M,
    layout: &Layout,
    runtime: u64,
    lists: Option<TaskLists>,
) -> Result<Suspended, Fault> {
    let listed = || {
        let mut attempts = (0..MAX_ATTEMPTS)
            .map(|_| Tasks::read(&Objects::new(&memory(), layout), runtime, lists));
        attempts.find_map(Result::ok).ok_or(Fault)
    };
    let Tasks { found, mut is_cut } = listed()?;
    let mut tasks = Vec::new();
    let mut shared = Shared::default();
    for at in found {
        if shared.frames_left == 0 {
            is_cut = true;
            break;
        }
        tasks.extend(task(&memory, layout, at, &mut shared));
    }
    // A task that changed at each attempt may be done.
    if tasks.iter().any(|task| task.is_changing) {
        let left = listed()?.found;
        tasks.retain(|task| !task.is_changing || left.contains(&task.address));
    }
    link(&mut tasks);
    tasks.sort_by_key(Task::order);
    Ok(Suspended { tasks, is_cut })
}

/// What is shared by all tasks of one process.
struct Shared {
    frames_left: usize,
    positions: Positions,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            frames_left: MAX_FRAMES,
            positions: Positions::default(),
        }
    }
}

/// A task; `None` if it is done, or there is none.
fn task<M: Memory>(
    memory: &impl Fn() -> M,
    layout: &Layout,
    at: u64,
    shared: &mut Shared,
) -> Option<Task> {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        if shared.frames_left == 0 {
            break;
        }
        let before = memory();
        let objects = Objects::new(&before, layout);
        let read = asyncio::Task::read(&objects, at);
        let Ok(Some(task)) = read else {
            match read {
                Err(Fault) => continue,
                Ok(_) => return None,
            }
        };
        let Ok(awaits) = Awaits::read(&objects, task.coroutine) else {
            last = Some(task);
            continue;
        };
        shared.frames_left = shared.frames_left.saturating_sub(1 + awaits.frames.len());
        if awaits.state == State::Finished && awaits.frames.is_empty() {
            return None;
        }
        let described = Task::of(&objects, at, &task, &awaits, &mut shared.positions);
        let after = memory();
        let objects = Objects::new(&after, layout);
        let is_same = asyncio::Task::read(&objects, at) == Ok(Some(task.clone()))
            && Awaits::read(&objects, task.coroutine) == Ok(awaits);
        if is_same {
            return Some(described);
        }
        last = Some(task);
    }
    last.map(|task| Task {
        address: at,
        name: task.name,
        is_changing: true,
        ..Task::default()
    })
}

impl Task {
    /// Tasks of one request follow each other, and `Task-10` follows `Task-9`.
    fn order(&self) -> (bool, Option<String>, usize, Option<String>) {
        let raw = |text: &Option<Untrusted>| text.as_ref().map(|text| text.raw().to_owned());
        let path = self.request.as_ref().and_then(|it| raw(&it.path));
        let name = raw(&self.name);
        let length = name.as_ref().map_or(0, String::len);
        (self.request.is_none(), path, length, name)
    }

    fn of<M: Memory>(
        objects: &Objects<'_, M>,
        address: u64,
        task: &asyncio::Task,
        awaits: &Awaits,
        positions: &mut Positions,
    ) -> Self {
        let position = |frame: &Frame| positions.of(objects, frame.code, frame.instruction);
        let mut frames: Vec<_> = awaits.frames.iter().map(position).collect();
        let mut outermost_first = awaits.frames.iter().zip(&frames);
        let request = outermost_first.find_map(|(frame, position)| {
            let request = Request::of_asgi(objects, frame.at, frame.code, position);
            request.ok().flatten()
        });
        let awaited = awaited_tasks(objects, awaits, &frames);
        frames.reverse();
        let class = awaits.object.and_then(|object| {
            let class = objects.type_of(object);
            class.and_then(|class| objects.type_name(class)).ok()
        });
        Self {
            address,
            name: task.name.clone(),
            state: awaits.state,
            is_cut: awaits.is_cut,
            request,
            frames,
            awaits: class.map(Untrusted::from),
            awaited,
            ..Self::default()
        }
    }
}

/// The tasks that a coroutine awaits: one itself, what `gather` gathers, or what the innermost
/// function waits for.
fn awaited_tasks<M: Memory>(
    objects: &Objects<'_, M>,
    awaits: &Awaits,
    positions: &[Position],
) -> Vec<u64> {
    if let Some(object) = awaits.object {
        if asyncio::Task::is(objects, object) {
            return vec![object];
        }
        if let Ok(Some(children)) = objects.attribute(object, GATHERED) {
            return tasks_in(objects, children);
        }
    }
    let (Some(frame), Some(position)) = (awaits.frames.last(), positions.last()) else {
        return Vec::new();
    };
    let is_it = |it: &&Awaiter| position.is_in(it.file_end, it.function);
    let value = AWAITERS.iter().find(is_it).and_then(|awaiter| {
        let value = objects
            .local(frame.at, frame.code, awaiter.variable)
            .ok()??;
        match awaiter.attribute {
            Some(name) => objects.attribute(value, name).ok()?,
            None => Some(value),
        }
    });
    value.map_or_else(Vec::new, |value| tasks_in(objects, value))
}

/// An object that is a task, or those in a list, tuple or set.
fn tasks_in<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Vec<u64> {
    if asyncio::Task::is(objects, object) {
        return vec![object];
    }
    let items = objects
        .items(object)
        .or_else(|Fault| objects.set_items(object));
    let mut items = items.unwrap_or_default();
    items.retain(|&item| asyncio::Task::is(objects, item));
    items
}

/// Names the tasks that others await, and gives them the request that they are awaited for.
fn link(tasks: &mut [Task]) {
    let places: HashMap<_, _> = (0..)
        .zip(&*tasks)
        .map(|(at, task)| (task.address, at))
        .collect();
    let names: Vec<_> = tasks.iter().map(|task| task.name.clone()).collect();
    let mut left: Vec<usize> = Vec::new();
    for (at, task) in tasks.iter_mut().enumerate() {
        let awaited = task
            .awaited
            .iter()
            .filter_map(|address| places.get(address));
        let names = awaited.filter_map(|&at: &usize| names.get(at)?.clone());
        task.awaits_tasks = names.collect();
        if task.request.is_some() {
            left.push(at);
        }
    }
    // Each task enters once: when it gets its request.
    while let Some(task) = left.pop().and_then(|at| tasks.get(at)) {
        let (request, awaited) = (task.request.clone(), task.awaited.clone());
        for at in awaited.iter().filter_map(|address| places.get(address)) {
            if let Some(task) = tasks.get_mut(*at)
                && task.request.is_none()
            {
                task.request.clone_from(&request);
                left.push(*at);
            }
        }
    }
}

#[cfg(test)]
#[path = "awaits_tests.rs"]
mod tests;
