use super::*;
use crate::app_metrics::decode::tests::file;
use nix::sys::stat::Mode;
use std::os::unix::fs::symlink;

/// A proc file system with one process, and the process's root.
struct Host {
    proc: tempfile::TempDir,
    root: PathBuf,
}

const PID: Pid = 7;

fn host(environment: &str) -> Host {
    let proc = tempfile::tempdir().unwrap();
    let root = proc.path().join("7/root");
    fs::create_dir_all(root.join("srv/metrics")).unwrap();
    fs::write(proc.path().join("7/environ"), environment).unwrap();
    symlink("/srv", proc.path().join("7/cwd")).unwrap();
    Host { proc, root }
}

impl Host {
    fn folder(&self) -> io::Result<Option<Folder>> {
        of_process(self.proc.path(), PID)
    }

    fn put(&self, path: &str, content: &[u8]) {
        fs::write(self.root.join(path), content).unwrap();
    }
}

fn name(name: &str) -> FileName {
    FileName::parse(name).unwrap()
}

fn us() -> BTreeSet<u32> {
    BTreeSet::from([nix::unistd::geteuid().as_raw()])
}

#[test]
fn the_environment_names_the_folder_in_the_root_of_the_process() {
    for (environment, expected) in [
        (
            "A=1\0PROMETHEUS_MULTIPROC_DIR=/srv/metrics\0B=2",
            Some(true),
        ),
        ("prometheus_multiproc_dir=/srv/metrics", Some(true)),
        ("PROMETHEUS_MULTIPROC_DIR=metrics", Some(true)),
        (
            "prometheus_multiproc_dir=/none\0PROMETHEUS_MULTIPROC_DIR=/srv/metrics",
            Some(true),
        ),
        (
            "PROMETHEUS_MULTIPROC_DIR=/srv/../../../srv/metrics",
            Some(true),
        ),
        ("PROMETHEUS_MULTIPROC_DIR=/none", Some(false)),
        ("PROMETHEUS_MULTIPROC_DIR=", None),
        ("X_PROMETHEUS_MULTIPROC_DIR=/srv/metrics", None),
        ("", None),
    ] {
        let found = host(environment).folder();
        let found = found.map(|folder| folder.map(|_| true));
        assert_eq!(found.unwrap_or(Some(false)), expected, "{environment:?}");
    }
    assert!(of_process(Path::new("/nowhere"), PID).unwrap().is_none());
}

#[test]
fn mapped_files_show_a_folder_that_the_environment_does_not() {
    let host = host("PROMETHEUS_MULTIPROC_DIR=/none");
    let line = |path: &str| format!("7f00-7f10 rw-s 00000000 08:01 42    {path}\n");
    let maps = line("/usr/lib/libc.so") + &line("/srv/metrics/gauge_all_7.db");
    fs::write(host.proc.path().join("7/maps"), maps).unwrap();
    assert!(host.folder().unwrap().is_some());
    let maps = line("/srv/metrics/gauge_all_7.db (deleted)");
    fs::write(host.proc.path().join("7/maps"), maps).unwrap();
    assert!(host.folder().is_err());
}

#[test]
fn only_files_with_values_are_listed() {
    let host = host("PROMETHEUS_MULTIPROC_DIR=/srv/metrics");
    for name in [
        "counter_1.db",
        "gauge_all_1.db",
        "notes.txt",
        ".counter_1.db",
    ] {
        host.put(&format!("srv/metrics/{name}"), b"");
    }
    let names = host.folder().unwrap().unwrap().names().unwrap();
    let mut files: Vec<_> = names.files.into_iter().map(|file| file.name).collect();
    files.sort();
    assert_eq!(files, ["counter_1.db", "gauge_all_1.db"]);
    assert!(!names.is_cut);
}

#[test]
fn a_file_is_read_up_to_its_bytes_in_use() {
    let host = host("PROMETHEUS_MULTIPROC_DIR=/srv/metrics");
    let key = format!("[\"{}\"]", "x".repeat(1000));
    let values = vec![(&*key, 1.0, 0.0); 20];
    let expected = file(&values);
    let mut bytes = expected.clone();
    bytes.resize(65536, 0);
    host.put("srv/metrics/counter_1.db", &bytes);
    let folder = host.folder().unwrap().unwrap();
    let read = |budget| folder.read(&name("counter_1.db"), &us(), budget);
    assert_eq!(read(usize::MAX).unwrap().unwrap(), expected);
    assert_eq!(read(expected.len() - 1), Err(Reason::FileSize));
}

#[test]
fn traps_are_not_read() {
    let host = host("PROMETHEUS_MULTIPROC_DIR=/srv/metrics");
    host.put("srv/metrics/counter_1.db", &file(&[("[]", 1.0, 0.0)]));
    host.put("srv/secret.db", &file(&[("[]", 1.0, 0.0)]));
    host.put("srv/metrics/counter_2.db", &i32::MAX.to_ne_bytes());
    host.put("srv/metrics/counter_3.db", &[0xff; 8]);
    let metrics = host.root.join("srv/metrics");
    symlink("../secret.db", metrics.join("counter_4.db")).unwrap();
    fs::create_dir(metrics.join("counter_5.db")).unwrap();
    nix::unistd::mkfifo(&metrics.join("counter_6.db"), Mode::S_IRWXU).unwrap();
    let folder = host.folder().unwrap().unwrap();
    for (file, expected) in [
        ("counter_1.db", Ok(true)),
        ("counter_2.db", Err(Reason::FileSize)),
        ("counter_3.db", Err(Reason::Malformed)),
        ("counter_4.db", Err(Reason::File)),
        ("counter_5.db", Err(Reason::File)),
        ("counter_6.db", Err(Reason::File)),
        ("counter_7.db", Ok(false)),
    ] {
        let found = folder.read(&name(file), &us(), usize::MAX);
        assert_eq!(found.map(|bytes| bytes.is_some()), expected, "{file}");
    }
    let others = BTreeSet::from([u32::MAX]);
    let found = folder.read(&name("counter_1.db"), &others, usize::MAX);
    assert_eq!(found, Err(Reason::Owner));
}
