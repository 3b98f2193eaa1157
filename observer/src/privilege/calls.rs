//! A seccomp filter that refuses system calls which change files, processes or the host.
//!
//! The filter lists refused calls, not allowed ones: a call that a later version of a library makes
//! must not break the observer. The unit in `deploy/systemd` and container runtimes have the
//! stricter list.

use anyhow::{Context as _, Result};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Refused with any arguments.
const REFUSED: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes: written to, traced, signalled.
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_tkill,
    // Files: made, removed, renamed, changed.
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Calls whose arguments a filter cannot read.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    // The host: modules, other kernels, its clock, name, swap, accounting, log.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    // Other users, capabilities and keys.
    libc::SYS_capset,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_personality,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
];

/// Calls that only older architectures have.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// Installs the filter in every thread of this process: refused calls fail with `EPERM`. It cannot be
/// removed, and no program started later gains privileges (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// When the kernel has no seccomp filters.
pub fn refuse_changes() -> Result<()> {
    seccompiler::apply_filter_all_threads(&filter()?)
        .context("this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
}

fn filter() -> Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let always = REFUSED.iter().chain(REFUSED_HERE);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.map(|&call| (call, Vec::new())).collect();
    // `open(path, flags)`, `openat(folder, path, flags)`; `openat2` passes a structure, which a
    // filter cannot read.
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, writing(1)?);
    rules.insert(libc::SYS_openat, writing(2)?);
    // `kill(pid, signal)`: 0 asks whether the process is there.
    rules.insert(libc::SYS_kill, vec![other_than(1, 0)?]);
    // `setns(namespace, kind)`: listeners of other network namespaces are read.
    rules.insert(libc::SYS_setns, vec![other_than(1, libc::CLONE_NEWNET)?]);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()?)
}

/// Rules that match when this argument opens a file for anything but reading (`open(2)`).
fn writing(argument: u8) -> Result<Vec<SeccompRule>> {
    let modes = [libc::O_WRONLY, libc::O_RDWR].map(|mode| (libc::O_ACCMODE, mode));
    // A file can be truncated without being opened for writing.
    let others = [libc::O_CREAT, libc::O_TRUNC].map(|flag| (flag, flag));
    let rules = modes.into_iter().chain(others).map(|(mask, value)| {
        let mask = u64::from(mask.cast_unsigned());
        rule(argument, SeccompCmpOp::MaskedEq(mask), value)
    });
    rules.collect()
}

fn other_than(argument: u8, value: libc::c_int) -> Result<SeccompRule> {
    rule(argument, SeccompCmpOp::Ne, value)
}

fn rule(argument: u8, op: SeccompCmpOp, value: libc::c_int) -> Result<SeccompRule> {
    let value = u64::from(value.cast_unsigned());
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sched::{CloneFlags, setns};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::fs::{self, File};
    use std::io;
    use std::process::Command;

    /// Runs `act` in a thread that alone has the filter.
    fn confined<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            seccompiler::apply_filter(&filter().unwrap()).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    fn is_refused<T: std::fmt::Debug>(result: io::Result<T>) {
        let error = result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn files_can_be_read_but_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "as it was").unwrap();
        let path = old.clone();
        confined(move || {
            assert_eq!(fs::read_to_string(&path).unwrap(), "as it was");
            is_refused(File::create(&new));
            is_refused(File::options().write(true).open(&path));
            is_refused(File::options().read(true).write(true).open(&path));
            is_refused(File::options().append(true).open(&path));
            is_refused(fs::remove_file(&path));
            is_refused(fs::rename(&path, &new));
            is_refused(fs::create_dir(&new));
            is_refused(fs::hard_link(&path, &new));
            is_refused(std::os::unix::fs::symlink(&path, &new));
            let mode = fs::metadata(&path).unwrap().permissions();
            is_refused(fs::set_permissions(&path, mode));
        });
        assert_eq!(fs::read_to_string(&old).unwrap(), "as it was");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_process_can_be_signalled_and_no_program_started() {
        confined(|| {
            let own = Pid::this();
            assert_eq!(kill(own, None), Ok(()));
            assert_eq!(kill(own, Signal::SIGCONT), Err(Errno::EPERM));
            is_refused(Command::new("/bin/true").status());
        });
    }

    #[test]
    fn only_network_namespaces_can_be_entered() {
        confined(|| {
            let file = File::open("/dev/null").unwrap();
            // The file is no namespace, but the call got through.
            assert_eq!(setns(&file, CloneFlags::CLONE_NEWNET), Err(Errno::EINVAL));
            assert_eq!(setns(&file, CloneFlags::CLONE_NEWNS), Err(Errno::EPERM));
            assert_eq!(setns(&file, CloneFlags::empty()), Err(Errno::EPERM));
        });
    }

    #[test]
    fn threads_can_still_be_started() {
        let sum = confined(|| {
            std::thread::spawn(|| 40 + 2)
                .join()
                .map_err(|_| "no thread")
        });
        assert_eq!(sum, Ok(42));
    }
}
