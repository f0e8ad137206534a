//! Sites on amd64. A Go function begins with a check of its stack, for small,
//! large and huge frames (cmd/internal/obj/x86/obj6.go, `stacksplit`):
//!
//! ```text
//! cmp 0x10(%r14),%rsp    lea -N(%rsp),%r12      mov %rsp,%r12
//! jbe morestack          cmp 0x10(%r14),%r12    sub $N,%r12
//!                        jbe morestack          jb morestack
//!                                               cmp 0x10(%r14),%r12
//!                                               jbe morestack
//! ```
//!
//! Functions that run on the system stack compare with `0x18(%r14)`. Since Go
//! 1.21 `push %rbp` follows, before that `sub $N,%rsp`. `nosplit` functions have
//! no check.

use iced_x86::{
    Code, Decoder, DecoderOptions, Formatter as _, GasFormatter, Instruction, Mnemonic, Register,
};

use super::{Call, Method, Site};

/// More instructions than come before `push %rbp`.
const LONGEST_START: usize = 8;
/// `g.stackguard0` and `g.stackguard1`, runtime/runtime2.go.
const GUARDS: [u64; 2] = [0x10, 0x18];

pub fn at_entry(code: &[u8], address: u64) -> Option<Site> {
    let mut first = None;
    // The last jump of the stack check, and whether what sets the flags for
    // the next one has come.
    let (mut jump, mut flags) = (None, false);
    for instruction in decoder(code, address).iter().take(LONGEST_START) {
        if instruction.is_invalid() {
            break;
        }
        if instruction.code() == Code::Push_r64 && instruction.op0_register() == Register::RBP {
            return Some(site(&instruction, code, address, false));
        }
        first.get_or_insert(instruction);
        if flags && is_jump_to_morestack(&instruction) {
            (jump, flags) = (Some(instruction), false);
        } else if compares_with_guard(&instruction) {
            flags = true;
        } else if makes_room_in_r12(&instruction) {
            flags = instruction.mnemonic() == Mnemonic::Sub;
        } else {
            break;
        }
    }
    match jump {
        Some(jump) => Some(site(&jump, code, address, true)),
        None => first
            .filter(|first| !first.has_lock_prefix())
            .map(|first| site(&first, code, address, false)),
    }
}

pub fn calls(code: &[u8], address: u64, callee: u64) -> Vec<Site> {
    decoder(code, address)
        .iter()
        .filter(|instruction| {
            instruction.code() == Code::Call_rel32_64 && instruction.near_branch_target() == callee
        })
        .map(|instruction| site(&instruction, code, address, false))
        .collect()
}

pub fn returns(code: &[u8], address: u64) -> Vec<Site> {
    decoder(code, address)
        .iter()
        .filter(|instruction| instruction.code() == Code::Retnq)
        .map(|instruction| site(&instruction, code, address, false))
        .collect()
}

/// Several ways to read the last bytes can be right; the direct call is the
/// longest that is usual.
pub fn call_at_end(code: &[u8], address: u64) -> Option<Call> {
    [5, 2, 3, 4, 6, 7].into_iter().find_map(|size| {
        let skip = code.len().checked_sub(size)?;
        let instruction = decoder(&code[skip..], address + skip as u64).decode();
        (instruction.len() == size).then_some(())?;
        match instruction.code() {
            Code::Call_rel32_64 => Some(Call::Direct(instruction.near_branch_target())),
            Code::Call_rm64 => Some(Call::Indirect),
            _ => None,
        }
    })
}

pub fn jumps(code: &[u8], address: u64, to: u64) -> bool {
    decoder(code, address).iter().any(|instruction| {
        matches!(instruction.code(), Code::Jmp_rel32_64 | Code::Jmp_rel8_64)
            && instruction.near_branch_target() == to
    })
}

fn decoder(code: &[u8], address: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
}

fn compares_with_guard(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Cmp
        && instruction.memory_base() == Register::R14
        && GUARDS.contains(&instruction.memory_displacement64())
}

/// As far as its condition tells: unsigned, below or not above.
fn is_jump_to_morestack(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Jb | Mnemonic::Jbe)
}

/// R12 is free at a function's start.
fn makes_room_in_r12(instruction: &Instruction) -> bool {
    use Mnemonic::{Lea, Mov, Sub};
    matches!(instruction.mnemonic(), Lea | Mov | Sub) && instruction.op0_register() == Register::R12
}

fn site(instruction: &Instruction, code: &[u8], address: u64, repeats: bool) -> Site {
    let offset = (instruction.ip() - address) as usize;
    let bytes = code.get(offset..offset + instruction.len());
    let mut text = String::new();
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_branch_leading_zeros(false);
    options.set_uppercase_hex(false);
    formatter.format(instruction, &mut text);
    Site {
        address: instruction.ip(),
        instruction: text,
        method: if is_emulated(bytes.unwrap_or_default()) {
            Method::Emulated
        } else {
            Method::SingleStepped
        },
        repeats,
    }
}

/// What the kernel carries out itself: `branch_setup_xol_ops` and
/// `push_setup_xol_ops` in arch/x86/kernel/uprobes.c.
fn is_emulated(instruction: &[u8]) -> bool {
    matches!(
        instruction,
        // push and nop, push of r8 to r15
        [0x50..=0x57 | 0x90] | [0x41, 0x50..=0x57]
        // jmp and conditional jumps, by a byte
        | [0xeb | 0x70..=0x7f, _]
        // jmp and call, conditional jumps, by four
        | [0xe8 | 0xe9, _, _, _, _] | [0x0f, 0x80..=0x8f, _, _, _, _]
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(code: &[u8]) -> (u64, String, Method, bool) {
        let site = at_entry(code, 0x1000).unwrap();
        (site.address, site.instruction, site.method, site.repeats)
    }

    const CHECK: &[u8] = &[0x49, 0x3b, 0x66, 0x10];
    const JBE: &[u8] = &[0x0f, 0x86, 0xf0, 0, 0, 0];
    const PUSH: &[u8] = &[0x55, 0x48, 0x89, 0xe5];
    const SUB: &[u8] = &[0x48, 0x83, 0xec, 0x38];

    #[test]
    fn push_after_the_stack_check() {
        let code = [CHECK, JBE, PUSH].concat();
        assert_eq!(
            at(&code),
            (0x100a, "push %rbp".into(), Method::Emulated, false)
        );
        // With a short jump.
        let code = [CHECK, &[0x76, 0x10], PUSH].concat();
        assert_eq!(at(&code).0, 0x1006);
    }

    #[test]
    fn the_jump_where_no_push_follows() {
        let code = [CHECK, JBE, SUB].concat();
        assert_eq!(
            at(&code),
            (0x1004, "jbe 0x10fa".into(), Method::Emulated, true)
        );
    }

    #[test]
    fn large_and_huge_frames_and_the_system_stack() {
        // lea -0x28(%rsp),%r12; cmp 0x18(%r14),%r12
        let large = [0x4c, 0x8d, 0x64, 0x24, 0xd8, 0x4d, 0x3b, 0x66, 0x18];
        let code = [&large, JBE, PUSH].concat();
        assert_eq!(at(&code).0, 0x100f);
        // mov %rsp,%r12; sub $0x12340,%r12; jb; cmp 0x10(%r14),%r12; jbe
        let huge = [
            &[0x49, 0x89, 0xe4][..],
            &[0x49, 0x81, 0xec, 0x40, 0x23, 0x01, 0x00],
            &[0x72, 0x20, 0x4d, 0x3b, 0x66, 0x10],
        ]
        .concat();
        let code = [&huge, JBE, PUSH].concat();
        assert_eq!(at(&code).1, "push %rbp");
        let code = [&huge, JBE, SUB].concat();
        assert_eq!(at(&code).0, 0x1010);
    }

    #[test]
    fn without_a_stack_check() {
        assert_eq!(
            at(PUSH),
            (0x1000, "push %rbp".into(), Method::Emulated, false)
        );
        assert_eq!(
            at(SUB),
            (
                0x1000,
                "sub $0x38,%rsp".into(),
                Method::SingleStepped,
                false
            )
        );
    }

    #[test]
    fn a_push_behind_a_jump_of_the_function_is_not_on_every_path() {
        // test %rbx,%rbx; je; push %rbp
        let code = [&[0x48, 0x85, 0xdb, 0x74, 0x10], PUSH].concat();
        assert_eq!(at(&code).0, 0x1000);
        // cmp 0x10(%r13),%rsp is no stack check.
        let code = [&[0x49, 0x3b, 0x65, 0x10], JBE, PUSH].concat();
        assert_eq!(at(&code).0, 0x1000);
    }

    #[test]
    fn a_push_behind_a_changed_argument_is_too_late() {
        // mov (%rbx),%rbx; push %rbp
        let code = [&[0x48, 0x8b, 0x1b], PUSH].concat();
        assert_eq!(at(&code).0, 0x1000);
    }

    #[test]
    fn what_the_kernel_refuses_is_not_a_site() {
        // lock inc (%rax)
        assert_eq!(at_entry(&[0xf0, 0x48, 0xff, 0x00], 0x1000), None);
        assert_eq!(at_entry(&[], 0x1000), None);
    }

    #[test]
    fn calls_are_found_by_their_target() {
        // nop; call 0x2000; call 0x3000
        let code = [0x90, 0xe8, 0xfa, 0x0f, 0, 0, 0xe8, 0xf5, 0x1f, 0, 0];
        let found = calls(&code, 0x1000, 0x2000);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, 0x1001);
        assert_eq!(found[0].instruction, "call 0x2000");
        assert_eq!(found[0].method, Method::Emulated);
    }

    #[test]
    fn returns_are_instructions_of_their_own() {
        // mov $0xc3c3c3c3,%eax; ret; pop %rbp; ret; int3
        let code = [0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0x5d, 0xc3, 0xcc];
        let found = returns(&code, 0x1000);
        let places: Vec<u64> = found.iter().map(|site| site.address).collect();
        assert_eq!(places, [0x1005, 0x1007]);
        assert_eq!(found[0].instruction, "ret");
        assert_eq!(found[0].method, Method::SingleStepped);
    }

    #[test]
    fn calls_before_a_return_address() {
        let at = |code: &[u8]| call_at_end(code, 0x1000);
        // call 0x1107
        assert_eq!(
            at(&[0x90, 0x90, 0xe8, 0, 1, 0, 0]),
            Some(Call::Direct(0x1107))
        );
        // call *(%rdx); call *%r8; call *0x18(%rcx); call *0x10(%rip)
        assert_eq!(
            at(&[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x12]),
            Some(Call::Indirect)
        );
        assert_eq!(
            at(&[0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd0]),
            Some(Call::Indirect)
        );
        assert_eq!(
            at(&[0x90, 0x90, 0x90, 0x90, 0xff, 0x51, 0x18]),
            Some(Call::Indirect)
        );
        assert_eq!(at(&[0x90, 0xff, 0x15, 0x10, 0, 0, 0]), Some(Call::Indirect));
        // jmp; mov
        assert_eq!(at(&[0x90, 0x90, 0xe9, 0, 1, 0, 0]), None);
        assert_eq!(at(&[0x90, 0x90, 0x90, 0x90, 0x48, 0x89, 0xe5]), None);
        assert!(jumps(&[0x90, 0xe9, 0xfa, 0x0f, 0, 0], 0x1000, 0x2000));
        assert!(!jumps(&[0x90, 0xe8, 0xfa, 0x0f, 0, 0], 0x1000, 0x2000));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_site_at_an_instruction_or_none(code: Vec<u8>) {
            if let Some(site) = at_entry(&code, 0x1000) {
                prop_assert!(site.address - 0x1000 < code.len() as u64);
            }
            let _ = calls(&code, 0x1000, 0x1000);
            let _ = returns(&code, 0x1000);
            let _ = jumps(&code, 0x1000, 0x1000);
            let _ = call_at_end(&code, 0x1000);
        }
    }
}
