//! Events in the order of their time. The ring has them in the order in which
//! programs came to write them: two on different CPUs can overtake each other
//! between their clock and the ring, and one that lost its CPU there is late.

use injector_ebpf::go::EventRecord;

/// How long an event can take from its clock to the ring, in nanoseconds,
/// without being sorted in too late. A program takes a few microseconds; this
/// is for one that had to wait for a CPU.
pub const SETTLED_NS: u64 = 10_000_000;

/// Holds events back until those before them must have come.
#[derive(Debug, Default)]
pub struct Ordered(Vec<EventRecord>);

impl Ordered {
    /// Takes one in.
    pub fn push(&mut self, event: EventRecord) {
        self.0.push(event);
    }

    /// Gives out those from before this time, in order. All of them have come
    /// [`SETTLED_NS`] later.
    pub fn until(&mut self, time_ns: u64) -> impl Iterator<Item = EventRecord> + '_ {
        self.0.sort_by_key(|event| event.time_ns);
        let count = self.0.partition_point(|event| event.time_ns < time_ns);
        self.0.drain(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ns: u64) -> EventRecord {
        EventRecord {
            time_ns,
            ..EventRecord::default()
        }
    }

    #[test]
    fn late_ones_come_before_what_they_preceded() {
        let mut ordered = Ordered::default();
        for time in [30, 100, 10] {
            ordered.push(at(time));
        }
        let times = |events: Vec<EventRecord>| -> Vec<u64> {
            events.iter().map(|event| event.time_ns).collect()
        };
        assert_eq!(times(ordered.until(100).collect()), [10, 30]);
        ordered.push(at(99));
        assert_eq!(times(ordered.until(u64::MAX).collect()), [99, 100]);
        assert_eq!(ordered.until(u64::MAX).count(), 0);
    }
}
