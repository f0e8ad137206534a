//! What injector writes about itself: man page and completions.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;

use super::{needs, on_fast_hosts};
use crate::harness::{
    Host,
    programs::{INJECTOR, Scratch},
};

pub fn trials(host: &Host) -> Vec<Trial> {
    let groff = host
        .scale(Ok(()), Err("the same on every kernel".to_owned()))
        .and_then(|()| has("groff"));
    vec![
        on_fast_hosts(host, "man_and_completions_have_every_flag", complete),
        on_fast_hosts(host, "bash_reads_its_completions", bash),
        needs("the_man_page_has_no_mistakes", groff, man),
    ]
}

fn has(program: &str) -> Result<(), String> {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .map(drop)
        .map_err(|error| format!("no {program} here: {error}"))
}

/// What injector says when it is asked so.
fn ask(words: &[&str]) -> String {
    let output = Command::new(INJECTOR)
        .args(words)
        .output()
        .expect("injector itself");
    assert!(output.status.success(), "{words:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The flags that a help text lists.
fn flags(help: &str) -> BTreeSet<&str> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(|line| line.split(|c: char| c != '-' && !c.is_ascii_alphabetic()))
        .filter(|word| word.len() > 3 && word.starts_with("--"))
        .collect()
}

fn complete() {
    let help = ask(&["--help"]);
    let flags = flags(&help);
    assert!(flags.len() > 25, "{flags:?}");
    // The hyphens of a man page are escaped.
    let man = ask(&["man"]).replace('\\', "");
    for flag in &flags {
        assert!(man.contains(flag), "{flag} is not in the man page");
    }
    for (shell, dashes) in [("bash", "--"), ("zsh", "--"), ("fish", "-l ")] {
        let script = ask(&["completions", shell]);
        for flag in &flags {
            let flag = flag.replacen("--", dashes, 1);
            assert!(script.contains(&flag), "{flag} is not completed by {shell}");
        }
    }
}

fn bash() {
    let scratch = Scratch::new("completions");
    let script = scratch.path("injector.bash");
    fs::write(&script, ask(&["completions", "bash"])).expect("a script");
    // It is read, and then asked what it would complete.
    let test = r#"
        . "$1"; COMP_WORDS=(injector --max-sp); COMP_CWORD=1
        _injector injector --max-sp injector; echo "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-c", test, "bash"])
        .arg(&script)
        .output()
        .expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--max-spin");
}

fn man() {
    let scratch = Scratch::new("man");
    let page = scratch.path("injector.1");
    fs::write(&page, ask(&["man"])).expect("a page");
    let output = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(&page)
        .output()
        .expect("groff");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
