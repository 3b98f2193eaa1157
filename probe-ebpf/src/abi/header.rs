//! What every record of the ring buffer begins with.

/// Kind of a record; the first field of its [`Header`].
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`super::RequestRecord`]
    Request = 1,
    /// [`super::ForkRecord`]
    Fork = 2,
    /// [`super::ExecRecord`]
    Exec = 3,
    /// [`super::ExitRecord`]
    Exit = 4,
    /// [`super::ExceptionRecord`]
    Exception = 5,
    /// [`super::CapturedFrameRecord`]
    CapturedFrame = 6,
    /// [`super::DeepCaptureExhaustedRecord`]
    DeepCaptureExhausted = 7,
    /// [`super::SignalRecord`]
    Signal = 8,
    /// [`super::OomRecord`]
    Oom = 9,
    /// [`super::StackRecord`]
    Stack = 10,
    /// [`super::GcRecord`]
    Gc = 11,
    /// [`super::LostRecord`]
    Lost = 12,
}

/// First fields of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// A [`RecordKind`].
    pub kind: u16,
    /// Size of the whole record in bytes.
    pub len: u16,
    /// Process (thread group) the record is about, in the host's pid namespace.
    pub tgid: u32,
    /// When the program made the record.
    pub time_ns: u64,
}
const _: () = assert!(size_of::<Header>() == 16);
