//! Parses the command line, starts the log and runs the command.

use anyhow::Result;
use clap::Parser;
use observer::cli::{Cli, Command, TopArgs};
use observer::commands::{completions, doctor, list, man, replay, stack};
use observer::config::{self, File, Host, Model, Observe, Run, Show, Trace};
use observer::daemon::{self, Outputs};
use observer::top::{self, Appearance};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gunicorn-observer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<()> {
    let file = File::load(cli.global.config.as_deref())?;
    let level = config::log_level(&cli.global, &file).filter();
    // Failures of the API server are logged by the observer, with a fix.
    let shown = Targets::new()
        .with_default(level)
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("kube_runtime", LevelFilter::OFF);
    let log = tracing_subscriber::fmt().with_max_level(level);
    let appearance = Appearance::default();
    if let Command::Top(_) = cli.command {
        // A log on the terminal would spoil the dashboard.
        let log = log.with_writer(appearance.log.clone()).with_ansi(false);
        log.finish().with(shown).init();
    } else {
        let log = log.with_writer(io::stderr);
        let log = log.with_ansi(io::stderr().is_terminal());
        log.finish().with(shown).init();
    }
    match &cli.command {
        Command::Replay(args) => {
            let model = |recorded| Model::replayed(recorded, &args.model, &file);
            replay::run(
                &args.file,
                &Show::resolve(args, &file),
                model,
                &mut io::stdout().lock(),
            )
        }
        Command::Run(args) => serve(&Run::resolve(args, &file), None),
        Command::Record(args) => serve(&Run::resolve(&args.run, &file), Some(&args.file)),
        Command::Top(args) => top(args, &file, appearance),
        Command::Trace(args) => {
            let trace = Trace::resolve(args, &file);
            let outputs = Outputs {
                lines: Some((trace.filter, trace.format)),
                ..Outputs::default()
            };
            daemon::run(&trace.observe, outputs)
        }
        Command::List(args) => list::run(args.json, &mut io::stdout().lock()),
        Command::Stack(args) => stack::run(args.pid, args.json, &mut io::stdout().lock()),
        Command::Doctor(args) => {
            let host = Host::resolve(&args.host, &file);
            doctor::run(args, &host, &mut io::stdout().lock())
        }
        Command::Completions(args) => completions::run(args.shell, &mut io::stdout().lock()),
        Command::Man(args) => man::run(args.dir.as_deref(), &mut io::stdout().lock()),
    }
}

fn top(args: &TopArgs, file: &File, appearance: Appearance) -> Result<()> {
    let appearance = Appearance {
        no_color: args.no_color,
        ..appearance
    };
    if let Some(daemon) = &args.connect {
        return top::connected(daemon, args.http_config.as_deref(), &appearance);
    }
    top::screen::check()?;
    let outputs = Outputs {
        screen: Some(appearance),
        ..Outputs::default()
    };
    daemon::run(&Observe::top(args, file), outputs)
}

fn serve(run: &Run, record: Option<&Path>) -> Result<()> {
    let outputs = Outputs {
        metrics: Some(&run.serve),
        app_metrics: run.app_metrics,
        record,
        ..Outputs::default()
    };
    daemon::run(&run.observe, outputs)
}
