use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

fn file(text: &str) -> Result<File> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("observer.toml");
    std::fs::write(&path, text).unwrap();
    File::load(Some(&path))
}

fn run(arguments: &str, file: &File) -> Run {
    let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
    match Cli::parse_from(words).command {
        Command::Run(args) => Run::resolve(&args, file),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_options_the_defaults_hold() {
    let run = run("run", &File::default());
    assert_eq!(
        (run.serve.listen.as_str(), run.observe.pids.len()),
        ("127.0.0.1:9918", 0)
    );
    assert_eq!(run.observe.model, Model::default());
    assert_eq!(run.observe.model.settings.keep_ended_ns, 300_000_000_000);
    assert_eq!(
        log_level(&GlobalArgs::default(), &File::default()),
        LogLevel::Info
    );
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file = file(
        "listen = \"[::1]:1\"\nworker-label = \"slot\"\nkeep-ended = \"1h30m\"\n\
         route = [\"/a/{x}\"]\nlog-level = \"warn\"\npid = [7]",
    )
    .unwrap();
    let run = run("run --listen h:2 --pid 8 --pid 9", &file);
    assert_eq!(
        (run.serve.listen.as_str(), run.observe.pids),
        ("h:2", vec![8, 9])
    );
    assert_eq!(run.observe.model.worker_label, WorkerLabel::Slot);
    assert_eq!(run.observe.model.settings.keep_ended_ns, 5_400_000_000_000);
    assert_eq!(run.observe.model.settings.routes[0].as_str(), "/a/{x}");
    assert_eq!(log_level(&GlobalArgs::default(), &file), LogLevel::Warn);
}

#[test]
fn a_web_configuration_is_set_by_flag_or_file() {
    let by_file = file("web-config = \"/a.yml\"").unwrap();
    for (arguments, file, expected) in [
        ("run", &File::default(), None),
        ("run", &by_file, Some("/a.yml")),
        ("run --web-config b.yml", &by_file, Some("b.yml")),
    ] {
        let path = run(arguments, file).serve.web_config;
        assert_eq!(path.as_deref(), expected.map(Path::new), "{arguments}");
    }
}

#[test]
fn deep_capture_is_disabled_by_flag_or_file() {
    let by_file = file("no-deep-capture = true").unwrap();
    let against = file("no-deep-capture = false").unwrap();
    for (arguments, file, expected) in [
        ("run", &File::default(), false),
        ("run --no-deep-capture", &File::default(), true),
        ("run", &by_file, true),
        ("run", &against, false),
        ("run --no-deep-capture", &against, true),
        ("run --no-deep-capture=false", &by_file, false),
    ] {
        let is_off = run(arguments, file).observe.no_deep_capture;
        assert_eq!(is_off, expected, "{arguments} {file:?}");
    }
    let wrong = format!("{:#}", file("no-deep-capture = 1").unwrap_err());
    assert!(wrong.contains("expected a boolean"), "{wrong}");
}

#[test]
fn probes_are_chosen_by_flag_or_file() {
    let by_file = file("probes = \"entry-exit\"").unwrap();
    for (arguments, file, expected) in [
        ("run", &File::default(), Probes::Full),
        (
            "run --probes entry-exit",
            &File::default(),
            Probes::EntryExit,
        ),
        ("run", &by_file, Probes::EntryExit),
        ("run --probes full", &by_file, Probes::Full),
    ] {
        let probes = run(arguments, file).observe.host.probes;
        assert_eq!(probes, expected, "{arguments} {file:?}");
    }
    assert!(file("probes = \"sockets\"").is_err());
}

#[test]
fn gil_wait_time_is_measured_if_flag_or_file_says_so() {
    let by_file = file("gil = true").unwrap();
    for (arguments, file, expected) in [
        ("run", &File::default(), false),
        ("run --gil", &File::default(), true),
        ("run", &by_file, true),
        ("run --gil=false", &by_file, false),
    ] {
        let is_measured = run(arguments, file).observe.gil;
        assert_eq!(is_measured, expected, "{arguments} {file:?}");
    }
}

#[test]
fn applications_own_metrics_are_served_if_flag_or_file_says_so() {
    let by_file = file("app-metrics = true").unwrap();
    for (arguments, file, expected) in [
        ("run", &File::default(), false),
        ("run --app-metrics", &File::default(), true),
        ("run", &by_file, true),
        ("run --app-metrics=false", &by_file, false),
    ] {
        assert_eq!(run(arguments, file).app_metrics, expected, "{arguments}");
    }
}

#[test]
fn a_trace_filters_by_its_own_route_and_names_routes_as_other_commands() {
    let file = file("route = [\"/a/{x}\"]\npid = [7]\nno-deep-capture = true").unwrap();
    let trace = |arguments: &str, file: &File| {
        let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
        match Cli::parse_from(words).command {
            Command::Trace(args) => Trace::resolve(&args, file),
            other => panic!("{other:?}"),
        }
    };
    let plain = trace("trace", &File::default());
    assert_eq!(plain.filter, Filter::default());
    assert_eq!(
        plain.format,
        Format::Text {
            paths: false,
            colors: true
        }
    );
    assert_eq!(plain.observe, run("run", &File::default()).observe);

    let of_file = trace("trace --route /b --json", &file);
    assert_eq!(of_file.filter.routes, ["/b".parse().unwrap()]);
    assert_eq!(of_file.format, Format::Json);
    assert_eq!(of_file.observe, run("run", &file).observe);

    let named = trace("trace --name-route /c/{x} --paths --no-color", &file);
    let routes = named.observe.model.settings.routes;
    assert_eq!(routes, ["/c/{x}".parse().unwrap()]);
    assert_eq!(
        named.format,
        Format::Text {
            paths: true,
            colors: false
        }
    );
    assert!(named.filter.routes.is_empty());

    let words = "trace --status 404,5XX --status none --min-duration 1s50ms";
    let filter = trace(words, &file).filter;
    let statuses = ["404", "5xx", "none"].map(|text| text.parse().unwrap());
    assert_eq!(filter.statuses, statuses);
    assert_eq!(filter.min_duration, Some(Duration::from_millis(1050)));
}

#[test]
fn a_replay_takes_the_recorded_settings_unless_an_option_is_given() {
    let recorder = run(
        "run --route /a/{x} --route-limit 7 --keep-ended 9s --worker-label none",
        &File::default(),
    );
    let Fact::Settings(recorded) = Fact::from(&recorder.observe) else {
        panic!("no settings");
    };
    let replay = |arguments: &str, file: &File| {
        let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
        match Cli::parse_from(words).command {
            Command::Replay(args) => Model::replayed(Some(recorded.clone()), &args.model, file),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(replay("replay x", &File::default()), recorder.observe.model);
    let file = file("keep-ended = \"1s\"").unwrap();
    let model = replay("replay x --worker-label slot --route /b", &file);
    assert_eq!(model.worker_label, WorkerLabel::Slot);
    assert_eq!(model.settings.routes, ["/b".parse().unwrap()]);
    assert_eq!(model.settings.route_limit, 7);
    assert_eq!(model.settings.keep_ended_ns, 1_000_000_000);
}

#[test]
fn an_error_in_the_file_names_file_and_reason() {
    for (text, why) in [
        ("lisen = \"a:1\"", "unknown field `lisen`"),
        (
            "listen = \"9918\"",
            "invalid address `9918`, expected HOST:PORT",
        ),
        ("route = [\"users\"]", "users"),
        ("keep-ended = \"5 minutes\"", "`5 minutes`"),
        ("worker-label = \"name\"", "unknown variant"),
        ("route-limit = 0", "expected 1 to 100000"),
        ("route-limit = 100001", "expected 1 to 100000"),
        ("route-limit = -1", "expected 1 to 100000"),
        ("pid = [7, 0]", "invalid pid 0"),
        ("pid = [4294967296]", "expected 1 to 4294967295"),
        ("= 3", "line 1:"),
    ] {
        let error = format!("{:#}", file(text).unwrap_err());
        assert!(
            error.contains("observer.toml: line 1: ") && error.contains(why),
            "{error}"
        );
    }
    let missing = File::load(Some(Path::new("/nowhere/x.toml"))).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("failed to read /nowhere/x.toml; check --config")
    );
}
