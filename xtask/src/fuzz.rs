//! `cargo xtask test fuzz`: a short run of each fuzz target in `tests/fuzz`.

use std::{
    fs,
    num::NonZero,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread::{self, ScopedJoinHandle},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command,
    tally::{Finished, Outcome, Tally},
    workspace::Workspace,
};

const CRATE: &str = "tests/fuzz";
/// Time of each target. Most failures are found at once, from the seeds.
const SECONDS: u32 = 10;
/// A bound on one input: finds walks that do not end.
const INPUT_SECONDS: u32 = 10;
const MEMORY_MIB: u32 = 2048;

/// Builds the targets, and names those that contain `filter`.
pub fn build(workspace: &Workspace, filter: Option<&str>) -> Result<Vec<String>> {
    let wanted = |name: &String| filter.is_none_or(|filter| name.contains(filter));
    let targets: Vec<_> = targets(workspace)?.into_iter().filter(wanted).collect();
    if targets.is_empty() {
        bail!("no fuzz target has `{}` in its name", filter.unwrap_or(""));
    }
    compile(workspace)?;
    Ok(targets)
}

/// Runs each target for [`SECONDS`], as many at a time as there are processors.
pub fn run(workspace: &Workspace, targets: &[String], tally: &mut Tally) {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = folder(workspace).join(triple).join("release");
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    for targets in targets.chunks(processors) {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let mut running = Vec::new();
            for target in targets {
                let program = folder.join(target);
                let work = move || outcome(target, || fuzz(workspace, &program, target));
                running.push(scope.spawn(work));
            }
            let done = |it: ScopedJoinHandle<'_, Outcome>| match it.join() {
                Ok(outcome) => outcome,
                Err(panic) => resume_unwind(panic),
            };
            running.into_iter().map(done).collect()
        });
        for outcome in outcomes {
            tally.add(outcome);
        }
    }
}

fn outcome(target: &str, work: impl FnOnce() -> Result<()>) -> Outcome {
    let start = Instant::now();
    let done = work();
    Outcome {
        name: format!("fuzz {target}"),
        took: start.elapsed(),
        result: match done {
            Ok(()) => Finished::Passed,
            Err(error) => Finished::Failed(format!("{error:#}")),
        },
    }
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join(CRATE).join("targets");
    let mut targets: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some(path.file_stem()?.to_str()?.to_owned())
        })
        .collect();
    targets.sort_unstable();
    Ok(targets)
}

/// Compiles with the stable compiler, where the instrumentation is an unstable option. Sanitizers need
/// nightly, and find mistakes that safe code cannot make.
fn compile(workspace: &Workspace) -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .current_dir(&workspace.root)
        .env("RUSTC_BOOTSTRAP", "1")
        // No target loads the eBPF programs.
        .env("AYA_BUILD_SKIP", "1")
        .args(["fuzz", "build", "--fuzz-dir", CRATE])
        .args(["--sanitizer", "none", "--target-dir"])
        .arg(folder(workspace));
    command::run(&mut cargo)
}

/// Runs a target from its seeds and the finds of earlier runs. An input that fails is kept and named.
fn fuzz(workspace: &Workspace, program: &Path, target: &str) -> Result<()> {
    let corpus = workspace.target.join("fuzz-corpus").join(target);
    let failed = workspace.target.join("fuzz-failed").join(target);
    for folder in [&corpus, &failed] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let seeds = workspace.root.join(CRATE).join("seeds").join(target);
    command::run(
        Command::new(program)
            .arg(format!("-max_total_time={SECONDS}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-artifact_prefix={}/", failed.display()))
            .args(["-verbosity=0", "-print_final_stats=1"])
            .args([corpus, seeds]),
    )
}
