//! The observer's counts of errors, by path.

use std::{collections::BTreeMap, fmt};

use super::{
    case::{Fate, Origin},
    framework::Framework,
};
use crate::metrics::Metrics;

/// Of a longer name only the beginning is compared.
const LONGEST: usize = 60;
/// The first CPython whose code objects have qualified names (`co_qualname`).
const QUALIFIED: u8 = 11;

/// The count of each label value, or of each tuple of them.
type Counts = BTreeMap<Vec<String>, f64>;

/// The errors of a path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorCounts {
    /// By status, type and where: `gunicorn_http_errors_total`.
    pub http: Counts,
    /// By type: `gunicorn_worker_failed_requests_total`.
    pub failed: Counts,
    /// By type: `gunicorn_worker_error_handling_total`.
    pub handled: Counts,
}

impl ErrorCounts {
    /// The errors of this many requests with this fate.
    #[must_use]
    pub fn expected(fate: Fate, framework: Framework, path: &str, minor: u8, times: f64) -> Self {
        let mut counts = Self::default();
        let http = |status: u16, name: &str, raised_in: String| {
            let key = vec![status.to_string(), short(name), raised_in];
            Counts::from([(key, times)])
        };
        let by_type = |name: &str| Counts::from([(vec![short(name)], times)]);
        let at = |origin| raised_in(origin, framework, path, minor);
        match fate {
            Fate::Well(_) => {}
            Fate::Plain(status) => counts.http = http(status, "", String::new()),
            Fate::Unseen(status) => counts.http = http(status, "unknown", String::new()),
            // One that is uncaught is one of the two; `Case::fate` says which.
            Fate::Answered(status, name, origin) => counts.http = http(status, name, at(origin)),
            Fate::Uncaught(name, origin)
            | Fate::Leaves(name, origin)
            | Fate::RaisedAgain(name, origin) => {
                counts.http = http(500, name, at(origin));
                counts.failed = by_type(name);
                // Other servers have no `handle_error`.
                if !framework.is_asgi() {
                    counts.handled = by_type(name);
                }
            }
            Fate::LeavesUnanswered(name, _) => counts.failed = by_type(name),
            // Its head says that all is well.
            Fate::Breaks(name, origin) => {
                counts.http = http(200, name, at(origin));
                counts.failed = by_type(name);
            }
        }
        counts
    }

    /// The errors that an observer counted, by path of a master.
    #[must_use]
    pub fn by_path(metrics: &Metrics, app: &str, master: u32) -> BTreeMap<String, Self> {
        let mut by_path: BTreeMap<String, Self> = BTreeMap::new();
        let http = ["endpoint", "status", "error_type", "raised_in"];
        let master = master.to_string();
        let of_app = [("app", app)];
        let of_master = [("master_pid", master.as_str())];
        for (mut key, count) in metrics.sum_by("gunicorn_http_errors_total", &of_app, &http) {
            let path = key.remove(0);
            key[1] = short(&key[1]);
            by_path.entry(path).or_default().http.insert(key, count);
        }
        let by_type = ["endpoint", "error_type"];
        for (mut key, count) in metrics.sum_by(FAILED, &of_master, &by_type) {
            let path = key.remove(0);
            key[0] = short(&key[0]);
            by_path.entry(path).or_default().failed.insert(key, count);
        }
        for (mut key, count) in metrics.sum_by(HANDLED, &of_master, &by_type) {
            let path = key.remove(0);
            key[0] = short(&key[0]);
            by_path.entry(path).or_default().handled.insert(key, count);
        }
        by_path
    }
}

const FAILED: &str = "gunicorn_worker_failed_requests_total";
const HANDLED: &str = "gunicorn_worker_error_handling_total";

fn raised_in(origin: Origin, framework: Framework, path: &str, minor: u8) -> String {
    let (file, qualified) = match origin {
        Origin::View => framework.view(path),
        Origin::At(file, name) => (file.to_owned(), name.to_owned()),
        Origin::Template(file, qualified, plain) => {
            let name = if minor >= QUALIFIED { qualified } else { plain };
            return format!("{file}:{name}");
        }
    };
    let plain = qualified.rsplit('.').next().unwrap_or_default();
    let name = if minor >= QUALIFIED {
        &qualified
    } else {
        plain
    };
    format!("{file}:{name}")
}

fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST).chain(['…']).collect()
}

impl fmt::Display for ErrorCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &Counts| {
            let one = |(key, count): (&Vec<String>, &f64)| format!("{key:?} x{count}");
            let all: Vec<_> = counts.iter().map(one).collect();
            if all.is_empty() {
                "none".to_owned()
            } else {
                all.join(" + ")
            }
        };
        write!(
            f,
            "http {}, failed {}, handled {}",
            list(&self.http),
            list(&self.failed),
            list(&self.handled)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorCounts, short};
    use crate::{
        errors::{
            case::{Fate, Origin},
            framework::Framework,
        },
        metrics::Metrics,
    };

    #[test]
    fn counts_equal_those_expected_of_the_same_fate() {
        let text = "\
gunicorn_http_errors_total{app=\"a\",endpoint=\"/raises\",method=\"GET\",status=\"500\",\
error_type=\"ValueError\",raised_in=\"shop_falcon.py:Raises.on_get\"} 2
gunicorn_worker_failed_requests_total{master_pid=\"7\",endpoint=\"/raises\",error_type=\"ValueError\"} 2
gunicorn_worker_error_handling_total{master_pid=\"7\",endpoint=\"/raises\",error_type=\"ValueError\"} 2
";
        let metrics = Metrics::parse(text).expect("an exposition");
        let counted = ErrorCounts::by_path(&metrics, "a", 7);
        let fate = Fate::Leaves("ValueError", Origin::View);
        let expected =
            |minor| ErrorCounts::expected(fate, Framework::Falcon, "/raises", minor, 2.0);
        assert_eq!(counted.get("/raises"), Some(&expected(11)));
        assert_ne!(counted.get("/raises"), Some(&expected(10)));
    }

    #[test]
    fn a_long_name_is_compared_by_its_beginning() {
        assert_eq!(short(&"x".repeat(300)), short(&"x".repeat(64)));
        assert_ne!(short(&"x".repeat(300)), short(&"x".repeat(59)));
    }
}
