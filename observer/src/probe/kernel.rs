//! Offsets of kernel structures, from the kernel's own type information (BTF).

use btf_rs::{Btf, Type};
use probe_ebpf::abi::KernelOffsets;
use std::path::Path;
use thiserror::Error;

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets could not be had.
#[derive(Debug, Error)]
pub enum KernelError {
    #[error(
        "cannot read the kernel's type information {VMLINUX}: {0}; a kernel of 5.10 or later built with CONFIG_DEBUG_INFO_BTF is needed"
    )]
    Read(btf_rs::Error),
    #[error(
        "this kernel's {structure} has no field {field}, which the probes need; please report it with the output of `uname -r`"
    )]
    Missing {
        structure: &'static str,
        field: String,
    },
}

/// Resolves every offset the programs need.
///
/// # Errors
/// When the kernel has no BTF, or lacks a field.
pub fn offsets() -> Result<KernelOffsets, KernelError> {
    let btf = Btf::from_file(Path::new(VMLINUX)).map_err(KernelError::Read)?;
    offsets_of(&btf)
}

fn offsets_of(btf: &Btf) -> Result<KernelOffsets, KernelError> {
    let at = |structure, path: &[&str]| field(btf, structure, path);
    // The thread pointer: `fsbase` on x86-64, `uw.tp_value` on aarch64.
    let thread_pointer: &[&str] = if cfg!(target_arch = "aarch64") {
        &["thread", "uw", "tp_value"]
    } else {
        &["thread", "fsbase"]
    };
    Ok(KernelOffsets {
        task_pid: at("task_struct", &["pid"])?,
        task_tgid: at("task_struct", &["tgid"])?,
        task_exit_code: at("task_struct", &["exit_code"])?,
        task_signal: at("task_struct", &["signal"])?,
        signal_live: at("signal_struct", &["live"])?,
        task_thread_pointer: at("task_struct", thread_pointer)?,
        task_files: at("task_struct", &["files"])?,
        files_fdt: at("files_struct", &["fdt"])?,
        fdt_fd: at("fdtable", &["fd"])?,
        fdt_max_fds: at("fdtable", &["max_fds"])?,
        file_private_data: at("file", &["private_data"])?,
        socket_sk: at("socket", &["sk"])?,
    })
}

/// Byte offset of `structure.path[0].path[1]…`.
fn field(btf: &Btf, structure: &'static str, path: &[&str]) -> Result<u32, KernelError> {
    let missing = || KernelError::Missing {
        structure,
        field: path.join("."),
    };
    let types = btf
        .resolve_types_by_name(structure)
        .map_err(|_| missing())?;
    types
        .into_iter()
        .filter(|candidate| matches!(candidate, Type::Struct(_)))
        .find_map(|candidate| path_bits(btf, candidate, path))
        .map(|bits| bits / 8)
        .ok_or_else(missing)
}

/// Bit offset of a path of members below `container`.
fn path_bits(btf: &Btf, container: Type, path: &[&str]) -> Option<u32> {
    let (first, rest) = path.split_first()?;
    let (bits, inner) = member_bits(btf, container, first)?;
    if rest.is_empty() {
        Some(bits)
    } else {
        Some(bits + path_bits(btf, inner, rest)?)
    }
}

/// Bit offset and type of a member, looked for in anonymous members too.
fn member_bits(btf: &Btf, container: Type, name: &str) -> Option<(u32, Type)> {
    let (Type::Struct(fields) | Type::Union(fields)) = container else {
        return None;
    };
    for member in &fields.members {
        let inner = || unqualified(btf, btf.resolve_chained_type(member).ok()?);
        match btf.resolve_name(member) {
            Ok(found) if found == name => return Some((member.bit_offset(), inner()?)),
            Ok(found) if !found.is_empty() => {}
            _ => {
                if let Some((bits, found)) = member_bits(btf, inner()?, name) {
                    return Some((member.bit_offset() + bits, found));
                }
            }
        }
    }
    None
}

/// Behind `typedef`, `const`, `volatile` and type tags.
fn unqualified(btf: &Btf, mut found: Type) -> Option<Type> {
    for _ in 0..16 {
        found = match &found {
            Type::Typedef(inner) => btf.resolve_chained_type(inner).ok()?,
            Type::Const(inner) | Type::Volatile(inner) | Type::Restrict(inner) => {
                btf.resolve_chained_type(inner).ok()?
            }
            Type::TypeTag(inner) => btf.resolve_chained_type(inner).ok()?,
            _ => return Some(found),
        };
    }
    None
}
