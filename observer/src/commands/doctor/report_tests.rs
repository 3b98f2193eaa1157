//! On a made-up report.

use super::*;
use crate::commands::doctor::kernel::{Feature, Kernel, Program};
use crate::commands::doctor::text;
use crate::commands::documented_fields::{fields_in, fields_of};
use crate::gunicorn::tree::Tree;
use crate::process::maps::FileNumber;
use crate::process::procfs::ProcFs;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn check(ok: bool) -> Check {
    Check {
        name: "tracefs",
        ok,
        found: "not mounted".to_owned(),
        fix: "mount it".to_owned(),
    }
}

fn probe(place: &'static str, file: &str, single_stepped: bool) -> Probe {
    Probe {
        sees: "requests",
        place,
        file: format!("/proc/10/root/usr/bin/{file}").into(),
        file_offset: 0x1234,
        entry_offset: 4,
        single_stepped,
    }
}

fn feature(name: &'static str, why: &str, ok: bool) -> Feature {
    Feature {
        name,
        ok,
        why: format!("refused{why}").into(),
        without: "they are not counted",
    }
}

fn report(hostile: &str) -> Report {
    let interpreter = InterpreterFile {
        file: format!("/usr/bin/python3.11{hostile}").into(),
        id: None,
        python_version: format!("3.11.2{hostile}").into(),
        level: "full",
        reason: hostile.into(),
        fix: String::new(),
        masters: vec![10, 20],
        probes: vec![
            probe("datetime.now", &format!("python3.11{hostile}"), false),
            probe("again", &format!("_datetime.so{hostile}"), true),
        ],
        unseen: vec![Unseen {
            what: "garbage collections",
            why: format!("stripped{hostile}").into(),
        }],
    };
    let master = Master {
        pid: 10,
        app: format!("shop{hostile}").into(),
        worker_class: format!("SyncWorker{hostile}").into(),
        gunicorn_version: format!("18.0{hostile}").into(),
        gunicorn_supported: Some(false),
        python_version: format!("3.11.2{hostile}").into(),
        level: "full",
        reason: hostile.into(),
        fix: use_gunicorn(),
    };
    let refused = Refused {
        pid: 30,
        reason: format!("denied{hostile}").into(),
        fix: PROTECTED,
    };
    let targets = Targets {
        interpreters: vec![interpreter],
        masters: vec![master],
        refused: vec![refused],
    };
    let kernel = Kernel {
        features: vec![
            feature("signals", hostile, false),
            feature("requests", "", true),
        ],
        programs: Some(vec![Program {
            name: "signal_generated",
            feature: "signals",
            ok: false,
            walked: Some(463),
            load_us: 12_345,
            log: "0: (bf) r6 = r1".to_owned(),
        }]),
    };
    Report::new(vec![check(true), check(false)], Some(kernel), Some(targets))
}

fn written(report: &Report) -> String {
    let mut out = Vec::new();
    text::write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_field_is_documented_and_no_other() {
    let docs = include_str!("../../../../docs/DOCTOR.md");
    let report = serde_json::to_value(report("")).unwrap();
    assert_eq!(fields_of(&report), fields_in(docs));
}

#[test]
fn failures_and_missing_features_are_shown_with_their_fix() {
    let report = report("");
    assert!(!report.works);
    let expected = "\
warn    tracefs: not mounted
        fix: mount it
FAIL    tracefs: not mounted
        fix: mount it
absent  signals: refused
        without: they are not counted

eBPF programs, with instructions that the verifier walked and load time:
FAIL    signal_generated           463 in    12 ms  signals
        0: (bf) r6 = r1

Interpreters of Gunicorn masters:
full    /usr/bin/python3.11, Python 3.11.2
        of 10, 20
        requests                    datetime.now      0x1234 (entry + 4), emulated, 1.5 µs a hit
                                    again             0x1234 of _datetime.so (entry + 4), single-stepped, about 13 µs a hit
        garbage collections         not seen: stripped

Gunicorn masters:
full    10 shop, SyncWorker, Gunicorn 18.0, Python 3.11.2
        this Gunicorn version is not supported
        fix: use Gunicorn 19.10 to 27
none    30: denied
        fix: the kernel refuses it even to root: allow it in the security module (SELinux, AppArmor, \
Yama), or run gunicorn-observer in the user namespace of that process
";
    assert_eq!(written(&report), expected, "\n{}", written(&report));
}

#[test]
fn text_of_a_process_cannot_drive_the_terminal() {
    let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
    let text = written(&report(&hostile));
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 12, "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 1500));
}

/// Writes a master on PyPy with a worker to a made-up proc file system.
fn process(root: &Path, master: Pid) {
    let (zeros, rest) = (["0"; 17].join(" "), ["0"; 30].join(" "));
    for (pid, parent) in [(master, 1), (master + 1, master)] {
        let dir = root.join(pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let stat = format!("{pid} (x) S {parent} {zeros} 500 {rest}\n");
        let maps = "1000-2000 r-xp 0 0:0 1 /usr/bin/pypy3.10\n";
        fs::write(dir.join("stat"), stat).unwrap();
        fs::write(dir.join("cmdline"), "pypy3\0/bin/gunicorn\0shop:app").unwrap();
        fs::write(dir.join("maps"), maps).unwrap();
    }
}

#[test]
fn an_interpreter_file_is_listed_once_with_its_masters() {
    let root = tempfile::tempdir().unwrap();
    for master in [10, 20, 30, 40, 50] {
        process(root.path(), master);
    }
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let scan = tree.scan(HashSet::new()).unwrap();
    // The file of the last two is unknown.
    let path = |pid| {
        (pid < 40).then_some(InterpreterPath {
            path: PathBuf::from("/usr/bin/pypy3.10"),
            probed: FileNumber {
                dev: 1,
                inode: if pid == 20 { 2 } else { 1 },
            },
        })
    };
    let mut targets = Targets::of(&scan, path);
    targets
        .interpreters
        .sort_by_key(|file| file.masters.clone());
    let files = targets.interpreters.iter();
    let masters: Vec<_> = files.map(|file| file.masters.len()).collect();
    assert_eq!(masters, [2, 1, 1, 1]);
    let first = &targets.interpreters[0];
    assert_eq!(
        (first.level, first.reason.raw(), first.fix.as_str()),
        (
            "socket",
            "PyPy is not supported",
            "run it on an ordinary CPython 3.8 to 3.15 for glibc"
        )
    );
}
