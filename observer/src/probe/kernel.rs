//! Offsets of fields in kernel structures, from the kernel's types (BTF).

use super::btf::Btf;
use probe_ebpf::abi::KernelOffsets;
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

/// Where the kernel publishes its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets are unknown.
#[derive(Debug, Error)]
pub enum KernelError {
    #[error(
        "cannot read kernel types from {from}: {source}; use Linux 5.10 or later built with CONFIG_DEBUG_INFO_BTF=y, or pass the kernel's types with --btf", from = .from.display()
    )]
    Read { from: PathBuf, source: io::Error },
    #[error(
        "kernel types in {from} have an unknown format; report it with the output of `uname -r`", from = .from.display()
    )]
    Form { from: PathBuf },
    #[error(
        "`{structure}` in {from} has no field `{field}`, which the eBPF programs need; report it with the output of `uname -r`", from = .from.display()
    )]
    Missing {
        structure: &'static str,
        field: String,
        from: PathBuf,
    },
}

/// The types of a kernel.
pub struct Types {
    btf: Btf,
    from: PathBuf,
}

impl Types {
    /// Reads the types of the running kernel, or from a file that must be of the same kernel.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(file: Option<&Path>) -> Result<Self, KernelError> {
        let from = file.unwrap_or(Path::new(VMLINUX)).to_owned();
        let data = fs::read(&from);
        let data = data.map_err(|source| KernelError::Read {
            from: from.clone(),
            source,
        })?;
        let btf = Btf::parse(data).ok_or_else(|| KernelError::Form { from: from.clone() })?;
        Ok(Self { btf, from })
    }

    /// The file that they come from.
    #[must_use]
    pub fn from(&self) -> &Path {
        &self.from
    }

    /// Whether this kernel has a function of this name.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.btf.has_function(name)
    }

    /// Whether this kernel has the tracepoints `sock_recv_length` and `sock_send_length`. Its types name
    /// the signature of each raw tracepoint.
    #[must_use]
    pub fn has_socket_tracepoints(&self) -> bool {
        let mut both = ["btf_trace_sock_recv_length", "btf_trace_sock_send_length"].into_iter();
        both.all(|name| self.btf.has_typedef(name))
    }

    /// Resolves every offset the programs need.
    ///
    /// # Errors
    /// When the kernel lacks a field.
    pub fn offsets(&self) -> Result<KernelOffsets, KernelError> {
        offsets(&self.btf, &self.from)
    }
}

fn offsets(btf: &Btf, from: &Path) -> Result<KernelOffsets, KernelError> {
    let at = |structure: &'static str, path: &[&str]| {
        let missing = || KernelError::Missing {
            structure,
            field: path.join("."),
            from: from.to_owned(),
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
        sock_port: at("sock", &["__sk_common", "skc_num"])?,
        tcp_space_time: at("tcp_sock", &["rcvq_space", "time"])?,
        tcp_space_seq: at("tcp_sock", &["rcvq_space", "seq"])?,
        tcp_rcv_nxt: at("tcp_sock", &["rcv_nxt"])?,
        tcp_bytes_received: at("tcp_sock", &["bytes_received"])?,
        tcp_copied_seq: at("tcp_sock", &["copied_seq"])?,
        sock_state: at("sock", &["__sk_common", "skc_state"])?,
        sock_shutdown: at("sock", &["sk_shutdown"])?,
        sock_ack_backlog: at("sock", &["sk_ack_backlog"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_a_file_that_is_empty_or_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Types::read(Some(file.path())).err().unwrap().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
        let error = Types::read(Some(Path::new("/nowhere/types")))
            .err()
            .unwrap();
        assert!(error.to_string().contains("/nowhere/types"), "{error}");
    }

    #[test]
    fn the_fields_of_the_running_kernel_are_found() {
        let at = Types::read(None).unwrap().offsets().unwrap();
        // These two are neighbours in every kernel (`include/linux/sched.h`).
        assert_eq!(at.task_tgid, at.task_pid + 4);
        assert!(at.task_thread_pointer > 0 && at.task_files > 0);
    }
}
