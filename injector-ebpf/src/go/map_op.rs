//! Probes on the runtime's map functions.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use injector_ebpf::go::{Cookie, Counter, Event, EventRecord, Layout};

use crate::{
    count::{count, hit},
    goroutine::{self, Goroutine},
    history,
    registers::Registers,
    stack, user,
};

/// An operation on a map begins.
#[uprobe]
pub fn go_map_op(ctx: ProbeContext) -> u32 {
    // SAFETY: helpers without preconditions, on the program's own context.
    let (start, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_attach_cookie(ctx.as_ptr())) };
    let cookie = Cookie::decode(cookie);
    let Some(layout) = goroutine::layout(cookie.target) else {
        return 0;
    };
    if record(&Registers::of(&ctx), cookie, layout, start).is_none() {
        count(Counter::Unreadable);
    }
    hit(cookie.site, start);
    0
}

#[inline(always)]
fn record(registers: &Registers, cookie: Cookie, layout: &Layout, now: u64) -> Option<()> {
    let kind = Event::from_number(cookie.kind)?;
    let goroutine = Goroutine::current(registers, layout)?;
    let iterator = registers.argument(cookie.iterator);
    let mut map = registers.argument(cookie.map);
    if map == 0 && iterator != 0 {
        map = user::read(iterator + u64::from(layout.iterator_map))?;
    }
    // A nil map: to read it is allowed, and to write it is another error.
    if map == 0 {
        return Some(());
    }
    let mut op = EventRecord {
        time_ns: now,
        goroutine_id: goroutine.id,
        goroutine: goroutine.address,
        subject: map,
        map_type: registers.argument(cookie.map_type),
        iterator,
        tid: goroutine.tid,
        site: cookie.site,
        kind: cookie.kind,
        target: cookie.target,
        ..EventRecord::default()
    };
    // SAFETY: a local value.
    op.depth = unsafe { stack::walk(&raw mut op.frames, registers, cookie.at_entry) };
    history::remember(&op, kind, goroutine.tgid);
    Some(())
}
