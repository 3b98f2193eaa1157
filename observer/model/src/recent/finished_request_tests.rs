use crate::event::{Class, Event, Exception, Frame, Request};
use crate::fact::DeepCaptureState;
use crate::testing::scenarios::{Scenario, exception, raising, request};
use serde_json::{Value, json};

/// The next finished request as JSON, after these exceptions.
fn finished(scenario: &mut Scenario, request: Request, exceptions: &[Exception]) -> Value {
    for exception in exceptions {
        scenario.event(Event::Exception(Box::new(exception.clone())));
    }
    scenario.event(Event::Request(Box::new(request)));
    let requests = scenario.finished_requests();
    assert_eq!(requests.len(), 1, "one request");
    serde_json::to_value(&requests[0]).unwrap()
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
fn a_failed_request_has_its_exception() {
    let mut scenario = shop();
    let failed = of(&scenario, 500);
    let library = Frame {
        module: "json.decoder".into(),
        file: "json/decoder.py".into(),
        function: "decode".into(),
        is_own: false,
        is_installed: false,
    };
    let mut raised = exception(&failed, 1, "Empty");
    raised.frames.insert(0, library.clone());
    let raised = Exception {
        has_left: true,
        root: Some(2),
        root_class: Some(Class {
            module: "builtins".into(),
            name: "KeyError".into(),
        }),
        root_frame: Some(library),
        ..raised
    };
    let json = finished(&mut scenario, failed, &[raised]);
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
    assert_eq!(json["cause"], cause);
    assert_eq!(json["failed"], json!(true));
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
        assert_eq!(json[key], value, "{key}");
    }
    // The id that records refer to it by is internal.
    assert_eq!(json.get("exceptions"), None);
}

#[test]
fn a_request_that_did_not_fail_or_has_an_unknown_cause_has_no_exception() {
    let mut scenario = shop();
    // A request that was answered well may have handled exceptions, which are not reported.
    let fine = of(&scenario, 200);
    let handled = exception(&fine, 1, "KeyError");
    let fine = finished(&mut scenario, fine, &[handled]);
    let unknown = Request {
        exceptions: None,
        ..of(&scenario, 500)
    };
    let unknown = finished(&mut scenario, unknown, &[]);
    scenario
        .deep_capture(10, DeepCaptureState::Capturing)
        .later(1);
    let none = Request {
        exceptions: None,
        ..of(&scenario, 503)
    };
    let none = finished(&mut scenario, none, &[]);
    for json in [fine, unknown, none] {
        assert_eq!(json["cause"], Value::Null);
        assert_eq!(json["failed"], json!(false));
    }
}

#[test]
fn a_request_of_an_unknown_process_has_no_master() {
    let mut scenario = Scenario::new();
    scenario.state.report_requests();
    let json = finished(&mut scenario, request(77, 1_000_000_000), &[]);
    let names = [&json["app"], &json["worker_class"], &json["master_pid"]];
    assert_eq!(names, [&json!(""), &json!(""), &Value::Null]);
    assert_eq!(json["route"], json!("/users/{id}"));
}

#[test]
fn requests_are_reported_only_on_demand_and_once() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).get(11);
    assert!(scenario.finished_requests().is_empty());
    scenario.state.report_requests();
    scenario.get(11).get(11);
    assert_eq!(scenario.finished_requests().len(), 2);
    assert!(scenario.finished_requests().is_empty());
}
