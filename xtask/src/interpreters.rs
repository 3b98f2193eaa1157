//! The interpreters of the test matrix: pyenv's, this machine's own, and those of other Debians.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use end_to_end::matrix::{
    place::Place,
    product::{INTERPRETERS, Interpreter, Source},
};

use crate::{
    ci::is_ci,
    step::{Check, Step},
    suite::Suite,
};

pub const INTERPRETERS_STEP: Step = Step {
    name: "interpreters",
    why: "The tests observe Gunicorn under each CPython, as pyenv and as Debian builds it.",
    check: |workspace| {
        let place = workspace.matrix();
        match missing(&place) {
            Ok(missing) if missing.is_empty() => Check::Present(present(&place)),
            Ok(missing) => Check::missing(missing.join(", "), "cargo xtask setup"),
            Err(error) => Check::missing(
                format!("{error:#}"),
                "pyenv install the versions that are named (`pyenv install 3.8` takes the newest 3.8)",
            ),
        }
    },
    make: Some(|workspace| make(&workspace.matrix())),
};

/// The newest of a minor version that pyenv has installed: its top folder.
pub fn pyenv(minor: u8) -> Option<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")))?;
    let series = format!("3.{minor}.");
    let patch = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(&series)?.parse().ok()
    };
    fs::read_dir(root.join("versions"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((patch(&path)?, path)))
        .filter(|(_, path)| path.join(format!("bin/python3.{minor}")).exists())
        .max()
        .map(|(_, path)| path)
}

/// The folder of an installed interpreter.
fn installed(interpreter: Interpreter) -> Option<PathBuf> {
    match interpreter.source {
        Source::Pyenv => pyenv(interpreter.minor),
        Source::Host => Some("/usr".into()),
        Source::Suite(_) => None,
    }
}

/// Each suite once, with the minor versions of its interpreters.
fn suites(place: &Place) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for interpreter in INTERPRETERS {
        let Source::Suite(name) = interpreter.source else {
            continue;
        };
        match suites.iter_mut().find(|suite| suite.name == name) {
            Some(suite) => suite.minors.push(interpreter.minor),
            None => suites.push(Suite {
                name,
                minors: vec![interpreter.minor],
                root: place.root(name),
            }),
        }
    }
    suites
}

/// What is left to set up. An interpreter that pyenv lacks is left out, but fails under CI: its tests
/// must not shrink unseen.
fn missing(place: &Place) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut absent = Vec::new();
    for interpreter in INTERPRETERS {
        if matches!(interpreter.source, Source::Suite(_)) {
            continue;
        }
        match installed(interpreter) {
            Some(target) => {
                let link = fs::read_link(place.installed(interpreter));
                if link.ok() != Some(target) {
                    missing.push(format!("no link to {}", interpreter.name));
                }
            }
            None => absent.push(interpreter.name),
        }
    }
    if is_ci() && !absent.is_empty() {
        bail!("this machine lacks {}", absent.join(", "));
    }
    let stale = suites(place).into_iter().filter(|suite| !suite.is_made());
    missing.extend(stale.map(|suite| format!("Debian {} is not unpacked", suite.name)));
    Ok(missing)
}

fn present(place: &Place) -> String {
    let (present, absent): (Vec<_>, Vec<_>) = INTERPRETERS
        .into_iter()
        .partition(|interpreter| place.has(*interpreter));
    let names = |of: &[Interpreter]| -> String {
        let names: Vec<_> = of.iter().map(|interpreter| interpreter.name).collect();
        names.join(", ")
    };
    if absent.is_empty() {
        names(&present)
    } else {
        format!("{}; not here: {}", names(&present), names(&absent))
    }
}

fn make(place: &Place) -> Result<()> {
    for interpreter in INTERPRETERS {
        if let Some(target) = installed(interpreter) {
            link(&target, &place.installed(interpreter))?;
        }
    }
    suites(place)
        .iter()
        .filter(|suite| !suite.is_made())
        .try_for_each(Suite::make)
}

/// Makes a link, and replaces an older one.
fn link(target: &Path, link: &Path) -> Result<()> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", link.display()));
        }
        _ => {}
    }
    symlink(target, link).with_context(|| format!("cannot link {}", link.display()))
}
