//! Values of options: types, ranges and parsers. Flags (`cli`) and keys of the configuration file
//! (`config`) share them.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use observer_model::settings::WorkerLabel;
use serde::Deserialize;
use std::ops::RangeInclusive;

/// Default of `--listen`.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9918";

/// Valid values of `--pid`.
pub const PIDS: RangeInclusive<i64> = 1..=u32::MAX as i64;
/// Valid values of `--route-limit`.
pub const ROUTE_LIMITS: RangeInclusive<i64> = 1..=100_000;

/// Log level: messages of this level and of more severe ones are logged.
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
    /// The filter of the logging crate.
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

/// Which probes observe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Probes {
    /// Python and the sockets of its processes
    #[default]
    Full,
    /// Python only: no phase `dispatch` and `write`, no master at level `socket`; costs other processes nothing
    EntryExit,
    /// Python and the system calls of its processes, as on kernels before 6.3; costs every system call of the host
    SystemCalls,
}

/// Parser of `--worker-label`.
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
/// If it is not `HOST:PORT`; the text has an example.
pub fn parse_listen(text: &str) -> Result<String, String> {
    let is_address = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "invalid address `{text}`, expected HOST:PORT such as {DEFAULT_LISTEN} or [::1]:9918"
        ))
    }
}
