//! Probes that only make sense together, and so are attached and taken away
//! together: whoever sees a lock asked for wants to see it taken.

use injector_ebpf::go::{Event, SiteStats};

use super::governor::Rank;
use crate::{
    go::{Attachment, Method, Tracing},
    kernel::trap::Traps,
};

/// Some probes of one program.
pub struct Unit {
    /// The program, in the order of those that are traced.
    pub target: usize,
    /// How long it is kept.
    pub rank: Rank,
    /// Its probes.
    pub probes: Vec<Attachment>,
    key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Runtime,
    Locks,
    WriteLocks,
    Goroutines,
    GrowSteps,
    Iterations,
    Ranges,
    /// By itself.
    Function(&'static str),
}

fn place(probe: &Attachment) -> (Key, Rank) {
    match probe.probe.event {
        Event::Grow
        | Event::GcStart
        | Event::GcEnd
        | Event::WorldStop
        | Event::WorldStart
        | Event::Panic
        | Event::Fatal
        | Event::Throw
        // No probes tell these.
        | Event::WatchSet
        | Event::WatchClear
        | Event::NoCpu => (Key::Runtime, Rank::Rare),
        Event::LockSlow
        | Event::UnlockSlow
        | Event::ReadUnlockSlow
        | Event::SemaphoreAcquire
        | Event::SemaphoreAcquired
        | Event::SemaphoreRelease => (Key::Locks, Rank::Locks),
        Event::Assign | Event::Delete | Event::Clear => {
            (Key::Function(probe.probe.function), Rank::Writes)
        }
        Event::WriteLock | Event::WriteUnlock => (Key::WriteLocks, Rank::Others),
        Event::GoroutineStart | Event::GoroutineEnd => (Key::Goroutines, Rank::Others),
        Event::GrowStep => (Key::GrowSteps, Rank::Others),
        Event::SyncMapRange | Event::SyncMapRangeEnd => (Key::Ranges, Rank::Others),
        Event::SyncMapStore | Event::SyncMapLoadOrStore | Event::SyncMapDelete => {
            (Key::Function(probe.probe.function), Rank::Others)
        }
        Event::IterateStart | Event::IterateNext => (Key::Iterations, Rank::Reads),
        Event::Access | Event::SyncMapLoad => (Key::Function(probe.probe.function), Rank::Reads),
    }
}

/// All units of a program.
pub fn of(target: usize, tracing: &Tracing) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for probe in &tracing.events {
        let (key, rank) = place(probe);
        if let Some(unit) = units.iter_mut().find(|unit| unit.key == key) {
            unit.probes.push(probe.clone());
        } else {
            units.push(Unit {
                target,
                rank,
                probes: vec![probe.clone()],
                key,
            });
        }
    }
    units
}

/// What a probe has cost, in nanoseconds of one core.
pub fn cost(probe: &Attachment, used: SiteStats, traps: Traps) -> f64 {
    let trap = match probe.method {
        Method::Emulated => traps.emulated_ns,
        Method::SingleStepped => traps.single_stepped_ns,
    };
    (used.hits * trap + used.ns) as f64
}
