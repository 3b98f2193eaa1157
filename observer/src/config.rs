//! The options in force: flag, else environment variable, else file, else default.

use crate::cli::{
    GlobalArgs, HostArgs, ModelArgs, ReplayArgs, RunArgs, ServeArgs, TargetArgs, TopArgs, TraceArgs,
};
use crate::options::{DEFAULT_LISTEN, LogLevel, PIDS, Probes, ROUTE_LIMITS, parse_listen};
use crate::trace::Format;
use crate::trace::filter::Filter;
use anyhow::{Context, Result, anyhow};
use observer_model::Settings;
use observer_model::duration::parse_duration;
use observer_model::fact;
use observer_model::fact::Fact;
use observer_model::routes::normalize::Pattern;
use observer_model::settings::Threshold;
use observer_model::settings::WorkerLabel;
use serde::{Deserialize, Deserializer, de};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration file: its keys are the names of the flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct File {
    #[serde(deserialize_with = "listen")]
    listen: Option<String>,
    web_config: Option<PathBuf>,
    app_metrics: bool,
    #[serde(deserialize_with = "pids")]
    pid: Vec<u32>,
    btf: Option<PathBuf>,
    probes: Option<Probes>,
    no_deep_capture: bool,
    gil: bool,
    node_name: Option<String>,
    kubernetes: bool,
    route: Vec<Pattern>,
    worker_label: Option<WorkerLabel>,
    #[serde(deserialize_with = "route_limit")]
    route_limit: Option<u32>,
    #[serde(deserialize_with = "duration")]
    keep_ended: Option<Duration>,
    #[serde(deserialize_with = "thresholds")]
    finding: Vec<Threshold>,
    log_level: Option<LogLevel>,
}

impl File {
    /// Reads the file of `--config`; without a path, no key is set.
    ///
    /// # Errors
    /// If the file cannot be read, or has an unknown key or a wrong value.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {name}; check --config"))?;
        toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text
                .bytes()
                .take(start)
                .filter(|&byte| byte == b'\n')
                .count()
                + 1;
            let what = error.message();
            anyhow!(
                "failed to parse {name}: line {line}: {what}; docs/CONFIGURATION.md lists the keys"
            )
        })
    }
}

/// How requests and workers are counted and labelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub settings: Settings,
    pub worker_label: WorkerLabel,
}

impl Model {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &ModelArgs, file: &File) -> Self {
        Self::default().overridden(args, file)
    }

    /// Flags, variables and file over the options of the recording.
    #[must_use]
    pub fn replayed(recorded: Option<fact::Settings>, args: &ModelArgs, file: &File) -> Self {
        recorded
            .map(Self::from)
            .unwrap_or_default()
            .overridden(args, file)
    }

    fn overridden(self, args: &ModelArgs, file: &File) -> Self {
        let Self {
            settings,
            worker_label,
        } = self;
        let limit = args.route_limit.or(file.route_limit);
        let keep = args.keep_ended.or(file.keep_ended);
        let label = args.worker_label.or(file.worker_label);
        let mut thresholds = settings.thresholds;
        for &threshold in file.finding.iter().chain(&args.finding) {
            thresholds.set(threshold);
        }
        Self {
            settings: Settings {
                routes: first_set(&args.route, &first_set(&file.route, &settings.routes)),
                route_limit: limit
                    .and_then(|limit| usize::try_from(limit).ok())
                    .unwrap_or(settings.route_limit),
                keep_ended_ns: keep
                    .map(|keep| u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX))
                    .unwrap_or(settings.keep_ended_ns),
                thresholds,
            },
            worker_label: label.unwrap_or(worker_label),
        }
    }
}

impl From<fact::Settings> for Model {
    fn from(recorded: fact::Settings) -> Self {
        Self {
            settings: Settings {
                routes: recorded.routes,
                route_limit: recorded.route_limit,
                keep_ended_ns: recorded.keep_ended_ns,
                thresholds: recorded.thresholds,
            },
            worker_label: recorded.worker_label,
        }
    }
}

impl From<&Model> for fact::Settings {
    fn from(model: &Model) -> Self {
        Self {
            routes: model.settings.routes.clone(),
            route_limit: model.settings.route_limit,
            keep_ended_ns: model.settings.keep_ended_ns,
            worker_label: model.worker_label,
            thresholds: model.settings.thresholds,
        }
    }
}

/// The options of a recording: its first fact.
impl From<&Observe> for Fact {
    fn from(observe: &Observe) -> Self {
        Self::Settings((&observe.model).into())
    }
}

/// What the kernel is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// File with the kernel's types, instead of `/sys/kernel/btf/vmlinux`.
    pub btf: Option<PathBuf>,
    pub probes: Probes,
}

impl Host {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &HostArgs, file: &File) -> Self {
        Self {
            btf: args.btf.as_ref().or(file.btf.as_ref()).cloned(),
            probes: args.probes.or(file.probes).unwrap_or_default(),
        }
    }
}

/// Options of the observation, the same for every output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    pub host: Host,
    /// Masters or workers to observe; all when empty.
    pub pids: Vec<u32>,
    /// Deep capture is disabled.
    pub no_deep_capture: bool,
    /// GIL wait time is measured.
    pub gil: bool,
    /// The name of this host in its cluster.
    pub node_name: Option<String>,
    /// Names of pods come from the API server.
    pub kubernetes: bool,
    pub model: Model,
}

impl Observe {
    fn resolve(targets: &TargetArgs, model: &ModelArgs, file: &File) -> Self {
        Self {
            host: Host::resolve(&targets.host, file),
            pids: first_set(&targets.pid, &file.pid),
            no_deep_capture: targets.no_deep_capture.unwrap_or(file.no_deep_capture),
            gil: false,
            node_name: None,
            kubernetes: false,
            model: Model::resolve(model, file),
        }
    }
}

/// Options of `run` and `record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub observe: Observe,
    pub serve: Serve,
    /// Applications' own metrics are served.
    pub app_metrics: bool,
}

/// Options of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// `host:port`.
    pub listen: String,
    /// TLS and authentication; without it, neither.
    pub web_config: Option<PathBuf>,
}

impl Serve {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &ServeArgs, file: &File) -> Self {
        let listen = args.listen.as_ref().or(file.listen.as_ref());
        let web_config = args.web_config.as_ref().or(file.web_config.as_ref());
        Self {
            listen: listen.map_or(DEFAULT_LISTEN, String::as_str).to_owned(),
            web_config: web_config.cloned(),
        }
    }
}

/// Output of `replay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// The exposition that was served last; as of the end if none was served.
    Served,
    /// The exposition as of the end, which no scrape may have fetched.
    End,
    /// Finished requests, one JSON object a line.
    Requests,
    /// Metrics, dashboard and API over HTTP, as of the end.
    Serve(Serve),
}

impl Show {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &ReplayArgs, file: &File) -> Self {
        if args.serve {
            Self::Serve(Serve::resolve(&args.served, file))
        } else if args.requests {
            Self::Requests
        } else if args.end {
            Self::End
        } else {
            Self::Served
        }
    }
}

impl Run {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &RunArgs, file: &File) -> Self {
        Self {
            observe: Observe {
                gil: args.gil.unwrap_or(file.gil),
                node_name: args.node_name.clone().or_else(|| file.node_name.clone()),
                kubernetes: args.kubernetes.unwrap_or(file.kubernetes),
                ..Observe::resolve(&args.targets, &args.model, file)
            },
            serve: Serve::resolve(&args.serve, file),
            app_metrics: args.app_metrics.unwrap_or(file.app_metrics),
        }
    }
}

impl Observe {
    /// Options of `top` with its own probes.
    #[must_use]
    pub fn top(args: &TopArgs, file: &File) -> Self {
        Self::resolve(&args.targets, &args.model, file)
    }
}

/// Options of `trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub observe: Observe,
    pub filter: Filter,
    pub format: Format,
}

impl Trace {
    /// Flags and variables over the file over the defaults.
    #[must_use]
    pub fn resolve(args: &TraceArgs, file: &File) -> Self {
        let naming = ModelArgs {
            route: args.name_route.clone(),
            route_limit: args.route_limit,
            ..ModelArgs::default()
        };
        Self {
            observe: Observe::resolve(&args.targets, &naming, file),
            filter: Filter {
                statuses: args.status.clone(),
                min_duration: args.min_duration,
                routes: args.route.clone(),
            },
            format: if args.json {
                Format::Json
            } else {
                Format::Text {
                    paths: args.paths,
                    colors: !args.no_color,
                }
            },
        }
    }
}

/// The log level in force.
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

fn thresholds<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Threshold>, D::Error> {
    let texts = Vec::<String>::deserialize(source)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect()
}

fn pids<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<u32>, D::Error> {
    let pids = Vec::<i64>::deserialize(source)?;
    pids.into_iter()
        .map(|pid| within("pid", pid, &PIDS).map_err(de::Error::custom))
        .collect()
}

fn route_limit<'de, D: Deserializer<'de>>(source: D) -> Result<Option<u32>, D::Error> {
    within("route-limit", i64::deserialize(source)?, &ROUTE_LIMITS)
        .map(Some)
        .map_err(de::Error::custom)
}

/// A number of the file, checked against the range of its flag.
fn within(key: &str, value: i64, range: &RangeInclusive<i64>) -> Result<u32, String> {
    let number = u32::try_from(value).ok();
    number.filter(|_| range.contains(&value)).ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        format!("invalid {key} {value}, expected {low} to {high}")
    })
}

#[cfg(test)]
#[path = "config_reference_tests.rs"]
mod reference_tests;
#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
