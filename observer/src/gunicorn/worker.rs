//! A `Worker` object (`gunicorn/workers/base.py`), in its master's memory, and after the fork at
//! the same address in its own.

use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::{Objects, add};

/// Where to read more of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerObject {
    /// In the master's memory and in the worker's.
    pub address: u64,
    /// Of the file whose ctime is its heartbeat, open in both (`gunicorn/workers/workertmp.py`).
    pub heartbeat_fd: Option<u32>,
    pub names: StageNames,
}

/// Where the names of the attributes of [`Stage`] are; 0 when not known. The worker's are its
/// master's: to compare addresses costs a tenth of what reading every name does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageNames {
    booted: u64,
    alive: u64,
}

impl StageNames {
    /// Finds them among a worker's attributes.
    #[must_use]
    pub fn among<M: Memory>(objects: &Objects<'_, M>, attributes: &[(u64, u64)]) -> Self {
        let key = |name| objects.find_key(attributes, name).unwrap_or_default();
        Self {
            booted: key("booted"),
            alive: key("alive"),
        }
    }
}

/// How far a worker is; what could not be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// It has loaded its application.
    pub booted: Option<bool>,
    /// It was not asked to end.
    pub alive: Option<bool>,
}

impl WorkerObject {
    /// Reads how far it is, from the worker's own memory: its master's copy never changes.
    #[must_use]
    pub fn stage<M: Memory>(&self, objects: &Objects<'_, M>) -> Stage {
        let Ok(attributes) = objects.instance_attributes(self.address) else {
            return Stage::default();
        };
        let truth = |name| {
            let (_, value) = *attributes.iter().find(|(key, _)| *key == name)?;
            match objects.int(value) {
                Ok(0) => Some(false),
                Ok(1) => Some(true),
                _ => None,
            }
        };
        Stage {
            booted: truth(self.names.booted),
            alive: truth(self.names.alive),
        }
    }
}

/// The descriptor of `WorkerTmp._tmp`. It is unbuffered from 20.0 on; before, it is what
/// `os.fdopen(fd, "w+b", 1)` gives (`gunicorn/workers/workertmp.py`).
///
/// # Errors
/// [`Fault`] when it cannot be read or is no such file.
pub fn heartbeat_fd<M: Memory>(objects: &Objects<'_, M>, worker_tmp: u64) -> Result<u32, Fault> {
    let file = objects.attribute(worker_tmp, "_tmp")?.ok_or(Fault)?;
    let type_name = |object| objects.type_name(objects.type_of(object)?);
    let raw = match type_name(file)?.as_str() {
        "_io.FileIO" => file,
        // `buffered.raw` (`Modules/_io/bufferedio.c`).
        "_io.BufferedRandom" => objects.mem.word(first_member(objects, file)?)?,
        _ => return Err(Fault),
    };
    if type_name(raw)? != "_io.FileIO" {
        return Err(Fault);
    }
    // `fileio.fd` (`Modules/_io/fileio.c`).
    descriptor(objects, raw)
}

/// The descriptor of a `socket.socket`: `PySocketSockObject.sock_fd` (`Modules/socketmodule.h`).
///
/// # Errors
/// [`Fault`] when it cannot be read, is none, or is closed.
pub fn socket_fd<M: Memory>(objects: &Objects<'_, M>, socket: u64) -> Result<u32, Fault> {
    // `ssl.SSLSocket`, `socket.socket`, `_socket.socket`.
    const MAX_BASES: usize = 8;
    let mut class = objects.type_of(socket)?;
    for _ in 0..MAX_BASES {
        if objects.type_name(class)? == "_socket.socket" {
            return descriptor(objects, socket);
        }
        class = objects.field(class, objects.layout.type_base)?;
    }
    Err(Fault)
}

/// An `int` of C that follows the object's header; less than 0 when it is closed.
fn descriptor<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<u32, Fault> {
    let fd = i32::from_le_bytes(objects.bytes(first_member(objects, object)?)?);
    u32::try_from(fd).map_err(|_| Fault)
}

/// What follows `PyObject_HEAD`, of which the type is the last.
fn first_member<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<u64, Fault> {
    add(object, u64::from(objects.layout.object_type) + 8)
}
