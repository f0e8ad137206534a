//! Which map it is about, and who was in the way: by the goroutine's last
//! operation when that was seen; else by what speaks for one of the maps that
//! were written last.

use injector_ebpf::go::{Event, FatalRecord, FrozenMap, fatal_flags, frozen_flags};

use super::{Accident, Confidence, Found, LONGEST_WRITE_NS, Names, Party, writers};
use crate::go::{self, WritingBit};

/// An operation that fails does so within microseconds, or when its thread gets
/// its CPU back. One that is older may be another, of the same place.
const LONGEST_FOUND_NS: u64 = 1_000_000;

/// The other party and its map.
pub struct Suspect<'a> {
    pub map: &'a FrozenMap,
    pub party: Party,
    /// Others that wrote the map, latest first.
    pub more: Vec<Party>,
    pub confidence: Confidence,
    pub because: Vec<&'static str>,
    pub doubts: Vec<&'static str>,
    weight: u32,
}

/// What there is to go by.
pub struct Evidence<'a> {
    record: &'a FatalRecord,
    stack: &'a [u64],
    accident: Accident,
    writing: Option<WritingBit>,
    names: Names<'a>,
    /// The runtime's function that failed, and what it does.
    function: Option<(String, Event)>,
    /// The return address of the program's own call of the runtime.
    site: Option<u64>,
}

impl<'a> Evidence<'a> {
    pub fn new(
        record: &'a FatalRecord,
        stack: &'a [u64],
        accident: Accident,
        writing: Option<WritingBit>,
        names: Names<'a>,
    ) -> Self {
        let mut evidence = Self {
            record,
            stack,
            accident,
            writing,
            names,
            function: None,
            site: None,
        };
        for address in stack.iter().skip(1) {
            let functions = evidence.functions(*address);
            if functions.is_empty() {
                continue;
            }
            if !functions.iter().any(|name| go::is_runtime(name)) {
                evidence.site = Some(*address);
                break;
            }
            if evidence.function.is_none() {
                let mut operations = functions.into_iter();
                evidence.function =
                    operations.find_map(|name| go::operation(&name).map(|event| (name, event)));
            }
        }
        evidence
    }

    /// Those at a return address, inlined ones first.
    fn functions(&self, address: u64) -> Vec<String> {
        // Names are of an instruction, then of return addresses.
        let frames = (self.names)(&[0, address]);
        frames.into_iter().map(|frame| frame.function).collect()
    }

    /// The goroutine's last operation is the one that failed: it is of the right
    /// kind, was called from the same places, and just now.
    pub fn saw_operation(&self) -> bool {
        self.has_last() && self.is_same_place() && self.last_age() <= LONGEST_FOUND_NS
    }

    fn has_last(&self) -> bool {
        let kind = Event::from_number(self.record.last.kind);
        self.record.flags & fatal_flags::LAST != 0
            && kind.is_some_and(|kind| self.accident.fits(kind))
    }

    fn last_age(&self) -> u64 {
        self.record.time_ns.saturating_sub(self.record.last.time_ns)
    }

    /// The last operation was called as the one that failed.
    fn is_same_place(&self) -> bool {
        let last = &self.record.last;
        let callers = &last.frames[1..usize::from(last.depth).clamp(1, last.frames.len())];
        !callers.is_empty()
            && self
                .stack
                .windows(callers.len())
                .any(|part| part == callers)
    }

    /// What the goroutine was about to do.
    pub fn found(&self) -> Option<Found> {
        if self.saw_operation() {
            return Some(Found {
                operation: Event::from_number(self.record.last.kind)?,
                age_ns: Some(self.last_age()),
            });
        }
        let (_, operation) = self.function.as_ref()?;
        Some(Found {
            operation: *operation,
            age_ns: None,
        })
    }

    /// Whether a map was marked as being written to.
    pub fn writing(&self, map: &FrozenMap) -> Option<bool> {
        let bit = self.writing?;
        let byte = map.header.get(bit.offset as usize)?;
        (map.flags & frozen_flags::HEADER != 0).then_some(byte & bit.mask != 0)
    }

    fn writers(&self, map: &FrozenMap) -> Vec<Party> {
        writers(map, self.record.goroutine_id, self.record.time_ns)
    }

    /// Who wrote the map of the goroutine's last operation.
    pub fn of_seen(&self) -> Result<Suspect<'a>, &'static str> {
        let record = self.record;
        let map = &record.maps[0];
        let mut more = self.writers(map);
        if more.is_empty() {
            return Err(
                "no write of this map by another goroutine was seen: the probes are too new, \
                 were not there at that moment, or its function is not probed",
            );
        }
        let party = more.remove(0);
        let doubts = doubts(&party, record.last.map_type, more.first());
        let mut because = vec!["it wrote this map last, of all others"];
        if self.writing(map) == Some(true) {
            because.push("the map was still marked as being written to");
        }
        Ok(Suspect {
            map,
            party,
            more,
            confidence: if doubts.is_empty() {
                Confidence::High
            } else {
                Confidence::Medium
            },
            because,
            doubts,
            weight: 0,
        })
    }

    /// Who most likely was in the way, when the operation that failed was not
    /// seen: of the maps that were written last, the one that most speaks for.
    pub fn of_unseen(&self) -> Result<Suspect<'a>, &'static str> {
        let maps = self.record.maps.iter().filter(|map| map.address != 0);
        let mut suspects: Vec<Suspect<'a>> = maps.filter_map(|map| self.suspect(map)).collect();
        // Of equal ones the latest.
        suspects.sort_by_key(|it| (std::cmp::Reverse(it.weight), it.party.age_ns));
        let alone = suspects.len() == 1;
        let mut best = suspects.into_iter().next().ok_or(
            "neither the operation that failed was seen nor a write by another goroutine \
             shortly before: the probes are too new, were not there at that moment, or the \
             functions are not probed",
        )?;
        if best.weight == 0 {
            return Err(
                "the operation that failed was not seen, and nothing but the time speaks for \
                 any of the maps that were written just before",
            );
        }
        if alone {
            best.because
                .push("no other map that fits was written by another goroutine just before");
        }
        best.confidence = match best.because.len() {
            0 | 1 => Confidence::Low,
            2 => Confidence::Medium,
            _ if best.doubts.is_empty() => Confidence::High,
            _ => Confidence::Medium,
        };
        best.doubts.insert(
            0,
            "the operation that failed was not seen: which map it was on is concluded",
        );
        Ok(best)
    }

    fn suspect(&self, map: &'a FrozenMap) -> Option<Suspect<'a>> {
        let mut more = self.writers(map);
        if more.is_empty() {
            return None;
        }
        let party = more.remove(0);
        let writing = self.writing(map) == Some(true);
        if !self.keys_fit(&party) || (party.age_ns > LONGEST_WRITE_NS && !writing) {
            return None;
        }
        let mut because = vec!["it wrote this map just before"];
        let mut weight = 0;
        let on_stack = self.is_on_stack(map.address);
        // The iterator of a loop is on its goroutine's stack, and has its map; a
        // function that iterates does not tell what keys it is for.
        if self.accident == Accident::IterationAndWrite && !on_stack {
            return None;
        }
        if on_stack {
            because.push("the map's address is on the stack of the goroutine that found it");
            weight += 5;
        }
        if writing {
            because.push("the map was still marked as being written to");
            weight += 4;
        }
        if map.address == self.record.last.subject && self.has_last() && self.is_same_place() {
            because.push("the last operation of the goroutine that was seen was on this map, called from the same place");
            weight += 3;
        } else if self.was_here(map) {
            because.push("this map was used from the same place before");
            weight += 2;
        }
        let doubts = doubts(&party, party.map_type, more.first());
        Some(Suspect {
            map,
            party,
            more,
            confidence: Confidence::Low,
            because,
            doubts,
            weight,
        })
    }

    /// The goroutine's stack has this address: in an iterator or a variable.
    fn is_on_stack(&self, address: u64) -> bool {
        let mut words = self.record.stack.chunks_exact(8);
        words.any(|word| word == address.to_le_bytes())
    }

    /// The map was used from the place in the program where it failed now.
    fn was_here(&self, map: &FrozenMap) -> bool {
        let Some(site) = self.site else {
            return false;
        };
        let mut touches = map.history.touches.iter();
        map.flags & frozen_flags::HISTORY != 0 && touches.any(|it| it.callers.contains(&site))
    }

    /// Both functions can be used with the same map: the compiler chooses them
    /// by the type of its keys, but for deletions of Swiss maps and reflection.
    fn keys_fit(&self, party: &Party) -> bool {
        let mut theirs = (self.names)(&party.stack).into_iter().take(3);
        let theirs = theirs.find_map(|frame| keys(&frame.function).map(str::to_owned));
        let ours = self.function.as_ref().and_then(|(name, _)| keys(name));
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

/// What speaks against one that wrote a map.
fn doubts(other: &Party, map_type: u64, next: Option<&Party>) -> Vec<&'static str> {
    let mut doubts = Vec::new();
    if other.age_ns > LONGEST_WRITE_NS {
        doubts.push("its last write that was seen began long ago");
    }
    if other.map_type != 0 && map_type != 0 && other.map_type != map_type {
        doubts.push("it wrote a map of another type that was at this address before");
    }
    // Then each of the two can be the one that is still in its write.
    if next.is_some_and(|next| next.age_ns - other.age_ns < 1000) {
        doubts.push("another goroutine wrote within the same microsecond");
    }
    doubts
}

/// The type of the keys that a function of `runtime/map_fast*.go` is for: by the
/// end of its name. Functions for any type are used for all by reflection, so
/// they tell nothing.
fn keys(function: &str) -> Option<&'static str> {
    let (_, end) = function.strip_prefix("runtime.map")?.split_once("_fast")?;
    ["32", "64", "str"]
        .into_iter()
        .find(|keys| end.starts_with(keys))
}

#[cfg(test)]
mod tests {
    use super::keys;

    #[test]
    fn functions_tell_the_type_of_keys() {
        assert_eq!(keys("runtime.mapassign_fast64ptr"), Some("64"));
        assert_eq!(keys("runtime.mapaccess2_faststr"), Some("str"));
        assert_eq!(keys("runtime.mapaccess1"), None);
        assert_eq!(keys("main.map_faststr"), None);
    }
}
