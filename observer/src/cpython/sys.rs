//! The module `sys` of an interpreter.

use probe_ebpf::memory::{Fault, Memory};

use super::object::Objects;
use super::threads;

/// The release in `sys.version`, such as `3.9.18`: before 3.11 no symbol tells it.
///
/// # Errors
/// [`Fault`] when it cannot be read, also because the interpreter starts.
pub fn release<M: Memory>(objects: &Objects<'_, M>, runtime: u64) -> Result<String, Fault> {
    let layout = objects.layout();
    let interp = threads::main_interpreter(objects.memory(), layout, runtime)?.ok_or(Fault)?;
    let names = objects.field(interp, layout.interp_sysdict)?;
    let version = objects.get(names, "version")?.ok_or(Fault)?;
    let version = objects.text(version)?;
    // `3.9.18 (main, …) [GCC …]`, and `3.9.18+` between releases.
    let release = version.split_ascii_whitespace().next().unwrap_or_default();
    Ok(release.to_owned())
}
