//! Offsets of kernel structures, from the kernel's own type information.

use super::btf::Btf;
use probe_ebpf::abi::KernelOffsets;
use std::{fs, io};
use thiserror::Error;

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets could not be had.
#[derive(Debug, Error)]
pub enum KernelError {
    #[error(
        "cannot read the kernel's type information {VMLINUX}: {0}; a kernel of 5.10 or later built with CONFIG_DEBUG_INFO_BTF is needed"
    )]
    Read(io::Error),
    #[error(
        "the kernel's type information {VMLINUX} has an unknown form; please report it with the output of `uname -r`"
    )]
    Form,
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
    let data = fs::read(VMLINUX).map_err(KernelError::Read)?;
    let btf = Btf::parse(&data).ok_or(KernelError::Form)?;
    let at = |structure: &'static str, path: &[&str]| {
        let missing = || KernelError::Missing {
            structure,
            field: path.join("."),
        };
        btf.offset(structure, path).ok_or_else(missing)
    };
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
        file_inode: at("file", &["f_inode"])?,
        inode_mode: at("inode", &["i_mode"])?,
        socket_sk: at("socket", &["sk"])?,
        sock_socket: at("sock", &["sk_socket"])?,
        sock_family: at("sock", &["__sk_common", "skc_family"])?,
        unix_peer: at("unix_sock", &["peer"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_running_kernel_are_found() {
        let at = offsets().unwrap();
        // These two are neighbours in every kernel (`include/linux/sched.h`).
        assert_eq!(at.task_tgid, at.task_pid + 4);
        assert!(at.task_thread_pointer > 0 && at.task_files > 0);
    }
}
