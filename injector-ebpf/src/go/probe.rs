//! The way of every hit but fatal ones: cookie, layout, goroutine, record,
//! history, ring.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use injector_ebpf::go::{Cookie, Counter, Event, EventRecord, Layout, NO_ARGUMENT};

use crate::{
    count::{count, hit},
    gate::Gate,
    goroutine::{self, Goroutine},
    history, overlap,
    registers::Registers,
    ring, stack, user,
};

/// Anything that is not fatal.
#[uprobe]
pub fn go_event(ctx: ProbeContext) -> u32 {
    // SAFETY: helpers without preconditions, on the program's own context.
    let (start, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_attach_cookie(ctx.as_ptr())) };
    let cookie = Cookie::decode(cookie);
    let Some(layout) = goroutine::layout(cookie.target) else {
        return 0;
    };
    let registers = Registers::of(&ctx);
    if cookie.repeats && registers.stack_grows() {
        return 0;
    }
    let Some(gate) = Gate::open() else {
        return 0;
    };
    if gate.is_shut() {
        count(Counter::Gated);
    } else if record(&registers, cookie, layout, start).is_none() {
        count(Counter::Unreadable);
    }
    gate.pay(cookie, hit(cookie.site, start));
    0
}

#[inline(always)]
fn record(registers: &Registers, cookie: Cookie, layout: &Layout, now: u64) -> Option<()> {
    let kind = Event::from_number(cookie.kind)?;
    let goroutine = Goroutine::current(registers, layout)?;
    let iterator = registers.argument(cookie.iterator);
    let mut subject = registers.argument(cookie.subject);
    if subject == 0 && iterator != 0 {
        subject = user::read(iterator + u64::from(layout.iterator_map))?;
    }
    // A nil map: to read it is allowed, and to write it is another error.
    let has_subject = cookie.subject != NO_ARGUMENT || cookie.iterator != NO_ARGUMENT;
    if subject == 0 && has_subject {
        return Some(());
    }
    let mut event = EventRecord {
        time_ns: now,
        goroutine_id: goroutine.id,
        goroutine: goroutine.address,
        subject,
        map_type: registers.argument(cookie.map_type),
        iterator,
        tid: goroutine.tid,
        site: cookie.site,
        kind: cookie.kind,
        target: cookie.target,
        ..EventRecord::default()
    };
    let is_map_op = kind.is_map_op();
    let marked = is_map_op.then(|| overlap::enter(&mut event, kind));
    // SAFETY: a local value.
    event.depth = unsafe { stack::walk(&raw mut event.frames, registers, cookie.at_entry) };
    if is_map_op {
        history::remember(&event, kind, goroutine.tgid);
    }
    ring::event(&event);
    if let Some(marked) = marked {
        overlap::leave(marked);
    }
    Some(())
}

/// Nothing: what a hit costs without a program of any length.
#[uprobe]
pub fn go_nothing(_: ProbeContext) -> u32 {
    0
}
