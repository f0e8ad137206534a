//! Loading and attaching: which programs make up a hook, and how an attachment
//! that half succeeded is rolled back.

use std::{panic, thread};

use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, KProbe, Lsm, Program, ProgramError, TracePoint},
};
use injector_ebpf::{Hook, Operation, SEND_FUNCTIONS, SEND_SYSCALLS, SendFunction};
use thiserror::Error;

use super::btf::{Btf, BtfError};

/// The LSM hooks, by what they are about.
const LSM: [LsmHook; 4] = [
    LsmHook {
        operation: Operation::Send,
        name: "socket_sendmsg",
        program: "lsm_socket_sendmsg",
        sleepable: "lsm_s_socket_sendmsg",
    },
    LsmHook {
        operation: Operation::Connect,
        name: "socket_connect",
        program: "lsm_socket_connect",
        sleepable: "lsm_s_socket_connect",
    },
    LsmHook {
        operation: Operation::Accept,
        name: "socket_accept",
        program: "lsm_socket_accept",
        sleepable: "lsm_s_socket_accept",
    },
    LsmHook {
        operation: Operation::Recv,
        name: "socket_recvmsg",
        program: "lsm_socket_recvmsg",
        sleepable: "lsm_s_socket_recvmsg",
    },
];

/// An LSM hook and its two programs.
struct LsmHook {
    operation: Operation,
    name: &'static str,
    program: &'static str,
    sleepable: &'static str,
}

/// The shared return programs.
const KRETPROBE: &str = "kretprobe_send";
const TRACEPOINT_EXIT: &str = "exit_send";
const TRACEPOINT_SLEEP_EXIT: &str = "exit_send_sleep";
/// Since Linux 6.4; without it the tracepoint hook misses `io_uring`.
const SOCK_SEND_LENGTH: &str = "sock_send_length";
/// Process tracepoints, by program and tracepoint name.
const LIFECYCLE: [(&str, &str); 3] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];

/// Why a hook is not there.
#[derive(Debug, Error)]
pub enum HookError {
    /// The kernel refused a program or its attachment.
    #[error("cannot {step} {program}: {}", cause(source))]
    Refused {
        /// `load` or `attach`.
        step: &'static str,
        /// The program.
        program: String,
        /// What aya said.
        source: ProgramError,
    },
    /// The kernel has none of the functions.
    #[error("this kernel has none of the send functions of {0}")]
    NoFunctions(&'static str),
    /// The object does not have this program.
    #[error("the kernel object has no program {0}; this is a bug in injector")]
    NoProgram(String),
    /// Type information.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

impl HookError {
    /// The system's error number, if it came to a system call.
    pub fn errno(&self) -> Option<i32> {
        let Self::Refused { source, .. } = self else {
            return None;
        };
        let mut error: Option<&dyn std::error::Error> = Some(source);
        while let Some(current) = error {
            if let Some(io) = current.downcast_ref::<std::io::Error>() {
                return io.raw_os_error();
            }
            error = current.source();
        }
        None
    }
}

/// A program error on one line: what the system said, and the verifier's last
/// words if it was the verifier.
fn cause(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        return match verdict(&log) {
            Some(verdict) => format!("{io_error}; the verifier says: {verdict}"),
            None => io_error.to_string(),
        };
    }
    let mut parts = vec![error.to_string()];
    let mut current: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = current {
        parts.push(error.to_string());
        current = error.source();
    }
    parts.dedup();
    parts.join(": ")
}

/// The line of a verifier log that says what is wrong: the last one that is no
/// statistic.
pub(super) fn verdict(log: &str) -> Option<&str> {
    log.lines().map(str::trim).rfind(|line| {
        !line.is_empty() && !line.starts_with("processed ") && !line.contains("stack depth")
    })
}

/// Loads and attaches everything that `hook` consists of, returns first, so
/// that no entry is without its return. On failure nothing stays behind.
///
/// `sleeps`: with the programs that let threads sleep, if the hook has any.
pub fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    aya_btf: &AyaBtf,
    hook: Hook,
    sleeps: bool,
) -> Result<(), HookError> {
    let result = match hook {
        Hook::Kprobe => attach_kprobes(ebpf, btf),
        Hook::Fentry => attach_fentries(ebpf, btf, aya_btf),
        Hook::Tracepoint => attach_tracepoints(ebpf, aya_btf, sleeps),
        Hook::Lsm => attach_operation(ebpf, aya_btf, Operation::Send, sleeps),
        Hook::SockSendLength => {
            attach_btf_tracepoint(ebpf, aya_btf, SOCK_SEND_LENGTH, SOCK_SEND_LENGTH)
        }
    };
    if result.is_err() {
        detach(ebpf, hook);
    }
    result
}

/// The LSM hooks of these operations, as the kernel calls them.
pub fn lsm_names(operations: &[Operation]) -> Vec<&'static str> {
    let wanted = LSM
        .iter()
        .filter(|hook| operations.contains(&hook.operation));
    wanted.map(|hook| hook.name).collect()
}

/// Follows processes that fork, execute and end.
pub fn attach_lifecycle(ebpf: &mut Ebpf, aya_btf: &AyaBtf) -> Result<(), HookError> {
    for (program, tracepoint) in LIFECYCLE {
        attach_btf_tracepoint(ebpf, aya_btf, program, tracepoint)?;
    }
    Ok(())
}

/// Detaches and unloads every program of `hook` that is loaded, entries first.
pub fn detach(ebpf: &mut Ebpf, hook: Hook) {
    let names: Vec<&str> = match hook {
        Hook::Kprobe => SEND_FUNCTIONS
            .iter()
            .map(|f| f.kprobe)
            .chain([KRETPROBE])
            .collect(),
        Hook::Fentry => SEND_FUNCTIONS
            .iter()
            .map(|f| f.fentry)
            .chain(SEND_FUNCTIONS.iter().map(|f| f.fexit))
            .collect(),
        Hook::Tracepoint => {
            let mut names: Vec<_> = SEND_SYSCALLS.iter().map(|s| s.program).collect();
            names.extend([TRACEPOINT_EXIT, TRACEPOINT_SLEEP_EXIT, SOCK_SEND_LENGTH]);
            names
        }
        Hook::Lsm => LSM
            .iter()
            .flat_map(|hook| [hook.program, hook.sleepable])
            .collect(),
        Hook::SockSendLength => vec![SOCK_SEND_LENGTH],
    };
    for name in names {
        // Unloading fails only for a program that was not loaded.
        let _ = match ebpf.program_mut(name) {
            Some(Program::KProbe(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::Lsm(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

/// The send functions that this kernel has.
pub fn present(btf: &Btf) -> Result<Vec<&'static SendFunction>, BtfError> {
    let names: Vec<_> = SEND_FUNCTIONS
        .iter()
        .map(|function| function.name)
        .collect();
    let known = btf.functions(&names)?;
    Ok(SEND_FUNCTIONS
        .iter()
        .filter(|function| known.contains_key(function.name))
        .collect())
}

fn attach_kprobes(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), HookError> {
    let functions = present(btf)?;
    if functions.is_empty() {
        return Err(HookError::NoFunctions("kprobe"));
    }
    let program: &mut KProbe = program(ebpf, KRETPROBE)?;
    refused("load", KRETPROBE, program.load())?;
    for function in &functions {
        refused(
            "attach kretprobe to",
            function.name,
            program.attach(function.name, 0),
        )?;
    }
    let entries: Vec<_> = functions.iter().map(|f| (f.kprobe, f.name)).collect();
    load_side_by_side(ebpf, &entries, |program: &mut KProbe, _| program.load())?;
    for function in &functions {
        let program: &mut KProbe = self::program(ebpf, function.kprobe)?;
        refused(
            "attach kprobe to",
            function.name,
            program.attach(function.name, 0),
        )?;
    }
    Ok(())
}

fn attach_fentries(ebpf: &mut Ebpf, btf: &Btf, aya_btf: &AyaBtf) -> Result<(), HookError> {
    let functions = present(btf)?;
    if functions.is_empty() {
        return Err(HookError::NoFunctions("fentry"));
    }
    for function in &functions {
        let program: &mut FExit = program(ebpf, function.fexit)?;
        refused("load", function.fexit, program.load(function.name, aya_btf))?;
        refused("attach fexit to", function.name, program.attach())?;
    }
    let entries: Vec<_> = functions.iter().map(|f| (f.fentry, f.name)).collect();
    load_side_by_side(ebpf, &entries, |program: &mut FEntry, function| {
        program.load(function, aya_btf)
    })?;
    for function in &functions {
        let program: &mut FEntry = program(ebpf, function.fentry)?;
        refused("attach fentry to", function.name, program.attach())?;
    }
    Ok(())
}

fn attach_tracepoints(ebpf: &mut Ebpf, aya_btf: &AyaBtf, sleeps: bool) -> Result<(), HookError> {
    let exit = if sleeps {
        TRACEPOINT_SLEEP_EXIT
    } else {
        TRACEPOINT_EXIT
    };
    let program: &mut TracePoint = program(ebpf, exit)?;
    refused("load", exit, program.load())?;
    for syscall in SEND_SYSCALLS {
        let event = format!("sys_exit_{}", syscall.name);
        refused(
            "attach to syscalls:",
            &event,
            program.attach("syscalls", &event),
        )?;
    }
    let entries: Vec<_> = SEND_SYSCALLS.iter().map(|s| (s.program, s.name)).collect();
    load_side_by_side(ebpf, &entries, |program: &mut TracePoint, _| program.load())?;
    for syscall in SEND_SYSCALLS {
        let program: &mut TracePoint = self::program(ebpf, syscall.program)?;
        let event = format!("sys_enter_{}", syscall.name);
        refused(
            "attach to syscalls:",
            &event,
            program.attach("syscalls", &event),
        )?;
    }
    // Absent before 6.4; the caller says what is then not seen.
    let _ = attach_btf_tracepoint(ebpf, aya_btf, SOCK_SEND_LENGTH, SOCK_SEND_LENGTH);
    Ok(())
}

/// Attaches the LSM hook of one operation; `sleeps`: the program that may.
pub fn attach_operation(
    ebpf: &mut Ebpf,
    aya_btf: &AyaBtf,
    operation: Operation,
    sleeps: bool,
) -> Result<(), HookError> {
    for hook in LSM.iter().filter(|hook| hook.operation == operation) {
        let name = if sleeps { hook.sleepable } else { hook.program };
        let program: &mut Lsm = program(ebpf, name)?;
        refused("load", name, program.load(hook.name, aya_btf))?;
        refused("attach to LSM hook", hook.name, program.attach())?;
    }
    Ok(())
}

fn attach_btf_tracepoint(
    ebpf: &mut Ebpf,
    aya_btf: &AyaBtf,
    name: &str,
    tracepoint: &str,
) -> Result<(), HookError> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    refused("load", name, program.load(tracepoint, aya_btf))?;
    refused("attach to tracepoint", tracepoint, program.attach())?;
    Ok(())
}

/// Loads the programs of (program, function) in a thread each: the verifier's
/// work on them is most of the start, and it has no lock for the privileged.
fn load_side_by_side<P>(
    ebpf: &mut Ebpf,
    wanted: &[(&str, &str)],
    load: impl Fn(&mut P, &str) -> Result<(), ProgramError> + Sync,
) -> Result<(), HookError>
where
    for<'e> &'e mut P: TryFrom<&'e mut Program, Error = ProgramError>,
{
    thread::scope(|scope| {
        let threads: Vec<_> = ebpf
            .programs_mut()
            .filter_map(|(name, program)| {
                let &(name, function) = wanted.iter().find(|(wanted, _)| *wanted == name)?;
                let load = &load;
                Some(scope.spawn(move || {
                    let loaded = program
                        .try_into()
                        .and_then(|program: &mut P| load(program, function));
                    refused("load", name, loaded)
                }))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    })
}

fn program<'e, P>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut P, HookError>
where
    &'e mut P: TryFrom<&'e mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| HookError::NoProgram(name.to_owned()))?
        .try_into()
        .map_err(|_| HookError::NoProgram(name.to_owned()))
}

fn refused<T>(
    step: &'static str,
    program: &str,
    result: Result<T, ProgramError>,
) -> Result<T, HookError> {
    result.map_err(|source| HookError::Refused {
        step,
        program: program.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_found() {
        let log = "0: R1=ctx() R10=fp0\n7: (95) exit\nAt program exit the register R0 is bad\n\
                   processed 8 insns (limit 1000000)\n";
        assert_eq!(verdict(log), Some("At program exit the register R0 is bad"));
        assert_eq!(verdict(""), None);
    }
}
