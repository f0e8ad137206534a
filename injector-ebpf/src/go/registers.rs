//! Go's use of registers (`ABIInternal`, src/cmd/compile/abi-internal.md).

use aya_ebpf::{
    bindings::pt_regs,
    programs::{PerfEventContext, ProbeContext},
};

/// Where the address of the current `g` is among saved registers.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub fn place_of_goroutine(registers: *const pt_regs) -> *const u64 {
    registers
        .wrapping_byte_add(core::mem::offset_of!(pt_regs, r14))
        .cast()
}

/// Where the address of the current `g` is among saved registers.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub fn place_of_goroutine(registers: *const pt_regs) -> *const u64 {
    registers
        .wrapping_byte_add(core::mem::offset_of!(pt_regs, regs) + 28 * 8)
        .cast()
}

/// What was in the registers when the probe was hit.
pub struct Registers {
    /// Address of the current `g`.
    pub goroutine: u64,
    /// The probed instruction.
    pub instruction: u64,
    /// Frame pointer.
    pub frame: u64,
    /// Stack pointer on amd64; link register on arm64.
    pub return_place: u64,
    /// The flags of the processor.
    flags: u64,
    /// Arguments by number; [`injector_ebpf::go::NO_ARGUMENT`] is 0. All are
    /// read, for the verifier refuses a read at an offset that is not constant.
    arguments: [u64; 8],
}

impl Registers {
    /// Reads them.
    #[inline(always)]
    pub fn of(ctx: &ProbeContext) -> Self {
        // SAFETY: the context of a uprobe is a `pt_regs`.
        unsafe { Self::read(ctx.regs) }
    }

    /// Those of a thread that has just written what is watched.
    #[inline(always)]
    pub fn of_event(ctx: &PerfEventContext) -> Self {
        // SAFETY: the context begins with the registers of the thread: a
        // `pt_regs`, or on arm64 its part that is shown to users, which has all
        // that is read here at the same places.
        let mut registers = unsafe { Self::read((&raw const (*ctx.ctx).regs).cast()) };
        // It goes on behind the instruction that wrote.
        registers.instruction -= 1;
        registers
    }

    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn read(regs: *const pt_regs) -> Self {
        // SAFETY: the caller's.
        let regs = unsafe { &*regs };
        Self {
            goroutine: regs.r14,
            instruction: regs.rip,
            frame: regs.rbp,
            return_place: regs.rsp,
            flags: regs.eflags,
            arguments: [
                regs.rax, regs.rbx, regs.rcx, regs.rdi, regs.rsi, regs.r8, regs.r9, 0,
            ],
        }
    }

    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn read(regs: *const pt_regs) -> Self {
        // SAFETY: the caller's.
        let regs = unsafe { &*regs };
        let r = &regs.regs;
        Self {
            goroutine: r[28],
            instruction: regs.pc,
            frame: r[29],
            return_place: r[30],
            flags: regs.pstate,
            arguments: [r[0], r[1], r[2], r[3], r[4], r[5], r[6], 0],
        }
    }

    /// An argument of the function that is about to begin, or of the call that
    /// is about to be made.
    #[inline(always)]
    pub fn argument(&self, number: u8) -> u64 {
        self.arguments[(number & 7) as usize]
    }

    /// Whether the jump that the probe is on, at the end of a check of the stack,
    /// will be taken: `jbe` or `jb` on amd64, `bls` or `blo` on arm64. A `jb`
    /// that is not taken after equal numbers counts as taken; they are odd ones
    /// for addresses.
    #[inline(always)]
    pub fn stack_grows(&self) -> bool {
        if cfg!(bpf_target_arch = "aarch64") {
            // Without carry, or zero.
            self.flags & 1 << 29 == 0 || self.flags & 1 << 30 != 0
        } else {
            // With carry, or zero.
            self.flags & (1 | 1 << 6) != 0
        }
    }

    /// The return address, before the function has made its frame.
    #[inline(always)]
    pub fn return_address(&self) -> u64 {
        if cfg!(bpf_target_arch = "aarch64") {
            self.return_place
        } else {
            crate::user::read(self.return_place).unwrap_or(0)
        }
    }
}
