//! What a hit costs before and after the program: the trap into the kernel, and
//! the way back over the probed instruction. Measured on two small functions of
//! our own, each with and without a probe.

use std::{
    arch::naked_asm,
    fs::{self, File},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::uprobes::{Place, Program};

/// Calls that are measured at once, and how often: the median counts, so that
/// losing the CPU does not.
const CALLS: u32 = 50;
const ROUNDS: usize = 15;
/// How often, and how long after each other, it is tried again when the probes do
/// not seem to be there.
const RETRIES: u32 = 20;
const RETRY: Duration = Duration::from_millis(10);

/// Price of a trap, in nanoseconds of CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traps {
    /// Where the kernel emulates the probed instruction.
    pub emulated_ns: u64,
    /// Where it executes a copy, with single stepping.
    pub single_stepped_ns: u64,
}

impl Traps {
    /// They could not be measured.
    pub const UNKNOWN: Self = Self {
        emulated_ns: 0,
        single_stepped_ns: 0,
    };
}

/// Its first instruction is one that the kernel emulates, and the same that most
/// probes are on.
#[unsafe(naked)]
extern "C" fn emulated() {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("push rbp", "pop rbp", "ret");
    #[cfg(target_arch = "aarch64")]
    naked_asm!("adr x0, .", "ret");
}

/// Its first instruction is one that the kernel has to execute.
#[unsafe(naked)]
extern "C" fn single_stepped() {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("lea eax, [rdi + 1]", "ret");
    #[cfg(target_arch = "aarch64")]
    naked_asm!("add x0, x0, 1", "ret");
}

/// The same two for the time without probes. Emulated machines can go on with the
/// code that they have translated before a probe was put there (seen with QEMU 7.2),
/// so what is probed must not have run.
#[unsafe(naked)]
extern "C" fn emulated_free() {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("push rbp", "pop rbp", "ret", "nop");
    #[cfg(target_arch = "aarch64")]
    naked_asm!("adr x0, .", "ret", "nop");
}

#[unsafe(naked)]
extern "C" fn single_stepped_free() {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("lea eax, [rdi + 1]", "ret", "nop");
    #[cfg(target_arch = "aarch64")]
    naked_asm!("add x0, x0, 1", "ret", "nop");
}

/// Measures with an empty program.
pub fn measure(empty: &Program, version: (u32, u32)) -> Result<Traps> {
    let functions: [extern "C" fn(); 2] = [emulated, single_stepped];
    let maps = fs::read_to_string("/proc/self/maps").context("cannot read our own mappings")?;
    let mut places = Vec::new();
    for function in functions {
        let offset = file_offset(&maps, function as usize as u64);
        let offset = offset.context("our own code is not in the list of our mappings")?;
        places.push(Place { offset, cookie: 0 });
    }
    let free: [extern "C" fn(); 2] = [emulated_free, single_stepped_free];
    let without = free.map(time);
    let image = File::open("/proc/self/exe").context("cannot open our own program file")?;
    let pid = std::process::id();
    let link = empty.attach(&image, "injector's own program", pid, version, &places)?;
    let mut with = functions.map(time);
    for _ in 0..RETRIES {
        if with
            .iter()
            .zip(without)
            .all(|(with, without)| *with > without)
        {
            break;
        }
        // Another thread's turn makes such a machine look again.
        thread::sleep(RETRY);
        with = functions.map(time);
    }
    // It waits for the kernel.
    thread::spawn(move || drop(link));
    let [emulated_ns, single_stepped_ns] = [0, 1].map(|it| with[it].saturating_sub(without[it]));
    ensure!(
        emulated_ns > 0 && single_stepped_ns > 0,
        "a probe on injector's own code costs nothing: it was not hit"
    );
    Ok(Traps {
        emulated_ns,
        single_stepped_ns,
    })
}

/// Nanoseconds of one call.
fn time(function: extern "C" fn()) -> u64 {
    let mut rounds: [u64; ROUNDS] = std::array::from_fn(|_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            function();
        }
        start.elapsed().as_nanos() as u64 / u64::from(CALLS)
    });
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Where in its file the code at an address is, by lines of `/proc/PID/maps`.
fn file_offset(maps: &str, address: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let offset = number(words.nth(1)?)?;
        (start..end)
            .contains(&address)
            .then(|| address - start + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_code_is_found_in_our_file() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let file = fs::read("/proc/self/exe").unwrap();
        let offset = file_offset(&maps, emulated as *const () as u64).unwrap() as usize;
        // SAFETY: code of this very function, which is longer than a byte.
        let first = unsafe { *(emulated as *const u8) };
        assert_eq!(file[offset], first);
        assert_eq!(file_offset(&maps, 0x10), None);
    }
}
