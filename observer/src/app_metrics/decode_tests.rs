use super::*;
use crate::app_metrics::error::Errors;
use crate::app_metrics::exposition;
use crate::app_metrics::exposition::App;
use crate::app_metrics::file_name::FileName;
use crate::app_metrics::merge::Merge;
use crate::metrics::labels::Labels;
use proptest::prelude::*;

/// A file as `prometheus_client` writes it.
pub fn file(values: &[(&str, f64, f64)]) -> Vec<u8> {
    let mut file = vec![0; HEAD];
    for (key, value, time) in values {
        file.extend(i32::try_from(key.len()).unwrap().to_ne_bytes());
        file.extend(key.as_bytes());
        let padding = 8 - (key.len() + 4) % 8;
        file.extend(std::iter::repeat_n(b' ', padding));
        file.extend(value.to_ne_bytes());
        file.extend(time.to_ne_bytes());
    }
    let used = i32::try_from(file.len()).unwrap();
    file[..4].copy_from_slice(&used.to_ne_bytes());
    file
}

fn read(bytes: &[u8]) -> Vec<Result<(String, f64), Malformed>> {
    let text = |key| String::from_utf8_lossy(key).into_owned();
    entries(bytes)
        .map(|entry| entry.map(|entry| (text(entry.key), entry.value)))
        .collect()
}

#[test]
fn entries_are_read_up_to_the_bytes_in_use() {
    for key in [
        "[]", "[1]", "[12]", "[123]", "[1234]", "[12345]", "[123456]",
    ] {
        let mut bytes = file(&[(key, 1.5, 7.0), ("[]", -2.0, 0.0)]);
        bytes.extend([0xff; 100]);
        assert_eq!(
            read(&bytes),
            [Ok((key.to_owned(), 1.5)), Ok(("[]".to_owned(), -2.0))]
        );
    }
    for empty in [file(&[]), Vec::new(), vec![0; 4], vec![0; 65536]] {
        assert_eq!(read(&empty), []);
    }
}

#[test]
fn a_file_cut_anywhere_keeps_what_came_before() {
    let whole = file(&[("[1]", 1.0, 0.0), ("[2]", 2.0, 0.0)]);
    for cut in 1..whole.len() {
        let found = read(&whole[..cut]);
        let (last, before) = found.split_last().unwrap();
        assert_eq!(*last, Err(Malformed), "{cut}");
        assert!(before.len() < 2, "{cut}");
    }
}

#[test]
fn lengths_that_lead_astray_end_the_file() {
    let whole = file(&[("[1]", 1.0, 0.0), ("[2]", 2.0, 0.0)]);
    for length in [-1, i32::MIN, i32::MAX, 0, 2, 1000] {
        let mut bytes = whole.clone();
        bytes[HEAD..HEAD + LENGTH].copy_from_slice(&i32::to_ne_bytes(length));
        assert_eq!(read(&bytes), [Err(Malformed)], "{length}");
    }
    let mut negative = whole;
    negative[..4].copy_from_slice(&i32::to_ne_bytes(-8));
    assert_eq!(read(&negative), [Err(Malformed)]);
}

/// Bytes of a file with some of them replaced, or any bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        Just(r#"["a", "a_total", {"x": "1"}, "A."]"#.to_owned()),
        Just(r#"["a", "a", {"app": "1", "le": "1"}]"#.to_owned()),
        Just(r#"["b", "b_bucket", {"le": "0.5"}, ""]"#.to_owned()),
        Just(r#"["b", "b_sum", {}, ""]"#.to_owned()),
        "\\[.{0,20}\\]",
    ];
    let values = proptest::collection::vec((key, any::<f64>(), any::<f64>()), 0..6);
    let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    let changed = (values, changes).prop_map(|(values, changes)| {
        let values: Vec<_> = values.iter().map(|(key, v, t)| (&**key, *v, *t)).collect();
        let mut bytes = file(&values);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![changed, proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn any_bytes_make_a_well_formed_exposition(files in proptest::collection::vec(bytes(), 1..5)) {
        let mut merge = Merge::new(vec!["app"], 1000);
        let mut errors = Errors::default();
        let names = ["counter_1.db", "gauge_all_1.db", "gauge_livemostrecent_2.db", "histogram_1.db", "summary_3.db"];
        for (bytes, name) in files.iter().zip(names) {
            merge.file(&FileName::parse(name).unwrap(), bytes, &mut errors);
        }
        let app = App { name: String::new(), labels: Labels::of(&[("app", "x")]), families: merge.finish().0 };
        let text = exposition::encode(&[app], |_, _| ());
        prop_assert!(text.len() <= 1000, "{}", text.len());
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            prop_assert!(series.contains("{app=\"x\"") && series.ends_with('}'), "{line}");
            prop_assert!(value.trim_start_matches('+').parse::<f64>().is_ok(), "{line}");
        }
    }
}
