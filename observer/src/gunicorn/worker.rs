//! A `Worker` object (`gunicorn/workers/base.py`): in the master's memory, and after the fork at the
//! same address in the worker's.

use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::{Objects, add};

/// Sockets of one worker that are read: no Gunicorn has as many.
const MAX_SOCKETS: usize = 64;

/// Where a worker object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerObject {
    /// In the master's memory and in the worker's.
    pub address: u64,
    /// The file whose times are the heartbeat, open in both (`gunicorn/workers/workertmp.py`).
    pub heartbeat_fd: Option<u32>,
    pub names: StageNames,
}

/// Addresses of the attribute names of [`Stage`]; 0 if unknown. Worker and master have the same:
/// comparing addresses takes a tenth of the time of reading every name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageNames {
    booted: u64,
    alive: u64,
}

impl StageNames {
    /// Finds the names among a worker's attributes.
    #[must_use]
    pub fn among<M: Memory>(objects: &Objects<'_, M>, attributes: &[(u64, u64)]) -> Self {
        let key = |name| objects.find_key(attributes, name).unwrap_or_default();
        Self {
            booted: key("booted"),
            alive: key("alive"),
        }
    }
}

/// The stage of a worker's life; what cannot be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// It has loaded its application.
    pub booted: Option<bool>,
    /// It was not asked to exit.
    pub alive: Option<bool>,
}

impl WorkerObject {
    /// Reads the stage from the worker's own memory: the master's copy never changes.
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

impl WorkerObject {
    /// Descriptors of `Worker.sockets`, from the worker's own memory: with `reuse_port` each worker opens
    /// its own after the fork (`Arbiter.spawn_worker`, from Gunicorn 24.0 on).
    ///
    /// # Errors
    /// [`Fault`] when they cannot be read, or are no sockets.
    pub fn listeners<M: Memory>(&self, objects: &Objects<'_, M>) -> Result<Vec<u32>, Fault> {
        let sockets = objects.attribute(self.address, "sockets")?.ok_or(Fault)?;
        let fd = |listener| match objects.attribute(listener, "sock") {
            Ok(Some(socket)) => socket_fd(objects, socket),
            // `GeventWorker.patch` replaces them by gevent's.
            _ => socket_fd(objects, listener),
        };
        let sockets = objects.items(sockets)?.into_iter().take(MAX_SOCKETS);
        sockets.map(fd).collect()
    }
}

/// The descriptor of `WorkerTmp._tmp`: an unbuffered file from 20.0 on, before that one of
/// `os.fdopen(fd, "w+b", 1)` (`gunicorn/workers/workertmp.py`).
///
/// # Errors
/// [`Fault`] when it cannot be read or is neither.
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

/// Where the sockets of gevent and eventlet keep one of the interpreter's own (`gevent/_socket3.py`,
/// `eventlet/greenio/base.py`).
const INNER_SOCKETS: [&str; 2] = ["_sock", "fd"];

/// The descriptor of a socket: `PySocketSockObject.sock_fd` (`Modules/socketmodule.h`).
///
/// # Errors
/// [`Fault`] when it cannot be read, is no socket, or is closed.
pub fn socket_fd<M: Memory>(objects: &Objects<'_, M>, socket: u64) -> Result<u32, Fault> {
    if is_own_socket(objects, socket)? {
        return descriptor(objects, socket);
    }
    for name in INNER_SOCKETS {
        if let Some(inner) = objects.attribute(socket, name)?
            && is_own_socket(objects, inner)?
        {
            return descriptor(objects, inner);
        }
    }
    Err(Fault)
}

/// Whether it is a socket of the interpreter's own: `_socket.socket`, or of a class derived from it, such
/// as `socket.socket` and `ssl.SSLSocket`.
fn is_own_socket<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<bool, Fault> {
    const MAX_BASES: usize = 8;
    let mut class = objects.type_of(object)?;
    for _ in 0..MAX_BASES {
        if objects.type_name(class)? == "_socket.socket" {
            return Ok(true);
        }
        class = objects.field(class, objects.layout.type_base)?;
        if class == 0 {
            return Ok(false);
        }
    }
    Ok(false)
}

/// A C `int` behind the object's header; negative if closed.
fn descriptor<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<u32, Fault> {
    let fd = i32::from_le_bytes(objects.bytes(first_member(objects, object)?)?);
    u32::try_from(fd).map_err(|_| Fault)
}

/// The member behind `PyObject_HEAD`, which ends with the type.
fn first_member<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<u64, Fault> {
    add(object, u64::from(objects.layout.object_type) + 8)
}
