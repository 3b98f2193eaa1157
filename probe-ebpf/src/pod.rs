//! Lets userspace put the shared types into maps: the only `unsafe` code in this library.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::abi::{Conn, Gil, KernelOffsets, LostRecord, ObjectKey, RequestRecord, Target, Thread};
use crate::gunicorn::Code;
use crate::python::Layout;

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, made of integers, without padding: any bytes
            // are a valid value, and all of its bytes are initialised.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    Code,
    Conn,
    Gil,
    KernelOffsets,
    Layout,
    ObjectKey,
    Target,
    Thread,
);

macro_rules! record {
    ($($type:ty),+ $(,)?) => {
        $(
            impl $type {
                /// Its bytes, as the ring buffer would hold them.
                #[must_use]
                pub fn as_bytes(&self) -> &[u8] {
                    let bytes = core::ptr::from_ref(self).cast();
                    // SAFETY: `repr(C)`, made of integers, without padding: all of its bytes are
                    // initialised.
                    unsafe { core::slice::from_raw_parts(bytes, size_of::<Self>()) }
                }
            }
        )+
    };
}

record!(LostRecord, RequestRecord);
