//! Where it was measured.

use std::{fs, process::Command, thread};

/// Facts of this machine that numbers depend on, one a line.
pub fn facts() -> Vec<String> {
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    vec![
        format!(
            "Linux {}, {cpus} CPUs ({}{})",
            release(),
            model(&cpuinfo),
            if is_virtual(&cpuinfo) {
                ", a virtual machine: its host can take the CPU away at any time"
            } else {
                ""
            }
        ),
        format!("load average at the start: {load}"),
        format!(
            "{}; {}",
            first_line("strace", "--version"),
            first_line("bpftrace", "--version")
        ),
    ]
}

/// Release of the running kernel.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn model(cpuinfo: &str) -> &str {
    field(cpuinfo, "model name").unwrap_or("unknown CPU")
}

fn is_virtual(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(
        |error| format!("{program}: {error}"),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().next().unwrap_or(program).to_owned()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpuinfo() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor\n";
        assert_eq!(model(cpuinfo), "Some CPU");
        assert!(is_virtual(cpuinfo));
        assert_eq!(model(""), "unknown CPU");
        assert!(!is_virtual("flags : fpu\n"));
    }
}
