//! A scrape as a table for people.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use end_to_end::metrics::Metrics;

pub const REQUESTS: &str = "gunicorn_worker_requests_total";
const WORKER_SECONDS: &str = "gunicorn_worker_request_duration_seconds_bucket";
const ROUTE_SECONDS: &str = "http_server_request_duration_seconds_bucket";
const ROUTE_COUNT: &str = "http_server_request_duration_seconds_count";

const ERRORS: &str = "gunicorn_http_errors_total";

/// Workers, then routes, then errors of requests. Rates need an earlier scrape.
pub fn rendered(metrics: &Metrics, before: Option<(&Metrics, Duration)>) -> String {
    let (workers, routes) = (workers(metrics, before), routes(metrics));
    format!("{workers}\n{routes}\n{}", errors(metrics))
}

fn workers(metrics: &Metrics, before: Option<(&Metrics, Duration)>) -> String {
    let mut rows =
        vec![["app", "worker", "class", "requests", "req/s", "p50", "p95"].map(str::to_owned)];
    let by = ["app", "worker_pid", "worker_class"];
    for (key, requests) in metrics.sum_by(REQUESTS, &[], &by) {
        let [app, pid, class] = key.as_slice() else {
            continue;
        };
        let labels = [("app", app.as_str()), ("worker_pid", pid.as_str())];
        let rate = before.map_or_else(String::new, |(before, since)| {
            format!(
                "{:.1}",
                (requests - before.sum(REQUESTS, &labels)) / since.as_secs_f64()
            )
        });
        let quantile = |part| milliseconds(quantile(metrics, WORKER_SECONDS, &labels, part));
        rows.push([
            app.clone(),
            pid.clone(),
            class.clone(),
            requests.to_string(),
            rate,
            quantile(0.5),
            quantile(0.95),
        ]);
    }
    aligned(&rows)
}

fn routes(metrics: &Metrics) -> String {
    let mut rows = vec![["app", "route", "status", "requests", "p50", "p95"].map(str::to_owned)];
    let by = [
        "app",
        "http_request_method",
        "http_route",
        "http_response_status_code",
    ];
    for (key, requests) in metrics.sum_by(ROUTE_COUNT, &[], &by) {
        let [app, method, route, status] = key.as_slice() else {
            continue;
        };
        let values = [app, method, route, status];
        let labels: Vec<_> = by.into_iter().zip(values.map(String::as_str)).collect();
        let quantile = |part| milliseconds(quantile(metrics, ROUTE_SECONDS, &labels, part));
        rows.push([
            app.clone(),
            format!("{method} {route}"),
            status.clone(),
            requests.to_string(),
            quantile(0.5),
            quantile(0.95),
        ]);
    }
    aligned(&rows)
}

fn errors(metrics: &Metrics) -> String {
    let mut rows =
        vec![["app", "route", "status", "error", "raised in", "times"].map(str::to_owned)];
    let by = [
        "app",
        "method",
        "endpoint",
        "status",
        "error_type",
        "raised_in",
    ];
    for (key, times) in metrics.sum_by(ERRORS, &[], &by) {
        let [app, method, endpoint, status, error, place] = key.as_slice() else {
            continue;
        };
        rows.push([
            app.clone(),
            format!("{method} {endpoint}"),
            status.clone(),
            error.clone(),
            place.clone(),
            times.to_string(),
        ]);
    }
    aligned(&rows)
}

/// A quantile in seconds, as Prometheus estimates it: values are spread evenly in their bucket.
fn quantile(metrics: &Metrics, name: &str, labels: &[(&str, &str)], part: f64) -> Option<f64> {
    // Keyed by the bound's bits: they order as the bounds do, none being negative.
    let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
    for sample in metrics.all(name, labels) {
        let bound: f64 = sample.label("le").parse().ok()?;
        *buckets.entry(bound.to_bits()).or_default() += sample.value;
    }
    let wanted = part
        * buckets
            .values()
            .last()
            .copied()
            .filter(|total| *total > 0.0)?;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        let bound = f64::from_bits(bound);
        if count >= wanted {
            return Some(if bound.is_finite() {
                lower + (bound - lower) * (wanted - below) / (count - below)
            } else {
                lower
            });
        }
        (lower, below) = (bound, count);
    }
    None
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || "-".into(),
        |seconds| format!("{:.1} ms", seconds * 1000.0),
    )
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<_> = (0..N)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let is_number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit());
    let numbers: Vec<_> = (0..N)
        .map(|column| rows.iter().any(|row| is_number(&row[column])))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), is_number) in row.iter().zip(&widths).zip(&numbers) {
            // Writing to a string cannot fail.
            let _ = if *is_number {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Duration, Metrics, quantile, rendered};

    const TEXT: &str = r#"
gunicorn_worker_requests_total{app="shop",worker_pid="7",worker_class="SyncWorker"} 10
gunicorn_worker_request_duration_seconds_bucket{app="shop",worker_pid="7",le="0.1"} 5
gunicorn_worker_request_duration_seconds_bucket{app="shop",worker_pid="7",le="0.5"} 10
gunicorn_worker_request_duration_seconds_bucket{app="shop",worker_pid="7",le="+Inf"} 10
gunicorn_http_errors_total{app="shop",method="GET",endpoint="/buy",status="500",error_type="Empty",raised_in="shop.py:buy"} 3
"#;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let metrics = Metrics::parse(TEXT).expect("a good exposition");
        let name = super::WORKER_SECONDS;
        assert_eq!(quantile(&metrics, name, &[], 0.5), Some(0.1));
        assert_eq!(quantile(&metrics, name, &[], 0.75), Some(0.1 + 0.4 * 0.5));
        assert_eq!(quantile(&metrics, name, &[("app", "none")], 0.5), None);
    }

    #[test]
    fn an_error_has_a_row() {
        let metrics = Metrics::parse(TEXT).expect("a good exposition");
        let text = rendered(&metrics, None);
        let row: Vec<_> = text
            .lines()
            .last()
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            ["shop", "GET", "/buy", "500", "Empty", "shop.py:buy", "3"]
        );
    }

    #[test]
    fn a_worker_has_a_row() {
        let metrics = Metrics::parse(TEXT).expect("a good exposition");
        let text = rendered(
            &metrics,
            Some((&Metrics::default(), Duration::from_secs(4))),
        );
        let row: Vec<_> = text
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            [
                "shop",
                "7",
                "SyncWorker",
                "10",
                "2.5",
                "100.0",
                "ms",
                "460.0",
                "ms"
            ]
        );
    }
}
