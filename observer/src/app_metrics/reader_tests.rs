use super::*;
use crate::app_metrics::decode::tests::file;
use observer_model::fact::Pod;
use std::fs;
use std::path::Path;

const HITS: &str = r#"["hits", "hits_total", {}, "Hits."]"#;
const QUEUED: &str = r#"["queued", "queued", {}, "Queued."]"#;

/// A proc file system in a folder.
struct Host {
    proc: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            proc: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds a process that writes to a folder, by its own PID in its namespace.
    fn process(&self, pid: Pid, parent: Pid, own: Pid, folder: &Path) {
        let of = self.proc.path().join(pid.to_string());
        fs::create_dir_all(&of).unwrap();
        let rest = ["0"; 48].join(" ");
        fs::write(of.join("stat"), format!("{pid} (x) S {parent} {rest}\n")).unwrap();
        let user = nix::unistd::geteuid();
        let status = format!("Uid:\t0\t{user}\t0\t0\nNSpid:\t{pid}\t{own}\n");
        fs::write(of.join("status"), status).unwrap();
        std::os::unix::fs::symlink(folder, of.join("root")).unwrap();
        fs::write(of.join("environ"), "PROMETHEUS_MULTIPROC_DIR=/").unwrap();
    }

    fn read(&self, masters: &[RunningMaster]) -> Scrape {
        read(&ProcFs::with_clocks(self.proc.path(), 1, 0), masters)
    }
}

fn master(app: &str, pid: Pid, workers: &[Pid]) -> RunningMaster {
    RunningMaster {
        app: app.to_owned(),
        pod: Pod::default(),
        pid,
        workers: workers.to_vec(),
    }
}

/// A folder with the files of processes 1 to 3: each hit once and has one thing queued.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for pid in 1..=3 {
        let put = |name: &str, key| {
            let path = folder.path().join(format!("{name}_{pid}.db"));
            fs::write(path, file(&[(key, 1.0, 0.0)])).unwrap();
        };
        put("counter", HITS);
        put("gauge_livesum", QUEUED);
    }
    folder
}

fn values(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn only_live_processes_count_by_the_pids_of_their_namespace() {
    let (host, folder) = (Host::new(), folder());
    host.process(101, 1, 1, folder.path());
    host.process(102, 101, 2, folder.path());
    let scrape = host.read(&[master("shop", 101, &[102])]);
    let expected = ["hits_total{app=\"shop\"} 3.0", "queued{app=\"shop\"} 2.0"];
    assert_eq!(values(&scrape.text), expected);
    // A process that a worker started is one of the app's, too.
    host.process(103, 102, 3, folder.path());
    let scrape = host.read(&[master("shop", 101, &[102])]);
    assert_eq!(values(&scrape.text)[1], "queued{app=\"shop\"} 3.0");
    assert!(scrape.errors.is_empty());
}

#[test]
fn a_folder_of_two_masters_counts_once() {
    let (host, folder) = (Host::new(), folder());
    host.process(101, 1, 1, folder.path());
    host.process(102, 1, 2, folder.path());
    let scrape = host.read(&[master("shop", 102, &[]), master("shop", 101, &[])]);
    let expected = ["hits_total{app=\"shop\"} 3.0", "queued{app=\"shop\"} 2.0"];
    assert_eq!(values(&scrape.text), expected);
}

#[test]
fn masters_of_one_name_are_one_app_and_pods_are_several() {
    let (host, folders) = (Host::new(), [folder(), folder(), folder()]);
    for (pid, folder) in [101, 102, 103].into_iter().zip(&folders) {
        host.process(pid, 1, 1, folder.path());
    }
    let mut of_pod = master("shop", 103, &[]);
    of_pod.pod.name = "shop-1".to_owned();
    let scrape = host.read(&[master("shop", 101, &[]), of_pod, master("shop", 102, &[])]);
    let expected = [
        "hits_total{app=\"shop\"} 6.0",
        "hits_total{app=\"shop\",pod=\"shop-1\"} 3.0",
        "queued{app=\"shop\"} 2.0",
        "queued{app=\"shop\",pod=\"shop-1\"} 1.0",
    ];
    assert_eq!(values(&scrape.text), expected);
}

#[test]
fn a_broken_file_and_a_broken_app_leave_the_others_whole() {
    let (host, broken, good) = (Host::new(), folder(), folder());
    fs::write(broken.path().join("counter_1.db"), [0xff; 100]).unwrap();
    host.process(101, 1, 1, broken.path());
    host.process(102, 1, 1, good.path());
    host.process(103, 1, 1, Path::new("/nowhere"));
    let masters = [
        master("broken", 101, &[]),
        master("good", 102, &[]),
        master("gone", 103, &[]),
    ];
    let scrape = host.read(&masters);
    assert_eq!(values(&scrape.text)[0], "hits_total{app=\"broken\"} 2.0");
    assert_eq!(values(&scrape.text)[1], "hits_total{app=\"good\"} 3.0");
    assert_eq!(scrape.errors["broken"].count(Reason::Malformed), 1);
    assert_eq!(scrape.errors["gone"].count(Reason::Folder), 1);
    assert!(!scrape.errors.contains_key("good"));
}

#[test]
fn an_app_without_a_folder_is_no_error() {
    let (host, folder) = (Host::new(), folder());
    host.process(101, 1, 1, folder.path());
    fs::write(host.proc.path().join("101/environ"), "A=1").unwrap();
    let scrape = host.read(&[master("plain", 101, &[]), master("exited", 999, &[])]);
    assert_eq!(scrape.text, "");
    assert!(scrape.errors.is_empty());
}
