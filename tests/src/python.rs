//! An interpreter, with the Gunicorn that it runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::venv::Venv;

/// An interpreter, and the way it starts Gunicorn.
#[derive(Clone, Debug)]
pub struct Python {
    /// The interpreter, in its root if it has one.
    program: PathBuf,
    /// Its arguments: Gunicorn's script, `-m gunicorn`, another file.
    arguments: Vec<OsString>,
    /// More folders of packages.
    path: Vec<PathBuf>,
    /// Its own folder of packages, which it finds by itself.
    packages: Vec<PathBuf>,
    /// The root it runs in instead of the host's.
    root: Option<PathBuf>,
}

/// A program to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// The root to start it in instead of the host's.
    pub root: Option<PathBuf>,
    /// Folders of the host to share with that root.
    pub folders: Vec<PathBuf>,
}

impl Python {
    /// This interpreter, with Gunicorn and its dependencies from these folders.
    #[must_use]
    pub fn new(program: PathBuf, gunicorn: &Path, packages: &Path) -> Self {
        Self {
            program,
            arguments: vec![gunicorn.join("bin/gunicorn").into()],
            path: vec![gunicorn.to_owned(), packages.to_owned()],
            packages: Vec::new(),
            root: None,
        }
    }

    /// PyPy, with the Gunicorn of this environment, which imports only plain Python. `None` without PyPy.
    pub fn pypy(venv: &Venv) -> Result<Option<Self>> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut programs = env::split_paths(&path).map(|folder| folder.join("pypy3"));
        let Some(program) = programs.find(|program| program.exists()) else {
            return Ok(None);
        };
        let packages = venv.packages()?;
        let python = Self::new(program, &packages, &packages);
        Ok(Some(python.running([venv.program("gunicorn")])))
    }

    /// It runs in a mount namespace of its own, in an overlay over this root.
    #[must_use]
    pub fn in_root(self, root: &Path) -> Self {
        Self {
            root: Some(root.to_owned()),
            ..self
        }
    }

    /// It runs this instead of Gunicorn's script.
    #[must_use]
    pub fn running(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter();
        Self {
            arguments: arguments.map(|word| word.as_ref().to_owned()).collect(),
            ..self
        }
    }

    /// It imports from this folder first.
    #[must_use]
    pub fn importing_first(mut self, folder: &Path) -> Self {
        self.path.insert(0, folder.to_owned());
        self
    }

    /// Links its folders of packages into this folder, named as pip names them: this distinguishes
    /// installed packages from an application's own files.
    pub fn as_installed(mut self, folder: &Path) -> Result<Self> {
        for (number, path) in self.path.iter_mut().enumerate() {
            let folder = folder.join(number.to_string());
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            let link = folder.join("site-packages");
            symlink(&*path, &link).with_context(|| format!("cannot link {}", link.display()))?;
            for argument in &mut self.arguments {
                if let Ok(rest) = Path::new(argument).strip_prefix(&path) {
                    *argument = link.join(rest).into();
                }
            }
            *path = link;
        }
        Ok(self)
    }

    /// The same packages under another program.
    #[must_use]
    pub fn by(mut self, program: &Path) -> Self {
        self.path.append(&mut self.packages);
        Self {
            program: program.to_owned(),
            ..self
        }
    }

    /// The program that becomes Gunicorn, with more arguments and variables.
    pub(crate) fn launch(&self, more: Vec<String>, environment: &[(String, String)]) -> Launch {
        let mut arguments = self.arguments.clone();
        arguments.extend(more.into_iter().map(OsString::from));
        let mut environment: Vec<(OsString, OsString)> = environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        environment.push(("PYTHONDONTWRITEBYTECODE".into(), "1".into()));
        if !self.path.is_empty() {
            let path: Vec<_> = self.path.iter().map(|folder| folder.as_os_str()).collect();
            environment.push(("PYTHONPATH".into(), path.join(OsStr::new(":"))));
        }
        Launch {
            program: self.program.clone(),
            arguments,
            environment,
            root: self.root.clone(),
            folders: self.path.clone(),
        }
    }
}

impl From<&Venv> for Python {
    fn from(venv: &Venv) -> Self {
        Self {
            program: venv.program("python"),
            arguments: vec![venv.program("gunicorn").into()],
            path: Vec::new(),
            packages: venv.packages().into_iter().collect(),
            root: None,
        }
    }
}
