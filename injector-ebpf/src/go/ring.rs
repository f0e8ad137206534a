//! The way of events to userspace; drops are counted. Fatal errors have a ring
//! of their own, which events cannot fill.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query},
};
use injector_ebpf::go::{Counter, EVENTS_WAKE_BYTES, EventRecord};

use crate::{count::count, maps::EVENTS};

/// Hands an event over. The daemon polls; it is only woken when the buffer
/// fills up: to be woken at each hit would cost more than the hit.
#[inline(always)]
pub fn event(event: &EventRecord) {
    let map = (&raw const EVENTS).cast_mut().cast();
    // SAFETY: the record is initialised and has no padding.
    let result = unsafe {
        let waiting = bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA));
        let flags = if waiting >= EVENTS_WAKE_BYTES {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        };
        bpf_ringbuf_output(
            map,
            (&raw const *event).cast_mut().cast(),
            size_of::<EventRecord>() as u64,
            u64::from(flags),
        )
    };
    if result != 0 {
        count(Counter::EventsDropped);
    }
}

/// Wakes userspace, with nothing to tell.
#[inline(always)]
pub fn wake() {
    if let Some(entry) = EVENTS.reserve::<u64>(0) {
        entry.discard(u64::from(BPF_RB_FORCE_WAKEUP));
    }
}
