use super::*;
use crate::app_metrics::decode::tests::file;
use crate::app_metrics::error::Errors;
use crate::app_metrics::file_name::FileName;
use crate::app_metrics::merge::Merge;

fn app(name: &str, file_name: &str, key: &str) -> App {
    let mut merge = Merge::new(vec!["app"], usize::MAX);
    let name_of_file = FileName::parse(file_name).unwrap();
    let mut errors = Errors::default();
    merge.file(&name_of_file, &file(&[(key, 2.0, 1.0)]), &mut errors);
    assert!(errors.is_empty());
    App {
        name: name.to_owned(),
        labels: Labels::of(&[("app", name)]),
        families: merge.finish().0,
    }
}

#[test]
fn a_family_is_that_of_the_first_app_and_other_types_are_counted() {
    let key = r#"["a", "a", {}, "One."]"#;
    let apps = [
        app("one", "gauge_sum_1.db", key),
        app("two", "counter_1.db", r#"["a", "a", {}, "Two."]"#),
        app("three", "gauge_max_1.db", r#"["a", "a", {}, "Three."]"#),
    ];
    let mut conflicts = Vec::new();
    let mut conflict =
        |app: &App, family: &str| conflicts.push((app.name.clone(), family.to_owned()));
    let expected = "\
# HELP a One.
# TYPE a gauge
a{app=\"one\"} 2.0
a{app=\"three\"} 2.0
";
    assert_eq!(encode(&apps, &mut conflict), expected);
    assert_eq!(conflicts, [("two".to_owned(), "a".to_owned())]);
}

#[test]
fn families_that_the_observer_serves_are_left_out() {
    for (key, is_served) in [
        (
            r#"["gunicorn_worker_requests", "gunicorn_worker_requests_total", {}, ""]"#,
            false,
        ),
        (r#"["gunicorn_own", "gunicorn_own_total", {}, ""]"#, true),
    ] {
        let text = encode(&[app("x", "counter_1.db", key)], |_, _| unreachable!());
        assert_eq!(!text.is_empty(), is_served, "{key}");
    }
}

#[test]
fn help_and_labels_are_escaped() {
    let key = r#"["a", "a", {"x": "\"\\\n"}, "1\\\n2"]"#;
    let text = encode(&[app("q\"", "gauge_sum_1.db", key)], |_, _| ());
    let expected = "\
# HELP a 1\\\\\\n2
# TYPE a gauge
a{app=\"q\\\"\",x=\"\\\"\\\\\\n\"} 2.0
";
    assert_eq!(text, expected);
}

/// Printed by `floatToGoString` of `prometheus_client` 0.26.0.
#[test]
fn numbers_are_written_as_prometheus_client_writes_them() {
    for (value, expected) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (123_456.5, "123456.5"),
        (999_999.0, "999999.0"),
        (1_000_000.0, "1e+06"),
        (1_234_567.5, "1.2345675e+06"),
        (12_345_678_900.0, "1.23456789e+10"),
        (-1_234_567.5, "-1234567.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.000_012_5, "1.25e-05"),
        (1e15, "1e+15"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(number(value), expected);
    }
}
