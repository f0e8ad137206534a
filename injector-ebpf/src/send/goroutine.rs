//! Which goroutine sends, and from where, in a Go program that userspace has
//! described.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_task_btf, generated::bpf_task_pt_regs},
};
use injector_ebpf::{Control, Counter, SEND_FRAMES, SendRecord, SendStack, go::Layout};

use crate::{
    count::count,
    maps::{GO_PROGRAMS, STACKS, setup},
    memory::{Space, member, read},
};

/// Fills in the goroutine, if the sender is one, and reports its stack.
#[inline(always)]
pub fn note(record: &mut SendRecord, control: *const Control) {
    let Some(layout) = GO_PROGRAMS.get_ptr(record.tgid) else {
        return;
    };
    // SAFETY: a live map value; the helper gets the task that the other helper
    // returned.
    let (layout, registers) = unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf());
        (&*layout, registers as *const u8)
    };
    record.goroutine = current(layout, member(registers, setup!(offsets.pt_regs_goroutine)));
    // SAFETY: a live map value.
    if record.goroutine != 0 && unsafe { (*control).stacks } != 0 {
        report(record, registers);
    }
}

/// Number of the goroutine whose `g` the register holds, or that its thread
/// works for; 0 when it holds something else, as in C code that Go has called.
#[inline(always)]
fn current(layout: &Layout, register: u64) -> u64 {
    let thread = word(register, layout.goroutine_thread);
    let current = word(thread, layout.thread_goroutine);
    if current == 0 || (current != register && word(register, layout.goroutine_id) != 0) {
        return 0;
    }
    word(current, layout.goroutine_id)
}

#[inline(always)]
fn word(base: u64, offset: u32) -> u64 {
    read(
        base.wrapping_add(u64::from(offset)) as *const u8,
        Space::User,
    )
}

/// Go keeps frame pointers; its system call instruction is in a function
/// without a frame, whose caller is left out.
#[inline(always)]
fn report(record: &SendRecord, registers: *const u8) {
    let Some(mut entry) = STACKS.reserve::<SendStack>(0) else {
        count(Counter::StacksDropped);
        return;
    };
    let stack = entry.as_mut_ptr();
    let mut frame: u64 = member(registers, setup!(offsets.pt_regs_frame));
    let instruction: u64 = member(registers, setup!(offsets.pt_regs_instruction));
    // SAFETY: the reserved memory is of this size, every byte is written, and
    // all indices are below the array's length.
    unsafe {
        (*stack).start_ns = record.start_ns;
        (*stack).goroutine = record.goroutine;
        (*stack).tgid = record.tgid;
        (*stack).tid = record.tid;
        let frames = (&raw mut (*stack).frames).cast::<u64>();
        frames.write(instruction);
        let mut depth = 1;
        for index in 1..SEND_FRAMES {
            let [next, caller]: [u64; 2] = read(frame as *const u8, Space::User);
            frames.add(index).write(caller);
            if caller != 0 {
                depth = index as u64 + 1;
            }
            frame = next;
        }
        (*stack).depth = depth;
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}
