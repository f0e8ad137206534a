//! `injector doctor --pid`: what it says of processes, Go programs or not. The
//! programs are those of `cargo xtask test --ring go`.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{needs, on_fast_hosts};
use crate::harness::{
    Host, Target,
    programs::{INJECTOR, Scratch},
};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let programs = host.scale(
        programs().map(drop),
        Err("the same on every kernel".to_owned()),
    );
    vec![
        on_fast_hosts(host, "go_doctor_says_why_not", refusals),
        needs("go_doctor_knows_each_version", programs.clone(), versions),
        needs("go_doctor_reads_what_runs", programs, replaced),
    ]
}

/// Version and directory of each.
fn programs() -> Result<Vec<(String, PathBuf)>, String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let directory = PathBuf::from(variable("INJECTOR_GO_PROGRAMS")?);
    let versions = variable("INJECTOR_GO_VERSIONS")?;
    let each = |version: &str| (version.to_owned(), directory.join(version));
    Ok(versions.split(',').map(each).collect())
}

/// A running Go program; dropping it kills it.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Go program");
        let stdout = child.stdout.as_mut().expect("its stdout");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// What doctor says of it.
    fn doctor(&self) -> Value {
        let (code, stdout, stderr) = doctor(self.0.id(), &["--output", "json"]);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).expect("a JSON object")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn doctor(pid: u32, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(INJECTOR)
        .args(["doctor", "--pid", &pid.to_string()])
        .args(more)
        .output()
        .expect("injector itself");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn refusals() {
    let sleeper = Target::start("sleeper", "100");
    for (pid, words) in [
        (4_194_303, "there is no process 4194303"),
        (2, "process 2 has no program file"),
        (sleeper.pid, "sleeper is no Go program"),
    ] {
        let (code, stdout, stderr) = doctor(pid, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // Root without the capability may not look into root with it.
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_ptrace", INJECTOR, "doctor", "--pid"])
        .arg(sleeper.pid.to_string())
        .output()
        .expect("setpriv");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("CAP_SYS_PTRACE"), "{stderr}");
}

fn versions() {
    for (version, directory) in programs().expect("the programs") {
        for kind in ["plain", "stripped", "external"] {
            let program = Program::start(&mut Command::new(directory.join(kind)));
            let said = program.doctor();
            assert_eq!(said["type"], "go");
            let named = said["version"].as_str().expect("a version");
            assert!(named.starts_with(&format!("go{version}")), "{named}");
            assert_eq!(said["traceable"], true);
            assert_eq!(said["pie"], kind == "external");
            let source = if kind == "plain" { "dwarf" } else { "table" };
            let offsets = said["offsets"].as_array().expect("offsets");
            let goid = offsets
                .iter()
                .find(|offset| offset["name"] == "runtime.g.goid");
            assert_eq!(goid.expect("goid")["source"], source, "{version} {kind}");
            let (code, table, _) = doctor(program.0.id(), &[]);
            assert_eq!(code, Some(0));
            assert!(table.contains("runtime.mapassign_faststr+0x"), "{table}");
        }
    }
}

/// In a mount namespace of its own, and with its file replaced.
fn replaced() {
    let scratch = Scratch::new("go");
    for (_, directory) in programs().expect("the programs") {
        let original = directory.join("stripped");
        let own = scratch.path("own");
        fs::create_dir_all(&own).expect("a directory");
        let script =
            "mount -t tmpfs none \"$1\" && cp \"$0\" \"$1/program\" && exec \"$1/program\"";
        let program = Program::start(
            Command::new("unshare")
                .args(["--mount", "sh", "-c", script])
                .args([&original, &own]),
        );
        assert!(!own.join("program").exists(), "it is seen from here");
        assert_eq!(program.doctor()["traceable"], true);

        let copy = scratch.path("copy");
        fs::copy(&original, &copy).expect("a copy");
        let program = Program::start(&mut Command::new(&copy));
        fs::remove_file(&copy).expect("its file");
        fs::write(&copy, "something else").expect("another file in its place");
        let said = program.doctor();
        assert_eq!(said["traceable"], true);
        let name = said["program"].as_str().expect("a name");
        assert!(name.ends_with("copy (deleted)"), "{name}");
    }
}
