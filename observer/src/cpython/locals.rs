//! Local variables of a frame, by name.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::DIRECT;

use super::object::Objects;

impl<M: Memory> Objects<'_, M> {
    /// The value of a local variable of a frame that runs this code, also of one that it shares with
    /// inner or outer functions; `None` if there is none of this name, or it is unbound.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn local(&self, frame: u64, code: u64, name: &str) -> Result<Option<u64>, Fault> {
        let layout = self.layout();
        // Up to 3.10 an argument that is a cell has two slots, the first of them empty
        // (`co_cell2arg` in `Objects/codeobject.c`).
        let tuples = [layout.code_variables, layout.code_cells, layout.code_free];
        let mut slot = 0;
        for tuple in tuples.into_iter().filter(|&offset| offset != DIRECT) {
            for found in self.items(self.field(code, tuple)?)? {
                if self.is_text(found, name) {
                    let value = layout.local(self.memory(), frame, slot)?;
                    if let Some(value) = self.out_of_cell(value)? {
                        return Ok(Some(value));
                    }
                }
                slot += 1;
            }
        }
        Ok(None)
    }

    /// `PyCellObject.ob_ref` (`Include/cpython/cellobject.h`, the same since 3.8) of a cell, and any
    /// other object itself.
    fn out_of_cell(&self, object: u64) -> Result<Option<u64>, Fault> {
        if object == 0 {
            return Ok(None);
        }
        if self.type_name(self.type_of(object)?)? != "cell" {
            return Ok(Some(object));
        }
        let value = self.field(object, self.layout().object_type + 8)?;
        Ok((value != 0).then_some(value))
    }

    fn is_text(&self, object: u64, text: &str) -> bool {
        self.field(object, self.layout().str_length) == Ok(text.len() as u64)
            && self.text(object).is_ok_and(|found| found == text)
    }
}
