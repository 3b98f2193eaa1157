use super::*;
use probe_ebpf::abi::IoTail;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A program as the eBPF source defines it: its macro, perhaps with a raw tracepoint, and its name.
type Defined = (String, String);

/// The programs in the eBPF source.
fn defined() -> BTreeSet<Defined> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe-ebpf/src/bpf");
    let folders = [folder.clone(), folder.join("syscalls")];
    let files = folders.map(|folder| fs::read_dir(folder).unwrap());
    let paths = files.into_iter().flatten().map(|file| file.unwrap().path());
    let texts = paths
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap());
    texts.flat_map(|text| defined_in(&text)).collect()
}

fn defined_in(text: &str) -> Vec<Defined> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for pair in lines.windows(2) {
        let function = pair[1].strip_prefix("pub fn ");
        if let Some((name, _)) = function.and_then(|rest| rest.split_once('('))
            && let Some(attribute) = pair[0].strip_prefix("#[")
            // The macro that defines pairs has names of its own.
            && !name.starts_with('$')
        {
            let attribute = attribute.trim_end_matches([']', ')']);
            found.push((attribute.to_owned(), name.to_owned()));
        }
    }
    for pair in text.split("\nbackup_probe!(").skip(1) {
        let names = pair.split(',').take(2);
        found.extend(names.map(|name| ("tracepoint".to_owned(), name.trim().to_owned())));
    }
    found.retain(|(attribute, _)| {
        [
            "tracepoint",
            "uprobe",
            "raw_tracepoint",
            "cgroup_sock_addr",
            "cgroup_sock",
        ]
        .contains(&macro_of(attribute))
    });
    found
}

fn macro_of(attribute: &str) -> &str {
    attribute.split('(').next().unwrap_or_default()
}

#[test]
fn the_table_lists_the_programs_of_the_ebpf_source_and_no_others() {
    let on_raw = |name: &str| format!("raw_tracepoint(tracepoint = \"{name}\"");
    let listed: BTreeSet<Defined> = programs()
        .flat_map(|(_, program)| {
            let attribute = match program.hook {
                Hook::RawTracepoint(name) => on_raw(name),
                Hook::StackTail => on_raw("signal_deliver"),
                Hook::IoTail(IoTail::Read) => on_raw("sock_recv_length"),
                Hook::IoTail(_) => on_raw("sock_send_length"),
                Hook::Syscall { .. } | Hook::Tail(_) => "tracepoint".to_owned(),
                Hook::ControlGroup(AttachPoint::PeerName4) => {
                    "cgroup_sock_addr(getpeername4".to_owned()
                }
                Hook::ControlGroup(AttachPoint::PeerName6) => {
                    "cgroup_sock_addr(getpeername6".to_owned()
                }
                Hook::ControlGroup(AttachPoint::SocketRelease) => {
                    "cgroup_sock(sock_release".to_owned()
                }
                Hook::SocketTail(_) => "cgroup_sock(sock_release".to_owned(),
                Hook::Python(_) | Hook::PythonTail(_) => "uprobe".to_owned(),
            };
            let names = [Some(program.name), program.backup()];
            let names = names.into_iter().flatten();
            names.map(move |name| (attribute.clone(), name.to_owned()))
        })
        .collect();
    assert_eq!(listed, defined());
}

#[test]
fn each_backend_lists_each_program_and_each_feature_once() {
    for &backend in ALL {
        let features = chosen(backend);
        let programs: Vec<_> = programs_of(features.iter().copied()).collect();
        let names: BTreeSet<_> = programs.iter().map(|(_, program)| program.name).collect();
        assert_eq!(names.len(), programs.len(), "{backend:?}");
        let names: BTreeSet<_> = features.iter().map(|feature| feature.name).collect();
        assert_eq!(names.len(), features.len(), "{backend:?}");
    }
}

#[test]
fn a_kernel_with_socket_tracepoints_needs_no_system_calls() {
    assert_eq!(Backend::best(Probes::Full, true), Backend::Taps);
    assert_eq!(Backend::best(Probes::Full, false), Backend::Syscalls);
}

#[test]
fn without_probes_on_sockets_bystanders_pay_nothing() {
    assert_eq!(Backend::best(Probes::EntryExit, true), Backend::EntryExit);
    for feature in chosen(Backend::EntryExit) {
        // `--gil` is asked for by itself.
        let is_asked_for = feature.attached == When::Gil;
        for program in feature.programs {
            let is_cheap = match program.hook {
                Hook::RawTracepoint(tracepoint) => !tracepoint.contains("sock"),
                Hook::Syscall { .. }
                | Hook::ControlGroup(_)
                | Hook::SocketTail(_)
                | Hook::IoTail(_)
                | Hook::Tail(_) => false,
                Hook::Python(_) | Hook::PythonTail(_) | Hook::StackTail => true,
            };
            assert!(is_cheap || is_asked_for, "{}", program.name);
        }
    }
}

#[test]
fn a_backend_has_its_own_features_and_the_common_ones_in_the_order_of_the_table() {
    for &backend in ALL {
        let chosen = chosen(backend);
        let places = chosen.iter().map(|&chosen| {
            let place = FEATURES.iter().position(|it| std::ptr::eq(it, chosen));
            place.unwrap()
        });
        assert!(places.is_sorted());
        let is_here = |it: &&Feature| it.backends.contains(&backend);
        assert_eq!(chosen.len(), FEATURES.iter().filter(is_here).count());
        assert!(chosen.iter().any(|it| it.attached == When::Required));
    }
}

#[test]
fn the_end_of_a_system_call_is_listed_before_its_start() {
    let calls: Vec<_> = programs().map(|(_, program)| program.name).collect();
    let at = |name: &str| calls.iter().position(|&it| it == name);
    for name in &calls {
        if let Some(call) = name.strip_prefix("enter_")
            && let Some(end) = at(&format!("exit_{call}"))
        {
            assert!(Some(end) < at(name), "{name}");
        }
    }
}

#[test]
fn every_hook_of_python_has_a_program() {
    for hook in [
        PythonHook::DatetimeNow,
        PythonHook::ExceptionAsked,
        PythonHook::TracebackRead,
        PythonHook::TaskCreated,
        PythonHook::TracebackHere,
        PythonHook::GcBegins,
        PythonHook::GcEnds,
    ] {
        assert!(of_hook(hook).is_some(), "{hook:?}");
    }
}
