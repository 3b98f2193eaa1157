//! The arbiter of a Gunicorn master: its workers, listeners and settings.
//!
//! It is found by the signals that it handles: `Arbiter.init_signals` registers methods of the arbiter for
//! nine signals before the first worker is forked, and workers replace only some of them. What the master's
//! threads do at the moment does not matter: where gevent or eventlet patched the master, `Arbiter.run` is
//! in a greenlet, off every thread's stack while it waits.
//!
//! Attributes are those of `gunicorn/arbiter.py` and `gunicorn/config.py`, the same in all supported
//! versions.

use probe_ebpf::memory::{Fault, Memory};

use super::handling::{self, Handling, Server};
use super::version;
use super::worker::{self, StageNames, WorkerObject};
use crate::cpython::object::Objects;

/// Addresses of one master that are read: no Gunicorn has as many.
const MAX_TEXTS: usize = 64;

/// An `Arbiter`, found in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arbiter {
    /// The `Arbiter` object.
    pub object: u64,
    /// Its `pid` attribute: the PID of the master in its own PID namespace. A forked worker has the
    /// same objects, but another PID. `None` until `start`.
    pub pid: Option<i64>,
    /// Globals of `gunicorn/arbiter.py`.
    globals: u64,
}

/// A value of [`Arbiter::workers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerEntry {
    /// In the PID namespace of the master.
    pub pid: u32,
    pub age: Option<u64>,
    /// Concrete class name; empty if it cannot be read.
    pub class: String,
    pub object: WorkerObject,
}

/// Settings of the master; what cannot be read is absent or empty.
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
    /// Finds the arbiter among the functions that handle signals.
    ///
    /// # Errors
    /// [`Fault`] when an arbiter cannot be read.
    pub fn find<M: Memory>(
        objects: &Objects<'_, M>,
        handlers: &[u64],
    ) -> Result<Option<Self>, Fault> {
        for &handler in handlers {
            if let Ok(object) = objects.method_self(handler)
                && let Ok(Some(class)) = arbiter_class(objects, object)
            {
                let pid = objects.attribute(object, "pid")?;
                let run = objects.get(class, "run")?.ok_or(Fault)?;
                return Ok(Some(Self {
                    object,
                    pid: pid.map(|pid| objects.int(pid)).transpose()?,
                    globals: objects.function_globals(run)?,
                }));
            }
        }
        Ok(None)
    }

    /// `Arbiter.WORKERS`: the running workers. In a forked worker: those at the time of the fork.
    ///
    /// # Errors
    /// [`Fault`] when the dictionary cannot be read. A worker object that cannot be read has no age,
    /// class and heartbeat.
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

    /// Descriptors of `Arbiter.LISTENERS`: the sockets that workers accept from, without the socket of
    /// the control interface (`gunicorn/ctl`, from 25.0).
    ///
    /// # Errors
    /// [`Fault`] when they cannot be read, or are no sockets.
    pub fn listeners<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Vec<u32>, Fault> {
        let listeners = objects.attribute(self.object, "LISTENERS")?.ok_or(Fault)?;
        let fd = |listener| {
            let socket = objects.attribute(listener, "sock")?.ok_or(Fault)?;
            worker::socket_fd(objects, socket)
        };
        objects.items(listeners)?.into_iter().map(fd).collect()
    }

    /// `Arbiter.dirty_arbiter_pid`: the PID of its dirty arbiter, in the PID namespace of the master; `None`
    /// without one, and before 25.0.
    pub fn dirty_arbiter<M: Memory>(&self, objects: &Objects<'_, M>) -> Option<u32> {
        let pid = attribute_int(objects, self.object, "dirty_arbiter_pid")?;
        u32::try_from(pid).ok().filter(|&pid| pid != 0)
    }

    /// How new workers handle requests.
    ///
    /// # Errors
    /// [`Fault`] when the class cannot be read.
    pub fn handling<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Handling, Fault> {
        let class = objects.attribute(self.object, "worker_class")?;
        let handling = handling::handling(objects, class.ok_or(Fault)?)?;
        let Handling::Tasks(server) = handling else {
            return Ok(handling);
        };
        let has_tasks = || version::has_tasks(&self.settings(objects).gunicorn_version);
        let without = if self.is_tls(objects).unwrap_or(false) {
            "its workers use TLS on an event loop"
        } else if server == Server::Gunicorn && !has_tasks() {
            "the worker class asgi makes no task for each request before Gunicorn 27"
        } else {
            return Ok(handling);
        };
        let reason = format!("{without}: requests are seen by their connections only");
        Ok(Handling::Own(reason.into()))
    }

    /// The settings in force: HUP replaces them, TTIN and TTOU change `workers`.
    pub fn settings<M: Memory>(&self, objects: &Objects<'_, M>) -> Settings {
        let config = Config::of(objects, self.object);
        let unsigned = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let worker_class = objects
            .attribute(self.object, "worker_class")
            .and_then(|class| class_name(objects, class.ok_or(Fault)?));
        // `Config.proc_name`: the setting, else the import string of the application.
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

impl Arbiter {
    /// Whether its workers decrypt by themselves (`Config.is_ssl`).
    ///
    /// # Errors
    /// [`Fault`] when the settings cannot be read.
    pub fn is_tls<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<bool, Fault> {
        let config = Config::of(objects, self.object);
        let is_set = |name| config.text(name).is_some_and(|path| !path.is_empty());
        Ok(is_set("certfile") || is_set("keyfile"))
    }
}

/// The attributes of Gunicorn's class `Arbiter`, if an object is an instance of it or of a subclass.
fn arbiter_class<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<Option<u64>, Fault> {
    let class = objects.type_of(object)?;
    for base in objects.items(objects.field(class, objects.layout().type_mro)?)? {
        if objects.type_name(base)? != "Arbiter" {
            continue;
        }
        let attributes = objects.field(base, objects.layout().type_dict)?;
        let module = objects.get(attributes, "__module__")?.ok_or(Fault)?;
        if objects.text(module)? == "gunicorn.arbiter" {
            return Ok(Some(attributes));
        }
    }
    Ok(None)
}

fn attribute_int<M: Memory>(objects: &Objects<'_, M>, object: u64, name: &str) -> Option<i64> {
    objects.int(objects.attribute(object, name).ok()??).ok()
}

/// Name of a class, without the module of an extension.
fn class_name<M: Memory>(objects: &Objects<'_, M>, class: u64) -> Result<String, Fault> {
    let name = objects.type_name(class)?;
    Ok(name.rsplit('.').next().unwrap_or_default().to_owned())
}

/// `Arbiter.cfg.settings`: a dict from names to `Setting` objects, each with a `value`.
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

#[cfg(test)]
#[path = "arbiter_tests.rs"]
mod tests;
