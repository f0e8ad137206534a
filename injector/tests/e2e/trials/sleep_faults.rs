//! Threads are asleep, and a part of injector dies or hangs: all of them must
//! run on, and nothing of it may stay behind.

use std::{
    fs::read_to_string,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::sleep_engine::{LONG, sleeps};
use crate::harness::{Bpf, Host, Injector, Senders, eventually, process};

const SERVER: &str = "injector-server";
const HOLDER: &str = "injector-holder";

/// How many rounds of kill -9 there are.
const ROUNDS: &str = "INJECTOR_E2E_KILLS";

pub fn trials(host: &'static Host) -> Vec<Trial> {
    vec![
        sleeps(host, "kill_9_wakes_all", move || killed(host)),
        sleeps(host, "a_hung_server_is_ended", move || hung_server(host)),
        sleeps(host, "a_hung_injector_loses_its_sleepers", move || {
            hung_injector(host);
        }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Injector,
    Server,
    Holder,
}

/// Who is killed, in this order.
const VICTIMS: [&[Part]; 8] = [
    &[Part::Injector],
    &[Part::Server],
    &[Part::Holder],
    &[Part::Injector, Part::Server],
    &[Part::Server, Part::Injector],
    &[Part::Holder, Part::Injector],
    &[Part::Holder, Part::Server],
    &[Part::Server, Part::Holder],
];

/// An injector whose targets are all asleep.
struct Night {
    injector: Injector,
    server: u32,
    holder: u32,
    bpf: Bpf,
}

impl Night {
    fn start(senders: &mut Senders, more: &str) -> Self {
        let before = Bpf::now();
        let injector = Injector::start(&format!("--pid {} {LONG} {more}", senders.pid()));
        let bpf = Bpf::since(&before);
        assert!(bpf.is_attached());
        let server = process::child_of(injector.pid(), SERVER).expect("a server");
        let holder = process::child_of(server, HOLDER).expect("a holder");
        senders.await_asleep(Duration::from_secs(20));
        Self {
            injector,
            server,
            holder,
            bpf,
        }
    }

    fn pid(&self, part: Part) -> u32 {
        match part {
            Part::Injector => self.injector.pid(),
            Part::Server => self.server,
            Part::Holder => self.holder,
        }
    }

    fn signal(&self, part: Part, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid(part) as i32), signal);
    }

    /// Every thread runs, and the parts of injector that nobody killed are gone
    /// too, with all that was theirs.
    fn ends(self, senders: &mut Senders, code: Option<i32>) -> String {
        let ended = self.injector.finish();
        assert_eq!(ended.code, code, "{}", ended.stderr);
        let nothing_left = eventually(Duration::from_secs(20), || {
            !process::is_there(self.server, SERVER)
                && !process::is_there(self.holder, HOLDER)
                && self.bpf.is_gone()
        });
        assert!(nothing_left, "processes, programs or links stayed behind");
        assert!(!has_mount(), "a mount stayed behind");
        senders.reset();
        let all = eventually(Duration::from_secs(20), || {
            senders.report().sends >= senders.threads as u64
        });
        let report = senders.report();
        assert!(all && report.slow == 0, "{report:?}");
        ended.stderr
    }
}

/// Whether a mount table shows a file system of the sleep engine.
fn has_mount() -> bool {
    read_to_string("/proc/mounts")
        .unwrap_or_default()
        .lines()
        .any(|line| line.starts_with("injector ") && line.contains(" fuse "))
}

fn threads(host: &Host) -> usize {
    host.scale(1000, 100)
}

fn senders(host: &Host) -> Senders {
    let gap = Duration::from_millis(host.scale(200, 500));
    let mut senders = Senders::start(threads(host), gap, "--slow-ms 3000 --max-seconds 3600");
    senders.go();
    senders
}

fn killed(host: &Host) {
    let rounds = std::env::var(ROUNDS)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(VICTIMS.len());
    let mut senders = senders(host);
    let mut times = Vec::new();
    for victims in VICTIMS.iter().cycle().take(rounds) {
        // A short lease, because the third of it is how often injector looks.
        let lease = host.scale(900, 3_000);
        let night = Night::start(&mut senders, &format!("--lease {lease}ms"));
        let start = Instant::now();
        for part in *victims {
            night.signal(*part, Signal::SIGKILL);
        }
        let limit = Duration::from_millis(host.scale(2_000, 20_000));
        let time = senders.await_free(start, limit);
        times.push((time, *victims));
        if victims.contains(&Part::Injector) {
            night.ends(&mut senders, None);
        } else {
            let said = night.ends(&mut senders, Some(1));
            assert!(said.contains("the sleep engine failed: "), "{said}");
        }
    }
    times.sort_by_key(|(time, _)| *time);
    println!(
        "{rounds} rounds of {}: half awake within {:?}, the latest {:?}",
        threads(host),
        times[times.len() / 2].0,
        times[times.len() - 1]
    );
}

fn hung_server(host: &Host) {
    let lease = host.scale(1_500, 9_000);
    let mut senders = senders(host);
    let night = Night::start(&mut senders, &format!("--lease {lease}ms"));
    let start = Instant::now();
    night.signal(Part::Server, Signal::SIGSTOP);
    let limit = Duration::from_millis(lease) + Duration::from_secs(host.scale(1, 10));
    let time = senders.await_free(start, limit);
    println!("a server hung, all awake within {time:?} (lease {lease} ms)");
    let said = night.ends(&mut senders, Some(1));
    assert!(said.contains("did not answer"), "{said}");
}

fn hung_injector(host: &Host) {
    let lease = host.scale(1_000, 9_000);
    let mut senders = senders(host);
    let night = Night::start(&mut senders, &format!("--lease {lease}ms"));
    let start = Instant::now();
    night.signal(Part::Injector, Signal::SIGSTOP);
    let limit = Duration::from_millis(lease) + Duration::from_secs(host.scale(1, 10));
    let time = senders.await_free(start, limit);
    println!("injector hung, all awake within {time:?} (lease {lease} ms)");
    // It goes on as if nothing had been.
    night.signal(Part::Injector, Signal::SIGCONT);
    senders.await_asleep(Duration::from_secs(20));
    night.signal(Part::Injector, Signal::SIGINT);
    night.ends(&mut senders, Some(0));
}
