//! What is refused, with which exit code and which words.

use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use libtest_mimic::Trial;

use super::{anywhere, needs, on_fast_hosts};
use crate::harness::{
    Hook, Host, Injector, Target,
    programs::{INJECTOR, Scratch},
};

/// User and group `nobody`.
const NOBODY: u32 = 65534;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    vec![
        on_fast_hosts(host, "pids_that_cannot_be_targets", pids),
        on_fast_hosts(host, "malformed_words_show_the_grammar", malformed),
        on_fast_hosts(host, "without_capabilities", unprivileged),
        on_fast_hosts(host, "a_missing_capability_is_named", one_capability),
        anywhere("without_type_information", without_btf),
        on_fast_hosts(host, "a_second_acting_injector_is_refused", two_injectors),
        anywhere("a_name_without_a_match_waits", waits),
        hook_refused(host, Hook::Kprobe),
        hook_refused(host, Hook::Fentry),
        errors_refused(host),
    ]
}

/// On a kernel below the oldest that README names: refused before anything is
/// touched, in one sentence, and `doctor` says the same.
pub fn old_kernel() {
    let sleeper = Target::start("sleeper", "100");
    let pid = sleeper.pid;
    for arguments in [
        format!("--pid {pid} --delay 1ms"),
        format!("--pid {pid} --shadow --hook tracepoint"),
        "demo".to_owned(),
        "doctor".to_owned(),
    ] {
        let refused = Injector::run(&arguments);
        refused.expect_code(3);
        if arguments != "doctor" {
            refused.expect_words("is too old: injector needs 5.17 or later");
            assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        }
    }
    let doctor = Command::new(INJECTOR)
        .arg("doctor")
        .output()
        .expect("injector itself");
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(text.contains("boot Linux 5.17 or later"), "{text}");
}

fn pids() {
    let own = std::process::id();
    for (pid, words) in [
        ("4194303", "there is no process 4194303"),
        ("1", "pid 1"),
        ("2", "kernel thread"),
        (own.to_string().as_str(), "parent of this injector"),
    ] {
        let refused = Injector::run(&format!("--pid {pid} --delay 1ms"));
        refused.expect_code(2);
        refused.expect_words(words);
    }
    // The shell becomes injector, so this is its own.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" --pid $$ --delay 1ms"#, INJECTOR]);
    let refused = Injector::spawn_command(&mut shell).finish();
    refused.expect_code(2);
    refused.expect_words("injector itself");
}

fn malformed() {
    for (words, grammar) in [
        (&["--delay", "soon"][..], "normal("),
        (&["--delay", "5"], "unit"),
        (&["--delay", "9ms..2ms"], ".."),
        (&["--probability", "150%"], "100%"),
        (&["--on-timeout", "signal:SIGNOPE"], "SIGUSR2"),
        (&["--error", "ENOPE"], "ECONNRESET"),
        (&["--to", "10.0.0.0/99"], "ADDRESS[/BITS][:PORT]"),
        (&["--to", "nowhere"], "ADDRESS[/BITS][:PORT]"),
        (&["--when", "9..3"], "FIRST"),
        (&["--proto", "sctp"], "tcp"),
        (&["--env", "gray"], "KEY=VALUE"),
        (&["--min-bytes", "lots"], "k"),
        (
            &["--on-timeout", "signal:SIGUSR2", "--delay", "1ms"],
            "--threshold",
        ),
        (&["--delay", "1ms", "--max-spin", "5s"], "400ms"),
        (&["--delay", "1ms", "--lease", "1ms"], "300ms"),
        (&["--no-such-flag"], "--help"),
    ] {
        let mut all = vec!["--pid", "4194303"];
        all.extend(words);
        let refused = Injector::run_words(&all);
        assert_eq!(refused.code, Some(2), "{words:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(grammar),
            "{words:?}: {}",
            refused.stderr
        );
    }
    let refused = Injector::run("--delay 1ms");
    refused.expect_code(2);
    refused.expect_words("--pid");
}

fn unprivileged() {
    // Where others may not go, a copy is run.
    let scratch = Scratch::new("nobody");
    let copy = scratch.path("injector");
    std::fs::copy(INJECTOR, &copy).expect("a copy of injector");
    for path in [copy.as_path(), copy.parent().expect("its directory")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let sleeper = Target::start("sleeper", "100");
    let mut command = Command::new(&copy);
    command
        .args(["--pid", &sleeper.pid.to_string(), "--delay", "1ms"])
        .uid(NOBODY)
        .gid(NOBODY);
    let refused = Injector::spawn_command(&mut command).finish();
    refused.expect_code(2);
    refused.expect_words("CAP_BPF");
    refused.expect_words("root");
}

fn one_capability() {
    let sleeper = Target::start("sleeper", "100");
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_ptrace", INJECTOR])
        .args(["--pid", &sleeper.pid.to_string(), "--delay", "1ms"]);
    let refused = Injector::spawn_command(&mut command).finish();
    refused.expect_code(2);
    refused.expect_words("missing capability CAP_SYS_PTRACE");
}

/// A kernel without BTF, as far as injector can see.
fn without_btf() {
    let sleeper = Target::start("sleeper", "100");
    for hidden in [
        "mount -t tmpfs none /sys/kernel/btf",
        "mount --bind /dev/null /sys/kernel/btf/vmlinux",
    ] {
        let script = format!(r#"{hidden} && exec "$0" "$@""#);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &script, INJECTOR])
            .args(["--pid", &sleeper.pid.to_string(), "--delay", "1ms"]);
        let refused = Injector::spawn_command(&mut command).finish();
        refused.expect_code(3);
        refused.expect_words("CONFIG_DEBUG_INFO_BTF=y");
    }
}

fn two_injectors() {
    let sleeper = Target::start("sleeper", "300");
    let first = Injector::start(&format!("--pid {} --delay 1ms", sleeper.pid));
    let second = Injector::run(&format!("--pid {} --delay 1ms", sleeper.pid));
    second.expect_code(2);
    second.expect_words(&format!("pid {}", first.pid()));
    let shadow = Injector::run(&format!(
        "--pid {} --delay 1ms --shadow --duration 100ms",
        sleeper.pid
    ));
    shadow.expect_code(0);
    first.stop().expect_code(0);
    // The lock goes with its holder.
    Injector::run(&format!(
        "--pid {} --delay 1ms --duration 100ms",
        sleeper.pid
    ))
    .expect_code(0);
}

fn waits() {
    let injector = Injector::start("--comm order-api --env e2e=late --delay 100us");
    injector.expect_line("waiting");
    let stranger = Target::start("order-api", "5 100 0");
    let mut late = Target::start_with("order-api", "30 100 0", &[("e2e", "late")]);
    injector.expect_line(&format!("target + {}", late.pid));
    let pid = late.pid;
    late.go();
    late.finish();
    stranger.run();
    injector.await_sends(30);
    std::thread::sleep(Duration::from_millis(100));
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 30);
    assert!(
        ended
            .sends
            .iter()
            .all(|send| send.pid == pid && send.comm == "order-api")
    );
}

/// Only where the hook is missing.
fn hook_refused(host: &Host, hook: Hook) -> Trial {
    let missing = match host.has(hook) {
        Ok(()) => Err(format!("this kernel has {hook}")),
        Err(_) => Ok(()),
    };
    needs(
        &format!("missing_hook_is_explained[{hook}]"),
        missing,
        move || {
            let sleeper = Target::start("sleeper", "100");
            let refused = Injector::run(&format!("--pid {} --hook {hook}", sleeper.pid));
            refused.expect_code(3);
            refused.expect_words(&hook.to_string());
            refused.expect_words("injector doctor");
        },
    )
}

/// Only where sends cannot be failed.
fn errors_refused(host: &Host) -> Trial {
    let missing = match host.can_fail_sends() {
        Ok(()) => Err("this kernel can fail sends".to_owned()),
        Err(_) => Ok(()),
    };
    needs("missing_error_hook_is_explained", missing, || {
        let sleeper = Target::start("sleeper", "100");
        let refused = Injector::run(&format!("--pid {} --error ECONNRESET", sleeper.pid));
        refused.expect_code(3);
        refused.expect_words("BPF LSM");
        refused.expect_words("injector doctor");
    })
}
