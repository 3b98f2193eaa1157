//! Whether a worker class handles requests by Gunicorn's own code, whose calls of
//! `datetime.now` tell when a request begins and ends.
//!
//! Asked of the methods that lead there in `gunicorn/workers/{sync,gthread,base_async}.py`:
//! `run` → `handle` → `handle_request`. A subclass may have its own, as long as it
//! calls the one it replaces.

use probe_ebpf::gunicorn::{Kind, classify};
use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::Objects;

/// The method that begins and ends a request.
const HANDLE_REQUEST: &str = "handle_request";
/// Those on the way to it.
const ON_THE_WAY: [&str; 2] = ["handle", "run"];
/// Files whose `handle` and `run` lead there (Gunicorn 19.10 to 27.0).
const GUNICORN: [&str; 5] = [
    "gunicorn/workers/sync.py",
    "gunicorn/workers/gthread.py",
    "gunicorn/workers/base_async.py",
    "gunicorn/workers/ggevent.py",
    "gunicorn/workers/geventlet.py",
];
/// `GeventWorker.run` hands its connections to this class instead, if there is one
/// (`gunicorn/workers/ggevent.py`).
const SERVER_CLASS: &str = "server_class";

/// Why the requests of a worker class are not seen in Python; `None` if they are.
///
/// # Errors
/// [`Fault`] when the class cannot be read.
pub fn own_way<M: Memory>(objects: &Objects<'_, M>, class: u64) -> Result<Option<String>, Fault> {
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
                    "hands its connections to another server",
                ))
            });
        }
    }
    Ok(None)
}

/// Why the first `method` among these classes does not lead to Gunicorn's.
fn replaced<M: Memory>(
    objects: &Objects<'_, M>,
    bases: &[u64],
    method: &str,
    is_needed: bool,
) -> Result<Option<String>, Fault> {
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
        // `super().method(…)`: the base's comes next.
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
        // As the program in the kernel decides it.
        let code = classify(objects.memory(), objects.layout(), code)?;
        return Ok(code.kind == Kind::HandleRequest as u32);
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

fn reason<M: Memory>(objects: &Objects<'_, M>, class: u64, what: &str) -> String {
    let name = objects.type_name(class).unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    format!("the worker class {name} {what}: requests are told by their connections alone")
}
