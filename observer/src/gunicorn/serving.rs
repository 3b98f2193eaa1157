//! The request that Gunicorn's own code is handling, by the local variables of its frame.

use probe_ebpf::gunicorn::{Kind, classify};
use probe_ebpf::memory::{Fault, Memory};

use crate::cpython::object::Objects;

/// A request, as `gunicorn/http/message.py` has parsed it (19.10 to 27.0); what cannot be read
/// is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: Option<String>,
    /// Without the query.
    pub path: Option<String>,
}

impl Request {
    /// What a frame of this code handles; `None` unless it is `handle_request`.
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read.
    pub fn of<M: Memory>(
        objects: &Objects<'_, M>,
        frame: u64,
        code: u64,
    ) -> Result<Option<Self>, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let known = classify(mem, layout, code)?;
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
        let path: Option<String> = text("path");
        Ok(Some(Self {
            method: text("method"),
            // Whatever a class of somebody's own keeps there.
            path: path.and_then(|path| Some(path.split(['?', '#']).next()?.to_owned())),
        }))
    }
}
