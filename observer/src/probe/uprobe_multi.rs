//! Uprobes by links of the kind `uprobe_multi` (Linux 6.6 and later): one link holds all places of a
//! file, ends within milliseconds, and needs no CAP_SYS_ADMIN.

use super::bpf_calls::{Kind, attach_uprobe_multi, load_program};
use anyhow::{Context as _, Result, bail};
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use nix::errno::Errno;
use std::os::fd::AsFd as _;

/// Whether this kernel lets this process use `uprobe_multi`.
pub(super) fn is_supported() -> bool {
    test().is_ok()
}

/// Checks that the kernel has `uprobe_multi`: it then looks at the path, and refuses a folder.
///
/// # Errors
/// When it has not.
pub(super) fn test() -> Result<()> {
    /// `r0 = 0; exit`.
    const CODE: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let instructions = aya_obj::obj::copy_instructions(&CODE)?;
    let kind = Kind {
        program_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE,
        attach_type: Some(bpf_attach_type::BPF_TRACE_UPROBE_MULTI),
    };
    let program = load_program(kind, "probe_test", &instructions, c"GPL");
    let program = program.map_err(|rejected| rejected.error);
    let program = program.context("this kernel refuses programs for uprobe_multi")?;
    match attach_uprobe_multi(program.as_fd(), c"/", &[0]) {
        Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => Ok(()),
        Err(error) => Err(error).context("this kernel has no uprobe_multi"),
        Ok(_) => bail!("this kernel attaches uprobe_multi to a folder"),
    }
}
