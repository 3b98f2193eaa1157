//! A request inside the application.

/// Value of the `FLOWS` map: a request between entry and exit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    pub entered_ns: u64,
    pub exited_ns: u64,
    /// The connection's descriptor; -1 when unknown.
    pub fd: i32,
    /// A [`crate::gunicorn::Family`].
    pub family: u32,
    /// [`super::flags`] of the request so far.
    pub flags: u16,
    /// 1 once its record was sent.
    pub sent: u16,
    pub tid: u32,
    /// Exception records made for it, sent or dropped.
    pub exceptions: u32,
    /// Captured-frame records made for it, sent or dropped.
    pub captured_frames: u32,
}
const _: () = assert!(size_of::<Flow>() == 48);

impl Flow {
    /// Key that its exceptions carry; 0 if there were none. Its entry time is unique in its process.
    #[inline(always)]
    #[must_use]
    pub fn exceptions_key(&self) -> u64 {
        if self.exceptions | self.captured_frames == 0 {
            0
        } else {
            self.entered_ns
        }
    }
}
