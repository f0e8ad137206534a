//! Events in the order of their time. The ring has them in the order in which
//! programs came to write them: two on different CPUs can overtake each other
//! between their clock and the ring, and one that lost its CPU there is late.

use injector_ebpf::go::EventRecord;

/// How long an event can take from its clock to the ring, in nanoseconds,
/// without being sorted in too late. A program takes a few microseconds; this
/// is for one that had to wait for a CPU.
const SETTLED_NS: u64 = 10_000_000;

/// Holds events back until those before them must have come.
#[derive(Debug, Default)]
pub struct Ordered(Vec<EventRecord>);

impl Ordered {
    /// Takes one in.
    pub fn push(&mut self, event: EventRecord) {
        self.0.push(event);
    }

    /// Gives out those that are settled at this time of the kernel's monotonic
    /// clock, in order.
    pub fn settled(&mut self, now_ns: u64) -> impl Iterator<Item = EventRecord> + '_ {
        self.0.sort_by_key(|event| event.time_ns);
        let until = now_ns.saturating_sub(SETTLED_NS);
        let count = self.0.partition_point(|event| event.time_ns < until);
        self.0.drain(..count)
    }

    /// Gives out all, in order: nothing more comes.
    pub fn rest(&mut self) -> impl Iterator<Item = EventRecord> + '_ {
        self.settled(u64::MAX)
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
        let now = 5 * SETTLED_NS;
        let recent = now - SETTLED_NS / 2;
        for time in [30, recent, 10] {
            ordered.push(at(time));
        }
        let times = |events: Vec<EventRecord>| -> Vec<u64> {
            events.iter().map(|event| event.time_ns).collect()
        };
        assert_eq!(times(ordered.settled(now).collect()), [10, 30]);
        ordered.push(at(recent - 1));
        assert_eq!(times(ordered.rest().collect()), [recent - 1, recent]);
        assert_eq!(ordered.rest().count(), 0);
    }
}
