//! Capabilities: those of root but for the ones that observing takes.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// What attaching to interpreters and looking into processes take for as long as that is done.
/// docs/SECURITY.md says what each is for.
pub const NEEDED: [Capability; 3] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Those that are asked for first, and for which `CAP_SYS_ADMIN` stands where they are not there
/// (`bpf_capable` and `perfmon_capable` of `linux/capability.h`).
pub const COVERED: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// Gives up, for this thread and those it starts, every capability but those in [`NEEDED`] and [`COVERED`], and the
/// way to get one back: by a program of another user (`capabilities(7)`, the bounding set).
///
/// # Errors
/// When the kernel refuses; what was given up until then stays so.
pub fn keep_needed() -> Result<(), CapsError> {
    // Lowering the bounding set takes a capability that goes with the others.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for given_up in others(CapSet::Bounding)? {
            caps::drop(None, CapSet::Bounding, given_up)?;
        }
    }
    for given_up in others(CapSet::Ambient)? {
        caps::drop(None, CapSet::Ambient, given_up)?;
    }
    // What is effective has to be permitted.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let all = caps::read(None, set)?;
        let kept: CapsHashSet = all.iter().copied().filter(is_kept).collect();
        // The call is refused where a service manager has seen to it.
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
    fn nothing_but_what_is_needed_is_left() {
        // Of this thread alone.
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
