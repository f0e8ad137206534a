//! What the kernel that is running can do, found out by trying.

use std::{fmt, fs::read_to_string, path::Path};

use super::{Injector, Target};

/// A way to see sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// kprobe and kretprobe.
    Kprobe,
    /// fentry and fexit.
    Fentry,
    /// Syscall tracepoints.
    Tracepoint,
}

impl Hook {
    const ALL: [Self; 3] = [Self::Kprobe, Self::Fentry, Self::Tracepoint];
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// What README promises; the trial that needs an older one holds it to that.
const MINIMUM_KERNEL: (u32, u32) = (5, 17);

/// The first kernel with `uprobe_multi`.
const UPROBE_MULTI: (u32, u32) = (6, 6);

/// Facts about this machine.
pub struct Host {
    /// Each hook, and why it cannot be used if so.
    hooks: Vec<(Hook, Result<(), String>)>,
    /// Why sends cannot be failed, if so.
    errors: Result<(), String>,
    /// Why injector does not run here at all, if so.
    fit: Result<(), String>,
    /// Why delayed threads cannot sleep, if so.
    sleep: Result<(), String>,
    /// Emulated, so many times slower.
    pub is_slow: bool,
}

impl Host {
    /// Nothing is known; every trial is listed.
    pub fn unknown() -> &'static Self {
        Box::leak(Box::new(Self {
            hooks: Hook::ALL.map(|hook| (hook, Ok(()))).to_vec(),
            errors: Ok(()),
            fit: Ok(()),
            sleep: Ok(()),
            is_slow: false,
        }))
    }

    /// Tries everything once, at the same time if it does not act. What could
    /// act finds no send to act on.
    pub fn probe() -> &'static Self {
        let release = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        if is_older(release, MINIMUM_KERNEL) {
            let (major, minor) = MINIMUM_KERNEL;
            let reason = format!("injector needs Linux {major}.{minor}, this is {release}");
            println!("kernel {release}: too old");
            return Box::leak(Box::new(Self {
                hooks: Hook::ALL.map(|hook| (hook, Err(reason.clone()))).to_vec(),
                errors: Err(reason.clone()),
                sleep: Err(reason.clone()),
                fit: Err(reason),
                is_slow: is_emulated(),
            }));
        }
        let sleeper = Target::start("sleeper", "100");
        let shadow = format!("--pid {} --shadow --duration 100ms -q", sleeper.pid);
        let tries =
            Hook::ALL.map(|hook| (hook, Injector::spawn(&format!("{shadow} --hook {hook}"))));
        // The sleeper sends nothing that could be failed.
        let errors = Injector::spawn(&format!(
            "--pid {} --error ECONNRESET --duration 100ms -q",
            sleeper.pid
        ));
        // What the kernel says that it has must work: its trials run and fail.
        let outcome = |injector: Injector, promised: bool| {
            let ended = injector.finish();
            if ended.code == Some(0) || promised {
                Ok(())
            } else {
                Err(reason(&ended.stderr))
            }
        };
        let errors = outcome(errors, has_bpf_lsm() && is_open());
        // Only one at a time may act.
        let sleep = Injector::spawn(&format!(
            "--pid {} --delay 1ms --engine sleep --duration 100ms -q",
            sleeper.pid
        ));
        let host = Self {
            hooks: tries
                .map(|(hook, injector)| (hook, outcome(injector, promised(hook))))
                .to_vec(),
            errors,
            fit: Ok(()),
            sleep: outcome(sleep, can_sleep(release)),
            is_slow: is_emulated(),
        };
        let usable: Vec<_> = host
            .hooks
            .iter()
            .filter(|(_, usable)| usable.is_ok())
            .map(|(hook, _)| hook.to_string())
            .collect();
        println!(
            "kernel {}: hooks {}; sends {} be failed; threads {} sleep",
            release,
            usable.join(", "),
            if host.errors.is_ok() { "can" } else { "cannot" },
            if host.sleep.is_ok() { "can" } else { "cannot" }
        );
        Box::leak(Box::new(host))
    }

    /// All hooks, and why each cannot be used if so.
    pub fn hooks(&self) -> &[(Hook, Result<(), String>)] {
        &self.hooks
    }

    /// Whether a hook can be used.
    pub fn has(&self, hook: Hook) -> Result<(), String> {
        self.hooks
            .iter()
            .find(|(other, _)| *other == hook)
            .map_or_else(
                || Err("never tried".to_owned()),
                |(_, usable)| usable.clone(),
            )
    }

    /// Whether injector runs here at all.
    pub fn is_fit(&self) -> Result<(), String> {
        self.fit.clone()
    }

    /// Whether sends can be failed.
    pub fn can_fail_sends(&self) -> Result<(), String> {
        self.errors.clone()
    }

    /// Whether delayed threads can sleep.
    pub fn can_sleep(&self) -> Result<(), String> {
        self.sleep.clone()
    }

    /// Whether Go programs can be traced.
    #[allow(clippy::unused_self, reason = "asked like all the others")]
    pub fn has_uprobe_multi(&self) -> Result<(), String> {
        let release = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        if is_older(release.trim(), UPROBE_MULTI) {
            return Err("kernels before 6.6 have no uprobe_multi".to_owned());
        }
        Ok(())
    }

    /// One of two numbers: for a real machine, and for a slow one.
    pub fn scale<T>(&self, real: T, slow: T) -> T {
        if self.is_slow { slow } else { real }
    }
}

fn is_older(release: &str, than: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < than,
        _ => false,
    }
}

/// Whether a hook is there by what the kernel says.
fn promised(hook: Hook) -> bool {
    match hook {
        Hook::Kprobe => Path::new("/sys/bus/event_source/devices/kprobe/type").exists(),
        Hook::Fentry => is_open(),
        Hook::Tracepoint => true,
    }
}

/// Whether lockdown is known to be off.
fn is_open() -> bool {
    read_to_string("/sys/kernel/security/lockdown").is_ok_and(|text| text.contains("[none]"))
}

fn has_bpf_lsm() -> bool {
    read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|text| text.trim().split(',').any(|name| name == "bpf"))
}

/// Whether threads must be able to sleep: in the LSM hook, which Linux 6.12 has
/// all for, or beside tracepoints, which any Linux 6.18 has.
fn can_sleep(release: &str) -> bool {
    let mut numbers = release
        .split('.')
        .map_while(|word| word.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 18) || (version >= (6, 12) && has_bpf_lsm() && is_open())
}

/// The part of a refusal that says why: the indented line about the hook, or
/// the first line.
fn reason(stderr: &str) -> String {
    let mut lines = stderr.lines();
    let line = lines
        .clone()
        .find(|line| line.starts_with("  "))
        .or_else(|| lines.next());
    line.unwrap_or("it failed without a word").trim().to_owned()
}

fn is_emulated() -> bool {
    match std::env::var("INJECTOR_E2E_RING") {
        Ok(ring) => ring == "vm",
        Err(_) => read_to_string("/proc/cpuinfo")
            .is_ok_and(|info| info.contains("QEMU") || info.contains("TCG")),
    }
}
