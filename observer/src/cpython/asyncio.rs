//! Tasks of asyncio.
//!
//! Up to 3.13 the module `asyncio.tasks` has weak references to all of them. From 3.14 on each thread
//! has a list of its tasks, and the interpreter one of those whose thread exited
//! (`Modules/_asynciomodule.c`); the module has only tasks of other classes.

use observer_model::Untrusted;
use probe_ebpf::memory::{Fault, Memory};

use super::object::Objects;
use super::threads;

/// Tasks that are read; docs/STACK.md has the number.
pub const MAX_TASKS: usize = 4096;
/// The class of tasks that is written in C; programs may derive from it.
const NATIVE: &str = "_asyncio.Task";
/// The class of tasks where that is absent, or a program uses it: `asyncio.tasks._PyTask`.
const PURE: &str = "Task";
/// Sets of tasks in `asyncio.tasks`: the first up to 3.11, the others from 3.12 on.
const SETS: [&str; 3] = ["_all_tasks", "_scheduled_tasks", "_eager_tasks"];
/// Base classes that are searched.
const MAX_BASES: usize = 16;
/// Bytes of a task that are searched for its coroutine: a task has fewer than 200.
const MAX_TASK_BYTES: u64 = 512;
/// Entries of a set that are read, used or not.
const MAX_SET_ENTRIES: u64 = 1 << 16;
/// Entries read at once: half a page.
const PIECE_ENTRIES: usize = 128;
/// Bytes of a thread state or an interpreter.
const MAX_BYTES: u64 = 4 << 20;

/// Where the lists of tasks are (`Py_AsyncioModuleDebugOffsets` in `Modules/_asynciomodule.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLists {
    /// Task → its node in the list.
    node: u32,
    /// `PyInterpreterState` → the head of its list.
    of_interpreter: u32,
    /// `PyThreadState` → the head of its list.
    of_thread: u32,
}

impl TaskLists {
    /// The section that they are published in.
    pub(super) const SECTION: &str = ".AsyncioDebug";

    /// `None` if an offset is impossible.
    pub(super) fn of(section: &[u8]) -> Option<Self> {
        let (words, _) = section.as_chunks::<8>();
        let word = |at: usize| words.get(at).map(|word| u64::from_le_bytes(*word));
        // A node has two words.
        let offset = |at: usize, size: usize| {
            let (offset, size) = (word(at)?, word(size)?);
            let is_inside = size <= MAX_BYTES && offset.checked_add(16)? <= size;
            let is_possible = is_inside && offset.is_multiple_of(8);
            u32::try_from(offset).ok().filter(|_| is_possible)
        };
        Some(Self {
            node: offset(6, 0)?,
            of_interpreter: offset(8, 7)?,
            of_thread: offset(12, 9)?,
        })
    }
}

/// Addresses of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub found: Vec<u64>,
    /// There are more.
    pub is_cut: bool,
}

impl Tasks {
    /// All tasks of the main interpreter, done ones too; none if it does not use asyncio.
    ///
    /// # Errors
    /// [`Fault`], also when a list changes meanwhile.
    pub fn read<M: Memory>(
        objects: &Objects<'_, M>,
        runtime: u64,
        lists: Option<TaskLists>,
    ) -> Result<Self, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let mut tasks = Self::default();
        let Some(interp) = threads::main_interpreter(mem, layout, runtime)? else {
            return Ok(tasks);
        };
        if let Some(lists) = lists {
            tasks.listed(objects, interp, lists.of_interpreter, lists.node)?;
            for tstate in threads::threads(mem, layout, runtime)? {
                tasks.listed(objects, tstate, lists.of_thread, lists.node)?;
            }
        }
        let names = objects.field(interp, layout.interp_sysdict)?;
        let Some(modules) = objects.get(names, "modules")? else {
            return Ok(tasks);
        };
        if let Some(module) = objects.get_module(modules, "asyncio.tasks")? {
            for name in SETS {
                if let Some(set) = objects.attribute(module, name)? {
                    tasks.of_set(objects, set)?;
                }
            }
        }
        tasks.found.sort_unstable();
        tasks.found.dedup();
        Ok(tasks)
    }

    fn add(&mut self, task: u64) {
        if self.found.len() < MAX_TASKS {
            self.found.push(task);
        } else {
            self.is_cut = true;
        }
    }

    /// A list (`Include/internal/pycore_llist.h`): its head is in another structure.
    fn listed<M: Memory>(
        &mut self,
        objects: &Objects<'_, M>,
        structure: u64,
        head: u32,
        node: u32,
    ) -> Result<(), Fault> {
        let head = structure.checked_add(u64::from(head)).ok_or(Fault)?;
        let mut at = objects.field(head, 0)?;
        // Not set up yet.
        if at == 0 {
            return Ok(());
        }
        while at != head && !self.is_cut {
            self.add(at.checked_sub(u64::from(node)).ok_or(Fault)?);
            at = objects.field(at, 0)?;
        }
        Ok(())
    }

    /// A `WeakSet`, whose weak references are in its set `data`, or a set (`Lib/_weakrefset.py`).
    fn of_set<M: Memory>(&mut self, objects: &Objects<'_, M>, set: u64) -> Result<(), Fault> {
        let references = objects.attribute(set, "data")?;
        for item in objects.set_items(references.unwrap_or(set))? {
            let task = match references {
                // `PyWeakReference.wr_object` (`Include/cpython/weakrefobject.h`, the same since 3.8).
                Some(_) => objects.field(item, objects.layout().object_type + 8)?,
                None => item,
            };
            self.add(task);
        }
        Ok(())
    }
}

/// How a task keeps its coroutine.
enum Kind {
    Native { class: u64 },
    Pure,
}

impl Kind {
    fn of<M: Memory>(objects: &Objects<'_, M>, task: u64) -> Result<Option<Self>, Fault> {
        let layout = objects.layout();
        let mut class = objects.type_of(task)?;
        for _ in 0..MAX_BASES {
            match objects.type_name(class)?.as_str() {
                NATIVE => return Ok(Some(Self::Native { class })),
                PURE => return Ok(Some(Self::Pure)),
                _ => class = objects.field(class, layout.type_base)?,
            }
            if class == 0 {
                break;
            }
        }
        Ok(None)
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub coroutine: u64,
    /// Such as `Task-12`.
    pub name: Option<Untrusted>,
}

impl Task {
    /// Whether an object is a task.
    pub fn is<M: Memory>(objects: &Objects<'_, M>, object: u64) -> bool {
        Kind::of(objects, object).is_ok_and(|kind| kind.is_some())
    }

    /// `None` if the object is no task, as where a weak reference is dead, or has no coroutine.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn read<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<Option<Self>, Fault> {
        match Kind::of(objects, object)? {
            Some(Kind::Native { class }) => Self::native(objects, object, class),
            Some(Kind::Pure) => {
                let name = objects.attribute(object, "_name")?;
                let coroutine = objects.attribute(object, "_coro")?;
                Ok(coroutine.map(|coroutine| Self {
                    coroutine,
                    name: name.and_then(|name| shown_name(objects, name)),
                }))
            }
            None => Ok(None),
        }
    }

    /// The place of `task_coro` differs between versions: it is the first field that is a coroutine.
    /// `task_name` has been behind it since 3.8 (`TaskObj` in `Modules/_asynciomodule.c`).
    fn native<M: Memory>(
        objects: &Objects<'_, M>,
        object: u64,
        class: u64,
    ) -> Result<Option<Self>, Fault> {
        let layout = objects.layout();
        let end = objects.field(class, layout.type_basicsize)? & 0xffff_ffff;
        let begin = layout.object_type + 8;
        let end = u32::try_from(end.min(MAX_TASK_BYTES)).map_err(|_| Fault)?;
        for offset in (begin..end).step_by(8) {
            let field = objects.field(object, offset)?;
            if is_coroutine(objects, field) {
                let name = objects.field(object, offset + 8)?;
                return Ok(Some(Self {
                    coroutine: field,
                    name: shown_name(objects, name),
                }));
            }
        }
        Ok(None)
    }
}

/// Also one of Cython, such as `_cython_3_0_11.coroutine`, and one made of a generator.
fn is_coroutine<M: Memory>(objects: &Objects<'_, M>, object: u64) -> bool {
    if object == 0 || !object.is_multiple_of(8) {
        return false;
    }
    let class = objects.type_of(object);
    let name = class.and_then(|class| objects.type_name(class));
    name.is_ok_and(|name| name == "generator" || name.ends_with("coroutine"))
}

/// From 3.12 on a name that nobody has asked for is still a number.
fn shown_name<M: Memory>(objects: &Objects<'_, M>, name: u64) -> Option<Untrusted> {
    let text = objects.text(name);
    let text = text.or_else(|Fault| objects.int(name).map(|number| format!("Task-{number}")));
    text.ok().map(Untrusted::from)
}

impl<M: Memory> Objects<'_, M> {
    /// Items of a set.
    ///
    /// # Errors
    /// [`Fault`], also if it is none or too large.
    pub fn set_items(&self, set: u64) -> Result<Vec<u64>, Fault> {
        let name = self.type_name(self.type_of(set)?)?;
        let layout = self.layout();
        let last = self.field(set, layout.set_mask)?;
        if !matches!(name.as_str(), "set" | "frozenset") || last >= MAX_SET_ENTRIES {
            return Err(Fault);
        }
        let mut left = usize::try_from(last + 1).map_err(|_| Fault)?;
        let mut at = self.field(set, layout.set_table)?;
        let mut found = Vec::new();
        while left > 0 {
            // `setentry` is key and hash (`Include/cpython/setobject.h`).
            let mut bytes = vec![0; 16 * left.min(PIECE_ENTRIES)];
            self.memory().read(at, &mut bytes)?;
            let (entries, _) = bytes.as_chunks::<16>();
            for entry in entries {
                let (words, _) = entry.as_chunks::<8>();
                // A deleted entry has a key that is no item, and the hash -1, which no item has.
                if let &[key, hash] = words
                    && u64::from_le_bytes(key) != 0
                    && hash != [0xff; 8]
                {
                    found.push(u64::from_le_bytes(key));
                }
            }
            at = at.checked_add(bytes.len() as u64).ok_or(Fault)?;
            left -= entries.len();
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "asyncio_tests.rs"]
mod tests;
