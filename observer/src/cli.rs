//! The command line. Every option is also an environment variable and, where it
//! makes sense for a service, a key of the configuration file: see `config`.

use crate::options::{self, LogLevel};
use crate::top::source::Daemon;
use crate::trace::filter::{RouteGlob, Statuses};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use observer_model::duration::parse_duration;
use observer_model::routes::normalize::Pattern;
use observer_model::settings::Threshold;
use observer_model::settings::WorkerLabel;
use std::path::PathBuf;
use std::time::Duration;

/// Watches Gunicorn from outside, by eBPF: per-worker metrics without touching the application.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = TOP_EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

const TOP_EXAMPLES: &str = "\
Examples:
  sudo gunicorn-observer run                  observe every Gunicorn of this host
  sudo gunicorn-observer top                  the same on the terminal
  sudo gunicorn-observer trace --status 5xx   each request that fails, and why
  sudo gunicorn-observer doctor               check what this host supports
  curl -s http://127.0.0.1:9918/metrics       what Prometheus gets";

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// TOML file of options; flags and environment variables win over it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "GUNICORN_OBSERVER_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// How much to log to stderr [default: info]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "GUNICORN_OBSERVER_LOG_LEVEL"
    )]
    pub log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find every Gunicorn master on this host, observe it and serve metrics
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show what runs now, what fails and why, on the terminal: by probes of its own, or of a daemon
    #[command(after_help = TERMINAL_EXAMPLES, mut_arg("worker_label", |arg| arg.hide(true)))]
    Top(TopArgs),
    /// Print a line for each request as it ends, with what it waited for and why it failed
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Show the masters and workers found; loads no probe
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show what each thread of a worker does in Python now, and the request it serves; loads no
    /// probe and stops nothing
    #[command(after_help = STACK_EXAMPLES)]
    Stack(StackArgs),
    /// Check what this host and each Python found support, and how to mend what fails
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Like `run`, and write all that is observed to a file
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Print the metrics that were served last while a file was recorded, or serve its dashboard;
    /// needs no root
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Print what lets a shell complete this command line; needs no root
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the man page, or write that of each command to a folder; needs no root
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
const TERMINAL_EXAMPLES: &str = "\
Press ? for its keys; docs/TOP.md has them, too, and what each column holds.

Examples:
  sudo gunicorn-observer top
  sudo gunicorn-observer top --pid 4242 --finding stuck=5s
  gunicorn-observer top --connect http://127.0.0.1:9918
  gunicorn-observer top --connect https://web1:9918 --http-config http.yml";
const TRACE_EXAMPLES: &str = "\
A request is shown when every filter lets it through. The trace ends by Ctrl-C, by SIGTERM, or
when nobody reads its output any more. docs/TRACE.md has every column and every field of the JSON.

Examples:
  sudo gunicorn-observer trace
  sudo gunicorn-observer trace --status 5xx,none --pid 4242
  sudo gunicorn-observer trace --route '/users/*' --min-duration 100ms --paths
  sudo gunicorn-observer trace --json | jq 'select(.cause_is == \"raised\") | .cause'";
const LIST_EXAMPLES: &str = "\
docs/LIST.md has every column and every field of the JSON.

Examples:
  sudo gunicorn-observer list
  sudo gunicorn-observer list --json | jq '.[].pid'";
const STACK_EXAMPLES: &str = "\
PID is any process that runs Python: a worker, a master, or another program.
docs/STACK.md has every field of the JSON.

Examples:
  sudo gunicorn-observer stack 4243
  sudo gunicorn-observer stack 4243 --json | jq '.threads[] | select(.request) | .frames[0]'";
const DOCTOR_EXAMPLES: &str = "\
docs/DOCTOR.md says what each line means, and has every field of the JSON.

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
Where no option says otherwise, requests are counted and named as when FILE was recorded.

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

/// Options of `run` and `record`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Count how long threads of each worker wait for the GIL: takes some time of every thread of
    /// this host that waits for another
    #[arg(
        long,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_GIL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = FalseyValueParser::new()
    )]
    pub gil: Option<bool>,
    /// Name of this node, for the label `node` of Gunicorns in pods
    #[arg(long, value_name = "NAME", env = "GUNICORN_OBSERVER_NODE_NAME")]
    pub node_name: Option<String>,
    /// Ask the API server of the cluster what the pods of the node --node-name are called and which
    /// Deployment or other workload they are of; docs/KUBERNETES.md says what that takes
    #[arg(
        long,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_KUBERNETES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = FalseyValueParser::new()
    )]
    pub kubernetes: Option<bool>,
    #[command(flatten)]
    pub targets: TargetArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Where is served, and to whom.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Address to serve metrics, dashboard and API on [default: 127.0.0.1:9918]
    #[arg(long, value_name = "HOST:PORT", env = "GUNICORN_OBSERVER_LISTEN",
          value_parser = options::parse_listen)]
    pub listen: Option<String>,
    /// YAML file of TLS and of who may ask with which password, as Prometheus' exporters have it;
    /// docs/WEB.md has its keys
    #[arg(long, value_name = "FILE", env = "GUNICORN_OBSERVER_WEB_CONFIG")]
    pub web_config: Option<PathBuf>,
}

/// What the host does not tell by itself.
#[derive(Clone, Debug, Default, Args)]
pub struct HostArgs {
    /// Read the kernel's types from this file, for a kernel that has no /sys/kernel/btf/vmlinux:
    /// the BTF of that very kernel
    #[arg(long, value_name = "FILE", env = "GUNICORN_OBSERVER_BTF")]
    pub btf: Option<PathBuf>,
}

/// What is observed, and how closely.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    #[command(flatten)]
    pub host: HostArgs,
    /// Observe only this master (a worker's pid means its master); repeatable [default: all]
    #[arg(long, value_name = "PID", env = "GUNICORN_OBSERVER_PID", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(options::PIDS))]
    pub pid: Vec<u32>,
    /// Never take a closer look at exceptions: what a framework answers with a 5xx by itself,
    /// without asking for the exception, then stays `unknown`
    #[arg(
        long,
        value_name = "BOOL",
        env = "GUNICORN_OBSERVER_NO_DEEP_ERRORS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = FalseyValueParser::new()
    )]
    pub no_deep_errors: Option<bool>,
}

/// Options of `top`. Those of what is observed are the daemon's if there is one.
#[derive(Clone, Debug, Default, Args)]
pub struct TopArgs {
    /// Show what the daemon (`run`) at this address says, and load no probe
    #[arg(
        long,
        value_name = "URL",
        env = "GUNICORN_OBSERVER_CONNECT",
        conflicts_with_all = ["btf", "pid", "no_deep_errors", "route", "route_limit", "keep_ended", "finding"]
    )]
    pub connect: Option<Daemon>,
    /// Ask the daemon as this YAML file says, with the keys of `promtool`'s: `basic_auth` and
    /// `tls_config`
    #[arg(
        long,
        value_name = "FILE",
        env = "GUNICORN_OBSERVER_HTTP_CONFIG",
        requires = "connect"
    )]
    pub http_config: Option<PathBuf>,
    /// Use no colours; so does NO_COLOR
    #[arg(long, env = "GUNICORN_OBSERVER_NO_COLOR", value_parser = FalseyValueParser::new())]
    pub no_color: bool,
    #[command(flatten)]
    pub targets: TargetArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Options of `trace`. Its routes are named as those of `run` are; there `--route` does that,
/// so that its variable and its key in the file name routes here, too.
#[derive(Clone, Debug, Default, Args)]
pub struct TraceArgs {
    /// Show only requests with this status, such as `404`, all of `5xx`, or `none` where no answer
    /// was seen; repeatable, or several with commas between them
    #[arg(
        long,
        value_name = "STATUS",
        env = "GUNICORN_OBSERVER_STATUS",
        value_delimiter = ','
    )]
    pub status: Vec<Statuses>,
    /// Show only requests that took at least so long, such as 100ms or 2s
    #[arg(long, value_name = "TIME", env = "GUNICORN_OBSERVER_MIN_DURATION",
          value_parser = parse_duration)]
    pub min_duration: Option<Duration>,
    /// Show only requests of this route or path, where `*` stands for one segment or a part of it
    /// and `**` for any number; repeatable, or several with commas between them. It names no
    /// routes, as `--route` of `run` does: that is `--name-route` here
    #[arg(
        long,
        value_name = "GLOB",
        env = "GUNICORN_OBSERVER_TRACE_ROUTE",
        value_delimiter = ','
    )]
    pub route: Vec<RouteGlob>,
    /// Print each request as a JSON line
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Show paths as they were sent, without the query, in the place of routes
    #[arg(long, conflicts_with = "json", env = "GUNICORN_OBSERVER_PATHS",
          value_parser = FalseyValueParser::new())]
    pub paths: bool,
    /// Use no colours on a terminal; so does NO_COLOR
    #[arg(long, env = "GUNICORN_OBSERVER_NO_COLOR", value_parser = FalseyValueParser::new())]
    pub no_color: bool,
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Route to name paths by, as `--route` of `run`
    #[arg(
        long,
        value_name = "PATTERN",
        env = "GUNICORN_OBSERVER_ROUTE",
        value_delimiter = ','
    )]
    pub name_route: Vec<Pattern>,
    /// Routes of one app, the rest is `other` [default: 200]
    #[arg(long, value_name = "COUNT", env = "GUNICORN_OBSERVER_ROUTE_LIMIT",
          value_parser = clap::value_parser!(u32).range(options::ROUTE_LIMITS))]
    pub route_limit: Option<u32>,
}

/// How requests and workers are counted and named.
#[derive(Clone, Debug, Default, Args)]
pub struct ModelArgs {
    /// Route to name paths by, such as `/users/{id}` or `/static/**`; repeatable, or
    /// several with commas between them, so that a pattern cannot hold a comma
    #[arg(
        long,
        value_name = "PATTERN",
        env = "GUNICORN_OBSERVER_ROUTE",
        value_delimiter = ','
    )]
    pub route: Vec<Pattern>,
    /// How worker series are told apart [default: pid]
    #[arg(long, value_name = "LABEL", env = "GUNICORN_OBSERVER_WORKER_LABEL",
          value_parser = options::worker_label())]
    pub worker_label: Option<WorkerLabel>,
    /// Routes of one app, the rest is `other` [default: 200]
    #[arg(long, value_name = "COUNT", env = "GUNICORN_OBSERVER_ROUTE_LIMIT",
          value_parser = clap::value_parser!(u32).range(options::ROUTE_LIMITS))]
    pub route_limit: Option<u32>,
    /// How long the series of what ended stay, such as 90s, 5m or 1h30m [default: 5m]
    #[arg(long, value_name = "TIME", env = "GUNICORN_OBSERVER_KEEP_ENDED",
          value_parser = parse_duration)]
    pub keep_ended: Option<Duration>,
    /// From when on something is a finding, such as `stuck=30s` (a request in progress),
    /// `heartbeat=90%` (of the timeout), `restarts=5` (in a minute), `backlog=20%` (of its limit),
    /// `one-worker=80%` (of all requests) or `memory=25%` (grown in two minutes); repeatable, or
    /// several with commas between them
    /// [default: stuck=10s,heartbeat=80%,restarts=3,backlog=10%,one-worker=90%,memory=10%]
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "GUNICORN_OBSERVER_FINDING",
        value_delimiter = ','
    )]
    pub finding: Vec<Threshold>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// As JSON
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DoctorArgs {
    /// Show each program, as the kernel took it, and what its verifier said of one that it refused
    #[arg(long, env = "GUNICORN_OBSERVER_VERBOSE", value_parser = FalseyValueParser::new())]
    pub verbose: bool,
    #[command(flatten)]
    pub host: HostArgs,
    /// As JSON
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StackArgs {
    /// Process to look at
    #[arg(value_parser = clap::value_parser!(u32).range(options::PIDS))]
    pub pid: u32,
    /// As JSON
    #[arg(long, env = "GUNICORN_OBSERVER_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// File to write; an existing one is replaced
    pub file: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// File that `record` wrote
    pub file: PathBuf,
    /// Print each finished request as a JSON line instead
    #[arg(long, conflicts_with = "end", env = "GUNICORN_OBSERVER_REQUESTS",
          value_parser = FalseyValueParser::new())]
    pub requests: bool,
    /// Serve the dashboard, the API and the metrics as of the end of the file, until Ctrl-C
    #[arg(long, conflicts_with_all = ["requests", "end"], env = "GUNICORN_OBSERVER_SERVE",
          value_parser = FalseyValueParser::new())]
    pub serve: bool,
    #[command(flatten)]
    pub served: ServeArgs,
    /// Print the metrics as of the end of the file, also what nobody had scraped yet
    #[arg(long, env = "GUNICORN_OBSERVER_END", value_parser = FalseyValueParser::new())]
    pub end: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to complete it in
    pub shell: Shell,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ManArgs {
    /// Write a page for the program and one for each of its commands to this folder; it is made
    /// where there is none
    #[arg(long, value_name = "DIR", env = "GUNICORN_OBSERVER_DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let example = format!("gunicorn-observer {}", command.get_name());
            assert!(help.contains(&example), "{}", command.get_name());
        }
    }

    #[test]
    fn every_option_is_an_environment_variable() {
        let mut cli = Cli::command();
        cli.build();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            let options = command.get_arguments().filter(|arg| !arg.is_positional());
            for option in options {
                let name = option.get_long().unwrap_or_default();
                if name == "help" || name == "version" {
                    continue;
                }
                let variable = name.to_uppercase().replace('-', "_");
                // What a variable means is the same for every command.
                let variable = match (command.get_name(), name) {
                    ("trace", "route") => "TRACE_ROUTE",
                    ("trace", "name-route") => "ROUTE",
                    _ => &variable,
                };
                let variable = format!("GUNICORN_OBSERVER_{variable}");
                let env = option.get_env().and_then(|env| env.to_str());
                assert_eq!(env, Some(variable.as_str()));
                // `1` and `true` turn a switch on.
                if matches!(option.get_action(), clap::ArgAction::SetTrue) {
                    let parser = format!("{:?}", option.get_value_parser());
                    assert_ne!(parser, "ValueParser::bool", "--{name}");
                }
            }
        }
    }

    #[test]
    fn closer_looks_are_refused_when_recording_too_and_the_help_says_what_that_costs() {
        let mut cli = Cli::command();
        for command in ["run", "record"] {
            let command = cli.find_subcommand_mut(command).unwrap();
            let help = command.render_long_help().to_string();
            let words: Vec<_> = help.split_whitespace().collect();
            assert!(
                words
                    .iter()
                    .any(|word| word.starts_with("--no-deep-errors"))
            );
            assert!(words.join(" ").contains("then stays `unknown`"));
        }
        let words = ["gunicorn-observer", "record", "--no-deep-errors", "x.rec"];
        let Command::Record(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not `record`");
        };
        assert_eq!(args.run.targets.no_deep_errors, Some(true));
    }

    #[test]
    fn routes_are_separated_by_commas_and_the_help_says_so() {
        let words = ["gunicorn-observer", "run", "--route", "/a,/b"];
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not `run`");
        };
        assert_eq!(args.model.route.len(), 2);
        let mut cli = Cli::command();
        let run = cli.find_subcommand_mut("run").unwrap();
        let help = run.render_long_help().to_string();
        let words: Vec<_> = help.split_whitespace().collect();
        assert!(words.join(" ").contains("a pattern cannot hold a comma"));
    }

    #[test]
    fn wrong_values_are_refused() {
        for arguments in [
            "run --listen 9918",
            "run --pid 0",
            "run --route users",
            "run --keep-ended soon",
            "run --worker-label name",
            "run --route-limit 0",
            "run --finding stuck",
            "top --connect localhost",
            "top --connect ftp://127.0.0.1:9918",
            "top --http-config http.yml",
            "top --connect http://127.0.0.1:9918 --pid 1",
            "top --listen 127.0.0.1:1",
            "trace --status 5x",
            "trace --status 404,x",
            "trace --min-duration 100",
            "trace --route users",
            "trace --name-route users",
            "trace --listen 127.0.0.1:1",
            "record",
            "stack",
            "stack 0",
            "stack -1",
            "stack 4294967296",
            "stack python",
            "completions",
            "completions sh",
            "man run",
            "frobnicate",
        ] {
            let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments}");
        }
    }
}
