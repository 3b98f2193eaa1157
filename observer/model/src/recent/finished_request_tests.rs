use crate::event::{Class, Event, Exception, Frame, Request};
use crate::fact::DeepCaptureState;
use crate::testing::scenarios::{Scenario, exception, raising, request};
use serde_json::{Value, json};

/// What the next request of a worker of a known master deep_captures like, as JSON.
fn told(scenario: &mut Scenario, request: Request, exceptions: &[Exception]) -> Value {
    for exception in exceptions {
        scenario.event(Event::Exception(Box::new(exception.clone())));
    }
    scenario.event(Event::Request(Box::new(request)));
    let finished = scenario.finished_requests();
    assert_eq!(finished.len(), 1, "one request");
    serde_json::to_value(&finished[0]).unwrap()
}

fn shop() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.state.report_requests();
    scenario.master(10).fork(10, 11);
    scenario
}

fn of(scenario: &Scenario, status: u16) -> Request {
    Request {
        status: Some(status),
        ..raising(request(11, scenario.now_ns))
    }
}

#[test]
fn a_failed_request_is_told_with_its_exception() {
    let mut scenario = shop();
    let failed = of(&scenario, 500);
    let library = Frame {
        module: "json.decoder".to_owned(),
        file: "json/decoder.py".to_owned(),
        function: "decode".to_owned(),
        is_own: false,
        is_installed: false,
    };
    let mut raised = exception(&failed, 1, "Empty");
    raised.frames.insert(0, library.clone());
    let raised = Exception {
        has_left: true,
        root: Some(2),
        root_class: Some(Class {
            module: "builtins".to_owned(),
            name: "KeyError".to_owned(),
        }),
        root_frame: Some(library),
        ..raised
    };
    let told = told(&mut scenario, failed, &[raised]);
    let library =
        json!({"module": "json.decoder", "file": "json/decoder.py", "function": "decode"});
    let own = json!({"module": "shop.views", "file": "shop/views.py", "function": "index"});
    let cause = json!({
        "error": {"module": "shop", "name": "Empty"},
        "raised_in": "json/decoder.py:decode",
        "root_cause": {
            "error": {"module": "builtins", "name": "KeyError"},
            "raised_in": "json/decoder.py:decode",
        },
        "called_from": "shop/views.py:index",
        "traceback": [library, own],
    });
    assert_eq!(told["cause"], cause);
    assert_eq!(told["failed"], json!(true));
    for (key, value) in [
        ("app", json!("shop")),
        ("master_pid", json!(10)),
        ("worker_class", json!("SyncWorker")),
        ("route", json!("/users/{id}")),
        ("path", json!("/users/7")),
        ("pid", json!(11)),
        ("status", json!(500)),
        ("duration_ns", json!(2_000_000)),
        ("phases_ns", json!({})),
        ("time_seconds", json!(1_700_000_100.0)),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    // The name that records know it by means nothing to people.
    assert_eq!(told.get("exceptions"), None);
}

#[test]
fn a_request_whose_cause_is_not_known_or_that_did_not_fail_has_none() {
    let mut scenario = shop();
    // One that was answered well may have handled exceptions: they are not told.
    let fine = of(&scenario, 200);
    let handled = exception(&fine, 1, "KeyError");
    let fine = told(&mut scenario, fine, &[handled]);
    let unknown = Request {
        exceptions: None,
        ..of(&scenario, 500)
    };
    let unknown = told(&mut scenario, unknown, &[]);
    scenario.look(10, DeepCaptureState::Looking).later(1);
    let none = Request {
        exceptions: None,
        ..of(&scenario, 503)
    };
    let none = told(&mut scenario, none, &[]);
    for told in [fine, unknown, none] {
        assert_eq!(told["cause"], Value::Null);
        assert_eq!(told["failed"], json!(false));
    }
}

#[test]
fn a_request_of_nobody_is_told_without_a_master() {
    let mut scenario = Scenario::new();
    scenario.state.report_requests();
    let told = told(&mut scenario, request(77, 1_000_000_000), &[]);
    let names = [&told["app"], &told["worker_class"], &told["master_pid"]];
    assert_eq!(names, [&json!(""), &json!(""), &Value::Null]);
    assert_eq!(told["route"], json!("/users/{id}"));
}

#[test]
fn requests_are_handed_out_only_when_asked_for_and_once() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11);
    assert!(scenario.finished_requests().is_empty());
    scenario.state.report_requests();
    scenario.get(11).get(11);
    assert_eq!(scenario.finished_requests().len(), 2);
    assert!(scenario.finished_requests().is_empty());
}
