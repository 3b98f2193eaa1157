//! The command line: every command and option. docs/CONFIGURATION.md lists them.

use crate::options::{self, LogLevel, Probes};
use crate::top::source::Daemon;
use crate::trace::filter::{RouteGlob, Statuses};
use clap::builder::{FalseyValueParser, StyledStr};
use clap::{Arg, ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use observer_model::duration::parse_duration;
use observer_model::routes::normalize::Pattern;
use observer_model::settings::Threshold;
use observer_model::settings::WorkerLabel;
use std::path::PathBuf;
use std::time::Duration;

// Headings of `--help`; docs/CONFIGURATION.md has the same.
const CONNECTION: &str = "Connection";
const FILTERS: &str = "Filters";
const GLOBAL: &str = "Global";
const KUBERNETES: &str = "Kubernetes";
const OUTPUT: &str = "Output";
const SERIES: &str = "Series";
const SERVING: &str = "Serving";
const TARGETS: &str = "Targets";

/// eBPF monitoring for Gunicorn: per-worker latency, errors, saturation and exit reasons
///
/// No code change, no config change, no restart.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    disable_help_flag = true,
    disable_version_flag = true,
    next_display_order = None,
    after_help = EXAMPLES
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

const EXAMPLES: &str = "\
Examples:
  sudo gunicorn-observer run                  observe every Gunicorn of this host
  sudo gunicorn-observer top                  show the dashboard on the terminal
  sudo gunicorn-observer trace --status 5xx   print each failed request and its cause
  sudo gunicorn-observer doctor               check what this host supports
  curl -s http://127.0.0.1:9918/metrics       scrape as Prometheus does";

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = GLOBAL)]
pub struct GlobalArgs {
    /// TOML file with options; flags and environment variables win over it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "GUNICORN_OBSERVER_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// Log level, on stderr [default: info]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "GUNICORN_OBSERVER_LOG_LEVEL"
    )]
    pub log_level: Option<LogLevel>,
    /// Print help; `-h` prints a summary
    #[arg(long, short, global = true, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Print the version
    #[arg(long, short = 'V', global = true, action = ArgAction::Version)]
    pub version: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find Gunicorn masters, observe them and serve metrics, dashboard and API
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Live terminal dashboard, using its own probes or a running daemon
    #[command(after_help = TOP_EXAMPLES, mut_arg("worker_label", |arg| arg.hide(true)))]
    Top(TopArgs),
    /// Print one line for each finished request, with its phases and the cause of a failure
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// List masters and workers; loads no probe
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Print the Python stack of each thread and asyncio task of a process, and the request it serves
    ///
    /// Loads no probe and stops nothing.
    #[command(after_help = STACK_EXAMPLES)]
    Stack(StackArgs),
    /// Check host and Python support; print a fix for each problem
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Observe and serve as `run` does, and write the event stream to a file
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Print the metrics of a recording, or serve its dashboard; needs no root
    ///
    /// Prints the metrics that were served last while FILE was recorded, byte for byte.
    #[command(after_help = REPLAY_EXAMPLES, mut_args(default_as_recorded))]
    Replay(ReplayArgs),
    /// Print a shell completion script; needs no root
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the man page, or write one page per command to a folder; needs no root
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  sudo gunicorn-observer run
  sudo gunicorn-observer run --pid 4242 --listen 0.0.0.0:9918
  sudo gunicorn-observer run --btf /boot/btf-5.4.0
  sudo gunicorn-observer run --listen 0.0.0.0:9918 --web-config /etc/gunicorn-observer/web.yml
  sudo gunicorn-observer run --node-name worker-7 --kubernetes
  sudo gunicorn-observer run --route '/users/{id}' --route '/static/**' --worker-label slot";
const TOP_EXAMPLES: &str = "\
Press ? for the keys. docs/TOP.md describes keys and columns.

Examples:
  sudo gunicorn-observer top
  sudo gunicorn-observer top --pid 4242 --finding stuck=5s
  gunicorn-observer top --connect http://127.0.0.1:9918
  gunicorn-observer top --connect https://web1:9918 --http-config http.yml";
const TRACE_EXAMPLES: &str = "\
A request is printed if it passes every filter. Stop with Ctrl-C or SIGTERM; the trace also stops
when its output is closed. docs/TRACE.md describes the columns and the JSON.

Examples:
  sudo gunicorn-observer trace
  sudo gunicorn-observer trace --status 5xx,none --pid 4242
  sudo gunicorn-observer trace --route '/users/*' --min-duration 100ms --paths
  sudo gunicorn-observer trace --json | jq 'select(.cause_is == \"raised\") | .cause'";
const LIST_EXAMPLES: &str = "\
docs/LIST.md describes the columns and the JSON.

Examples:
  sudo gunicorn-observer list
  sudo gunicorn-observer list --json | jq '.[].pid'";
const STACK_EXAMPLES: &str = "\
docs/STACK.md describes the JSON.

Examples:
  sudo gunicorn-observer stack 4243
  sudo gunicorn-observer stack 4243 --json | jq '.threads[] | select(.request) | .frames[0]'
  sudo gunicorn-observer stack 4243 --json | jq '.tasks[] | select(.request) | .frames[0]'";
const DOCTOR_EXAMPLES: &str = "\
Exits with 1 if `run` could not work here. docs/DOCTOR.md describes each line and the JSON.

Examples:
  sudo gunicorn-observer doctor || echo 'run would not work here'
  sudo gunicorn-observer doctor --verbose
  sudo gunicorn-observer doctor --btf /boot/btf-5.4.0
  sudo gunicorn-observer doctor --json | jq '.interpreters[] | select(.level != \"full\")'";
const RECORD_EXAMPLES: &str = "\
Examples:
  sudo gunicorn-observer record incident.rec
  sudo gunicorn-observer record --pid 4242 incident.rec
  sudo gunicorn-observer record --listen 0.0.0.0:9918 --web-config web.yml incident.rec";
const REPLAY_EXAMPLES: &str = "\
Examples:
  gunicorn-observer replay incident.rec
  gunicorn-observer replay --requests incident.rec | jq 'select(.status >= 500)'
  gunicorn-observer replay --serve incident.rec    then open http://127.0.0.1:9918/
  gunicorn-observer replay --serve --web-config web.yml incident.rec
  gunicorn-observer replay --worker-label none --route '/users/{id}' incident.rec";
const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  gunicorn-observer completions bash | sudo tee /etc/bash_completion.d/gunicorn-observer
  gunicorn-observer completions zsh > ~/.zfunc/_gunicorn-observer
  gunicorn-observer completions fish > ~/.config/fish/completions/gunicorn-observer.fish";
const MAN_EXAMPLES: &str = "\
Examples:
  gunicorn-observer man | man -l -
  sudo gunicorn-observer man --dir /usr/local/share/man/man1";

/// A recording holds the options under this heading that it was made with.
fn default_as_recorded(arg: Arg) -> Arg {
    if arg.get_help_heading() != Some(SERIES) {
        return arg;
    }
    let as_recorded = |help: &StyledStr| {
        let help = help.to_string();
        let (before, rest) = help.split_once("[default: ").unwrap_or((&help, ""));
        let after = rest.split_once(']').map_or("", |(_, after)| after);
        format!("{} [default: as recorded]{after}", before.trim_end())
    };
    let help = arg.get_help().map(as_recorded).unwrap_or_default();
    match arg.get_long_help().map(as_recorded) {
        Some(long_help) => arg.help(help).long_help(long_help),
        None => arg.help(help),
    }
}

/// Options of `run` and `record`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None)]
pub struct RunArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Serve the metrics that applications keep with prometheus_client in multiprocess mode, at
    /// /app-metrics
    #[arg(
        long,
        help_heading = SERVING,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_APP_METRICS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub app_metrics: Option<bool>,
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Measure GIL wait time. Probes futex(2) host-wide, about 0.4 µs per call
    #[arg(
        long,
        help_heading = TARGETS,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_GIL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub gil: Option<bool>,
    /// Ask the API server for pod names and workloads; needs --node-name
    #[arg(
        long,
        help_heading = KUBERNETES,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_KUBERNETES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub kubernetes: Option<bool>,
    /// Name of this node: the label `node` of Gunicorns in pods
    #[arg(
        long,
        help_heading = KUBERNETES,
        value_name = "NAME",
        env = "GUNICORN_OBSERVER_NODE_NAME"
    )]
    pub node_name: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Options of the HTTP server.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = SERVING)]
pub struct ServeArgs {
    /// Address of metrics, dashboard and API [default: 127.0.0.1:9918]
    #[arg(long, value_name = "HOST:PORT", env = "GUNICORN_OBSERVER_LISTEN",
          value_parser = options::parse_listen)]
    pub listen: Option<String>,
    /// YAML file with TLS and basic authentication, in the format of Prometheus' exporters;
    /// docs/WEB.md lists its keys
    #[arg(long, value_name = "FILE", env = "GUNICORN_OBSERVER_WEB_CONFIG")]
    pub web_config: Option<PathBuf>,
}

/// What the kernel is asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = TARGETS)]
pub struct HostArgs {
    /// Kernel types (BTF) of exactly this kernel build, for a kernel without /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", env = "GUNICORN_OBSERVER_BTF")]
    pub btf: Option<PathBuf>,
    /// Probes to attach [default: full]
    #[arg(long, value_name = "PROBES", env = "GUNICORN_OBSERVER_PROBES")]
    pub probes: Option<Probes>,
}

/// Which masters are observed, and how closely.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = TARGETS)]
pub struct TargetArgs {
    #[command(flatten)]
    pub host: HostArgs,
    /// Disable deep capture; exceptions a framework swallows are then reported as `unknown`
    #[arg(
        long,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_NO_DEEP_CAPTURE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub no_deep_capture: Option<bool>,
    /// Observe only this master; the PID of a worker means its master; repeatable [default: all]
    #[arg(long, value_name = "PID", env = "GUNICORN_OBSERVER_PID", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(options::PIDS))]
    pub pid: Vec<u32>,
}

/// Options of `top`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None)]
pub struct TopArgs {
    /// Show the daemon (`run`) at this address; loads no probe and needs no root
    #[arg(
        long,
        help_heading = CONNECTION,
        value_name = "URL",
        env = "GUNICORN_OBSERVER_CONNECT",
        conflicts_with_all = ["btf", "probes", "pid", "no_deep_capture", "route", "route_limit", "keep_ended", "finding"]
    )]
    pub connect: Option<Daemon>,
    /// YAML file with credentials for the daemon (`basic_auth`, `tls_config`), in the format of
    /// `promtool`
    #[arg(
        long,
        help_heading = CONNECTION,
        value_name = "FILE",
        env = "GUNICORN_OBSERVER_HTTP_CONFIG",
        requires = "connect"
    )]
    pub http_config: Option<PathBuf>,
    /// Use no colours; NO_COLOR does the same
    #[arg(long, help_heading = OUTPUT, env = "GUNICORN_OBSERVER_NO_COLOR",
          value_parser = FalseyValueParser::new())]
    pub no_color: bool,
    #[command(flatten)]
    pub targets: TargetArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Options of `trace`. `--route` filters; `--name-route` has the meaning, variable and key that
/// `--route` has for the other commands.
#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None)]
pub struct TraceArgs {
    /// Show only requests that took at least this long, such as 100ms or 2s
    #[arg(long, help_heading = FILTERS, value_name = "TIME", env = "GUNICORN_OBSERVER_MIN_DURATION",
          value_parser = parse_duration)]
    pub min_duration: Option<Duration>,
    /// Show only requests with this route or path; repeatable
    ///
    /// `*` matches one segment or a part of one, `**` any number of segments. Separate several
    /// with commas. --name-route names routes.
    #[arg(
        long,
        help_heading = FILTERS,
        value_name = "GLOB",
        env = "GUNICORN_OBSERVER_TRACE_ROUTE",
        value_delimiter = ','
    )]
    pub route: Vec<RouteGlob>,
    /// Show only requests with this status: `404`, `5xx`, or `none` for no response; repeatable
    #[arg(
        long,
        help_heading = FILTERS,
        value_name = "STATUS",
        env = "GUNICORN_OBSERVER_STATUS",
        value_delimiter = ','
    )]
    pub status: Vec<Statuses>,
    /// Print each request as a JSON line
    #[arg(long, help_heading = OUTPUT, env = "GUNICORN_OBSERVER_JSON",
          value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Use no colours; NO_COLOR does the same
    #[arg(long, help_heading = OUTPUT, env = "GUNICORN_OBSERVER_NO_COLOR",
          value_parser = FalseyValueParser::new())]
    pub no_color: bool,
    /// Print paths without their query instead of routes
    #[arg(long, help_heading = OUTPUT, conflicts_with = "json", env = "GUNICORN_OBSERVER_PATHS",
          value_parser = FalseyValueParser::new())]
    pub paths: bool,
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Route for paths that match, as `--route` of `run`; repeatable
    #[arg(
        long,
        help_heading = SERIES,
        value_name = "PATTERN",
        env = "GUNICORN_OBSERVER_ROUTE",
        value_delimiter = ','
    )]
    pub name_route: Vec<Pattern>,
    /// Routes of one app; further paths count under the route `other` [default: 200]
    #[arg(long, help_heading = SERIES, value_name = "COUNT", env = "GUNICORN_OBSERVER_ROUTE_LIMIT",
          value_parser = clap::value_parser!(u32).range(options::ROUTE_LIMITS))]
    pub route_limit: Option<u32>,
}

/// How requests and workers are counted and labelled.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = SERIES)]
pub struct ModelArgs {
    /// Thresholds for findings; repeatable, or separated by commas
    /// [default: stuck=10s,heartbeat=80%,restarts=3,backlog=10%,one-worker=90%,memory=10%]
    ///
    /// A finding is active when
    /// - stuck=TIME: a request is in flight for this long
    /// - heartbeat=PERCENT: a heartbeat is older than this share of the timeout
    /// - restarts=COUNT: this many workers exited in trouble within a minute
    /// - backlog=PERCENT: a growing backlog reached this share of its limit
    /// - one-worker=PERCENT: one of several workers served this share of the requests
    /// - memory=PERCENT: the memory of a worker grew by this share within two minutes
    #[arg(
        long,
        verbatim_doc_comment,
        value_name = "NAME=VALUE",
        env = "GUNICORN_OBSERVER_FINDING",
        value_delimiter = ','
    )]
    pub finding: Vec<Threshold>,
    /// How long to keep series of exited workers and masters, such as 90s or 1h30m [default: 5m]
    #[arg(long, value_name = "TIME", env = "GUNICORN_OBSERVER_KEEP_ENDED",
          value_parser = parse_duration)]
    pub keep_ended: Option<Duration>,
    /// Route for paths that match, such as `/users/{id}` or `/static/**`; repeatable, or separated
    /// by commas, so a pattern cannot hold a comma
    #[arg(
        long,
        value_name = "PATTERN",
        env = "GUNICORN_OBSERVER_ROUTE",
        value_delimiter = ','
    )]
    pub route: Vec<Pattern>,
    /// Routes of one app; further paths count under the route `other` [default: 200]
    #[arg(long, value_name = "COUNT", env = "GUNICORN_OBSERVER_ROUTE_LIMIT",
          value_parser = clap::value_parser!(u32).range(options::ROUTE_LIMITS))]
    pub route_limit: Option<u32>,
    /// Label that identifies a worker [default: pid]
    #[arg(long, value_name = "LABEL", env = "GUNICORN_OBSERVER_WORKER_LABEL",
          value_parser = options::worker_label())]
    pub worker_label: Option<WorkerLabel>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None, next_help_heading = OUTPUT)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None, next_help_heading = OUTPUT)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Print each eBPF program, and the verifier's log of a refused one
    #[arg(long, env = "GUNICORN_OBSERVER_VERBOSE", value_parser = FalseyValueParser::new())]
    pub verbose: bool,
    #[command(flatten)]
    pub host: HostArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_display_order = None)]
pub struct StackArgs {
    /// Process that runs Python: a worker, a master, or another program
    #[arg(value_parser = clap::value_parser!(u32).range(options::PIDS))]
    pub pid: u32,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, env = "GUNICORN_OBSERVER_JSON",
          value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
#[command(next_display_order = None)]
pub struct RecordArgs {
    /// File to write; an existing one is replaced
    pub file: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_display_order = None)]
pub struct ReplayArgs {
    /// File that `record` wrote
    pub file: PathBuf,
    /// Print the metrics as of the end of the file, also what no scrape had fetched yet
    #[arg(long, help_heading = OUTPUT, env = "GUNICORN_OBSERVER_END",
          value_parser = FalseyValueParser::new())]
    pub end: bool,
    /// Print each finished request as a JSON line instead
    #[arg(long, help_heading = OUTPUT, conflicts_with = "end", env = "GUNICORN_OBSERVER_REQUESTS",
          value_parser = FalseyValueParser::new())]
    pub requests: bool,
    /// Serve dashboard, API and metrics as of the end of the file, until Ctrl-C
    #[arg(long, help_heading = OUTPUT, conflicts_with_all = ["requests", "end"],
          env = "GUNICORN_OBSERVER_SERVE", value_parser = FalseyValueParser::new())]
    pub serve: bool,
    #[command(flatten)]
    pub served: ServeArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_display_order = None)]
pub struct CompletionsArgs {
    /// Shell that runs the script
    pub shell: Shell,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_display_order = None)]
pub struct ManArgs {
    /// Write the pages of the program and of each command to this folder; it is created if missing
    #[arg(long, help_heading = OUTPUT, value_name = "DIR", env = "GUNICORN_OBSERVER_DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
