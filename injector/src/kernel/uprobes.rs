//! One program at many places of a program file, through one `uprobe_multi`
//! link: attached in milliseconds and taken away in one step, where single
//! uprobes cost the kernel a grace period each.
//!
//! aya 0.14 can neither load nor attach such programs (newer ones can, then
//! this file can go): its maps are used, and the two system calls are made here.

use std::{
    collections::HashSet,
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::Ebpf;
use aya_obj::{Object, generated::bpf_insn};
use thiserror::Error;

use super::hooks;

/// The first kernel with `uprobe_multi` (commit 89ae89f53d20).
pub const MINIMUM_KERNEL: (u32, u32) = (6, 6);
/// From this kernel on, a link's pid means the process. Before, it meant one
/// thread, so it is left out, and the programs look at who they are hit by
/// (commit 46ba0e49b642).
const FILTERS_PROCESSES: (u32, u32) = (6, 10);

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_KPROBE: u32 = 2;
/// `enum bpf_attach_type`.
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
/// Bytes for what the verifier says when it refuses a program.
const LOG_SIZE: usize = 1 << 20;
/// The kernel's own error number `ENOTSUPP` (include/linux/errno.h), which it
/// returns for an instruction that it cannot put a probe on.
const ENOTSUPP: i32 = 524;

/// Why there are no probes.
#[derive(Debug, Error)]
pub enum UprobeError {
    /// No `uprobe_multi`.
    #[error(
        "Linux {0} is too old to trace Go programs: that needs 6.6 or later (uprobe_multi, \
         without which probes take seconds to go away); boot a newer kernel"
    )]
    OldKernel(String),
    /// The object cannot be used.
    #[error("the kernel object cannot be used: {0}; this is a bug in injector")]
    Object(String),
    /// The kernel refused a program.
    #[error("the kernel refused program {program}: {source}{}", said(verdict.as_deref()))]
    Load {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
        /// What the verifier said.
        verdict: Option<String>,
    },
    /// The kernel refused the places.
    #[error("cannot put {count} probes into {program}: {}", why(source))]
    Attach {
        /// The program file.
        program: String,
        /// How many places.
        count: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl UprobeError {
    /// Whether it is the kernel that cannot do it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::OldKernel(_) | Self::Load { .. })
    }
}

fn said(verdict: Option<&str>) -> String {
    verdict.map_or_else(String::new, |text| format!("; the verifier says: {text}"))
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ESRCH) => "the process has ended".to_owned(),
        Some(ENOTSUPP) => "the kernel cannot probe one of the instructions".to_owned(),
        Some(libc::EPERM | libc::EACCES) => format!("{error}; run injector as root"),
        _ => error.to_string(),
    }
}

/// Whether this kernel has them.
pub fn check(release: &str, version: (u32, u32)) -> Result<(), UprobeError> {
    if version < MINIMUM_KERNEL {
        return Err(UprobeError::OldKernel(release.to_owned()));
    }
    Ok(())
}

/// A place in a program file, and what its hits are to be known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset in the file, in bytes: the start of an instruction. The kernel
    /// takes any other offset too, and breaks the program with it.
    pub offset: u64,
    /// What `bpf_get_attach_cookie` returns.
    pub cookie: u64,
}

/// A program that has been loaded.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// An attached program. Dropping it takes all its probes away.
#[derive(Debug)]
pub struct Link(#[allow(dead_code, reason = "held, not read")] OwnedFd);

/// The programs of an object, tied to the maps that aya has made for it.
pub struct Programs(Object);

impl Programs {
    /// Reads the object again from which aya made `ebpf`, whose maps must all
    /// still be there.
    pub fn of(object: &[u8], ebpf: &Ebpf) -> Result<Self, UprobeError> {
        let bug = |error: &dyn std::fmt::Display| UprobeError::Object(error.to_string());
        let mut object = Object::parse(object).map_err(|error| bug(&error))?;
        let sections: HashSet<usize> = object.functions.keys().map(|key| key.0).collect();
        let maps = std::mem::take(&mut object.maps);
        let mut found: Vec<(&str, RawFd, &aya_obj::Map)> = Vec::new();
        for (name, map) in &maps {
            let fd = ebpf.map(name).and_then(descriptor);
            let fd = fd.ok_or_else(|| bug(&format!("it has no map {name}")))?;
            found.push((name, fd, map));
        }
        object
            .relocate_maps(found.into_iter(), &sections)
            .map_err(|error| bug(&error))?;
        object
            .relocate_calls(&sections)
            .map_err(|error| bug(&error))?;
        Ok(Self(object))
    }

    /// Loads one.
    pub fn load(&self, name: &'static str) -> Result<Program, UprobeError> {
        let missing = || UprobeError::Object(format!("it has no program {name}"));
        let program = self.0.programs.get(name).ok_or_else(missing)?;
        let function = self.0.functions.get(&program.function_key());
        let instructions = &function.ok_or_else(missing)?.instructions;
        let mut log = Vec::new();
        let loaded = load(name, instructions, &program.license, &mut log).or_else(|_| {
            // Once more, for the reason.
            log.resize(LOG_SIZE, 0);
            load(name, instructions, &program.license, &mut log)
        });
        match loaded {
            Ok(fd) => Ok(Program { fd }),
            Err(source) => {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
                let text = String::from_utf8_lossy(&log[..end]).into_owned();
                Err(UprobeError::Load {
                    program: name,
                    source,
                    verdict: hooks::verdict(&text).map(str::to_owned),
                })
            }
        }
    }
}

/// The descriptor of one of the kinds of maps that the tracer has.
fn descriptor(map: &aya::maps::Map) -> Option<RawFd> {
    use aya::maps::Map;
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`, include/uapi/linux/bpf.h.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

fn load(
    name: &str,
    instructions: &[bpf_insn],
    license: &CString,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut short = [0; 16];
    // The last byte ends the name.
    let length = name.len().min(15);
    short[..length].copy_from_slice(&name.as_bytes()[..length]);
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_KPROBE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        kernel_version: 0,
        flags: 0,
        name: short,
        interface: 0,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
    };
    // SAFETY: what the attributes point at outlives the call.
    unsafe { bpf(BPF_PROG_LOAD, &attributes) }
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE` with `uprobe_multi`,
/// include/uapi/linux/bpf.h.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    reserved: u32,
}

impl Program {
    /// Puts it at all these places of a program file, for one process where the
    /// kernel can tell.
    pub fn attach(
        &self,
        file: &File,
        name: &str,
        pid: u32,
        version: (u32, u32),
        places: &[Place],
    ) -> Result<Link, UprobeError> {
        let offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
        let cookies: Vec<u64> = places.iter().map(|place| place.cookie).collect();
        // The open file, whatever is at its path by now and in whichever mount
        // namespace that is.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = CString::new(path).unwrap_or_default();
        let attributes = LinkAttributes {
            program: self.fd.as_raw_fd() as u32,
            target: 0,
            attach_type: BPF_TRACE_UPROBE_MULTI,
            flags: 0,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            reference_counters: 0,
            cookies: cookies.as_ptr() as u64,
            count: places.len() as u32,
            multi_flags: 0,
            pid: if version >= FILTERS_PROCESSES { pid } else { 0 },
            reserved: 0,
        };
        // SAFETY: what the attributes point at outlives the call.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &attributes) };
        fd.map(Link).map_err(|source| UprobeError::Attach {
            program: name.to_owned(),
            count: places.len(),
            source,
        })
    }
}

/// # Safety
///
/// `attributes` are those of `command`, and all they point at is there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// By include/uapi/linux/bpf.h.
    #[test]
    fn attributes_are_where_the_kernel_looks() {
        assert_eq!(offset_of!(LoadAttributes, log), 32);
        assert_eq!(offset_of!(LoadAttributes, name), 48);
        assert_eq!(offset_of!(LoadAttributes, expected_attach_type), 68);
        assert_eq!(size_of::<LoadAttributes>(), 72);
        assert_eq!(offset_of!(LinkAttributes, path), 16);
        assert_eq!(offset_of!(LinkAttributes, cookies), 40);
        assert_eq!(offset_of!(LinkAttributes, pid), 56);
        assert_eq!(size_of::<LinkAttributes>(), 64);
    }

    #[test]
    fn kernels_without_are_refused() {
        assert!(check("6.6.0", (6, 6)).is_ok());
        let error = check("6.1.0-40-amd64", (6, 1)).unwrap_err();
        assert!(error.is_unsupported());
        assert!(error.to_string().contains("6.1.0-40-amd64"));
    }

    #[test]
    fn an_ended_process_is_named_as_the_reason() {
        let error = UprobeError::Attach {
            program: "/bin/x".to_owned(),
            count: 3,
            source: io::Error::from_raw_os_error(libc::ESRCH),
        };
        assert_eq!(
            error.to_string(),
            "cannot put 3 probes into /bin/x: the process has ended"
        );
    }
}
