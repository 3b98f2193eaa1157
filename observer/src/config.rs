//! What the operator asked for: flag, else environment variable, else file, else default.

use crate::cli::{GlobalArgs, ModelArgs, RunArgs};
use crate::model::Settings;
use crate::model::route::Pattern;
use crate::sink::prometheus::WorkerLabel;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de};
use std::path::Path;
use std::time::Duration;

/// Served there when nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9918";

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

/// The file: its keys are the long options.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct File {
    #[serde(deserialize_with = "listen")]
    listen: Option<String>,
    pid: Vec<u32>,
    #[serde(deserialize_with = "patterns")]
    route: Vec<Pattern>,
    worker_label: Option<WorkerLabel>,
    route_limit: Option<u32>,
    #[serde(deserialize_with = "duration")]
    keep_ended: Option<Duration>,
    log_level: Option<LogLevel>,
}

impl File {
    /// Reads the file that `--config` names; without one, nothing is set.
    ///
    /// # Errors
    /// When it cannot be read or says what no option says.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration {name} cannot be read; check --config"))?;
        toml::from_str(&text).with_context(|| {
            format!("the configuration {name} is wrong; its keys are the long options of `run`")
        })
    }
}

/// How requests and workers are counted and named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub settings: Settings,
    pub worker_label: WorkerLabel,
}

impl Model {
    /// Joins what was said where.
    #[must_use]
    pub fn resolve(args: &ModelArgs, file: &File) -> Self {
        let default = Settings::default();
        let limit = args.route_limit.or(file.route_limit);
        let keep = args.keep_ended.or(file.keep_ended);
        Self {
            settings: Settings {
                routes: first_set(&args.route, &file.route),
                route_limit: limit
                    .and_then(|limit| usize::try_from(limit).ok())
                    .unwrap_or(default.route_limit),
                keep_ended_ns: keep
                    .map(|keep| u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX))
                    .unwrap_or(default.keep_ended_ns),
            },
            worker_label: args.worker_label.or(file.worker_label).unwrap_or_default(),
        }
    }
}

/// Options of `run` and `record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// `host:port`.
    pub listen: String,
    /// Masters or workers to observe; all when empty.
    pub pids: Vec<u32>,
    pub model: Model,
}

impl Run {
    /// Joins what was said where.
    #[must_use]
    pub fn resolve(args: &RunArgs, file: &File) -> Self {
        let listen = args.listen.as_ref().or(file.listen.as_ref());
        Self {
            listen: listen.map_or(DEFAULT_LISTEN, String::as_str).to_owned(),
            pids: first_set(&args.pid, &file.pid),
            model: Model::resolve(&args.model, file),
        }
    }
}

/// How much to log.
#[must_use]
pub fn log_level(args: &GlobalArgs, file: &File) -> LogLevel {
    args.log_level.or(file.log_level).unwrap_or_default()
}

fn first_set<T: Clone>(first: &[T], second: &[T]) -> Vec<T> {
    if first.is_empty() {
        second.to_vec()
    } else {
        first.to_vec()
    }
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

/// Reads a time such as `90s`, `5m`, `1h30m` or `1500ms`.
///
/// # Errors
/// With an example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 90s, 5m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(ms));
        let part = ms.map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.trim().is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

fn listen<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    parse_listen(&String::deserialize(source)?)
        .map(Some)
        .map_err(de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(source)?)
        .map(Some)
        .map_err(de::Error::custom)
}

fn patterns<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Pattern>, D::Error> {
    let texts = Vec::<String>::deserialize(source)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn file(text: &str) -> Result<File> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("observer.toml");
        std::fs::write(&path, text).unwrap();
        File::load(Some(&path))
    }

    fn run(arguments: &str, file: &File) -> Run {
        let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
        match Cli::parse_from(words).command {
            Command::Run(args) => Run::resolve(&args, file),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_word_the_defaults_hold() {
        let run = run("run", &File::default());
        assert_eq!((run.listen.as_str(), run.pids.len()), ("127.0.0.1:9918", 0));
        assert_eq!(run.model, Model::default());
        assert_eq!(run.model.settings.keep_ended_ns, 300_000_000_000);
        assert_eq!(
            log_level(&GlobalArgs::default(), &File::default()),
            LogLevel::Info
        );
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = file(
            "listen = \"[::1]:1\"\nworker-label = \"slot\"\nkeep-ended = \"1h30m\"\n\
             route = [\"/a/{x}\"]\nlog-level = \"warn\"\npid = [7]",
        )
        .unwrap();
        let run = run("run --listen h:2 --pid 8 --pid 9", &file);
        assert_eq!((run.listen.as_str(), run.pids), ("h:2", vec![8, 9]));
        assert_eq!(run.model.worker_label, WorkerLabel::Slot);
        assert_eq!(run.model.settings.keep_ended_ns, 5_400_000_000_000);
        assert_eq!(run.model.settings.routes[0].as_str(), "/a/{x}");
        assert_eq!(log_level(&GlobalArgs::default(), &file), LogLevel::Warn);
    }

    #[test]
    fn a_wrong_file_is_named_with_what_is_wrong_in_it() {
        for (text, why) in [
            ("lisen = \"a:1\"", "unknown field `lisen`"),
            ("listen = \"9918\"", "no HOST:PORT"),
            ("route = [\"users\"]", "does not begin with `/`"),
            ("keep-ended = \"5 minutes\"", "no time such as"),
            ("worker-label = \"name\"", "unknown variant"),
            ("= 3", "TOML"),
        ] {
            let error = format!("{:#}", file(text).unwrap_err());
            assert!(
                error.contains("observer.toml is wrong") && error.contains(why),
                "{error}"
            );
        }
        let missing = File::load(Some(Path::new("/nowhere/x.toml"))).unwrap_err();
        assert!(
            missing
                .to_string()
                .contains("/nowhere/x.toml cannot be read")
        );
    }

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1500ms", 1500),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "-1s",
            "5x",
            "99999999999999999999s",
            "300000000000000d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
