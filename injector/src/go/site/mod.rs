//! Where in a function a probe goes: the cheapest instruction that is hit once
//! for each call while the arguments are still in their registers.
//!
//! The kernel replaces an instruction by a breakpoint. Some instructions it then
//! carries out itself; any other it has to execute from a copy with single
//! stepping, which takes some twenty times as long.

mod amd64;
mod arm64;

use super::{image::Machine, returns::Call, symbols::Extent};

/// Longest function that is searched for calls, in bytes.
const LONGEST_FUNCTION: usize = 1 << 16;

/// An instruction that a probe can be put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Address, as the file is linked.
    pub address: u64,
    /// The instruction, as an assembler writes it.
    pub instruction: String,
    /// How the kernel goes on after the breakpoint.
    pub method: Method,
    /// It is hit again when the stack had to grow: the function then begins
    /// anew. Who counts has to leave the second hit out.
    pub repeats: bool,
}

/// How the kernel carries out the instruction under a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In software.
    Emulated,
    /// By executing a copy, with single stepping.
    SingleStepped,
}

impl Method {
    /// In words that are also in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::SingleStepped => "single-stepped",
        }
    }

    /// What a hit costs with an empty program, lowest and highest median in ns:
    /// measured on a virtual amd64 machine under Linux 6.18. Nothing was
    /// measured on arm64.
    pub fn price_ns(self, machine: Machine) -> Option<(u32, u32)> {
        match (machine, self) {
            (Machine::Amd64, Self::Emulated) => Some((555, 665)),
            (Machine::Amd64, Self::SingleStepped) => Some((11_000, 12_400)),
            (Machine::Arm64, _) => None,
        }
    }
}

/// Chooses the place at the start of a function. `code` begins there.
pub fn at_entry(machine: Machine, code: &[u8], address: u64) -> Option<Site> {
    match machine {
        Machine::Amd64 => amd64::at_entry(code, address),
        Machine::Arm64 => arm64::at_entry(code, address),
    }
}

/// The only direct call of one function in another; `Err` has how many there
/// are if not one.
pub fn at_call(machine: Machine, code: &[u8], address: u64, callee: Extent) -> Result<Site, usize> {
    let mut calls = calls(machine, code, address, callee);
    match calls.pop() {
        Some(site) if calls.is_empty() => Ok(site),
        Some(_) => Err(calls.len() + 1),
        None => Err(0),
    }
}

/// The instructions by which a function returns, in order.
pub fn returns(machine: Machine, code: &[u8], address: u64) -> Vec<Site> {
    let code = &code[..code.len().min(LONGEST_FUNCTION)];
    match machine {
        Machine::Amd64 => amd64::returns(code, address),
        Machine::Arm64 => arm64::returns(code, address),
    }
}

/// The call that some code ends with.
pub fn call_at_end(machine: Machine, code: &[u8], address: u64) -> Option<Call> {
    match machine {
        Machine::Amd64 => amd64::call_at_end(code, address),
        Machine::Arm64 => arm64::call_at_end(code, address),
    }
}

/// Whether a function jumps to the start of another one.
pub fn jumps(machine: Machine, code: &[u8], address: u64, to: u64) -> bool {
    let code = &code[..code.len().min(LONGEST_FUNCTION)];
    match machine {
        Machine::Amd64 => amd64::jumps(code, address, to),
        Machine::Arm64 => arm64::jumps(code, address, to),
    }
}

/// All direct calls of one function in another, in order.
pub fn calls(machine: Machine, code: &[u8], address: u64, callee: Extent) -> Vec<Site> {
    let code = &code[..code.len().min(LONGEST_FUNCTION)];
    match machine {
        Machine::Amd64 => amd64::calls(code, address, callee.address),
        Machine::Arm64 => arm64::calls(code, address, callee.address),
    }
}
