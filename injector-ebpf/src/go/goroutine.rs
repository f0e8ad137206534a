//! Who am I: the process and the goroutine that hit a probe.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use injector_ebpf::go::{Counter, Layout, NO_FIELD, Origin};

use crate::{count::count, maps::LAYOUTS, registers::Registers, user};

/// The one that hit the probe.
pub struct Goroutine {
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Address of its `g`.
    pub address: u64,
    /// Its number.
    pub id: u64,
}

/// The layout of the target, if the current process is the one; another may
/// run the same file, and kernels before 6.10 filter by thread or not at all.
#[inline(always)]
pub fn layout(target: u16) -> Option<&'static Layout> {
    let layout = LAYOUTS.get(u32::from(target))?;
    if layout.tgid == (bpf_get_current_pid_tgid() >> 32) as u32 {
        Some(layout)
    } else {
        count(Counter::Foreign);
        None
    }
}

impl Goroutine {
    /// Number of the one whose `g` is in the register, or that its thread works for;
    /// none when something else is in it, as in C code that Go has called.
    #[inline(always)]
    pub fn number(register: u64, layout: &Layout) -> Option<u64> {
        let thread: u64 = user::read(register + u64::from(layout.goroutine_thread))?;
        let current: u64 = user::read(thread + u64::from(layout.thread_goroutine))?;
        if current != register {
            let id: u64 = user::read(register + u64::from(layout.goroutine_id))?;
            if id != 0 || current == 0 {
                return None;
            }
        }
        user::read(current + u64::from(layout.goroutine_id)).filter(|id| *id != 0)
    }

    /// The current one.
    #[inline(always)]
    pub fn current(registers: &Registers, layout: &Layout) -> Option<Self> {
        let process = bpf_get_current_pid_tgid();
        let mut address = registers.goroutine;
        let mut id: u64 = user::read(address + u64::from(layout.goroutine_id))?;
        if id == 0 {
            // The thread's own stack (g0): it works for the goroutine that the
            // thread runs, if any.
            let thread: u64 = user::read(address + u64::from(layout.goroutine_thread))?;
            let current: u64 = user::read(thread + u64::from(layout.thread_goroutine))?;
            if current != 0 {
                address = current;
                id = user::read(address + u64::from(layout.goroutine_id))?;
            }
        }
        Some(Self {
            tgid: (process >> 32) as u32,
            tid: process as u32,
            address,
            id,
        })
    }
}

/// Who made the goroutine whose `g` is at this address, if it is still this one.
#[inline(always)]
pub fn origin(address: u64, id: u64, layout: &Layout) -> Origin {
    let field = |offset: u32| -> u64 {
        if offset == NO_FIELD {
            return 0;
        }
        user::read(address + u64::from(offset)).unwrap_or(0)
    };
    if id == 0 || field(layout.goroutine_id) != id {
        return Origin::default();
    }
    Origin {
        goroutine_id: id,
        parent: field(layout.goroutine_parent),
        creator: field(layout.goroutine_creator),
        start: field(layout.goroutine_start),
    }
}
