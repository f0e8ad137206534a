//! Why something does not work on this host, and what would change that.

use injector_ebpf::Hook;
use nix::errno::Errno;

use crate::kernel::{
    engine::{NoSleep, Way},
    hooks::HookError,
    host::{Host, MINIMUM_KERNEL},
};

/// One thing that keeps something from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What is in the way.
    pub why: String,
    /// What would change that, when it is known.
    pub remedy: Option<String>,
}

impl Reason {
    /// With what would change it.
    pub fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Nothing is known that would change it.
    pub fn without_remedy(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: None,
        }
    }
}

/// How a hook was refused when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The system's error number, if it came to a system call.
    pub errno: Option<i32>,
    /// All that is known, on one line.
    pub said: String,
}

impl From<&HookError> for Refusal {
    fn from(error: &HookError) -> Self {
        Self {
            errno: error.errno(),
            said: error.to_string(),
        }
    }
}

/// Why nothing at all can work on this host.
pub fn unfit(host: &Host) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if host.version < MINIMUM_KERNEL {
        let (major, minor) = MINIMUM_KERNEL;
        reasons.push(Reason::new(
            format!("Linux {} is too old: it has no bpf_loop", host.release),
            format!("boot Linux {major}.{minor} or later"),
        ));
    }
    if !host.has_btf {
        reasons.push(Reason::new(
            "the kernel was built without CONFIG_DEBUG_INFO_BTF",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ));
    }
    if !host.missing_capabilities.is_empty() {
        reasons.push(Reason::new(
            format!(
                "missing capability {}",
                host.missing_capabilities.join(", ")
            ),
            "run as root: sudo injector doctor",
        ));
    }
    reasons
}

/// Why `hook` does not work, given how the kernel refused it; with none, it was
/// attached and taken back.
pub fn reasons(host: &Host, hook: Hook, refusal: Option<&Refusal>) -> Vec<Reason> {
    let refused = refusal.map(|refusal| match hook {
        Hook::Kprobe if !host.has_kprobes => Reason::new(
            "the kernel was built without CONFIG_KPROBES or CONFIG_KPROBE_EVENTS",
            "boot a kernel with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y",
        ),
        Hook::Fentry | Hook::Lsm if is_denied(refusal) && host.is_locked_down() => {
            let mode = host.lockdown.as_deref().unwrap_or_default();
            Reason::new(
                format!("kernel lockdown={mode} keeps BPF trampolines out (EPERM)"),
                LIFT_LOCKDOWN,
            )
        }
        Hook::Lsm if refusal.errno.is_none() => Reason::new(
            "the kernel was built without CONFIG_BPF_LSM",
            "boot a kernel with CONFIG_BPF_LSM=y and `bpf` in its LSM list",
        ),
        Hook::SockSendLength if host.version < (6, 4) => Reason::new(
            "the tracepoint is there since Linux 6.4",
            "boot Linux 6.4 or later",
        ),
        Hook::Tracepoint if refusal.errno == Some(Errno::ENOENT as i32) => Reason::new(
            "the kernel has no tracepoints of system calls, or tracefs cannot be mounted",
            "boot a kernel with CONFIG_FTRACE_SYSCALLS=y",
        ),
        _ => by_errno(host, refusal),
    });
    let mut reasons = Vec::from_iter(refused);
    if hook == Hook::Lsm {
        // Without it the hook attaches all the same, and is never called.
        reasons.extend(lsm_list(host));
    }
    reasons
}

/// Why threads do not sleep in this way.
pub fn no_sleep(host: &Host, way: Way, why: &NoSleep) -> Vec<Reason> {
    if let NoSleep::Refused(error) = why {
        let hook = match way {
            Way::Lsm => Hook::Lsm,
            Way::TaskWork => Hook::Tracepoint,
        };
        return reasons(host, hook, Some(&error.into()));
    }
    vec![Reason {
        why: why.to_string(),
        remedy: why.remedy(),
    }]
}

const LIFT_LOCKDOWN: &str =
    "boot without `lockdown=` on the kernel command line and with Secure Boot off";

fn is_denied(refusal: &Refusal) -> bool {
    let denied = [Errno::EPERM as i32, Errno::EACCES as i32];
    refusal.errno.is_some_and(|errno| denied.contains(&errno))
}

/// What holds for any hook.
pub fn by_errno(host: &Host, refusal: &Refusal) -> Reason {
    let mode = host.lockdown.as_deref();
    if mode == Some("confidentiality") {
        return Reason::new(
            format!(
                "kernel lockdown=confidentiality lets no BPF program read kernel memory ({})",
                refusal.said
            ),
            LIFT_LOCKDOWN,
        );
    }
    if is_denied(refusal) && host.is_locked_down() {
        let mode = mode.unwrap_or_default();
        return Reason::new(
            format!("{} (kernel lockdown={mode} may be why)", refusal.said),
            LIFT_LOCKDOWN,
        );
    }
    Reason::without_remedy(&refusal.said)
}

fn lsm_list(host: &Host) -> Option<Reason> {
    if host.lsms.is_none() {
        return Some(Reason::new(
            "whether `bpf` is in the LSM list is not known: securityfs is not mounted",
            "mount -t securityfs securityfs /sys/kernel/security",
        ));
    }
    let missing = host.check_lsm_list().err()?;
    Some(Reason::new(missing.to_string(), missing.remedy()))
}

#[cfg(test)]
mod tests {
    use aya::{programs::ProgramError, sys::SyscallError};

    use super::{super::HOOKS, *};

    fn host() -> Host {
        Host {
            release: "6.12.1".into(),
            version: (6, 12),
            lockdown: Some("none".into()),
            lsms: Some(vec!["capability".into(), "bpf".into()]),
            has_kprobes: true,
            has_btf: true,
            missing_capabilities: vec![],
        }
    }

    fn refused(errno: Option<Errno>) -> Refusal {
        Refusal {
            errno: errno.map(|errno| errno as i32),
            said: "cannot load fentry_tcp_sendmsg: some reason".into(),
        }
    }

    fn remedies(reasons: &[Reason]) -> String {
        let remedies = reasons.iter().filter_map(|reason| reason.remedy.as_deref());
        remedies.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_was_attached_needs_no_reason() {
        for hook in HOOKS {
            assert_eq!(reasons(&host(), hook, None), []);
        }
        assert_eq!(unfit(&host()), []);
    }

    #[test]
    fn lockdown_keeps_trampolines_out() {
        let locked = Host {
            lockdown: Some("integrity".into()),
            ..host()
        };
        let refusal = refused(Some(Errno::EPERM));
        for hook in [Hook::Fentry, Hook::Lsm] {
            let reasons = reasons(&locked, hook, Some(&refusal));
            assert_eq!(reasons.len(), 1);
            assert!(reasons[0].why.contains("lockdown=integrity"), "{reasons:?}");
            assert!(remedies(&reasons).contains("without `lockdown=`"));
        }
        // Another error is not blamed on it, nor EPERM without lockdown.
        for (host, errno) in [(&locked, Errno::EINVAL), (&host(), Errno::EPERM)] {
            let refusal = refused(Some(errno));
            let reasons = reasons(host, Hook::Fentry, Some(&refusal));
            assert_eq!(reasons, [Reason::without_remedy(&refusal.said)]);
        }
    }

    #[test]
    fn sleepers_have_the_reasons_of_a_run() {
        let why = NoSleep::NoKfunc {
            name: "bpf_task_from_pid",
            way: Way::Lsm,
        };
        let reasons = no_sleep(&host(), Way::Lsm, &why);
        assert!(reasons[0].why.contains("bpf_task_from_pid"));
        assert!(remedies(&reasons).contains("6.12"));

        let locked = Host {
            lockdown: Some("integrity".into()),
            ..host()
        };
        let source = ProgramError::SyscallError(SyscallError {
            call: "bpf_prog_load",
            io_error: Errno::EPERM.into(),
        });
        let why = NoSleep::Refused(HookError::Refused {
            step: "load",
            program: "lsm_s_socket_sendmsg".into(),
            source,
        });
        let reasons = no_sleep(&locked, Way::Lsm, &why);
        assert!(reasons[0].why.contains("lockdown=integrity"), "{reasons:?}");
    }

    #[test]
    fn confidentiality_is_named_whatever_the_error() {
        let locked = Host {
            lockdown: Some("confidentiality".into()),
            ..host()
        };
        let refusal = refused(Some(Errno::EINVAL));
        for hook in [Hook::Kprobe, Hook::Tracepoint, Hook::Fentry] {
            let reasons = reasons(&locked, hook, Some(&refusal));
            assert!(reasons[0].why.contains("lockdown=confidentiality"));
        }
    }

    #[test]
    fn missing_lsm_is_named_even_when_the_hook_attached() {
        let without = Host {
            lsms: Some(vec!["capability".into(), "yama".into()]),
            ..host()
        };
        let attached = reasons(&without, Hook::Lsm, None);
        assert!(attached[0].why.contains("(capability,yama)"));
        assert!(remedies(&attached).contains("`lsm=capability,yama,bpf`"));
        assert_eq!(reasons(&without, Hook::Fentry, None), []);

        let locked = Host {
            lockdown: Some("integrity".into()),
            ..without
        };
        let refusal = refused(Some(Errno::EPERM));
        assert_eq!(reasons(&locked, Hook::Lsm, Some(&refusal)).len(), 2);

        let unknown = Host {
            lsms: None,
            ..host()
        };
        assert!(remedies(&reasons(&unknown, Hook::Lsm, None)).contains("securityfs"));

        let not_built = reasons(&host(), Hook::Lsm, Some(&refused(None)));
        assert!(not_built[0].why.contains("CONFIG_BPF_LSM"));
    }

    #[test]
    fn missing_kernel_options_are_named() {
        let without = Host {
            has_kprobes: false,
            ..host()
        };
        let refusal = refused(Some(Errno::ENOENT));
        for (hook, option) in [
            (Hook::Kprobe, "CONFIG_KPROBES=y"),
            (Hook::Tracepoint, "CONFIG_FTRACE_SYSCALLS=y"),
        ] {
            let reasons = reasons(&without, hook, Some(&refusal));
            assert!(remedies(&reasons).contains(option), "{reasons:?}");
        }
        let old = Host {
            version: (6, 1),
            ..host()
        };
        let reasons = reasons(&old, Hook::SockSendLength, Some(&refused(None)));
        assert!(remedies(&reasons).contains("6.4"));
    }

    #[test]
    fn unfit_hosts_have_all_their_reasons() {
        let unfit = unfit(&Host {
            release: "5.10.0".into(),
            version: (5, 10),
            has_btf: false,
            missing_capabilities: vec!["CAP_BPF", "CAP_PERFMON"],
            ..host()
        });
        let remedies = remedies(&unfit);
        for part in ["5.17", "CONFIG_DEBUG_INFO_BTF=y", "sudo"] {
            assert!(remedies.contains(part), "{part}: {remedies}");
        }
        assert!(unfit[2].why.contains("CAP_BPF, CAP_PERFMON"));
    }
}
