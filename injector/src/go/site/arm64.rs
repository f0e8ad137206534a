//! Sites on arm64. A Go function begins with a check of its stack
//! (cmd/internal/obj/arm64/obj7.go, `stacksplit`):
//!
//! ```text
//! ldr x16, [x28, #16]    ldr x16, [x28, #16]
//! cmp sp, x16            sub x17, sp, #N
//! b.ls morestack         cmp x17, x16
//!                        b.ls morestack
//! ```
//!
//! Functions that run on the system stack load from 24. What follows stores the
//! return address, which the kernel does not emulate; so the jump is the place.
//! Huge frames are checked in another way, and probed at their first
//! instruction.

use super::{Call, Method, Site};

/// `ldr x16, [x28, #16]` and `#24`: `g.stackguard0` and `g.stackguard1`.
const LOAD_GUARD: [u32; 2] = [0xf940_0b90, 0xf940_0f90];
/// `cmp sp, x16` and `cmp x17, x16`.
const COMPARE: [u32; 2] = [0xeb30_63ff, 0xeb10_023f];

/// `ret`, through the link register.
const RETURN: u32 = 0xd65f_03c0;

pub fn at_entry(code: &[u8], address: u64) -> Option<Site> {
    let words = || words(code, address);
    let is_room = |word: u32| word & 0xff80_03ff == 0xd100_03f1;
    let mut start = words().take(4).filter(|(_, word)| !is_room(*word));
    let check = [start.next(), start.next(), start.next()];
    if let [Some((_, load)), Some((_, compare)), Some((at, jump))] = check
        && LOAD_GUARD.contains(&load)
        && COMPARE.contains(&compare)
        && is_conditional(jump)
    {
        return Some(site(at, jump, true));
    }
    words().next().map(|(at, word)| site(at, word, false))
}

pub fn calls(code: &[u8], address: u64, callee: u64) -> Vec<Site> {
    words(code, address)
        .filter(|(at, word)| is_call(*word) && target(*at, *word, 26, 0) == callee)
        .map(|(at, word)| site(at, word, false))
        .collect()
}

pub fn returns(code: &[u8], address: u64) -> Vec<Site> {
    words(code, address)
        .filter(|(_, word)| *word == RETURN)
        .map(|(at, word)| site(at, word, false))
        .collect()
}

pub fn call_at_end(code: &[u8], address: u64) -> Option<Call> {
    let (at, word) = words(code, address).last()?;
    if is_call(word) {
        return Some(Call::Direct(target(at, word, 26, 0)));
    }
    // blr
    (word & 0xffff_fc1f == 0xd63f_0000).then_some(Call::Indirect)
}

/// `b`.
pub fn jumps(code: &[u8], address: u64, to: u64) -> bool {
    words(code, address)
        .any(|(at, word)| word & 0xfc00_0000 == 0x1400_0000 && target(at, word, 26, 0) == to)
}

fn words(code: &[u8], address: u64) -> impl Iterator<Item = (u64, u32)> {
    let (words, _) = code.as_chunks::<4>();
    let addresses = (address..).step_by(4);
    addresses.zip(words.iter().map(|word| u32::from_le_bytes(*word)))
}

/// `b.cond`.
fn is_conditional(word: u32) -> bool {
    word & 0xff00_0010 == 0x5400_0000
}

/// `bl`.
fn is_call(word: u32) -> bool {
    word & 0xfc00_0000 == 0x9400_0000
}

/// Where a branch goes, by the place and the width of its distance.
fn target(at: u64, word: u32, width: u32, shift: u32) -> u64 {
    let distance = (word >> shift) << (32 - width);
    let words = i64::from(distance as i32 >> (32 - width));
    at.wrapping_add_signed(words * 4)
}

fn site(address: u64, word: u32, repeats: bool) -> Site {
    Site {
        address,
        instruction: text(address, word),
        method: if is_emulated(word) {
            Method::Emulated
        } else {
            Method::SingleStepped
        },
        repeats,
    }
}

/// What the kernel carries out itself: `arm_probe_decode_insn` in
/// arch/arm64/kernel/probes/decode-insn.c. Those of its instructions that are
/// at no site are left out.
fn is_emulated(word: u32) -> bool {
    // b and bl; b.cond; cbz and cbnz; tbz and tbnz
    word & 0x7c00_0000 == 0x1400_0000
        || is_conditional(word)
        || word & 0x7e00_0000 == 0x3400_0000
        || word & 0x7e00_0000 == 0x3600_0000
}

/// The instructions that functions begin with, and calls; others as a number.
fn text(address: u64, word: u32) -> String {
    const CONDITIONS: [&str; 16] = [
        "eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al",
        "nv",
    ];
    if is_conditional(word) {
        let condition = CONDITIONS[word as usize & 15];
        return format!("b.{condition} {:#x}", target(address, word, 19, 5));
    }
    if is_call(word) {
        return format!("bl {:#x}", target(address, word, 26, 0));
    }
    // str x30, [sp, #-N]!
    if word & 0xffe0_0fff == 0xf800_0ffe {
        let distance = ((word >> 12) << 23) as i32 >> 23;
        return format!("str x30, [sp, #{distance}]!");
    }
    if word == RETURN {
        return "ret".to_owned();
    }
    match LOAD_GUARD.iter().position(|load| *load == word) {
        Some(index) => format!("ldr x16, [x28, #{}]", 16 + 8 * index),
        None => format!(".inst {word:#010x}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn at(words: &[u32]) -> Site {
        at_entry(&code(words), 0x20560).unwrap()
    }

    /// As `go tool objdump` shows the start of `runtime.mapaccess1_faststr`.
    const SMALL: [u32; 4] = [0xf940_0b90, 0xeb30_63ff, 0x5400_1dc9, 0xf819_0ffe];

    #[test]
    fn the_jump_of_the_stack_check() {
        let site = at(&SMALL);
        assert_eq!(site.address, 0x20568);
        assert_eq!(site.instruction, "b.ls 0x20920");
        assert_eq!(site.method, Method::Emulated);
        assert!(site.repeats);
        // A large frame, on the system stack.
        let site = at(&[0xf940_0f90, 0xd100_83f1, 0xeb10_023f, 0x5400_1f69]);
        assert_eq!(site.address, 0x2056c);
    }

    #[test]
    fn without_a_stack_check() {
        let site = at(&[0xf81d_0ffe, 0xf81f_83fd]);
        assert_eq!(site.address, 0x20560);
        assert_eq!(site.instruction, "str x30, [sp, #-48]!");
        assert_eq!(site.method, Method::SingleStepped);
        assert!(!site.repeats);
        // A check that is none: another register than g.
        let site = at(&[0xf940_0b70, 0xeb30_63ff, 0x5400_1dc9]);
        assert_eq!(site.address, 0x20560);
        assert_eq!(at_entry(&[0x90, 0x0b], 0), None);
    }

    #[test]
    fn calls_forward_and_backward() {
        // bl +0x34 and bl -0x34
        let code = code(&[0xd503_201f, 0x9400_000d, 0x97ff_fff3]);
        let forward = calls(&code, 0x1000, 0x1038);
        assert_eq!(forward[0].address, 0x1004);
        assert_eq!(forward[0].instruction, "bl 0x1038");
        assert_eq!(forward[0].method, Method::Emulated);
        assert_eq!(calls(&code, 0x1000, 0xfd4)[0].address, 0x1008);
        assert!(calls(&code, 0x1000, 0x2000).is_empty());
    }

    #[test]
    fn returns_through_the_link_register() {
        // ldr x30, [sp], #32; ret; ret x1
        let code = code(&[0xf842_07fe, RETURN, 0xd65f_0020]);
        let found = returns(&code, 0x1000);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].address, found[0].instruction.as_str()),
            (0x1004, "ret")
        );
        assert_eq!(found[0].method, Method::SingleStepped);
    }

    #[test]
    fn calls_before_a_return_address() {
        let at = |word: u32| call_at_end(&code(&[word]), 0x1000);
        assert_eq!(at(0x9400_000d), Some(Call::Direct(0x1034)));
        // blr x26; b
        assert_eq!(at(0xd63f_0340), Some(Call::Indirect));
        assert_eq!(at(0x1400_000d), None);
        assert!(jumps(&code(&[0x1400_000d]), 0x1000, 0x1034));
        assert_eq!(call_at_end(&[], 0x1000), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(code: Vec<u8>, address: u64) {
            let _ = at_entry(&code, address);
            let _ = calls(&code, address, 0);
            let _ = returns(&code, address);
            let _ = jumps(&code, address, 0);
            let _ = call_at_end(&code, address);
        }
    }
}
