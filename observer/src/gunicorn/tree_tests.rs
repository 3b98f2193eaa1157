//! On made-up proc file systems, and on the test itself.

use super::*;
use observer_model::fact::Level;
use std::fs;
use std::path::Path;

fn process(root: &Path, pid: Pid, parent: Pid, command: &str, maps: &str) {
    let dir = root.join(pid.to_string());
    fs::create_dir_all(&dir).unwrap();
    let (zeros, rest) = (["0"; 17].join(" "), ["0"; 30].join(" "));
    let stat = format!("{pid} (x) S {parent} {zeros} 500 {rest}\n");
    fs::write(dir.join("stat"), stat).unwrap();
    fs::write(dir.join("cmdline"), command.replace(' ', "\0")).unwrap();
    fs::write(dir.join("maps"), maps).unwrap();
}

const PYPY: &str = "1000-2000 r-xp 0 0:0 1 /usr/bin/pypy3.10\n";

#[test]
fn gunicorn_whose_memory_cannot_be_read_is_observed_by_its_connections() {
    let root = tempfile::tempdir().unwrap();
    process(
        root.path(),
        20,
        1,
        "python3 /bin/gunicorn -k tornado shop:app",
        "",
    );
    process(
        root.path(),
        21,
        20,
        "python3 /bin/gunicorn -k tornado shop:app",
        "",
    );
    let tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let Candidate::Master(found) = tree.inspect_unread(20, &"garbage".into()) else {
        panic!("no master")
    };
    assert_eq!(found.master.worker_class, "TornadoWorker");
    assert_eq!(
        found.coverage,
        Coverage::Socket("its layout fails the self-test: garbage".into())
    );
    assert!(matches!(
        tree.inspect_unread(21, &"".into()),
        Candidate::WorkerOf(20)
    ));
    assert!(matches!(
        tree.inspect_unread(7, &"".into()),
        Candidate::NotGunicorn
    ));
}

#[test]
fn gunicorn_on_an_unsupported_interpreter_is_found_and_its_level_has_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let command = "pypy3 /bin/gunicorn shop:app";
    process(root.path(), 1, 0, "init", "");
    process(root.path(), 20, 1, command, PYPY);
    process(root.path(), 21, 20, command, PYPY);
    process(root.path(), 22, 20, "sleep 1", "");
    process(root.path(), 30, 1, "pypy3 other.py", PYPY);
    let id = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
    let cgroup = format!("0::/docker/{id}\n");
    fs::write(root.path().join("20/cgroup"), cgroup).unwrap();
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let scan = tree.scan(HashSet::new()).unwrap();
    let [found] = scan.masters.as_slice() else {
        panic!("{scan:?}")
    };
    assert_eq!(
        (found.master.pid, found.master.app.as_str()),
        (20, "shop:app")
    );
    assert_eq!(found.master.python_version, "3.10");
    assert_eq!(
        (
            &*found.master.container_id,
            &*found.master.container_runtime
        ),
        (id, "docker")
    );
    assert_eq!(
        found.coverage,
        Coverage::Socket("PyPy is not supported".into())
    );
    assert_eq!(
        found
            .workers
            .iter()
            .map(|w| (w.pid, w.master_pid))
            .collect::<Vec<_>>(),
        [(21, 20)]
    );
    assert!(matches!(
        tree.inspect_candidate(21),
        Candidate::WorkerOf(20)
    ));
    assert!(matches!(tree.inspect_candidate(30), Candidate::NotGunicorn));
    assert_eq!(scan.bystanders, [30]);
    assert_eq!(tree.refresh_workers(found).unwrap().0, found.workers);
}

#[test]
fn a_master_whose_pid_was_reused_is_gone() {
    let root = tempfile::tempdir().unwrap();
    process(root.path(), 20, 1, "pypy3 /bin/gunicorn shop:app", PYPY);
    process(root.path(), 21, 20, "pypy3 /bin/gunicorn shop:app", PYPY);
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let Candidate::Master(mut found) = tree.inspect_candidate(20) else {
        panic!()
    };
    found.master.started_ns += 10_000_000;
    assert!(matches!(
        tree.refresh_workers(&found),
        Err(InspectError::Gone)
    ));
}

#[test]
fn gunicorn_before_its_interpreter_is_mapped_is_not_ready() {
    let root = tempfile::tempdir().unwrap();
    process(root.path(), 20, 1, "python3 /bin/gunicorn shop:app", "");
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    assert!(matches!(
        tree.inspect_candidate(20),
        Candidate::NotReady { .. }
    ));
    assert!(tree.may_be_master(20));
    assert!(!tree.may_be_master(99));
}

#[test]
fn each_gunicorn_that_is_not_observed_is_listed_once_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let command = "python3 /bin/gunicorn -k gthread shop:app";
    process(root.path(), 1, 0, "init", "");
    process(root.path(), 20, 1, command, "");
    process(root.path(), 21, 20, command, "");
    process(root.path(), 22, 21, "sh -c x", "");
    process(root.path(), 23, 22, "gunicorn: worker [shop:app]", "");
    process(
        root.path(),
        30,
        1,
        "python3 /bin/watch gunicorn shop:app",
        "",
    );
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let scan = tree.scan(HashSet::new()).unwrap();
    let [found] = scan.unobserved.as_slice() else {
        panic!("{:?}", scan.unobserved)
    };
    let master = &found.master;
    assert_eq!((master.pid, master.app.as_str()), (20, "shop:app"));
    assert_eq!(master.worker_class, "ThreadWorker");
    assert_eq!(found.coverage.level(), Level::None);
    assert!(!found.coverage.reason().raw().is_empty());
    // Children of a Gunicorn that is observed are not listed.
    let reason = "unread".into();
    assert!(tree.unobserved(20, &reason, &HashSet::from([1])).is_none());
    assert!(tree.unobserved(20, &reason, &HashSet::new()).is_some());
}

#[test]
fn this_test_is_no_gunicorn() {
    let mut tree = Tree::new(ProcFs::new("/proc").unwrap());
    let own = tree.inspect_candidate(std::process::id());
    assert!(matches!(own, Candidate::NotGunicorn), "{own:?}");
    assert!(!tree.may_be_master(std::process::id()));
}

#[test]
fn a_32_bit_process_cannot_be_observed() {
    let root = tempfile::tempdir().unwrap();
    let command = "pypy3 /bin/gunicorn -k tornado shop:app";
    process(root.path(), 20, 1, command, PYPY);
    process(root.path(), 21, 20, command, PYPY);
    let level = |class: u8| {
        let program = [b"\x7fELF".as_slice(), &[class, 1]].concat();
        fs::write(root.path().join("20/exe"), program).unwrap();
        let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
        let Candidate::Master(found) = tree.inspect_candidate(20) else {
            panic!()
        };
        assert_eq!(found.master.worker_class, "TornadoWorker");
        (found.coverage.level(), found.coverage.reason())
    };
    let (narrow, reason) = level(1);
    assert_eq!(narrow, Level::None);
    assert!(reason.raw().contains("32-bit"), "{reason:?}");
    assert_eq!(level(2).0, Level::Socket);
}

#[test]
fn gunicorn_without_workers_of_some_age_is_not_ready() {
    let root = tempfile::tempdir().unwrap();
    let command = "pypy3 /bin/gunicorn --daemon shop:app";
    process(root.path(), 20, 1, command, PYPY);
    let mut tree = Tree::new(ProcFs::with_clocks(root.path(), 10_000_000, 0));
    let alone = tree.inspect_candidate(20);
    assert!(matches!(alone, Candidate::NotReady { .. }), "{alone:?}");
}
