use super::*;
use crate::ingest::decode;
use crate::ingest::record::Recorder;
use crate::ingest::test_records::{RequestBytes, exit, fork};
use observer_model::fact::{Fact, Master, Started, Worker};
use observer_model::settings::WorkerLabel;

const S: u64 = 1_000_000_000;

/// A live observer: every input goes to the recorder and to the model.
struct Live {
    recorder: Recorder<Vec<u8>>,
    state: State,
    now_ns: u64,
}

impl Live {
    fn kernel(&mut self, record: &[u8]) {
        self.recorder.kernel(record).unwrap();
        self.state.apply(&decode::input(record));
    }

    fn fact(&mut self, fact: Fact) {
        self.recorder.fact(self.now_ns, &fact).unwrap();
        self.state.apply(&Input::Fact {
            time_ns: self.now_ns,
            fact,
        });
    }

    fn tick(&mut self) {
        self.now_ns += S;
        self.recorder.tick(self.now_ns).unwrap();
        self.state.apply(&Input::Tick {
            now_ns: self.now_ns,
        });
    }

    fn get(&mut self, pid: u32, ms: u64) {
        let (now, ms) = (self.now_ns, ms * 1_000_000);
        let record = RequestBytes {
            pid,
            time_ns: now,
            times: [
                now - ms - 9,
                now - ms - 6,
                now - ms - 3,
                now - ms,
                now - 7,
                now - 2,
                now,
            ],
            request_bytes: 60,
            response_bytes: 1500,
            exceptions: 0,
            request_head_bytes: 60,
            response_head_bytes: 500,
            status: 200,
            flags: 0,
            socket: false,
            line: b"GET /users/7?token=secret HTTP/1.1\r\n".to_vec(),
            python: false,
        };
        self.kernel(&record.build());
    }
}

fn live(model: &Model) -> Live {
    Live {
        recorder: Recorder::new(Vec::new()).unwrap(),
        state: State::new(model.settings.clone()),
        now_ns: 100 * S,
    }
}

/// A recorded run, and what was served at its last tick.
fn recorded_run() -> (Live, String) {
    run_recorded(live(&Model::default()))
}

fn run_recorded(mut live: Live) -> (Live, String) {
    live.fact(Fact::Started(Started {
        wall_offset_ns: 1_700_000_000_000_000_123,
        version: "0.1.0".into(),
        revision: "abc".into(),
    }));
    live.kernel(&fork(100 * S, 10, 11));
    live.get(11, 20);
    live.fact(Fact::Master(Master {
        pid: 10,
        started_ns: 99 * S,
        app: "ho\"st\\ile\n".into(),
        gunicorn_version: "23.0.0".into(),
        python_version: "3.11.7".into(),
        worker_class: "SyncWorker".into(),
        workers: Some(2),
        threads: Some(1),
        timeout_seconds: Some(30),
        max_requests: None,
        bind: vec!["127.0.0.1:8000".into()],
        container_id: "9bca8d63".into(),
        container_runtime: "docker".into(),
        pod_uid: "2c48913c".into(),
        pod: Box::default(),
    }));
    live.tick();
    live.fact(Fact::Worker(Worker {
        pid: 11,
        master_pid: 10,
        started_ns: 100 * S,
        age: Some(1),
        class: "SyncWorker".into(),
    }));
    live.kernel(b"no record");
    live.get(11, 700);
    live.kernel(&fork(live.now_ns, 10, 12));
    live.kernel(&exit(live.now_ns, 11, 9));
    live.tick();
    let view = live.state.metrics_view(live.now_ns);
    let served = exposition::encode(&view, WorkerLabel::Pid, Format::Text);
    (live, served)
}

fn replay(bytes: &[u8], model: &Model) -> (String, Option<String>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut out = Vec::new();
    let model = |_| model.clone();
    let error = run(file.path(), &Show::Served, model, &mut out)
        .err()
        .map(|error| format!("{error:#}"));
    (String::from_utf8(out).unwrap(), error)
}

#[test]
fn a_replay_shows_what_was_served_byte_for_byte() {
    let (mut live, served) = recorded_run();
    // No scrape saw what came after the last tick.
    live.get(12, 1);
    let file = live.recorder.into_inner().unwrap();
    assert!(!file.windows(6).any(|bytes| bytes == b"secret"));
    let (shown, error) = replay(&file, &Model::default());
    assert_eq!(error, None);
    assert_eq!(shown, served);
    assert!(shown.contains("http_route=\"/users/{id}\""), "{shown}");
    assert!(!shown.contains("secret"));
}

#[test]
fn the_exposition_is_as_promised() {
    let (_, served) = recorded_run();
    let worker = "app=\"ho\\\"st\\\\ile\u{fffd}\",master_pid=\"10\",worker_pid=\"11\",\
                  worker_id=\"worker_1_1700000100\",worker_class=\"SyncWorker\"";
    for line in [
        format!("gunicorn_worker_requests_total{{{worker}}} 2"),
        format!("gunicorn_worker_request_duration_seconds_bucket{{{worker},le=\"0.1\"}} 1"),
        format!("gunicorn_worker_response_size_bytes_sum{{{worker}}} 2000"),
        "gunicorn_master_workers{app=\"ho\\\"st\\\\ile\u{fffd}\",master_pid=\"10\"} 1".to_owned(),
        "gunicorn_observer_lost_total{cause=\"malformed_short\"} 1".to_owned(),
        "gunicorn_observer_build_info{version=\"0.1.0\",revision=\"abc\"} 1".to_owned(),
    ] {
        assert!(
            served.contains(&format!("\n{line}\n")),
            "{line}\n\n{served}"
        );
    }
}

#[test]
fn worker_series_have_the_label_that_is_asked_for() {
    let (live, _) = recorded_run();
    let file = live.recorder.into_inner().unwrap();
    let with = |worker_label| {
        let model = Model {
            worker_label,
            ..Model::default()
        };
        let (text, _) = replay(&file, &model);
        let wanted = |line: &&str| line.starts_with("gunicorn_worker_requests_total");
        text.lines()
            .filter(wanted)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let app = "app=\"ho\\\"st\\\\ile\u{fffd}\",master_pid=\"10\"";
    let class = "worker_class=\"SyncWorker\"";
    // Slots: 0 is taken by the one that ended, 1 by its successor's.
    let slots = [
        format!("gunicorn_worker_requests_total{{{app},worker_slot=\"0\",{class}}} 2"),
        format!("gunicorn_worker_requests_total{{{app},worker_slot=\"1\",{class}}} 0"),
    ];
    assert_eq!(with(WorkerLabel::Slot), slots);
    let none = [format!("gunicorn_worker_requests_total{{{app},{class}}} 2")];
    assert_eq!(with(WorkerLabel::None), none);
}

#[test]
fn a_record_is_counted_and_named_as_its_recorder_did() {
    let run = crate::config::Run::resolve(
        &crate::cli::RunArgs {
            model: crate::cli::ModelArgs {
                route: vec!["/users/{name}".parse().unwrap()],
                worker_label: Some(WorkerLabel::None),
                ..Default::default()
            },
            ..Default::default()
        },
        &Default::default(),
    );
    let mut live = live(&run.observe.model);
    live.fact(Fact::from(&run.observe));
    let (live, _) = run_recorded(live);
    let view = live.state.metrics_view(live.now_ns);
    let served = exposition::encode(&view, WorkerLabel::None, Format::Text);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), live.recorder.into_inner().unwrap()).unwrap();

    let mut out = Vec::new();
    let model = |recorded| Model::replayed(recorded, &Default::default(), &Default::default());
    super::run(file.path(), &Show::Served, model, &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert_eq!(shown, served);
    assert!(shown.contains("http_route=\"/users/{name}\""), "{shown}");
}

#[test]
fn requests_are_shown_with_all_that_was_known_when_they_finished() {
    let (live, _) = recorded_run();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), live.recorder.into_inner().unwrap()).unwrap();
    let mut out = Vec::new();
    run(file.path(), &Show::Requests, |_| Model::default(), &mut out).unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| (&line["app"], &line["route"], &line["duration_ns"]))
        .collect();
    let app = serde_json::json!("ho\"st\\ile\n");
    let (none, route) = (serde_json::json!(""), serde_json::json!("/users/{id}"));
    let [fast, slow] = [20_000_000, 700_000_000].map(|ns: u64| serde_json::json!(ns));
    // The first came before its master was known.
    assert_eq!(shown, [(&none, &route, &fast), (&app, &route, &slow)]);
    let first = &lines[0];
    assert_eq!(first["master_pid"], serde_json::Value::Null);
    assert_eq!(first["phases_ns"]["queue"], 3);
    assert_eq!(first["cause_is"], serde_json::Value::Null);
    assert_eq!(first["cause"], serde_json::Value::Null);
}

#[test]
fn a_record_that_was_cut_off_is_shown_as_far_as_it_goes() {
    let (live, served) = recorded_run();
    let mut file = live.recorder.into_inner().unwrap();
    let intact = file.len();
    file.extend([5, 0, 0, 0, 1, 9]);
    let (shown, error) = replay(&file, &Model::default());
    assert_eq!(shown, served);
    let expected = format!("in the middle of a frame at byte {intact}");
    assert!(error.is_some_and(|error| error.contains(&expected) && error.contains("intact")));
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let (shown, error) = replay(b"hello", &Model::default());
    assert_eq!(shown, "");
    assert!(error.is_some_and(|error| error.contains("is not a record of gunicorn-observer")));
    let empty = Recorder::new(Vec::new()).unwrap().into_inner().unwrap();
    let (_, error) = replay(&empty, &Model::default());
    let error = error.unwrap();
    assert!(error.contains("is empty"), "{error}");
    let fix = error.rsplit_once("; ").map(|(_, fix)| fix);
    assert!(fix.is_some_and(|fix| fix.contains("`gunicorn-observer record FILE`")));
}

#[test]
fn a_replayed_state_keeps_no_effects_that_nobody_takes() {
    let (live, _) = run_recorded(live(&Model::default()));
    let file = live.recorder.into_inner().unwrap();
    let all = Moment {
        inputs: usize::MAX,
        now_ns: 0,
    };
    let mut replayed = state(&*file, all, &Model::default()).unwrap();
    assert!(replayed.poll_effect().is_none());
}
