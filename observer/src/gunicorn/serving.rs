//! The request that Gunicorn's own code handles, from the local variables of its frame.

use observer_model::Untrusted;
use probe_ebpf::gunicorn::{Code, Kind, classify};
use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::Objects;

/// A request as parsed by `gunicorn/http/message.py`, the same in all supported versions; what
/// cannot be read is absent.
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
        let text = |name| {
            let value = objects.attribute(request, name).ok()??;
            objects.text(value).ok()
        };
        let path = text("path");
        Ok(Some(Self {
            method: text("method").map(Untrusted::from),
            // A custom request class may keep the query there.
            path: path.and_then(|path| Some(path.split(['?', '#']).next()?.into())),
        }))
    }
}
