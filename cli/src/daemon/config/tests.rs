//! What a file may say, what it may not, and how that is told.

use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../../../deploy/swarmnet.toml");

fn refusal(text: &str) -> String {
    Settings::parse(text, Path::new("swarmnet.toml")).expect_err("it is wrong").to_string()
}

#[test]
fn a_wrong_file_is_told_by_line_column_key_value_and_what_is_allowed() {
    for (text, said) in [
        (
            "name = \"n1\"\nlog_format = \"xml\"\n",
            "swarmnet.toml:2:14: log_format: the value \"xml\" is not allowed: want \"text\", \"json\" or \"journald\"",
        ),
        (
            "# ü\n  worker_threads = 0",
            "swarmnet.toml:2:20: worker_threads: the value 0 is not allowed: want a number from 1 to 256",
        ),
        ("log_levle = 1", "swarmnet.toml:1:1: unknown key log_levle: did you mean log_level?"),
        ("forward_accept = \"yes\"", "swarmnet.toml:1:18: forward_accept: the value \"yes\""),
        ("state_dir = \"here\"", "swarmnet.toml:1:13: state_dir: the value \"here\""),
        ("log_level = \"inof\"", "swarmnet.toml:1:13: log_level: the value \"inof\""),
        ("name = ", "swarmnet.toml:1:8: "),
        ("name = \"a\"\nname = \"b\"", "swarmnet.toml:2:1: duplicate key"),
        ("[log]\nlevel = \"info\"", "swarmnet.toml:1:2: unknown key log: did you mean log_"),
    ] {
        let line = refusal(text);
        assert!(line.starts_with(said), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    assert!(refusal("zzz = 1").contains("there are name, state_dir, "));
}

#[test]
fn the_first_mistake_of_a_file_is_told() {
    assert!(refusal("worker_threads = 0\nforward_accept = 1").contains(":1:18: worker_threads"));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("swarmnet.toml");
    std::fs::write(&file, "state_dir = \"/file\"\nrun_dir = \"/file\"\nlog_level = \"warn\"\n")
        .expect("written");
    let flags = Flags {
        folders: FolderArgs {
            config: Some(file),
            run_dir: Some("/flag".into()),
            ..FolderArgs::default()
        },
        log: LogArgs { log_level: Some("debug".parse().expect("a level")), log_format: None },
    };
    let settings = Settings::read(&flags).expect("it is right");
    assert_eq!(settings.state_dir, Path::new("/file"));
    assert_eq!(settings.run_dir, Path::new("/flag"));
    assert_eq!(settings.log_level.to_string(), "debug");
    assert_eq!(settings.worker_threads, Settings::default().worker_threads);
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let bare: String = EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| KEYS.iter().any(|key| line.starts_with(&format!("{} = ", key.name))))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(bare.lines().count(), KEYS.len(), "every key once: {bare}");
    let example = Settings::parse(&bare, Path::new("deploy/swarmnet.toml")).expect("it is right");
    // This machine's name is no default of the example.
    let defaults = Settings { name: example.name.clone(), ..Settings::default() };
    assert_eq!(example, defaults);
    // As it is installed it changes nothing.
    assert_eq!(
        Settings::parse(EXAMPLE, Path::new("deploy/swarmnet.toml")).expect("it is right"),
        Settings::default()
    );
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let all = "name = \"a \\\"b\\\"\"\nlog_level = \"info,a::b=debug\"";
    let settings = Settings::parse(all, Path::new("x")).expect("it is right");
    let lines: Vec<_> = settings.shown().map(|(key, value)| format!("{key} = {value}")).collect();
    let again = lines.join("\n");
    assert_eq!(Settings::parse(&again, Path::new("x")).expect("it is right"), settings);
}

#[test]
fn a_reload_takes_what_is_live_and_names_the_rest() {
    let mut now = Settings::default();
    let mut next = now.clone();
    assert_eq!(now.turn_to(&next), (vec![], vec![]));
    next.forward_accept = false;
    next.run_dir = "/elsewhere".into();
    next.log_format = Format::Json;
    assert_eq!(now.turn_to(&next), (vec!["forward_accept"], vec!["run_dir", "log_format"]));
    assert!(!now.forward_accept);
    assert_eq!(now.run_dir, Path::new("/run/swarmnet"));
}
