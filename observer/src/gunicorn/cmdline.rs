//! Hints of a command line: no more than that, since titles can be set and programs renamed. The
//! memory of the process decides.

/// Kind of program that a command line suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    Other,
    Python,
    Gunicorn,
}

/// Arguments that are read behind the program's name.
const MAX_ARGUMENTS: usize = 16;

/// The hint of a command line: `/proc/<pid>/cmdline`, split at its zeros.
#[must_use]
pub fn hint<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Hint {
    let mut arguments = arguments.into_iter();
    let program = base_name(arguments.next().unwrap_or_default());
    // Also a title: `gunicorn: master [shop:app]` (`gunicorn/util.py`, `_setproctitle`).
    if program.starts_with(b"gunicorn") && program != b"gunicorn-observer" {
        return Hint::Gunicorn;
    }
    if !program.starts_with(b"python") && !program.starts_with(b"pypy") {
        return Hint::Other;
    }
    hint_of_python(arguments)
}

/// The hint of the arguments of an interpreter: `python /venv/bin/gunicorn …`,
/// `python -m gunicorn …`
#[must_use]
pub fn hint_of_python<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Hint {
    let mut arguments = arguments.into_iter().take(MAX_ARGUMENTS);
    if arguments.any(|argument| base_name(argument).starts_with(b"gunicorn")) {
        Hint::Gunicorn
    } else {
        Hint::Python
    }
}

/// Whether a program calls itself Gunicorn: by its title, or because it is Gunicorn's script or module that
/// an interpreter runs. Programs that only have it among their arguments, as those that start one, do not.
#[must_use]
pub fn calls_itself_gunicorn<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    if is_gunicorn(program) {
        return true;
    }
    while let Some(argument) = arguments.next() {
        match argument {
            b"-m" => {
                let module = arguments.next().unwrap_or_default();
                return module == b"gunicorn" || module.starts_with(b"gunicorn.");
            }
            // Options with a value.
            b"-X" | b"-W" => _ = arguments.next(),
            b"-c" => return false,
            option if option.starts_with(b"-") => {}
            script => return is_gunicorn(script),
        }
    }
    false
}

/// `gunicorn`, Debian's `gunicorn3`, old commands such as `gunicorn_django`, and titles such as
/// `gunicorn: master [shop:app]`.
fn is_gunicorn(argument: &[u8]) -> bool {
    let name = base_name(argument);
    name == b"gunicorn"
        || name == b"gunicorn3"
        || name.starts_with(b"gunicorn_")
        || argument.starts_with(b"gunicorn: ")
}

/// The application's name, for masters whose memory cannot be read: from the title, the `--name`
/// option or an argument like `module:variable`; empty if there is none.
#[must_use]
pub fn app<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> String {
    let texts: Vec<&str> = arguments
        .into_iter()
        .filter_map(|argument| std::str::from_utf8(argument).ok())
        .collect();
    let title = texts.first().and_then(|title| {
        title
            .trim_end()
            .strip_prefix("gunicorn: ")?
            .strip_suffix(']')?
            .split_once('[')
    });
    if let Some((_, name)) = title {
        return name.to_owned();
    }
    let mut arguments = texts.iter();
    while let Some(argument) = arguments.next() {
        if let Some(name) = argument.strip_prefix("--name=") {
            return name.to_owned();
        }
        if matches!(*argument, "-n" | "--name") {
            return arguments.next().copied().unwrap_or_default().to_owned();
        }
    }
    texts
        .iter()
        .rev()
        .find(|text| is_import_string(text))
        .copied()
        .unwrap_or_default()
        .to_owned()
}

/// The worker class, for masters whose memory cannot be read: from the `--worker-class` option,
/// which wins over every other setting; empty if it does not name one class.
#[must_use]
pub fn worker_class<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut arguments = arguments
        .into_iter()
        .filter_map(|argument| std::str::from_utf8(argument).ok());
    let mut named = "";
    while let Some(argument) = arguments.next() {
        if matches!(argument, "-k" | "--worker-class") {
            named = arguments.next().unwrap_or_default();
        } else if let Some(name) = argument.strip_prefix("--worker-class=") {
            named = name;
        }
    }
    // `SUPPORTED_WORKERS` of `gunicorn/workers/__init__.py`; `sync` becomes
    // `ThreadWorker` by a setting that need not be on the command line.
    let class = match named.strip_prefix("egg:gunicorn#").unwrap_or(named) {
        "gthread" => "ThreadWorker",
        "gevent" | "gevent_wsgi" => "GeventWorker",
        "gevent_pywsgi" => "GeventPyWSGIWorker",
        "eventlet" => "EventletWorker",
        "tornado" => "TornadoWorker",
        path => match path.rsplit_once('.') {
            Some((_, class)) => class,
            None => "",
        },
    };
    class.to_owned()
}

/// `package.module:variable`, and no `host:port`.
fn is_import_string(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split_once(':').is_some_and(|(module, variable)| {
        let variable = variable.split_once('(').map_or(variable, |(name, _)| name);
        module.split('.').all(is_name) && is_name(variable)
    })
}

fn base_name(argument: &[u8]) -> &[u8] {
    argument
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&[u8]> {
        line.split('|').map(str::as_bytes).collect()
    }

    #[test]
    fn gunicorn_is_recognised_however_it_was_started() {
        let cases = [
            ("/v/bin/python3|/v/bin/gunicorn|shop:app", Hint::Gunicorn),
            ("python3.11|-m|gunicorn|shop:app", Hint::Gunicorn),
            ("python|-u|-X|dev|/opt/gunicorn|shop:app", Hint::Gunicorn),
            ("gunicorn: master [shop:app]", Hint::Gunicorn),
            ("/usr/bin/python3|manage.py|runserver", Hint::Python),
            ("pypy3|x.py", Hint::Python),
            ("bash|-c|gunicorn shop:app", Hint::Other),
            ("vim|/etc/gunicorn/gunicorn.conf.py", Hint::Other),
            ("", Hint::Other),
        ];
        for (line, expected) in cases {
            assert_eq!(hint(split(line)), expected, "{line}");
        }
    }

    #[test]
    fn programs_that_start_a_gunicorn_do_not_call_themselves_one() {
        for line in [
            "gunicorn: master [shop:app]",
            "/v/bin/python3|/v/bin/gunicorn|shop:app",
            "python3|-u|-X|dev|-m|gunicorn|shop:app",
            "/usr/bin/gunicorn3|shop:app",
            "/srv/app/gunicorn|--bind|:80",
        ] {
            assert!(calls_itself_gunicorn(split(line)), "{line}");
        }
        for line in [
            "python3|/v/bin/watchmedo|auto-restart|gunicorn|shop:app",
            "python3|-c|import gunicorn|gunicorn",
            "python3|-m|gunicornc",
            "python3|/v/bin/gunicorn-prometheus-exporter",
            "sh|-c|gunicorn shop:app",
            "",
        ] {
            assert!(!calls_itself_gunicorn(split(line)), "{line}");
        }
    }

    #[test]
    fn a_python_of_another_name_is_known_by_its_arguments() {
        let hint = |line| hint_of_python(split(line));
        assert_eq!(hint("/venv/bin/gunicorn|shop:app"), Hint::Gunicorn);
        assert_eq!(hint("serve.py|--port|80"), Hint::Python);
        assert_eq!(hint(""), Hint::Python);
    }

    #[test]
    fn the_worker_class_is_named_or_unknown() {
        let cases = [
            ("python|gunicorn|-k|tornado|shop:app", "TornadoWorker"),
            ("python|gunicorn|--worker-class=shop.workers.Mine", "Mine"),
            ("python|gunicorn|--worker-class|gthread", "ThreadWorker"),
            ("python|gunicorn|-k|sync|shop:app", ""),
            ("python|gunicorn|shop:app", ""),
            ("gunicorn: master [shop:app]", ""),
            ("python|gunicorn|-k", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(worker_class(split(line)), expected, "{line}");
        }
    }

    #[test]
    fn the_application_comes_from_title_option_or_import_string() {
        let cases = [
            ("gunicorn: master [shop:app]", "shop:app"),
            ("python|gunicorn|-n|till|shop:app", "till"),
            ("python|gunicorn|--name=till|shop:app", "till"),
            (
                "python|gunicorn|shop.web:make('x')|-b|localhost:8000",
                "shop.web:make('x')",
            ),
            ("python|gunicorn|-b|127.0.0.1:8000|shop", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(app(split(line)), expected, "{line}");
        }
    }
}
