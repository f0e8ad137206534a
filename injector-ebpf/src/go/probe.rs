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
    goroutine::{self, Goroutine},
    history,
    registers::Registers,
    ring, stack, user,
};

/// An operation on a map of the runtime begins.
#[uprobe]
pub fn go_map_op(ctx: ProbeContext) -> u32 {
    probe(&ctx, history::remember)
}

/// Anything else that is not fatal: no history is kept of it.
#[uprobe]
pub fn go_event(ctx: ProbeContext) -> u32 {
    probe(&ctx, |_, _, _| ())
}

#[inline(always)]
fn probe(ctx: &ProbeContext, remember: impl Fn(&EventRecord, Event, u32)) -> u32 {
    // SAFETY: helpers without preconditions, on the program's own context.
    let (start, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_attach_cookie(ctx.as_ptr())) };
    let cookie = Cookie::decode(cookie);
    let Some(layout) = goroutine::layout(cookie.target) else {
        return 0;
    };
    if record(&Registers::of(ctx), cookie, layout, start, remember).is_none() {
        count(Counter::Unreadable);
    }
    hit(cookie.site, start);
    0
}

#[inline(always)]
fn record(
    registers: &Registers,
    cookie: Cookie,
    layout: &Layout,
    now: u64,
    remember: impl Fn(&EventRecord, Event, u32),
) -> Option<()> {
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
    // SAFETY: a local value.
    event.depth = unsafe { stack::walk(&raw mut event.frames, registers, cookie.at_entry) };
    remember(&event, kind, goroutine.tgid);
    ring::event(&event);
    Some(())
}
