use super::*;
use clap::CommandFactory;

/// A text without its line breaks.
fn words_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples() {
    for command in Cli::command().get_subcommands() {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let example = format!("gunicorn-observer {}", command.get_name());
        assert!(help.contains(&example), "{}", command.get_name());
    }
}

#[test]
fn every_option_is_an_environment_variable() {
    let mut cli = Cli::command();
    cli.build();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        let options = command.get_arguments().filter(|arg| !arg.is_positional());
        for option in options {
            let name = option.get_long().unwrap_or_default();
            if name == "help" || name == "version" {
                continue;
            }
            let variable = name.to_uppercase().replace('-', "_");
            // A variable has the same meaning for every command.
            let variable = match (command.get_name(), name) {
                ("trace", "route") => "TRACE_ROUTE",
                ("trace", "name-route") => "ROUTE",
                _ => &variable,
            };
            let variable = format!("GUNICORN_OBSERVER_{variable}");
            let env = option.get_env().and_then(|env| env.to_str());
            assert_eq!(env, Some(variable.as_str()));
            // `1` and `true` switch on.
            if matches!(option.get_action(), clap::ArgAction::SetTrue) {
                let parser = format!("{:?}", option.get_value_parser());
                assert_ne!(parser, "ValueParser::bool", "--{name}");
            }
        }
    }
}

#[test]
fn deep_capture_is_disabled_when_recording_too_and_the_help_says_what_that_costs() {
    let mut cli = Cli::command();
    for command in ["run", "record"] {
        let command = cli.find_subcommand_mut(command).unwrap();
        let help = words_of(&command.render_long_help().to_string());
        assert!(help.contains("--no-deep-capture"), "{help}");
        assert!(help.contains("reported as `unknown`"), "{help}");
    }
    let words = ["gunicorn-observer", "record", "--no-deep-capture", "x.rec"];
    let Command::Record(args) = Cli::try_parse_from(words).unwrap().command else {
        panic!("not `record`");
    };
    assert_eq!(args.run.targets.no_deep_capture, Some(true));
}

#[test]
fn every_option_has_a_group_and_those_of_a_group_are_sorted() {
    let mut cli = Cli::command();
    cli.build();
    for command in std::iter::once(&mut cli.clone()).chain(cli.get_subcommands_mut()) {
        if command.get_name() == "help" {
            continue;
        }
        let help = command.render_long_help().to_string();
        let sections = help
            .split("\n\n")
            .filter_map(|section| section.split_once(":\n"));
        assert!(
            sections.clone().all(|(title, _)| title != "Options"),
            "{help}"
        );
        let mut last = (String::new(), String::new());
        for line in help.lines() {
            let is_title = line.ends_with(':') && !line.starts_with(' ');
            if is_title {
                last = (line.to_owned(), String::new());
            }
            let flag = line.split_whitespace().find(|word| word.starts_with("--"));
            let is_option = line.starts_with("      --") || line.starts_with("  -");
            if let (true, Some(flag)) = (is_option, flag) {
                assert!(last.1.as_str() < flag, "{flag} of {} in {help}", last.0);
                last.1 = flag.to_owned();
            }
        }
    }
}

#[test]
fn routes_are_separated_by_commas_and_the_help_says_so() {
    let words = ["gunicorn-observer", "run", "--route", "/a,/b"];
    let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else {
        panic!("not `run`");
    };
    assert_eq!(args.model.route.len(), 2);
    let mut cli = Cli::command();
    let run = cli.find_subcommand_mut("run").unwrap();
    let help = words_of(&run.render_long_help().to_string());
    assert!(help.contains("a pattern cannot hold a comma"), "{help}");
}

#[test]
fn wrong_values_are_refused() {
    for arguments in [
        "run --listen 9918",
        "run --pid 0",
        "run --route users",
        "run --keep-ended soon",
        "run --worker-label name",
        "run --route-limit 0",
        "run --finding stuck",
        "top --connect localhost",
        "top --connect ftp://127.0.0.1:9918",
        "top --http-config http.yml",
        "top --connect http://127.0.0.1:9918 --pid 1",
        "top --listen 127.0.0.1:1",
        "trace --status 5x",
        "trace --status 404,x",
        "trace --min-duration 100",
        "trace --route users",
        "trace --name-route users",
        "trace --listen 127.0.0.1:1",
        "record",
        "stack",
        "stack 0",
        "stack -1",
        "stack 4294967296",
        "stack python",
        "completions",
        "completions sh",
        "man run",
        "frobnicate",
    ] {
        let words = std::iter::once("gunicorn-observer").chain(arguments.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments}");
    }
}
