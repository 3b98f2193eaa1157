//! How a worker class handles requests: with Gunicorn's own code, whose calls of `datetime.now` begin and
//! end a request, in tasks of asyncio, or otherwise.
//!
//! The methods on the way in `gunicorn/workers/{sync,gthread,base_async}.py` decide: `run` →
//! `handle` → `handle_request`. A subclass may replace one, if it calls the replaced one.

use observer_model::Untrusted;
use probe_ebpf::gunicorn::{Code, Kind, classify};
use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::Objects;

/// The method that begins and ends a request.
const HANDLE_REQUEST: &str = "handle_request";
/// The methods on the way to it.
const ON_THE_WAY: [&str; 2] = ["handle", "run"];
/// Files whose `handle` and `run` lead there, in all supported versions.
const GUNICORN: [&str; 5] = [
    "gunicorn/workers/sync.py",
    "gunicorn/workers/gthread.py",
    "gunicorn/workers/base_async.py",
    "gunicorn/workers/ggevent.py",
    "gunicorn/workers/geventlet.py",
];
/// `GeventWorker.run` passes its connections to this class instead, if set
/// (`gunicorn/workers/ggevent.py`).
const SERVER_CLASS: &str = "server_class";

/// Modules and names of the classes whose servers make a task for each request:
/// [`probe_ebpf::coroutine`].
const ON_TASKS: [(&str, &str, Server); 3] = [
    ("uvicorn.workers", "UvicornWorker", Server::Uvicorn),
    ("uvicorn_worker._workers", "UvicornWorker", Server::Uvicorn),
    ("gunicorn.workers.gasgi", "ASGIWorker", Server::Gunicorn),
];

/// A server on an event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Uvicorn,
    /// Gunicorn's own `asgi`.
    Gunicorn,
}

/// How a worker class handles requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// With Gunicorn's `handle_request`.
    Gunicorns,
    /// In a task for each request, which this server makes.
    Tasks(Server),
    /// Otherwise, and how.
    Own(Untrusted),
}

/// How a worker class handles requests.
///
/// # Errors
/// [`Fault`] when the class cannot be read.
pub fn handling<M: Memory>(objects: &Objects<'_, M>, class: u64) -> Result<Handling, Fault> {
    let Some(reason) = own_handling(objects, class)? else {
        return Ok(Handling::Gunicorns);
    };
    let server = server(objects, class)?;
    Ok(server.map_or(Handling::Own(reason), Handling::Tasks))
}

/// The server of a class that is one of [`ON_TASKS`], or is derived from one.
fn server<M: Memory>(objects: &Objects<'_, M>, class: u64) -> Result<Option<Server>, Fault> {
    let bases = objects.items(objects.field(class, objects.layout().type_mro)?)?;
    for base in bases {
        let name = objects.type_name(base)?;
        let module = own(objects, base, "__module__")?;
        let module = module.and_then(|module| objects.text(module).ok());
        let module = module.unwrap_or_default();
        let known = |(of, class, _): &&(&str, &str, Server)| (*of, *class) == (&*module, &*name);
        if let Some((_, _, server)) = ON_TASKS.iter().find(known) {
            return Ok(Some(*server));
        }
    }
    Ok(None)
}

/// The reason if a worker class does not use Gunicorn's request handling.
fn own_handling<M: Memory>(
    objects: &Objects<'_, M>,
    class: u64,
) -> Result<Option<Untrusted>, Fault> {
    let bases = objects.items(objects.field(class, objects.layout().type_mro)?)?;
    if let Some(reason) = replaced(objects, &bases, HANDLE_REQUEST, true)? {
        return Ok(Some(reason));
    }
    for method in ON_THE_WAY {
        if let Some(reason) = replaced(objects, &bases, method, false)? {
            return Ok(Some(reason));
        }
    }
    for &base in &bases {
        if let Some(server) = own(objects, base, SERVER_CLASS)? {
            return Ok(if objects.is_none(server)? {
                None
            } else {
                Some(reason(
                    objects,
                    base,
                    "passes its connections to another server",
                ))
            });
        }
    }
    Ok(None)
}

/// The reason if the first `method` among these classes does not lead to Gunicorn's.
fn replaced<M: Memory>(
    objects: &Objects<'_, M>,
    bases: &[u64],
    method: &str,
    is_needed: bool,
) -> Result<Option<Untrusted>, Fault> {
    for &base in bases {
        let Some(function) = own(objects, base, method)? else {
            continue;
        };
        if objects.type_name(objects.type_of(function)?)? != "function" {
            let what = format!("has a {method} that is no plain function");
            return Ok(Some(reason(objects, base, &what)));
        }
        let code = objects.field(function, objects.layout().function_code)?;
        if is_gunicorns(objects, code, method)? {
            return Ok(None);
        }
        // `super().method(…)`: the method of the base is next.
        let names = objects.items(objects.field(code, objects.layout().code_names)?)?;
        let calls_on = |&name: &u64| objects.text(name).is_ok_and(|name| name == method);
        if !names.iter().any(calls_on) {
            let what = format!("has a {method} of its own");
            return Ok(Some(reason(objects, base, &what)));
        }
    }
    let without = || {
        bases
            .first()
            .map(|&class| reason(objects, class, &format!("has no {method} of Gunicorn's")))
    };
    Ok(is_needed.then(without).flatten())
}

fn is_gunicorns<M: Memory>(
    objects: &Objects<'_, M>,
    code: u64,
    method: &str,
) -> Result<bool, Fault> {
    if method == HANDLE_REQUEST {
        // The eBPF program decides by the same function.
        let mut found = Code::OTHER;
        let classified = classify(objects.memory(), objects.layout(), code, &mut found);
        if found.kind == Kind::Other as u32 {
            classified?;
        }
        return Ok(found.kind == Kind::HandleRequest as u32);
    }
    let file = objects.text(objects.field(code, objects.layout().code_filename)?)?;
    Ok(GUNICORN.iter().any(|name| file.ends_with(name)))
}

/// An attribute of the class itself.
fn own<M: Memory>(objects: &Objects<'_, M>, class: u64, name: &str) -> Result<Option<u64>, Fault> {
    match objects.field(class, objects.layout().type_dict)? {
        0 => Ok(None),
        dict => objects.get(dict, name),
    }
}

fn reason<M: Memory>(objects: &Objects<'_, M>, class: u64, what: &str) -> Untrusted {
    let name = objects.type_name(class).unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    format!("the worker class {name} {what}: requests are seen by their connections only").into()
}
