//! The report of `doctor` as text.

use super::kernel::Kernel;
use super::report::{InterpreterFile, Master, Report, Targets};
use crate::probe::preflight::Check;
use observer_model::Untrusted;
use std::io::{self, Write};

/// Characters that are shown of an untrusted text.
const TEXT_CHARS: usize = 300;
/// Indents the lines below a line.
const INDENT: &str = "        ";
/// Widths of the columns of a probe.
const SEES: usize = 26;
const PLACE: usize = 16;

/// Writes the report.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for check in &report.checks {
        write_check(check, out)?;
    }
    if let Some(kernel) = &report.kernel {
        write_kernel(kernel, out)?;
    }
    match &report.targets {
        Some(targets) => write_targets(targets, out),
        None => writeln!(
            out,
            "\nGunicorn masters: not read, the privilege is missing"
        ),
    }
}

fn write_check(check: &Check, out: &mut impl Write) -> io::Result<()> {
    let mark = match check {
        Check { ok: false, .. } => "FAIL",
        Check { fix, .. } if !fix.is_empty() => "warn",
        Check { .. } => "ok",
    };
    writeln!(out, "{mark:<6}  {}: {}", check.name, check.found)?;
    write_fix(&check.fix, out)
}

fn write_fix(fix: &str, out: &mut impl Write) -> io::Result<()> {
    if fix.is_empty() {
        return Ok(());
    }
    writeln!(out, "{INDENT}fix: {fix}")
}

fn write_kernel(kernel: &Kernel, out: &mut impl Write) -> io::Result<()> {
    for feature in kernel.features.iter().filter(|feature| !feature.ok) {
        let why = feature.why.for_terminal(TEXT_CHARS);
        writeln!(out, "{:<6}  {}: {why}", "absent", feature.name)?;
        writeln!(out, "{INDENT}without: {}", feature.without)?;
    }
    let Some(programs) = &kernel.programs else {
        return Ok(());
    };
    writeln!(
        out,
        "\neBPF programs, with instructions that the verifier walked and load time:"
    )?;
    for program in programs {
        let mark = if program.ok { "ok" } else { "FAIL" };
        let walked = program
            .walked
            .map_or_else(|| "?".to_owned(), |walked| walked.to_string());
        let ms = program.load_us / 1000;
        let (name, feature) = (program.name, program.feature);
        writeln!(
            out,
            "{mark:<6}  {name:<20} {walked:>9} in {ms:>5} ms  {feature}"
        )?;
        for line in program.log.lines() {
            let line = Untrusted::from(line).for_terminal(TEXT_CHARS);
            writeln!(out, "{INDENT}{line}")?;
        }
    }
    Ok(())
}

fn write_targets(targets: &Targets, out: &mut impl Write) -> io::Result<()> {
    if targets.masters.is_empty() && targets.refused.is_empty() {
        return writeln!(out, "\nno Gunicorn master runs on this host");
    }
    if !targets.interpreters.is_empty() {
        writeln!(out, "\nInterpreters of Gunicorn masters:")?;
    }
    for interpreter in &targets.interpreters {
        write_interpreter(interpreter, out)?;
    }
    writeln!(out, "\nGunicorn masters:")?;
    for master in &targets.masters {
        write_master(master, out)?;
    }
    for refused in &targets.refused {
        let reason = refused.reason.for_terminal(TEXT_CHARS);
        writeln!(out, "{:<6}  {}: {reason}", "none", refused.pid)?;
        write_fix(refused.fix, out)?;
    }
    Ok(())
}

fn write_interpreter(it: &InterpreterFile, out: &mut impl Write) -> io::Result<()> {
    let known = |text: &Untrusted| match text.is_empty() {
        true => "?".to_owned(),
        false => text.for_terminal(TEXT_CHARS),
    };
    let (file, version) = (known(&it.file), known(&it.python_version));
    writeln!(out, "{:<6}  {file}, Python {version}", it.level)?;
    let pids: Vec<_> = it.masters.iter().map(ToString::to_string).collect();
    writeln!(out, "{INDENT}of {}", pids.join(", "))?;
    if !it.reason.is_empty() {
        writeln!(out, "{INDENT}{}", it.reason.for_terminal(TEXT_CHARS))?;
    }
    write_fix(&it.fix, out)?;
    let mut last = "";
    for probe in &it.probes {
        let sees = if probe.sees == last { "" } else { probe.sees };
        last = probe.sees;
        let cost = if probe.single_stepped {
            "single-stepped, about 13 µs a hit"
        } else {
            "emulated, 1.5 µs a hit"
        };
        let (place, at, entry) = (probe.place, probe.file_offset, probe.entry_offset);
        // Such as an extension module.
        let other = match file_name(&probe.file) {
            name if name == file_name(&it.file) => String::new(),
            name => format!(" of {}", Untrusted::from(name).for_terminal(TEXT_CHARS)),
        };
        writeln!(
            out,
            "{INDENT}{sees:<SEES$}  {place:<PLACE$}  {at:#x}{other} (entry + {entry}), {cost}"
        )?;
    }
    for unseen in &it.unseen {
        let why = unseen.why.for_terminal(TEXT_CHARS);
        writeln!(out, "{INDENT}{:<SEES$}  not seen: {why}", unseen.what)?;
    }
    Ok(())
}

fn file_name(path: &Untrusted) -> &str {
    path.raw().rsplit('/').next().unwrap_or_default()
}

fn write_master(master: &Master, out: &mut impl Write) -> io::Result<()> {
    let app = master.app.for_terminal(TEXT_CHARS);
    write!(out, "{:<6}  {} {app}", master.level, master.pid)?;
    for (name, value) in [
        ("", &master.worker_class),
        ("Gunicorn ", &master.gunicorn_version),
        ("Python ", &master.python_version),
    ] {
        if !value.is_empty() {
            write!(out, ", {name}{}", value.for_terminal(TEXT_CHARS))?;
        }
    }
    writeln!(out)?;
    if !master.reason.is_empty() {
        writeln!(out, "{INDENT}{}", master.reason.for_terminal(TEXT_CHARS))?;
    }
    if master.gunicorn_supported == Some(false) {
        writeln!(out, "{INDENT}this Gunicorn version is not supported")?;
    }
    write_fix(&master.fix, out)
}
