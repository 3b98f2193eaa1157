use super::*;
use crate::app_metrics::decode::tests::file;
use crate::app_metrics::exposition;
use crate::app_metrics::exposition::App;
use crate::metrics::labels::Labels;

struct Found {
    text: String,
    errors: Errors,
}

/// A file's name, and its keys with values and times.
type File<'a> = (&'a str, &'a [(&'a str, f64, f64)]);

fn merged_within(bytes: usize, files: &[File]) -> Found {
    let mut merge = Merge::new(vec!["app"], bytes);
    let mut errors = Errors::default();
    for (name, values) in files {
        merge.file(&FileName::parse(name).unwrap(), &file(values), &mut errors);
    }
    let app = App {
        name: String::new(),
        labels: Labels::of(&[("app", "x")]),
        families: merge.finish().0,
    };
    let text = exposition::encode(&[app], |_, _| ());
    Found { text, errors }
}

fn merged(files: &[File]) -> Found {
    merged_within(usize::MAX, files)
}

const GAUGE: &str = r#"["a", "a", {}, ""]"#;

#[test]
fn gauges_become_one_as_their_mode_says() {
    for (mode, expected) in [
        ("sum", "a{app=\"x\"} 6.0\n"),
        ("min", "a{app=\"x\"} 1.0\n"),
        ("max", "a{app=\"x\"} 3.0\n"),
        ("mostrecent", "a{app=\"x\"} 2.0\n"),
        (
            "all",
            "a{app=\"x\",pid=\"1\"} 1.0\na{app=\"x\",pid=\"2\"} 2.0\na{app=\"x\",pid=\"3\"} 3.0\n",
        ),
    ] {
        let names = [1, 2, 3].map(|pid| format!("gauge_{mode}_{pid}.db"));
        let values = [(GAUGE, 1.0, 5.0), (GAUGE, 2.0, 9.0), (GAUGE, 3.0, 0.0)];
        let files: Vec<_> = names.iter().zip(&values).collect();
        let files: Vec<_> = files
            .iter()
            .map(|(name, value)| (&***name, std::slice::from_ref(*value)))
            .collect();
        let found = merged(&files);
        let text = found.text.strip_prefix("# HELP a \n# TYPE a gauge\n");
        assert_eq!(text, Some(expected), "{mode}");
        assert!(found.errors.is_empty());
    }
}

#[test]
fn a_gauge_that_was_never_set_is_absent_from_the_most_recent_ones() {
    let never = merged(&[("gauge_mostrecent_1.db", &[(GAUGE, 0.0, 0.0)])]);
    assert_eq!(never.text, "");
}

#[test]
fn the_first_type_of_a_family_stays() {
    let counter = r#"["a", "a_total", {}, "A counter."]"#;
    let found = merged(&[
        ("counter_1.db", &[(counter, 1.0, 0.0)]),
        ("gauge_sum_1.db", &[(GAUGE, 5.0, 0.0)]),
        ("counter_2.db", &[(counter, 1.0, 0.0)]),
    ]);
    let expected = "# HELP a_total A counter.\n# TYPE a_total counter\na_total{app=\"x\"} 2.0\n";
    assert_eq!(found.text, expected);
    assert_eq!(found.errors.count(Reason::Type), 1);
}

#[test]
fn labels_of_the_observer_rename_the_apps_own() {
    let key = r#"["a", "a", {"app": "1", "exported_app": "2", "pid": "9"}, ""]"#;
    let found = merged(&[("gauge_sum_1.db", &[(key, 5.0, 0.0)])]);
    let series = r#"a{app="x",exported_app="2",exported_exported_app="1"} 5.0"#;
    assert!(
        found.text.ends_with(&format!("{series}\n")),
        "{}",
        found.text
    );
}

#[test]
fn series_beyond_the_limit_are_left_out_and_counted() {
    let keys: Vec<_> = (0..100)
        .map(|number| format!(r#"["a", "a_total", {{"x": "{number}"}}, "A."]"#))
        .collect();
    let values: Vec<_> = keys.iter().map(|key| (&**key, 1.0, 0.0)).collect();
    let files: [File; 2] = [("counter_1.db", &values), ("counter_2.db", &values)];
    let found = merged_within(2000, &files);
    let series = found.text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = series.collect();
    assert!((10..40).contains(&series.len()), "{}", series.len());
    assert!(series.iter().all(|line| line.ends_with(" 2.0")));
    let left_out = found.errors.count(Reason::SeriesLimit);
    assert_eq!(left_out, 2 * (100 - series.len() as u64));
}

#[test]
fn a_key_that_cannot_be_read_costs_its_own_value_only() {
    let bad = r#"["a b", "a b", {}, ""]"#;
    let found = merged(&[("gauge_sum_1.db", &[(bad, 1.0, 0.0), (GAUGE, 5.0, 0.0)])]);
    assert!(found.text.ends_with("a{app=\"x\"} 5.0\n"));
    assert_eq!(found.errors.count(Reason::Key), 1);
}
