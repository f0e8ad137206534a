//! Other tools that can delay a system call: strace and bpftrace.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Turns of bpftrace's loop. The verifier of current kernels gives up a loop
/// with a way out after 8192 jumps.
const TURNS: u32 = 8000;

/// Says when the script is attached; `BEGIN` would, but needs symbols that
/// Debian's build does not have.
const TELL: &str =
    "interval:ms:100 { @told = @told + 1; if (@told == 1) { printf(\"attached\\n\"); } }";

/// `command` run by strace, which delays each sendto.
pub fn strace(command: &Command, delay: Duration, seccomp: bool) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto"]);
    if seccomp {
        // Other system calls are not stopped at.
        strace.arg("--seccomp-bpf");
    }
    strace
        .arg("-e")
        .arg(format!("inject=sendto:delay_enter={}", delay.as_micros()))
        .arg(command.get_program())
        .args(command.get_args());
    strace
}

/// A bpftrace that delays each sendto of a process.
pub struct Bpftrace(Child);

impl Bpftrace {
    /// Starts it and waits until it is attached.
    pub fn start(pid: u32, delay: Duration) -> Result<Self> {
        Self::run(&script(pid, delay))
    }

    /// Starts one with this script, and waits until it is attached.
    pub fn run(script: &str) -> Result<Self> {
        let mut command = Command::new("bpftrace");
        command
            .args(["-B", "line", "-e", &format!("{script} {TELL}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: the closure runs between fork and exec, and makes nothing but
        // system calls on constants.
        unsafe { command.pre_exec(mount_debugfs) };
        let child = command.spawn().context("cannot start bpftrace")?;
        let mut bpftrace = Self(child);
        let (Some(stdout), Some(mut stderr)) = (bpftrace.0.stdout.take(), bpftrace.0.stderr.take())
        else {
            unreachable!("both were asked for");
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while stdout.read_line(&mut line).context("bpftrace's output")? > 0 {
            if line == "attached\n" {
                return Ok(bpftrace);
            }
            line.clear();
        }
        let mut said = String::new();
        stderr
            .read_to_string(&mut said)
            .context("bpftrace's errors")?;
        let error = said.lines().find(|line| line.starts_with("ERROR"));
        bail!("bpftrace: {}", error.unwrap_or("it ended at once"));
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // Both fail only when it is gone already; its probes go with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// bpftrace has no sleep, so the script turns a bounded loop until the time has
/// come.
fn script(pid: u32, delay: Duration) -> String {
    let mut script = String::new();
    let _ = write!(
        script,
        "tracepoint:syscalls:sys_enter_sendto /pid == {pid}/ {{ \
           $start = nsecs; $turn = 0; \
           while ($turn < {TURNS}) {{ \
             if (nsecs - $start >= {}) {{ break; }} \
             $turn = $turn + 1; \
           }} \
         }}",
        delay.as_nanos()
    );
    script
}

/// In a mount namespace of its own, so that nothing has to be taken back:
/// bpftrace looks for tracepoints below debugfs only.
fn mount_debugfs() -> io::Result<()> {
    // SAFETY: system calls with constant strings.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            return Err(io::Error::last_os_error());
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        if libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            private,
            ptr::null(),
        ) != 0
        {
            return Err(io::Error::last_os_error());
        }
        let debugfs = c"debugfs".as_ptr();
        let at = c"/sys/kernel/debug".as_ptr();
        // It fails where it is mounted already.
        libc::mount(debugfs, at, debugfs, 0, ptr::null());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strace_takes_microseconds() {
        let mut program = Command::new("sends");
        program.arg("udp4");
        let strace = strace(&program, Duration::from_millis(1), true);
        let arguments: Vec<&str> = strace.get_args().filter_map(|part| part.to_str()).collect();
        assert_eq!(
            arguments.join(" "),
            "-f -qq -o /dev/null -e trace=sendto --seccomp-bpf \
             -e inject=sendto:delay_enter=1000 sends udp4"
        );
    }

    #[test]
    fn the_script_waits_for_nanoseconds() {
        let script = script(7, Duration::from_micros(100));
        assert!(script.contains("/pid == 7/"));
        assert!(script.contains(">= 100000)"));
    }
}
