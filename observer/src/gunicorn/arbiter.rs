//! The Gunicorn master on the main thread's stack, and what it knows.
//!
//! Attributes are those of `gunicorn/arbiter.py` and `gunicorn/config.py`, the
//! same from 19.10 to 27.0.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::DIRECT;

use super::handling;
use super::worker::{self, StageNames, WorkerObject};
use crate::cpython::object::Objects;
use crate::cpython::threads;

/// Addresses of one master that are told: no Gunicorn has as many.
const MAX_TEXTS: usize = 64;

/// `Arbiter.run`, found in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arbiter {
    /// The `Arbiter` object.
    pub object: u64,
    /// Its `pid` attribute: the master's in its own pid namespace. A forked worker
    /// has the same frames and attributes, but another pid. `None` until `start`.
    pub pid: Option<i64>,
    /// Globals of `gunicorn/arbiter.py`.
    globals: u64,
}

/// A value of [`Arbiter::workers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerEntry {
    /// In the master's pid namespace.
    pub pid: u32,
    pub age: Option<u64>,
    /// Concrete class name; empty when it could not be read.
    pub class: String,
    pub object: WorkerObject,
}

/// What the master was asked to do; what could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `proc_name`, else the import string of the application.
    pub app: String,
    pub gunicorn_version: String,
    /// Concrete class name of new workers.
    pub worker_class: String,
    pub workers: Option<u32>,
    pub threads: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub max_requests: Option<u64>,
    pub bind: Vec<String>,
}

impl Arbiter {
    #[cfg(test)]
    pub(crate) fn at(object: u64, globals: u64) -> Self {
        Self {
            object,
            pid: None,
            globals,
        }
    }

    /// DeepCaptures for `Arbiter.run` among the frames of the main thread, which waits in it
    /// for as long as the master lives.
    ///
    /// # Errors
    /// [`Fault`] when the stack cannot be read, also because it is changing.
    pub fn find<M: Memory>(objects: &Objects<'_, M>, runtime: u64) -> Result<Option<Self>, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let Some(main) = threads::threads(mem, layout, runtime)?.pop() else {
            return Ok(None);
        };
        for frame in threads::frames(mem, layout, main)? {
            if is_arbiter_run(objects, layout.code(mem, frame)?) {
                let object = layout.local(mem, frame, 0)?;
                let pid = match objects.attribute(object, "pid")? {
                    Some(pid) => Some(objects.int(pid)?),
                    None => None,
                };
                let globals = objects.field(frame, layout.frame_globals)?;
                return Ok(Some(Self {
                    object,
                    pid,
                    globals,
                }));
            }
        }
        Ok(None)
    }

    /// `Arbiter.WORKERS`: what the master knows of its living workers. In a
    /// forked worker it is what the master knew then.
    ///
    /// # Errors
    /// [`Fault`] when the dictionary cannot be read; a worker that cannot has no age, class and
    /// heartbeat.
    pub fn workers<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Vec<WorkerEntry>, Fault> {
        let workers = objects.attribute(self.object, "WORKERS")?.ok_or(Fault)?;
        let mut found = Vec::new();
        for (pid, worker) in objects.entries(workers)? {
            let Ok(pid) = u32::try_from(objects.int(pid)?) else {
                continue;
            };
            let attributes = objects.instance_attributes(worker).unwrap_or_default();
            let age = objects.find(&attributes, "age");
            let age = age.and_then(|age| u64::try_from(objects.int(age).ok()?).ok());
            let tmp = objects.find(&attributes, "tmp");
            let heartbeat_fd = tmp.and_then(|tmp| worker::heartbeat_fd(objects, tmp).ok());
            let class = objects
                .type_of(worker)
                .and_then(|class| class_name(objects, class));
            found.push(WorkerEntry {
                pid,
                age,
                class: class.unwrap_or_default(),
                object: WorkerObject {
                    address: worker,
                    heartbeat_fd,
                    names: StageNames::among(objects, &attributes),
                },
            });
        }
        Ok(found)
    }

    /// Descriptors of `Arbiter.LISTENERS`: the sockets that its workers accept from. Not among
    /// them is that of its control interface (`gunicorn/ctl`, from 25.0).
    ///
    /// # Errors
    /// [`Fault`] when they cannot be read, or are no sockets of the interpreter's own, as after
    /// gevent has replaced these.
    pub fn listeners<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Vec<u32>, Fault> {
        let listeners = objects.attribute(self.object, "LISTENERS")?.ok_or(Fault)?;
        let fd = |listener| {
            let socket = objects.attribute(listener, "sock")?.ok_or(Fault)?;
            worker::socket_fd(objects, socket)
        };
        objects.items(listeners)?.into_iter().map(fd).collect()
    }

    /// Why requests of new workers are not seen in Python; `None` if they are.
    ///
    /// # Errors
    /// [`Fault`] when the class cannot be read.
    pub fn own_way<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Option<String>, Fault> {
        let class = objects.attribute(self.object, "worker_class")?;
        handling::own_way(objects, class.ok_or(Fault)?)
    }

    /// The settings now in force: HUP replaces them, TTIN and TTOU change `workers`.
    pub fn settings<M: Memory>(&self, objects: &Objects<'_, M>) -> Settings {
        let config = Config::of(objects, self.object);
        let unsigned = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let worker_class = objects
            .attribute(self.object, "worker_class")
            .and_then(|class| class_name(objects, class.ok_or(Fault)?));
        // `Config.proc_name`: the setting, else what the application was named on loading.
        let app = config
            .text("proc_name")
            .or_else(|| config.text("default_proc_name"));
        let version = objects
            .get(self.globals, "__version__")
            .and_then(|version| objects.text(version.ok_or(Fault)?));
        let asked_for = attribute_int(objects, self.object, "_num_workers");
        Settings {
            app: app.unwrap_or_default(),
            gunicorn_version: version.unwrap_or_default(),
            worker_class: worker_class.unwrap_or_default(),
            workers: unsigned(asked_for.or_else(|| config.int("workers"))),
            threads: unsigned(config.int("threads")),
            timeout_seconds: unsigned(config.int("timeout")),
            max_requests: config
                .int("max_requests")
                .and_then(|n| u64::try_from(n).ok()),
            bind: config.texts("bind"),
        }
    }
}

fn is_arbiter_run<M: Memory>(objects: &Objects<'_, M>, code: u64) -> bool {
    let text = |offset: u32| {
        objects
            .field(code, offset)
            .and_then(|object| objects.text(object))
    };
    let layout = objects.layout();
    let is_run = match layout.code_qualname {
        DIRECT => text(layout.code_name).is_ok_and(|name| name == "run"),
        qualname => text(qualname).is_ok_and(|name| name == "Arbiter.run"),
    };
    is_run && text(layout.code_filename).is_ok_and(|file| file.ends_with("gunicorn/arbiter.py"))
}

fn attribute_int<M: Memory>(objects: &Objects<'_, M>, object: u64, name: &str) -> Option<i64> {
    objects.int(objects.attribute(object, name).ok()??).ok()
}

/// Of a class in an extension module without the module.
fn class_name<M: Memory>(objects: &Objects<'_, M>, class: u64) -> Result<String, Fault> {
    let name = objects.type_name(class)?;
    Ok(name.rsplit('.').next().unwrap_or_default().to_owned())
}

/// `Arbiter.cfg.settings`: a dict from the name of a setting to a `Setting`
/// object, whose `value` it is.
struct Config<'o, 'm, M> {
    objects: &'o Objects<'m, M>,
    settings: Option<u64>,
}

impl<'o, 'm, M: Memory> Config<'o, 'm, M> {
    fn of(objects: &'o Objects<'m, M>, arbiter: u64) -> Self {
        let attribute = |object, name| objects.attribute(object, name).ok().flatten();
        let settings = attribute(arbiter, "cfg").and_then(|config| attribute(config, "settings"));
        Self { objects, settings }
    }

    fn value(&self, name: &str) -> Option<u64> {
        let setting = self.objects.get(self.settings?, name).ok()??;
        self.objects.attribute(setting, "value").ok()?
    }

    fn text(&self, name: &str) -> Option<String> {
        self.objects.text(self.value(name)?).ok()
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.objects.int(self.value(name)?).ok()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self
            .value(name)
            .and_then(|value| self.objects.items(value).ok());
        items
            .unwrap_or_default()
            .into_iter()
            .take(MAX_TEXTS)
            .filter_map(|item| self.objects.text(item).ok())
            .collect()
    }
}
