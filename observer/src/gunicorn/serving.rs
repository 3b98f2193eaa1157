//! The request that a frame handles, from its local variables: that of Gunicorn's own code, of
//! Uvicorn's, or of an ASGI application.

use observer_model::Untrusted;
use probe_ebpf::gunicorn::{Code, Kind, classify};
use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::Objects;
use crate::cpython::position::Position;

/// What [`Request::method`] is of a WebSocket, whose scope has no method.
const WEBSOCKET: &str = "WEBSOCKET";

/// A request as parsed by `gunicorn/http/message.py`, the same in all supported versions, or by an
/// ASGI server; what cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: Option<Untrusted>,
    /// Without the query.
    pub path: Option<Untrusted>,
}

impl Request {
    /// The request that a frame of this code handles; `None` unless it is `handle_request`.
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read.
    pub fn of<M: Memory>(
        objects: &Objects<'_, M>,
        frame: u64,
        code: u64,
    ) -> Result<Option<Self>, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let mut known = Code::OTHER;
        classify(mem, layout, code, &mut known)?;
        if known.kind != Kind::HandleRequest as u32 {
            return Ok(None);
        }
        let request = layout.local(mem, frame, known.req)?;
        if request == 0 {
            return Ok(None);
        }
        Ok(Some(Self::parsed(objects, request)))
    }

    /// The request that a frame of an ASGI server or application handles: that of `run_asgi` in
    /// `uvicorn/protocols/*/*_impl.py`, of `_handle_http_request` in `gunicorn/asgi/protocol.py`, and of
    /// any function with a variable `scope`, as applications have it.
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read.
    pub fn of_asgi<M: Memory>(
        objects: &Objects<'_, M>,
        frame: u64,
        code: u64,
        position: &Position,
    ) -> Result<Option<Self>, Fault> {
        if position.is_in("_impl.py", "run_asgi") {
            let Some(cycle) = objects.local(frame, code, "self")? else {
                return Ok(None);
            };
            let scope = objects.attribute(cycle, "scope")?;
            return Ok(scope.and_then(|scope| Self::of_scope(objects, scope)));
        }
        if position.is_in("/gunicorn/asgi/protocol.py", "_handle_http_request") {
            let request = objects.local(frame, code, "request")?;
            return Ok(request.map(|request| Self::parsed(objects, request)));
        }
        let scope = objects.local(frame, code, "scope")?;
        Ok(scope.and_then(|scope| Self::of_scope(objects, scope)))
    }

    /// An object with a method and a path.
    fn parsed<M: Memory>(objects: &Objects<'_, M>, request: u64) -> Self {
        let text = |name| {
            let value = objects.attribute(request, name).ok()??;
            objects.text(value).ok()
        };
        Self::new(text("method"), text("path"))
    }

    /// The scope of a connection, as the ASGI specification has it; `None` of a lifespan.
    fn of_scope<M: Memory>(objects: &Objects<'_, M>, scope: u64) -> Option<Self> {
        let text = |name| objects.text(objects.get(scope, name).ok()??).ok();
        let method = match text("type")?.as_str() {
            "http" => text("method"),
            "websocket" => Some(WEBSOCKET.to_owned()),
            _ => return None,
        };
        Some(Self::new(method, text("path")))
    }

    fn new(method: Option<String>, path: Option<String>) -> Self {
        Self {
            method: method.map(Untrusted::from),
            // A custom request class may keep the query there.
            path: path.and_then(|path| Some(path.split(['?', '#']).next()?.into())),
        }
    }
}
