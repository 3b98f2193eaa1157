//! The exposition: all metric families of a snapshot, as text.

use super::{families, families_master, families_observer, openmetrics};
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::Snapshot;
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client that sent this `Accept` header wants: OpenMetrics only when it
    /// asks for it by name and does not prefer plain text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let range = accept.split(',').find_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_wanted = parts.next().is_some_and(|t| t.eq_ignore_ascii_case(wanted));
                is_wanted.then_some(parts)
            })?;
            let quality = range.into_iter().find_map(|part| part.strip_prefix("q="));
            Some(quality.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0)))
        };
        let openmetrics = weight("application/openmetrics-text").unwrap_or(0.0);
        if openmetrics > 0.0 && openmetrics >= weight("text/plain").unwrap_or(0.0) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// The families of a snapshot, in a fixed order.
#[must_use]
pub fn families(snapshot: &Snapshot, label: WorkerLabel) -> Vec<MetricFamily> {
    let mut all = families::workers(snapshot, label);
    all.extend(families::apps(snapshot));
    all.extend(families_master::all(snapshot));
    all.extend(families_observer::all(snapshot));
    all.into_iter()
        .filter_map(super::family::Family::build)
        .collect()
}

/// The exposition of a snapshot.
///
/// # Errors
/// When a family cannot be encoded; none of ours is of that kind.
pub fn encode(
    snapshot: &Snapshot,
    label: WorkerLabel,
    format: Format,
) -> Result<String, prometheus::Error> {
    let families = families(snapshot, label);
    match format {
        Format::Text => TextEncoder::new().encode_to_string(&families),
        Format::OpenMetrics => Ok(openmetrics::encode(&families)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_given_to_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/plain, application/openmetrics-text;q=0.5",
                Format::Text,
            ),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            (";;,,q=", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
