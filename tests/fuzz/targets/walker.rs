//! The memory of a process whose every structure is a trap.
//!
//! The bytes are its pages, at addresses so low that what is read in them often is an address
//! again: lists bite their tails, strings are endless, dictionaries overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{
    cpython::{
        object::Objects,
        signal_handlers,
        slot::{self, Libc},
        threads,
    },
    gunicorn::arbiter::Arbiter,
    process::{elf::Machine, memory::Snapshot, thread_pointer::ThreadPointer},
};
use probe_ebpf::abi::{ClassNames, FrameNames};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::exception::Raised;
use probe_ebpf::python::{Layout, debug_offsets, tables};

/// All that is mapped begins here: below is what small numbers would be as pointers.
const START: u64 = 0x1000;

struct Pages<'a>(&'a [u8]);

impl Memory for Pages<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        // The same pages over and over, so that little input is much memory.
        let at = address.checked_sub(START).ok_or(Fault)?;
        if self.0.is_empty() || at >= 1 << 24 {
            return Err(Fault);
        }
        for (byte, at) in buf.iter_mut().zip(at..) {
            *byte = self.0[usize::try_from(at).map_err(|_| Fault)? % self.0.len()];
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[choice, low, high], pages)) = bytes.split_first_chunk() else {
        return;
    };
    let published = debug_offsets::layout(pages);
    let Some(layout) = (match choice {
        // As 3.13 and later have it, in the memory itself.
        255 => published.as_ref().ok(),
        minor => tables::for_version(3, 8 + minor % 5),
    }) else {
        return;
    };
    walk(
        layout,
        START + u64::from(u16::from_le_bytes([low, high])),
        pages,
    );
});

fn walk(layout: &Layout, runtime: u64, pages: &[u8]) {
    let memory = Snapshot::new(Pages(pages));
    let objects = Objects::new(&memory, layout);
    let found = threads::threads(&memory, layout, runtime).unwrap_or_default();
    if let Some(pointer) = ThreadPointer::of(Machine::X86_64, None) {
        let libc = Libc {
            first_block: 784,
            pointer,
        };
        let _ = slot::find(&memory, layout, runtime, libc, &found);
    }
    let variables = START..START + pages.len() as u64;
    let handlers = signal_handlers::find(&objects, variables);
    let handlers = handlers.and_then(|at| signal_handlers::functions(&objects, at).ok());
    if let Ok(Some(arbiter)) = Arbiter::find(&objects, &handlers.unwrap_or(vec![runtime])) {
        everything_of(&objects, &arbiter);
    }
    // Without an arbiter, each structure by itself.
    for object in [runtime, runtime.wrapping_add(64)] {
        let _ = objects.text(object);
        let _ = objects.int(object);
        let _ = objects.items(object);
        let _ = objects.entries(object);
        let _ = objects.attribute(object, "WORKERS");
        let _ = objects.instance_attributes(object);
        let _ = objects
            .type_of(object)
            .and_then(|class| objects.type_name(class));
        exceptions_of(layout, &memory, object);
    }
    for &tstate in found.iter().take(2) {
        exceptions_of(layout, &memory, tstate);
    }
}

/// What the programs in the kernel read of exceptions: whatever there is, they come to an end.
fn exceptions_of<M: Memory>(layout: &Layout, memory: &M, tstate: u64) {
    let Raised {
        class,
        object: raised,
        ..
    } = layout.raised_exception(memory, tstate);
    let handled = layout.handled_exception(memory, tstate);
    let mut class_names = ClassNames::EMPTY;
    let mut frame_names = FrameNames::EMPTY;
    for exception in [raised, handled, tstate] {
        let root = layout.root_cause(memory, exception);
        let _ = layout.came_from(memory, root);
        let frame = layout.caught_in(memory, root);
        layout.frame_names(memory, frame, &mut frame_names);
    }
    for object in [class, tstate] {
        layout.class_names(memory, object, &mut class_names);
        layout.frame_names(memory, object, &mut frame_names);
    }
    let name = class_names.module.get(..class_names.module_len.into());
    let file = frame_names.file.get(..frame_names.file_len.into());
    let function = frame_names.function.get(..frame_names.function_len.into());
    assert!(name.is_some() && file.is_some() && function.is_some());
}

fn everything_of<M: Memory>(objects: &Objects<'_, M>, arbiter: &Arbiter) {
    let _ = arbiter.workers(objects);
    let _ = arbiter.handling(objects);
    let _ = arbiter.settings(objects);
}
