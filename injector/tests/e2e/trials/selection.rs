//! Which sends are seen and which are chosen.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;

use super::{each_hook, needs, on_fast_hosts};
use crate::harness::{Hook, Host, Injector, Target, programs};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = each_hook(host, "filters_choose_sends", filters);
    trials.push(on_fast_hosts(host, "port_filter", port));
    trials.push(on_fast_hosts(host, "when_counts_calls", when));
    trials.push(on_fast_hosts(
        host,
        "programs_are_selected_by_file",
        by_file,
    ));
    trials.push(needs("a_cgroup_is_followed", cgroups(), by_cgroup));
    trials.push(on_fast_hosts(host, "a_new_name_is_noticed", renamed));
    trials
}

fn filters(hook: Hook) {
    let injector = Injector::start(&format!(
        "--hook {hook} --comm sends --delay 100us --proto udp --to 127.0.0.0/8 --min-bytes 100"
    ));
    let mut expected = 0;
    for (arguments, matches) in [
        ("udp4 send 10 200", true),
        ("udp4 sendto 10 100 --unconnected", true),
        ("udp4 send 10 50", false),
        ("udp6 send 10 200", false),
        ("tcp4 send 10 200", false),
        ("unix_stream send 10 200", false),
    ] {
        let target = Target::start("sends", arguments);
        injector.expect_line(&format!("target + {}", target.pid));
        let pid = target.pid;
        assert_eq!(target.run()["ok"], 10);
        expected += 10;
        injector.await_sends(expected);
        let sends: Vec<_> = injector
            .sends()
            .into_iter()
            .filter(|send| send.pid == pid)
            .collect();
        assert_eq!(sends.len(), 10, "{arguments}");
        let verdict = if matches { "delivered" } else { "unmatched" };
        for send in &sends {
            assert_eq!(send.verdict, verdict, "{arguments}: {send:?}");
            assert!(
                arguments.starts_with(&send.protocol)
                    || send.protocol == "tcp"
                    || send.protocol == "udp"
            );
        }
    }
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.counter("matched"), 20);
    assert_eq!(ended.counter("seen"), 60);
}

fn port() {
    let target = Target::start("sends", "tcp4 send 10 100");
    let other = Target::start("sends", "tcp4 send 10 100");
    let injector = Injector::start(&format!(
        "--pid {} --pid {} --port {} --delay 100us",
        target.pid, other.pid, target.port
    ));
    let (pid, port) = (target.pid, target.port);
    target.run();
    other.run();
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.sends.len(), 20);
    for send in &ended.sends {
        assert_eq!(send.is_delivered(), send.pid == pid, "{send:?}");
        if send.pid == pid {
            assert_eq!(
                send.peer.as_deref(),
                Some(format!("127.0.0.1:{port}").as_str())
            );
            assert!(
                send.local
                    .as_deref()
                    .is_some_and(|local| local.starts_with("127.0.0.1:"))
            );
        }
    }
}

fn when() {
    let target = Target::start("sends", "tcp4 send 20 100");
    let injector = Injector::start(&format!("--pid {} --when 3..9+2 --delay 100us", target.pid));
    target.run();
    let ended = injector.finish();
    ended.expect_code(0);
    let chosen: Vec<_> = ended
        .delivered()
        .filter_map(|send| send.call_index)
        .collect();
    assert_eq!(chosen, [3, 5, 7, 9]);
    assert_eq!(ended.sends.len(), 20);
    assert!(ended.sends.iter().all(|send| send.asked_bytes == Some(100)));
}

fn by_file() {
    let program = programs::path("order-api");
    let mut target = Target::start("order-api", "10 100 0");
    let same_name_elsewhere = Target::start("order_api", "10 100 0");
    let injector = Injector::start(&format!("--exe {} --delay 100us", program.display()));
    let pid = target.pid;
    target.go();
    target.finish();
    same_name_elsewhere.run();
    injector.await_sends(10);
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.sends.len(), 10);
    assert!(ended.sends.iter().all(|send| send.pid == pid));
}

/// A cgroup of our own, removed when dropped, which takes that all in it ended.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .ok_or("cgroup2 is not mounted")?[1]
            .to_owned();
        let path = PathBuf::from(root).join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(format!("cannot create {}: {error}", path.display())),
        }
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process in a cgroup");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether a cgroup can be made here.
fn cgroups() -> Result<(), String> {
    Cgroup::new(&format!("injector-e2e-probe-{}", std::process::id())).map(drop)
}

fn by_cgroup() {
    let name = format!("injector-e2e-{}", std::process::id());
    let outer = Cgroup::new(&name).expect("a cgroup");
    let inner = Cgroup::new(&format!("{name}/inner")).expect("a cgroup");
    let [inside, below, outside, late] = [(); 4].map(|()| Target::start("sends", "udp4 send 5 64"));
    outer.take(inside.pid);
    inner.take(below.pid);
    let injector = Injector::start(&format!("--cgroup {} --delay 100us", outer.0.display()));
    let members = [inside.pid, below.pid, late.pid];
    outside.run();
    inside.run();
    below.run();
    // Moved without an exec: found by the next look at all processes.
    outer.take(late.pid);
    injector.expect_line(&format!("target + {}", late.pid));
    late.run();
    injector.await_sends(15);
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 15);
    for pid in members {
        let sends = ended.sends.iter().filter(|send| send.pid == pid);
        assert_eq!(sends.count(), 5, "{pid}");
    }
}

fn renamed() {
    const SCRIPT: &str = r"
        read -r; printf e2e-new-name > /proc/$$/comm
        read -r; exec 3<> /dev/udp/127.0.0.1/9; printf x >&3
    ";
    let mut shell = Command::new("bash")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut go = || {
        let stdin = shell.stdin.as_mut().expect("its stdin");
        stdin.write_all(b"\n").expect("a shell that waits");
    };
    let injector = Injector::start("--comm e2e-new-name --delay 100us");
    injector.expect_line("waiting");
    go();
    injector.expect_line("target + ");
    go();
    injector.await_sends(1);
    let status = shell.wait().expect("its end");
    assert!(status.success(), "{status}");
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 1);
    assert_eq!(ended.sends[0].comm, "e2e-new-name");
}
