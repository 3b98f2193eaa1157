//! The shops in `tests/apps/errors`, one for each framework, and where each is run.

use std::{fmt, path::Path};

use anyhow::{Result, ensure};

use crate::{
    gunicorn::Builder,
    matrix::{
        place::Place,
        product::{Cell, UVICORNS, WRITES_LATER, interpreter_named},
    },
};

/// The folder of the applications.
pub const SHOPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps/errors");

/// Sets of packages of the applications; each has a file `tests/apps/matrix/<name>.txt`. Compiled ones are
/// for the minor version beside it.
pub const PACKAGES: [(&str, Option<u8>); 8] = [
    ("frameworks-3.9", Some(9)),
    ("frameworks-3.13", Some(13)),
    ("django-4.2", None),
    ("django-5.2", None),
    ("django-6.1", None),
    ("asgi-3.9", Some(9)),
    ("asgi-3.12", Some(12)),
    ("asgi-3.14", Some(14)),
];

/// The framework of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framework {
    /// None: bare WSGI.
    Raw,
    Flask,
    Bottle,
    Falcon,
    Pyramid,
    Django,
    /// Django REST Framework.
    Rest,
    Starlette,
    FastApi,
    /// Django on an event loop.
    DjangoAsgi,
}

use Framework::{
    Bottle, Django, DjangoAsgi, Falcon, FastApi, Flask, Pyramid, Raw, Rest, Starlette,
};

/// All of them.
pub const FRAMEWORKS: [Framework; 10] = [
    Raw, Flask, Bottle, Falcon, Pyramid, Django, Rest, Starlette, FastApi, DjangoAsgi,
];

impl Framework {
    /// Its name in the application's file: `shop_<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Raw => "raw",
            Flask => "flask",
            Bottle => "bottle",
            Falcon => "falcon",
            Pyramid => "pyramid",
            Django => "django",
            Rest => "rest",
            Starlette => "starlette",
            FastApi => "fastapi",
            DjangoAsgi => "django-asgi",
        }
    }

    /// Whether its workers have event loops.
    #[must_use]
    pub fn is_asgi(self) -> bool {
        matches!(self, Starlette | FastApi | DjangoAsgi)
    }

    /// Paths of good requests that other frameworks do not have.
    #[must_use]
    pub fn good_paths(self) -> &'static [&'static str] {
        match self {
            Starlette | FastApi => &["/stream", "/behind-ok"],
            DjangoAsgi => &["/stream"],
            _ => &[],
        }
    }

    /// Gunicorn's argument.
    #[must_use]
    pub fn app(self) -> String {
        match self {
            Django | Rest => format!("shop_{}.wsgi:application", self.name()),
            DjangoAsgi => "shop_django.asgi:application".to_owned(),
            _ => format!("shop_{}:app", self.name()),
        }
    }

    /// The file and the function of the view at a path.
    #[must_use]
    pub fn view(self, path: &str) -> (String, String) {
        let name = self.name();
        let words = path.trim_start_matches('/');
        match self {
            Raw | Flask | Bottle | Pyramid | Starlette | FastApi => {
                (format!("shop_{name}.py"), words.replace('-', "_"))
            }
            Django | DjangoAsgi => ("shop_django/views.py".to_owned(), words.replace('-', "_")),
            Falcon => (
                format!("shop_{name}.py"),
                format!("{}.on_get", camel(words)),
            ),
            Rest => (
                format!("shop_{name}/views.py"),
                format!("{}.get", camel(words)),
            ),
        }
    }
}

fn camel(words: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    words.split('-').map(word).collect()
}

/// An application with its packages, interpreter, Gunicorn and worker class.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    pub framework: Framework,
    /// One of [`PACKAGES`].
    pub packages: Option<&'static str>,
    /// One of [`UVICORNS`].
    pub uvicorn: Option<&'static str>,
    pub interpreter: &'static str,
    pub gunicorn: &'static str,
    pub class: &'static str,
}

const fn stand(
    framework: Framework,
    packages: Option<&'static str>,
    interpreter: &'static str,
    gunicorn: &'static str,
    class: &'static str,
) -> Stand {
    Stand {
        framework,
        packages,
        uvicorn: None,
        interpreter,
        gunicorn,
        class,
    }
}

impl Stand {
    const fn on(self, uvicorn: &'static str) -> Self {
        Self {
            uvicorn: Some(uvicorn),
            ..self
        }
    }
}

const UVLOOP: &str = "uvicorn.workers.UvicornWorker";
const ASYNCIO: &str = "uvicorn.workers.UvicornH11Worker";
const OLD: Option<&str> = Some("frameworks-3.9");
const NEW: Option<&str> = Some("frameworks-3.13");

/// All combinations. The bare one has every interpreter and every Gunicorn.
pub const STANDS: [Stand; 37] = [
    stand(Raw, None, "pyenv-3.8", "20.1.0", "sync"),
    stand(Raw, None, "debian-3.9", "21.2.0", "gthread"),
    stand(Raw, None, "pyenv-3.10", "22.0.0", "gevent"),
    stand(Raw, None, "pyenv-3.11", "23.0.0", "eventlet"),
    stand(Raw, None, "debian-3.11", "25.3.0", "sync"),
    stand(Raw, None, "pyenv-3.12", "24.1.1", "gthread"),
    stand(Raw, None, "debian-3.13", "26.2.0", "gevent"),
    stand(Raw, None, "debian-3.14", "27.0.1", "sync"),
    stand(Raw, None, "debian-3.15", "27.0.1", "gthread"),
    stand(Flask, OLD, "pyenv-3.9", "20.1.0", "sync"),
    stand(Flask, NEW, "pyenv-3.11", "23.0.0", "gthread"),
    stand(Flask, NEW, "pyenv-3.13", "27.0.1", "gevent"),
    stand(Bottle, OLD, "pyenv-3.9", "23.0.0", "gthread"),
    stand(Bottle, NEW, "pyenv-3.13", "27.0.1", "sync"),
    // Where nothing of it is compiled, and where it is Cython's.
    stand(Falcon, OLD, "pyenv-3.9", "23.0.0", "sync"),
    stand(Falcon, NEW, "pyenv-3.12", "26.2.0", "gthread"),
    stand(Falcon, NEW, "pyenv-3.13", "23.0.0", "gthread"),
    stand(Falcon, NEW, "debian-3.13", "27.0.1", "sync"),
    stand(Pyramid, OLD, "pyenv-3.9", "22.0.0", "sync"),
    stand(Pyramid, NEW, "pyenv-3.13", "25.3.0", "gthread"),
    stand(Django, Some("django-4.2"), "pyenv-3.9", "20.1.0", "gthread"),
    stand(Django, Some("django-4.2"), "pyenv-3.11", "23.0.0", "sync"),
    stand(
        Django,
        Some("django-5.2"),
        "pyenv-3.13",
        "25.3.0",
        "gthread",
    ),
    stand(Django, Some("django-6.1"), "pyenv-3.12", "26.2.0", "sync"),
    stand(
        Django,
        Some("django-6.1"),
        "debian-3.14",
        "27.0.1",
        "gevent",
    ),
    stand(Rest, Some("django-4.2"), "pyenv-3.9", "23.0.0", "sync"),
    stand(Rest, Some("django-5.2"), "pyenv-3.11", "23.0.0", "gthread"),
    stand(Rest, Some("django-6.1"), "pyenv-3.13", "27.0.1", "sync"),
    stand(Starlette, Some("asgi-3.9"), "pyenv-3.9", "20.1.0", ASYNCIO).on("uvicorn-3.9"),
    stand(Starlette, Some("asgi-3.12"), "pyenv-3.12", "23.0.0", UVLOOP).on("uvicorn-3.12"),
    stand(
        Starlette,
        Some("asgi-3.14"),
        "debian-3.14",
        "27.0.1",
        UVLOOP,
    )
    .on("uvicorn-3.14"),
    stand(FastApi, Some("asgi-3.9"), "pyenv-3.9", "20.1.0", UVLOOP).on("uvicorn-3.9"),
    stand(FastApi, Some("asgi-3.12"), "pyenv-3.12", "23.0.0", ASYNCIO).on("uvicorn-3.12"),
    stand(FastApi, Some("asgi-3.14"), "debian-3.14", "27.0.1", "asgi"),
    stand(
        DjangoAsgi,
        Some("django-4.2"),
        "pyenv-3.9",
        "23.0.0",
        UVLOOP,
    )
    .on("uvicorn-3.9"),
    stand(
        DjangoAsgi,
        Some("django-5.2"),
        "pyenv-3.11",
        "25.3.0",
        ASYNCIO,
    )
    .on("uvicorn-3.11"),
    // Older versions of asyncio fail where Gunicorn writes to a client that left (`writelines`).
    stand(
        DjangoAsgi,
        Some("django-6.1"),
        "debian-3.14",
        "27.0.1",
        "asgi",
    ),
];

impl Stand {
    /// The cell of the matrix that runs it.
    pub fn cell(&self) -> Result<Cell> {
        Ok(Cell {
            interpreter: interpreter_named(self.interpreter)?,
            gunicorn: self.gunicorn,
            class: self.class,
        })
    }

    /// The server of it, under a unique name. Its packages are linked to in this folder.
    pub fn server(&self, place: &Place, installed: &Path) -> Result<Builder> {
        let mut python = place.python(&self.cell()?)?;
        // Its own packages come before those of its Uvicorn.
        for packages in self.uvicorn.into_iter().chain(self.packages) {
            let folder = place.frameworks(packages);
            ensure!(
                folder.exists(),
                "no {}: `cargo xtask setup`",
                folder.display()
            );
            python = python.importing_first(&folder);
        }
        let python = python.as_installed(&installed.join(self.name()))?;
        let threads = if self.class == "gthread" { 2 } else { 1 };
        Ok(Builder::new(python, &self.framework.app())
            .class(self.class)
            .threads(threads)
            .argument("--pythonpath")
            .argument(SHOPS)
            .argument("--name")
            .argument(&self.name()))
    }

    /// Its name in the observer's labels.
    #[must_use]
    pub fn name(&self) -> String {
        let packages = self.packages.unwrap_or("none");
        let Self {
            framework,
            interpreter,
            gunicorn,
            class,
            ..
        } = self;
        format!(
            "{}-{packages}-{interpreter}-{gunicorn}-{class}",
            framework.name()
        )
    }

    /// Whether each of these words is a part of its name.
    #[must_use]
    pub fn matches(&self, words: &[String]) -> bool {
        let name = self.to_string();
        words.iter().all(|word| name.contains(word.as_str()))
    }

    /// The minor version of its CPython.
    pub fn minor(&self) -> Result<u8> {
        Ok(self.cell()?.interpreter.minor)
    }

    /// Whether its CPython is older than this minor version.
    #[must_use]
    pub fn is_before(&self, minor: u8) -> bool {
        self.minor().is_ok_and(|of| of < minor)
    }

    /// Whether responses are written after their task has gone on.
    #[must_use]
    pub fn writes_later(&self) -> bool {
        let mut sets = UVICORNS.iter();
        let set = sets.find(|(name, _)| Some(*name) == self.uvicorn);
        self.class == UVLOOP && set.is_some_and(|(_, minor)| WRITES_LATER.contains(minor))
    }

    /// Whether Gunicorn answers where the application raises a `BaseException`: workers before 22 exit
    /// then, and those with threads never answer or close (`gthread.py`, `handle`). `SystemExit` ends an event
    /// loop.
    #[must_use]
    pub fn survives_exits(&self) -> bool {
        let old = ["19.", "20.", "21."];
        !self.framework.is_asgi()
            && self.class != "gthread"
            && !old.iter().any(|old| self.gunicorn.starts_with(old))
    }
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.packages {
            Some(packages) => format!("{} ({packages})", self.framework.name()),
            None => self.framework.name().to_owned(),
        };
        write!(
            f,
            "{name} {} gunicorn-{} {}",
            self.interpreter, self.gunicorn, self.class
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FRAMEWORKS, Framework, PACKAGES, STANDS, UVICORNS};
    use crate::matrix::product::GUNICORNS;

    #[test]
    fn each_framework_has_two_interpreters_and_two_classes() {
        for framework in FRAMEWORKS {
            let mine = || STANDS.iter().filter(|stand| stand.framework == framework);
            let minors: BTreeSet<_> = mine().filter_map(|stand| stand.minor().ok()).collect();
            let classes: BTreeSet<_> = mine().map(|stand| stand.class).collect();
            assert!(minors.len() > 1 && classes.len() > 1, "{framework:?}");
        }
    }

    #[test]
    fn every_stand_can_be_run_and_has_a_name_of_its_own() {
        let names: BTreeSet<_> = STANDS.iter().map(super::Stand::name).collect();
        assert_eq!(names.len(), STANDS.len());
        for stand in STANDS {
            let cell = stand.cell().expect("an interpreter");
            assert_eq!(cell.cannot_run(), None, "{stand}");
            assert!(GUNICORNS.contains(&stand.gunicorn), "{stand}");
            let packages = stand.packages;
            assert!(packages.is_none_or(|name| PACKAGES.iter().any(|(known, _)| *known == name)));
            let uvicorn = stand.uvicorn;
            assert!(uvicorn.is_none_or(|name| UVICORNS.iter().any(|(known, _)| *known == name)));
        }
    }

    #[test]
    fn views_are_named_as_each_framework_has_them() {
        let of = |framework: Framework| framework.view("/raises-from");
        assert_eq!(
            of(Framework::Flask),
            ("shop_flask.py".into(), "raises_from".into())
        );
        assert_eq!(
            of(Framework::Rest),
            ("shop_rest/views.py".into(), "RaisesFrom.get".into())
        );
    }
}
