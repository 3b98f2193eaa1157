//! Lets userspace put the shared types into maps: the only `unsafe` code in this library.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::abi::{Conn, Gil, KernelOffsets, ObjectKey, Target, Thread};
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
