//! Deep capture: every frame that an exception leaves, within a budget of hits.

use super::{ClassNames, FrameNames, Header};

/// An exception left a frame, or is caught in it. Sent only during a deep capture.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CapturedFrameRecord {
    pub header: Header,
    /// [`super::RequestRecord::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception, or of the value Python will make it from; 0 for none.
    pub object: u64,
    /// Address of its class.
    pub class_object: u64,
    /// 1 if the exception object exists; before 3.12 Python makes it when it is caught.
    pub is_made: u16,
    /// 1 if it left other frames before, so was not raised in this one.
    pub has_traceback: u16,
    /// How many calls below `handle_request` the frame is.
    pub depth: u32,
    pub class: ClassNames,
    pub frame: FrameNames,
}
const _: () = assert!(size_of::<CapturedFrameRecord>() == 16 + 4 * 8 + 120 + 256);

/// Index into the `CAPTURE_BUDGET` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureBudget {
    /// Hits that all deep captures together may use: written by userspace.
    Granted = 0,
    /// Hits that they used: written by the program.
    Used = 1,
}

/// The deep captures used their budget: no frame after this one is captured.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeepCaptureExhaustedRecord {
    pub header: Header,
}
const _: () = assert!(size_of::<DeepCaptureExhaustedRecord>() == 16);
