//! Parse, log, run.

use anyhow::Result;
use clap::Parser;
use observer::cli::{Cli, Command};
use observer::commands::replay;
use observer::config::{self, File, Model};
use std::io;
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
        .init();
    match &cli.command {
        Command::Replay(args) => {
            let model = Model::resolve(&args.model, &file);
            replay::run(&args.file, &model, &mut io::stdout().lock())
        }
        Command::Run(_) | Command::List(_) | Command::Doctor | Command::Record(_) => {
            anyhow::bail!("this build cannot observe; it can only replay")
        }
    }
}
