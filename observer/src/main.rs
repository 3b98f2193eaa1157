//! Parse, log, run.

use anyhow::Result;
use clap::Parser;
use observer::app::{self, Outputs};
use observer::cli::{Cli, Command};
use observer::commands::{completions, doctor, list, man, replay, stack};
use observer::config::{self, File, Model, Run, Trace};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

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
    tracing_subscriber::fmt()
        .with_max_level(config::log_level(&cli.global, &file).filter())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match &cli.command {
        Command::Replay(args) => {
            let model = |recorded| Model::replayed(recorded, &args.model, &file);
            replay::run(&args.file, args.show(), model, &mut io::stdout().lock())
        }
        Command::Run(args) => serve(&Run::resolve(args, &file), None),
        Command::Record(args) => serve(&Run::resolve(&args.run, &file), Some(&args.file)),
        Command::Trace(args) => {
            let trace = Trace::resolve(args, &file);
            let outputs = Outputs {
                lines: Some((trace.filter, trace.format)),
                ..Outputs::default()
            };
            app::run(&trace.observe, outputs)
        }
        Command::List(args) => list::run(args.json, &mut io::stdout().lock()),
        Command::Stack(args) => stack::run(args.pid, args.json, &mut io::stdout().lock()),
        Command::Doctor(args) => doctor::run(args.json, &mut io::stdout().lock()),
        Command::Completions(args) => completions::run(args.shell, &mut io::stdout().lock()),
        Command::Man(args) => man::run(args.dir.as_deref(), &mut io::stdout().lock()),
    }
}

fn serve(run: &Run, record: Option<&Path>) -> Result<()> {
    let outputs = Outputs {
        metrics: Some(&run.listen),
        record,
        ..Outputs::default()
    };
    app::run(&run.observe, outputs)
}
