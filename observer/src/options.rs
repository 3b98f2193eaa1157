//! What options have as their values: types, ranges, and how text is read. Flags
//! (`cli`) and keys of the configuration file (`config`) share them.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use observer_model::settings::WorkerLabel;
use serde::Deserialize;
use std::ops::RangeInclusive;

/// Served there when nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9918";

/// Pids that can be asked for.
pub const PIDS: RangeInclusive<i64> = 1..=u32::MAX as i64;
/// Limits of routes that can be asked for.
pub const ROUTE_LIMITS: RangeInclusive<i64> = 1..=100_000;

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As the logging crate has it.
    #[must_use]
    pub fn filter(self) -> tracing::level_filters::LevelFilter {
        use tracing::level_filters::LevelFilter;
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Reads the value of `--worker-label`.
#[must_use]
pub fn worker_label() -> impl TypedValueParser<Value = WorkerLabel> {
    let values = WorkerLabel::ALL.map(|(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|name| {
        let all = WorkerLabel::ALL.into_iter();
        let of = |(known, label, _)| (known == name).then_some(label);
        all.filter_map(of).next().unwrap_or_default()
    })
}

/// Checks an address to listen on.
///
/// # Errors
/// With an example.
pub fn parse_listen(text: &str) -> Result<String, String> {
    let is_address = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no HOST:PORT, such as {DEFAULT_LISTEN} or [::1]:9918"
        ))
    }
}
