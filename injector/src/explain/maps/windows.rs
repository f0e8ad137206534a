//! When which kinds of events were seen.

use injector_ebpf::go::Event;

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// Adds one.
    #[must_use]
    pub const fn with(self, kind: Event) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// A bit for each of them, by its number.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Those with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether it is in it.
    pub const fn has(self, kind: Event) -> bool {
        self.0 >> kind as u8 & 1 != 0
    }
}

impl FromIterator<Event> for Kinds {
    fn from_iter<I: IntoIterator<Item = Event>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::default(), Self::with)
    }
}

/// For how long each kind of event was seen. Windows of one kind do not
/// overlap: of those that do, the time counts once.
#[derive(Debug)]
pub struct Windows {
    seen_ns: [u64; Event::ALL.len()],
    end_ns: [u64; Event::ALL.len()],
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            seen_ns: [0; Event::ALL.len()],
            end_ns: [0; Event::ALL.len()],
        }
    }
}

impl Windows {
    /// These kinds were seen from `start_ns` to `end_ns`. Windows come in the
    /// order in which they end.
    pub fn add(&mut self, start_ns: u64, end_ns: u64, kinds: Kinds) {
        for (kind, ..) in Event::ALL {
            if kinds.has(*kind) {
                let kind = *kind as usize;
                let start = start_ns.max(self.end_ns[kind]);
                let seen = &mut self.seen_ns[kind];
                *seen = seen.saturating_add(end_ns.saturating_sub(start));
                self.end_ns[kind] = end_ns.max(self.end_ns[kind]);
            }
        }
    }

    /// What share of the time since `start_ns` this kind was seen, as far as
    /// that was told; nothing before the first window is over.
    pub fn share(&self, kind: Event, start_ns: u64) -> Option<f64> {
        let end_ns = self.end_ns.iter().copied().max().unwrap_or(0);
        let elapsed = end_ns.checked_sub(start_ns).filter(|ns| *ns > 0)?;
        Some((self.seen_ns[kind as usize] as f64 / elapsed as f64).min(1.0))
    }
}
