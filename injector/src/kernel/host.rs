//! What this host allows, as far as it can be read without trying.

use std::{fs, path::Path};

use thiserror::Error;

/// The first kernel with `bpf_loop`, which the spin engine waits in.
pub const MINIMUM_KERNEL: (u32, u32) = (5, 17);

/// Why injector cannot run on this host at all.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HostError {
    /// The kernel is too old.
    #[error(
        "Linux {release} is too old: injector needs 5.17 or later (bpf_loop, BTF tracepoints); \
         boot a newer kernel"
    )]
    OldKernel {
        /// `uname -r`.
        release: String,
    },
    /// No BTF.
    #[error(
        "{} is missing: this kernel was built without CONFIG_DEBUG_INFO_BTF=y, \
         which injector needs to find its way in kernel structs",
        super::btf::VMLINUX
    )]
    NoBtf,
    /// Not enough capabilities.
    #[error(
        "missing capability {missing}: run injector as root (sudo injector …), or grant it \
         CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    )]
    Capability {
        /// Names of what is missing.
        missing: String,
    },
}

impl HostError {
    /// Whether the kernel, not the caller, is what does not fit.
    pub fn is_unsupported(&self) -> bool {
        !matches!(self, Self::Capability { .. })
    }
}

/// BPF LSM hooks can be attached and are never called. Holds the list, as the
/// kernel writes it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`bpf` is not in the LSM list of this kernel ({0})")]
pub struct NotInList(pub String);

impl NotInList {
    /// What would change it.
    pub fn remedy(&self) -> String {
        format!("boot with `lsm={},bpf` on the kernel command line", self.0)
    }
}

/// Facts about the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// `uname -r`.
    pub release: String,
    /// Major and minor version.
    pub version: (u32, u32),
    /// Lockdown mode, none when unknown.
    pub lockdown: Option<String>,
    /// Active LSMs, none when unknown.
    pub lsms: Option<Vec<String>>,
    /// The perf PMU through which kprobes are made.
    pub has_kprobes: bool,
    /// BTF of the kernel.
    pub has_btf: bool,
    /// Names of capabilities that are missing.
    pub missing_capabilities: Vec<&'static str>,
}

/// Bits of `include/uapi/linux/capability.h`.
const CAPABILITIES: [(u32, &str); 4] = [
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
    (38, "CAP_PERFMON"),
    (19, "CAP_SYS_PTRACE"),
];

impl Host {
    /// Reads the facts.
    pub fn read() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            version: version(&release),
            release,
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown")
                .ok()
                .and_then(|text| selected(&text)),
            lsms: fs::read_to_string("/sys/kernel/security/lsm")
                .ok()
                .map(|text| text.trim().split(',').map(str::to_owned).collect()),
            has_kprobes: Path::new("/sys/bus/event_source/devices/kprobe/type").exists(),
            has_btf: fs::metadata(super::btf::VMLINUX).is_ok_and(|file| file.len() > 0),
            missing_capabilities: missing_capabilities(&status),
        }
    }

    /// Whether injector can run here at all.
    pub fn check(&self) -> Result<(), HostError> {
        if self.version < MINIMUM_KERNEL {
            return Err(HostError::OldKernel {
                release: self.release.clone(),
            });
        }
        if !self.has_btf {
            return Err(HostError::NoBtf);
        }
        if !self.missing_capabilities.is_empty() {
            return Err(HostError::Capability {
                missing: self.missing_capabilities.join(", "),
            });
        }
        Ok(())
    }

    /// Whether programs can find a task by its process id: `bpf_task_from_pid`
    /// [kernel/bpf/helpers.c] is there since 6.2.
    pub fn finds_tasks(&self) -> bool {
        self.version >= (6, 2)
    }

    /// Whether BPF LSM hooks are called, unless that is unknown.
    pub fn check_lsm_list(&self) -> Result<(), NotInList> {
        match &self.lsms {
            Some(lsms) if !lsms.iter().any(|lsm| lsm == "bpf") => Err(NotInList(lsms.join(","))),
            _ => Ok(()),
        }
    }

    /// Whether lockdown keeps BPF trampolines (fentry, fexit, LSM) out.
    pub fn is_locked_down(&self) -> bool {
        self.lockdown.as_deref().is_some_and(|mode| mode != "none")
    }
}

/// Major and minor of `6.12.117+deb12-cloud-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The word in brackets of `none [integrity] confidentiality`.
fn selected(text: &str) -> Option<String> {
    let start = text.find('[')? + 1;
    let end = start + text[start..].find(']')?;
    Some(text[start..end].to_owned())
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_read() {
        assert_eq!(version("6.12.117+deb12-cloud-amd64"), (6, 12));
        assert_eq!(version("5.10.0-35-amd64"), (5, 10));
        assert_eq!(version("7.3-rc1"), (7, 3));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn lockdown_mode_is_read() {
        assert_eq!(
            selected("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(selected("").as_deref(), None);
    }

    #[test]
    fn capabilities_are_named() {
        assert!(missing_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
        let missing = missing_capabilities("CapEff:\t000001bfffffffff\n");
        assert_eq!(missing, ["CAP_PERFMON"]);
    }

    #[test]
    fn unfit_hosts_are_refused() {
        let host = Host {
            release: "5.10.0".into(),
            version: (5, 10),
            lockdown: None,
            lsms: None,
            has_kprobes: true,
            has_btf: true,
            missing_capabilities: vec![],
        };
        assert!(matches!(host.check(), Err(HostError::OldKernel { .. })));
        let no_btf = Host {
            version: (6, 1),
            has_btf: false,
            ..host.clone()
        };
        assert_eq!(no_btf.check(), Err(HostError::NoBtf));
        let unprivileged = Host {
            version: (6, 1),
            missing_capabilities: vec!["CAP_BPF"],
            ..host
        };
        let error = unprivileged.check().unwrap_err();
        assert!(!error.is_unsupported());
        assert!(error.to_string().contains("CAP_BPF"));
    }
}
