//! Garbage collections and pauses of the whole program, so that neither is
//! blamed on a lock.

/// Pauses that are remembered, to be compared with waits that began before
/// them. Go collects a few times a second at most; each has two.
const PAUSES: usize = 256;

/// From one time to another, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    fn overlap(self, start: u64, end: u64) -> u64 {
        self.end.min(end).saturating_sub(self.start.max(start))
    }
}

/// Spans of one sort: those that are over, the latest of them, and the one that
/// lasts.
#[derive(Debug, Default)]
pub struct Spans {
    last: Vec<Span>,
    since: Option<u64>,
    /// How many there were.
    pub count: u64,
    /// How long they took together, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Spans {
    /// One begins, unless one lasts.
    pub fn begin(&mut self, time_ns: u64) {
        self.since.get_or_insert(time_ns);
    }

    /// It ends; when it began and ended, if that was seen.
    pub fn end(&mut self, time_ns: u64) -> Option<(u64, u64)> {
        let start = self.since.take()?;
        let span = Span {
            start,
            end: time_ns.max(start),
        };
        if self.last.len() < PAUSES {
            self.last.push(span);
        } else {
            self.last[self.count as usize % PAUSES] = span;
        }
        let length = span.end - span.start;
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(length);
        self.max_ns = self.max_ns.max(length);
        Some((span.start, span.end))
    }

    /// Whether one lasts.
    pub fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// How much of the time between these two they took, in nanoseconds; not
    /// more than is remembered.
    pub fn overlap(&self, start: u64, end: u64) -> u64 {
        let open = self.since.map(|since| Span {
            start: since,
            end: u64::MAX,
        });
        let spans = self.last.iter().copied().chain(open);
        spans
            .map(|span| span.overlap(start, end))
            .fold(0, u64::saturating_add)
    }
}

/// Both sorts.
#[derive(Debug, Default)]
pub struct Gc {
    /// Collections, from their start to their last phase.
    pub collections: Spans,
    /// Times in which no goroutine runs.
    pub pauses: Spans,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_summed() {
        let mut spans = Spans::default();
        for start in [100, 200, 300] {
            spans.begin(start);
            spans.end(start + 10);
        }
        spans.begin(400);
        assert_eq!(spans.overlap(0, 90), 0);
        assert_eq!(spans.overlap(105, 305), 5 + 10 + 5);
        assert_eq!(spans.overlap(390, 450), 50);
        assert_eq!((spans.count, spans.total_ns, spans.max_ns), (3, 30, 10));
    }

    #[test]
    fn the_latest_are_remembered() {
        let mut spans = Spans::default();
        for start in 0..2 * PAUSES as u64 {
            spans.begin(start * 10);
            spans.end(start * 10 + 1);
        }
        assert_eq!(spans.last.len(), PAUSES);
        assert_eq!(spans.overlap(0, u64::MAX), PAUSES as u64);
    }
}
