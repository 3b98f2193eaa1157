//! The exposition: all metric families of a view as text.

use super::family;
use super::series::Series;
use super::subjects::Subjects;
use super::writer::Writer;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::MetricsView;

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

    /// The format for an `Accept` header: OpenMetrics only if the client names it and does not prefer
    /// plain text.
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

/// The exposition of a view.
#[must_use]
pub fn encode(view: &MetricsView, label: WorkerLabel, format: Format) -> String {
    let subjects = Subjects::of(view, label);
    let families: Vec<_> = family::all().map(|family| subjects.read(family)).collect();
    // A text that grows as it is written is copied once more.
    let bytes = families.iter().map(Series::text_bytes).sum();
    let mut writer = Writer::new(format, bytes);
    for series in &families {
        writer.family(series);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_served_to_clients_that_name_it() {
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
