//! Drops every capability that observing does not need.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Needed on every kernel, to read the memory of processes. docs/SECURITY.md says what each is for.
pub const NEEDED: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// Needed to attach to interpreters, unless the kernel has `uprobe_multi`.
pub const ADMIN: Capability = Capability::CAP_SYS_ADMIN;

/// Capabilities that the kernel checks first; it accepts [`ADMIN`] in their place (`bpf_capable` and
/// `perfmon_capable` of `linux/capability.h`).
pub const COVERED: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// Without [`ADMIN`], these have a use of their own (`bpf_net_capable` and
/// `checkpoint_restore_ns_capable` of `linux/capability.h`).
pub const INSTEAD: [Capability; 2] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_CHECKPOINT_RESTORE,
];

/// Drops every capability but [`NEEDED`], [`COVERED`] and [`ADMIN`] or else [`INSTEAD`], for this thread
/// and those it starts, and lowers the bounding set, so that no program can get one back
/// (`capabilities(7)`).
///
/// # Errors
/// When the kernel refuses; capabilities dropped until then stay dropped.
pub fn keep_needed() -> Result<(), CapsError> {
    let kept = kept(caps::has_cap(None, CapSet::Effective, ADMIN)?);
    // Lowering the bounding set needs a capability that is itself dropped below.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for dropped in others(&kept, CapSet::Bounding)? {
            caps::drop(None, CapSet::Bounding, dropped)?;
        }
    }
    for dropped in others(&kept, CapSet::Ambient)? {
        caps::drop(None, CapSet::Ambient, dropped)?;
    }
    // An effective capability has to be permitted.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let all = caps::read(None, set)?;
        let left: CapsHashSet = all.intersection(&kept).copied().collect();
        // The call is refused where a service manager has dropped them already.
        if left != all {
            caps::set(None, set, &left)?;
        }
    }
    Ok(())
}

fn others(kept: &CapsHashSet, set: CapSet) -> Result<Vec<Capability>, CapsError> {
    let all = caps::read(None, set)?;
    Ok(all.difference(kept).copied().collect())
}

fn kept(has_admin: bool) -> CapsHashSet {
    let both = NEEDED.into_iter().chain(COVERED);
    if has_admin {
        both.chain([ADMIN]).collect()
    } else {
        both.chain(INSTEAD).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_capabilities_are_left() {
        // A thread, so that the other tests keep theirs.
        let left = std::thread::spawn(|| {
            keep_needed().unwrap();
            let sets = [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable];
            let kept = kept(caps::has_cap(None, CapSet::Effective, ADMIN).unwrap());
            sets.map(|set| others(&kept, set).unwrap())
        });
        for others in left.join().unwrap() {
            assert_eq!(others, []);
        }
    }
}
