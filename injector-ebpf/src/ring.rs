//! The only way out of the kernel: records into ring buffers, drops counted.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query},
};
use injector_ebpf::{Control, Counter, LifecycleEvent, SendRecord};

use crate::{
    count::count,
    maps::{LIFECYCLE, SENDS},
};

/// Hands a send to userspace. The daemon polls; it is only woken when the
/// buffer fills up.
#[inline(always)]
pub fn send(record: *const SendRecord, control: *const Control) {
    let map = (&raw const SENDS).cast_mut().cast();
    // SAFETY: `record` is a live map value of its full size without padding,
    // `control` a live map value.
    let result = unsafe {
        let waiting = bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA));
        let flags = if waiting >= (*control).wake_bytes {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        };
        bpf_ringbuf_output(
            map,
            record.cast_mut().cast(),
            size_of::<SendRecord>() as u64,
            u64::from(flags),
        )
    };
    if result != 0 {
        count(Counter::RecordsDropped);
    }
}

/// Hands a process event to userspace and wakes it: these are rare, and a new
/// target is only complete when the daemon has looked at it.
#[inline(always)]
pub fn lifecycle(event: &LifecycleEvent) {
    if LIFECYCLE.output::<LifecycleEvent>(event, 0).is_err() {
        count(Counter::LifecycleDropped);
    }
}
