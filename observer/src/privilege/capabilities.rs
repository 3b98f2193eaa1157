//! Drops every capability that observing does not need.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Needed to attach to interpreters and to read the memory of processes. docs/SECURITY.md says what
/// each is for.
pub const NEEDED: [Capability; 3] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Capabilities that the kernel checks first; it accepts `CAP_SYS_ADMIN` in their place
/// (`bpf_capable` and `perfmon_capable` of `linux/capability.h`).
pub const COVERED: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// Drops every capability but [`NEEDED`] and [`COVERED`], for this thread and those it starts, and
/// lowers the bounding set, so that no program can get one back (`capabilities(7)`).
///
/// # Errors
/// When the kernel refuses; capabilities dropped until then stay dropped.
pub fn keep_needed() -> Result<(), CapsError> {
    // Lowering the bounding set needs a capability that is itself dropped below.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for dropped in others(CapSet::Bounding)? {
            caps::drop(None, CapSet::Bounding, dropped)?;
        }
    }
    for dropped in others(CapSet::Ambient)? {
        caps::drop(None, CapSet::Ambient, dropped)?;
    }
    // An effective capability has to be permitted.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let all = caps::read(None, set)?;
        let kept: CapsHashSet = all.iter().copied().filter(is_kept).collect();
        // The call is refused where a service manager has dropped them already.
        if kept != all {
            caps::set(None, set, &kept)?;
        }
    }
    Ok(())
}

fn others(set: CapSet) -> Result<Vec<Capability>, CapsError> {
    let all = caps::read(None, set)?;
    Ok(all.into_iter().filter(|it| !is_kept(it)).collect())
}

fn is_kept(capability: &Capability) -> bool {
    NEEDED.contains(capability) || COVERED.contains(capability)
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
            sets.map(|set| others(set).unwrap())
        });
        for others in left.join().unwrap() {
            assert_eq!(others, []);
        }
    }
}
