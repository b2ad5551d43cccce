//! The command line itself: help, versions, exit codes, completions, generated documents.

use crate::support::{Folder, Ran, reseal};
use std::process::Stdio;

#[test]
fn help_teaches_with_examples() {
    let folder = Folder::new();
    let help = folder.run("--help").ok();
    for word in ["serve", "users", "doctor", "Examples:", "reseal serve --dev", "Exit codes: 0 done"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    for command in
        ["serve", "users add", "users import", "clients add", "sessions end", "keys rotate", "token verify"]
    {
        let help = folder.run(&format!("{command} --help")).ok();
        assert!(help.contains("Examples:") || help.contains("Example:"), "{command}: {help}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(Folder::new().run("--version").ok(), format!("reseal {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let folder = Folder::new();
    for wrong in
        ["nonsense", "users", "users add", "token verify x", "serve --listen nowhere", "users list --limit x"]
    {
        let ran = folder.run(wrong);
        assert_eq!(ran.code, 2, "{wrong}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{wrong}: {ran:?}");
    }
    folder.run("policies check --config missing.toml").fails(2, "missing.toml");
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_not() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Ran::of(reseal().arg("completions").arg("bash").stdout(full).stderr(Stdio::piped()));
    ran.fails(1, "standard output cannot be written");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Ran::of(reseal().arg("completions").arg("bash").stdout(writer).stderr(Stdio::piped()));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Folder::new().run(&format!("completions {shell}")).ok();
        assert!(script.contains("reset-factors"), "{shell}");
    }
    Folder::new().run("completions cmd").fails(2, "possible values");
}

#[test]
fn documents_are_generated() {
    let folder = Folder::new();
    let api = folder.run("generate openapi").json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    assert!(api["paths"]["/v1/session"].is_object());
    let schema = folder.run("generate config-schema").json();
    assert!(schema["properties"]["policies"].is_object());
    let reference = folder.run("generate commands").ok();
    for command in ["reseal serve", "reseal users import", "reseal keys reset"] {
        assert!(reference.contains(&format!("\n## `{command}`\n")), "{command}");
    }
    assert_eq!(reference, folder.run("generate commands").ok(), "the same every time");
}

#[test]
fn init_writes_a_file_that_works_and_overwrites_none() {
    let folder = Folder::new();
    folder.run("init").ok();
    let written = std::fs::read_to_string(folder.path("reseal.toml")).unwrap();
    assert_eq!(folder.run("init -").ok(), written);
    folder.run("init").fails(1, "--force");
    folder.write("reseal.toml", "# mine\n");
    folder.run("init").fails(1, "reseal.toml exists");
    assert_eq!(std::fs::read_to_string(folder.path("reseal.toml")).unwrap(), "# mine\n");
    folder.run("init --force").ok();
    assert_eq!(std::fs::read_to_string(folder.path("reseal.toml")).unwrap(), written);
    folder.run("policies check").ok();
    folder.run("init no/such/folder.toml").fails(2, "no/such/folder.toml");
}

#[test]
fn a_configuration_that_cannot_be_written_whole_is_not_left_behind() {
    let folder = Folder::new();
    // As on a full disk: no file may grow beyond a block.
    let mut shell = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" init";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_reseal")]).current_dir(folder.path("."));
    Ran::of(&mut shell).fails(1, "cannot write reseal.toml");
    assert!(!folder.path("reseal.toml").exists());
    folder.run("init").ok();
}
