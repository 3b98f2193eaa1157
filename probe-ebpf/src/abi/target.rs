//! An observed process.

/// What a target is to the programs.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May become a master: observed like a worker, its forks are followed.
    Candidate = 0,
    /// Forks workers, serves nothing itself.
    Master = 1,
    /// Serves requests; its own children are not followed.
    Worker = 2,
    /// A Python program that is no Gunicorn. The programs ignore it, but its children are
    /// candidates.
    Bystander = 3,
}

impl Role {
    /// The role that a [`Target`] holds.
    #[must_use]
    pub fn from_raw(role: u32) -> Option<Self> {
        let all = [Self::Candidate, Self::Master, Self::Worker, Self::Bystander];
        all.into_iter().find(|&known| known as u32 == role)
    }
}

/// Ports of a target's listeners that the programs compare.
pub const MAX_PORTS: usize = 4;

/// Value of the `TARGETS` map, keyed by tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub tgid: u32,
    /// A set of [`target_flags`].
    pub flags: u32,
    /// Index into the `LAYOUTS` map; [`NO_LAYOUT`] when its interpreter is not read.
    pub layout: u32,
    /// A [`Role`].
    pub role: u32,
    /// Offset of the thread's `PyThreadState *` from the thread pointer.
    pub tstate_slot: i64,
    /// Distinguishes this process from an earlier one of the same pid: the programs never use map
    /// entries that a dead process left.
    pub generation: u64,
    /// Local ports of the connections that it accepts, 0 behind the last one. All are 0 while they are
    /// unknown or too many.
    pub ports: [u16; MAX_PORTS],
}
const _: () = assert!(size_of::<Target>() == 40);

/// What is special about a target.
pub mod target_flags {
    /// Gunicorn itself decrypts: the bytes of its sockets are no HTTP.
    pub const TLS: u32 = 1 << 0;
    /// Another target has the same place in the `TARGET_PLACES` map.
    pub const SHARED: u32 = 1 << 1;
    /// Its requests are seen by the bytes of its sockets.
    pub const BY_SOCKET: u32 = 1 << 2;
    /// And tasks of its event loops show which exception belongs to which.
    pub const TASKS: u32 = 1 << 3;
}

impl Target {
    /// A process whose interpreter is not read, since this time.
    #[must_use]
    pub fn unread(generation: u64) -> Self {
        Self {
            layout: NO_LAYOUT,
            flags: target_flags::BY_SOCKET,
            generation,
            ..Self::default()
        }
    }

    /// Whether its requests are seen by the bytes of its sockets alone. Its interpreter may be read all the
    /// same, for stacks.
    #[inline(always)]
    #[must_use]
    pub fn is_by_socket(&self) -> bool {
        self.flags & target_flags::BY_SOCKET != 0
    }

    /// Whether a socket with this local port may be a connection of its listeners.
    #[inline(always)]
    #[must_use]
    pub fn accepts_on(&self, port: u16) -> bool {
        let [a, b, c, d] = self.ports;
        a == 0 || (port != 0 && (port == a || port == b || port == c || port == d))
    }
}

/// Places of targets by the low bits of their tgid.
pub const TARGET_PLACE_COUNT: u32 = 1 << 16;

/// Index into the `MODES` map: 1 if it is so.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sockets report reads and writes: the programs on system calls leave them alone.
    Sockets = 0,
    /// Sockets report when they are accepted and closed.
    Accepts = 1,
    /// No socket is seen: requests are, where Python begins and ends them.
    EntryExit = 2,
}

impl Mode {
    /// Number of modes.
    pub const COUNT: u32 = 3;
}

/// [`Target::layout`] of a process whose interpreter is not read.
pub const NO_LAYOUT: u32 = u32::MAX;
