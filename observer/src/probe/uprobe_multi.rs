//! Uprobes by links of the kind `uprobe_multi` (Linux 6.6 and later): one link holds all places of a
//! file, ends within milliseconds, and needs no CAP_SYS_ADMIN.
//!
//! aya 0.14 neither loads nor attaches such programs. It makes the maps; the object is parsed a second
//! time, for the instructions that refer to them.

use super::absent::Refusal;
use super::attach::no_program;
use super::bpf_calls::{Rejected, attach_uprobe_multi, load_uprobe};
use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};
use nix::errno::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// The programs on functions of processes.
pub(super) struct UprobeMulti {
    code: HashMap<String, Vec<bpf_insn>>,
    license: CString,
    loaded: HashMap<&'static str, OwnedFd>,
}

impl UprobeMulti {
    /// The programs of an object whose maps aya made, all of them still there.
    ///
    /// # Errors
    /// When this kernel has no `uprobe_multi`, or the object is not the same.
    pub(super) fn new(mut object: Object, ebpf: &Ebpf) -> Result<Self> {
        test_kernel()?;
        let maps = std::mem::take(&mut object.maps);
        let fds = maps.iter().filter_map(|(name, map)| {
            let fd = fd_of(ebpf.map(name)?)?;
            Some((name.as_str(), fd, map))
        });
        let sections = object.functions.keys().map(|&(section, _)| section);
        let sections = sections.collect();
        object.relocate_maps(fds, &sections)?;
        object.relocate_calls(&sections)?;
        let programs = object.programs.iter();
        let uprobes = programs
            .filter(|(_, program)| matches!(program.section, ProgramSection::UProbe { .. }))
            .filter_map(|(name, program)| {
                let function = object.functions.get(&program.function_key())?;
                Some((name.clone(), function.instructions.clone()))
            });
        Ok(Self {
            code: uprobes.collect(),
            license: object.license.clone(),
            loaded: HashMap::new(),
        })
    }

    /// Loads a program.
    ///
    /// # Errors
    /// When the kernel rejects it.
    pub(super) fn load(&mut self, name: &'static str) -> Result<(), Refusal> {
        let Some(code) = self.code.get(name) else {
            return Err(Refusal::on_load(name, &no_program(name), String::new()));
        };
        let loaded = load_uprobe(name, code, &self.license);
        let loaded =
            loaded.map_err(|Rejected { error, log }| Refusal::on_load(name, &error, log))?;
        self.loaded.insert(name, loaded);
        Ok(())
    }

    /// A loaded program.
    pub(super) fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.loaded.get(name).map(OwnedFd::as_fd)
    }

    /// Attaches a program at these offsets of a file.
    ///
    /// # Errors
    /// When the kernel rejected the program or refuses to attach it.
    pub(super) fn attach(&self, name: &str, file: &File, offsets: &[u64]) -> Result<OwnedFd> {
        let Some(program) = self.fd(name) else {
            bail!("the kernel rejected the eBPF program {name}");
        };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(attach_uprobe_multi(program, &path, offsets)?)
    }
}

/// Whether this kernel lets this process use `uprobe_multi`.
pub(super) fn is_supported() -> bool {
    test_kernel().is_ok()
}

/// Checks that the kernel has `uprobe_multi`: it then looks at the path, and refuses a folder.
fn test_kernel() -> Result<()> {
    /// `r0 = 0; exit`.
    const CODE: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let instructions = aya_obj::obj::copy_instructions(&CODE)?;
    let program = load_uprobe("probe_test", &instructions, c"GPL");
    let program = program.map_err(|rejected| rejected.error);
    let program = program.context("this kernel refuses programs for uprobe_multi")?;
    match attach_uprobe_multi(program.as_fd(), c"/", &[0]) {
        Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => Ok(()),
        Err(error) => Err(error).context("this kernel has no uprobe_multi"),
        Ok(_) => bail!("this kernel attaches uprobe_multi to a folder"),
    }
}

fn fd_of(map: &Map) -> Option<RawFd> {
    let (Map::Array(map)
    | Map::HashMap(map)
    | Map::LruHashMap(map)
    | Map::PerCpuArray(map)
    | Map::PerCpuHashMap(map)
    | Map::PerCpuLruHashMap(map)
    | Map::ProgramArray(map)
    | Map::RingBuf(map)
    | Map::SkStorage(map)) = map
    else {
        return None;
    };
    Some(map.fd().as_fd().as_raw_fd())
}
