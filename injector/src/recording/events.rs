//! Events as they are recorded: some eight bytes each.
//!
//! Goroutines, subjects and stacks come again and again. Writer and reader keep
//! the same tables of those that came last: one that is in its slot is named by
//! the number of the slot, any other is written out and takes the place. So
//! neither needs more memory the longer a recording is. docs/recording.md has
//! the layout.

use injector_ebpf::go::{EventRecord, OP_FRAMES};

/// Slots of each table, a power of two.
const SLOTS: usize = 1024;

/// What the first byte of an event says.
mod bits {
    pub const NEW_WHO: u8 = 1;
    pub const NEW_SUBJECT: u8 = 1 << 1;
    pub const NEW_PLACE: u8 = 1 << 2;
    pub const OVERLAPS: u8 = 1 << 3;
    /// The tables are empty again, and time begins at 0.
    pub const AFRESH: u8 = 1 << 4;
}

/// The goroutine and its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Who {
    goroutine_id: u64,
    goroutine: u64,
    tid: u32,
}

/// What it was done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subject {
    address: u64,
    map_type: u64,
    iterator: u64,
}

/// The probe and the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    target: u16,
    site: u16,
    kind: u8,
    depth: u8,
    frames: [u64; OP_FRAMES],
}

impl From<&EventRecord> for Who {
    fn from(event: &EventRecord) -> Self {
        Self {
            goroutine_id: event.goroutine_id,
            goroutine: event.goroutine,
            tid: event.tid,
        }
    }
}

impl From<&EventRecord> for Subject {
    fn from(event: &EventRecord) -> Self {
        Self {
            address: event.subject,
            map_type: event.map_type,
            iterator: event.iterator,
        }
    }
}

impl From<&EventRecord> for Place {
    fn from(event: &EventRecord) -> Self {
        let mut frames = [0; OP_FRAMES];
        let depth = usize::from(event.depth).min(OP_FRAMES);
        frames[..depth].copy_from_slice(&event.frames[..depth]);
        Self {
            target: event.target,
            site: event.site,
            kind: event.kind,
            depth: depth as u8,
            frames,
        }
    }
}

/// Mixes words into the number of a slot.
fn slot(words: impl IntoIterator<Item = u64>) -> usize {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let sum = words.into_iter().fold(0, mix);
    (sum >> 54) as usize % SLOTS
}

impl Who {
    fn slot(&self) -> usize {
        slot([self.goroutine_id, self.tid.into()])
    }
}

impl Subject {
    fn slot(&self) -> usize {
        slot([self.address, self.iterator])
    }
}

impl Place {
    fn slot(&self) -> usize {
        let head = u64::from(self.site) << 8 | u64::from(self.kind);
        slot(self.frames.into_iter().chain([head]))
    }
}

/// What writer and reader both remember.
struct Tables {
    time_ns: u64,
    who: Box<[Who]>,
    subjects: Box<[Subject]>,
    places: Box<[Place]>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            time_ns: 0,
            who: vec![Who::default(); SLOTS].into_boxed_slice(),
            subjects: vec![Subject::default(); SLOTS].into_boxed_slice(),
            places: vec![Place::default(); SLOTS].into_boxed_slice(),
        }
    }
}

impl Tables {
    fn clear(&mut self) {
        self.time_ns = 0;
        self.who.fill(Who::default());
        self.subjects.fill(Subject::default());
        self.places.fill(Place::default());
    }
}

fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    (signed << 1 ^ signed >> 63) as u64
}

fn zagzig(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number close to another one.
fn put_near(out: &mut Vec<u8>, number: u64, near: u64) {
    put(out, zigzag(number.wrapping_sub(near)));
}

/// Writes events.
#[derive(Default)]
pub struct Packer {
    tables: Tables,
    is_afresh: bool,
}

impl Packer {
    /// Whoever reads what comes now has not read what came before.
    pub fn begin_afresh(&mut self) {
        if !self.is_afresh {
            self.tables.clear();
            self.is_afresh = true;
        }
    }

    /// Appends an event. Allocates nothing beside what `out` needs.
    pub fn pack(&mut self, event: &EventRecord, out: &mut Vec<u8>) {
        let tables = &mut self.tables;
        let (who, subject, place) = (Who::from(event), Subject::from(event), Place::from(event));
        let (who_slot, subject_slot, place_slot) = (who.slot(), subject.slot(), place.slot());
        let new_who = tables.who[who_slot] != who;
        let new_subject = tables.subjects[subject_slot] != subject;
        let new_place = tables.places[place_slot] != place;
        let overlaps = event.overlaps != 0 || event.overlapped != 0;
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        out.push(
            bit(new_who, bits::NEW_WHO)
                | bit(new_subject, bits::NEW_SUBJECT)
                | bit(new_place, bits::NEW_PLACE)
                | bit(overlaps, bits::OVERLAPS)
                | bit(std::mem::take(&mut self.is_afresh), bits::AFRESH),
        );
        put_near(out, event.time_ns, tables.time_ns);
        tables.time_ns = event.time_ns;
        put(out, who_slot as u64);
        if new_who {
            put(out, who.goroutine_id);
            put(out, who.goroutine);
            put(out, who.tid.into());
            tables.who[who_slot] = who;
        }
        put(out, subject_slot as u64);
        if new_subject {
            put(out, subject.address);
            put(out, subject.map_type);
            put(out, subject.iterator);
            tables.subjects[subject_slot] = subject;
        }
        put(out, place_slot as u64);
        if new_place {
            put(out, place.target.into());
            put(out, place.site.into());
            out.push(place.kind);
            out.push(place.depth);
            let mut near = 0;
            for address in &place.frames[..usize::from(place.depth)] {
                put_near(out, *address, near);
                near = *address;
            }
            tables.places[place_slot] = place;
        }
        if overlaps {
            put(out, event.overlaps);
            out.push(event.overlapped);
        }
    }
}

/// Reads events.
#[derive(Default)]
pub struct Unpacker {
    tables: Tables,
}

/// What is left of packed events.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn near(&mut self, near: u64) -> Option<u64> {
        Some(near.wrapping_add(zagzig(self.number()?)))
    }

    fn slot(&mut self) -> Option<usize> {
        Some(self.number()? as usize % SLOTS)
    }
}

impl Unpacker {
    /// Hands out the events in these bytes; false if they end within one, or
    /// are no events.
    pub fn unpack(&mut self, packed: &[u8], mut each: impl FnMut(&EventRecord)) -> bool {
        let mut bytes = Bytes(packed);
        while !bytes.0.is_empty() {
            match self.event(&mut bytes) {
                Some(event) => each(&event),
                None => return false,
            }
        }
        true
    }

    fn event(&mut self, bytes: &mut Bytes<'_>) -> Option<EventRecord> {
        let tables = &mut self.tables;
        let head = bytes.byte()?;
        let has = |bit: u8| head & bit != 0;
        if has(bits::AFRESH) {
            tables.clear();
        }
        let time_ns = bytes.near(tables.time_ns)?;
        tables.time_ns = time_ns;
        let slot = bytes.slot()?;
        if has(bits::NEW_WHO) {
            tables.who[slot] = Who {
                goroutine_id: bytes.number()?,
                goroutine: bytes.number()?,
                tid: bytes.number()? as u32,
            };
        }
        let who = tables.who[slot];
        let slot = bytes.slot()?;
        if has(bits::NEW_SUBJECT) {
            tables.subjects[slot] = Subject {
                address: bytes.number()?,
                map_type: bytes.number()?,
                iterator: bytes.number()?,
            };
        }
        let subject = tables.subjects[slot];
        let slot = bytes.slot()?;
        if has(bits::NEW_PLACE) {
            let mut place = Place {
                target: bytes.number()? as u16,
                site: bytes.number()? as u16,
                kind: bytes.byte()?,
                depth: bytes.byte()?.min(OP_FRAMES as u8),
                ..Place::default()
            };
            let mut near = 0;
            for address in &mut place.frames[..usize::from(place.depth)] {
                near = bytes.near(near)?;
                *address = near;
            }
            tables.places[slot] = place;
        }
        let place = &tables.places[slot];
        let (overlaps, overlapped) = if has(bits::OVERLAPS) {
            (bytes.number()?, bytes.byte()?)
        } else {
            (0, 0)
        };
        Some(EventRecord {
            time_ns,
            goroutine_id: who.goroutine_id,
            goroutine: who.goroutine,
            subject: subject.address,
            map_type: subject.map_type,
            iterator: subject.iterator,
            overlaps,
            tid: who.tid,
            site: place.site,
            kind: place.kind,
            depth: place.depth,
            target: place.target,
            overlapped,
            reserved: [0; 5],
            frames: place.frames,
        })
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::Event;
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = EventRecord> {
        let any_or_few = || prop_oneof![0..4u64, any::<u64>()];
        let small = (
            any::<u16>(),
            any::<u8>(),
            0..=OP_FRAMES as u8,
            0..3u16,
            any::<u8>(),
        );
        let wide = (
            (any::<u64>(), any_or_few(), any_or_few(), any_or_few()),
            (any_or_few(), any_or_few(), any_or_few(), any::<u32>()),
        );
        let frames = prop::array::uniform(prop_oneof![0x40_0000..0x40_0010u64, any::<u64>()]);
        (wide, small, frames).prop_map(
            |((a, b), (site, kind, depth, target, overlapped), frames): (
                _,
                _,
                [u64; OP_FRAMES],
            )| {
                let mut event = EventRecord {
                    time_ns: a.0,
                    goroutine_id: a.1,
                    goroutine: a.2,
                    subject: a.3,
                    map_type: b.0,
                    iterator: b.1,
                    overlaps: b.2,
                    tid: b.3,
                    site,
                    kind,
                    depth,
                    target,
                    overlapped,
                    ..EventRecord::default()
                };
                let depth = usize::from(depth);
                event.frames[..depth].copy_from_slice(&frames[..depth]);
                event
            },
        )
    }

    fn read(packed: &[u8]) -> (Vec<EventRecord>, bool) {
        let mut events = Vec::new();
        let whole = Unpacker::default().unpack(packed, |event| events.push(*event));
        (events, whole)
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(
            events in prop::collection::vec(event(), 0..100),
            afresh in any::<prop::sample::Index>(),
        ) {
            let mut packer = Packer::default();
            let mut packed = Vec::new();
            for (index, event) in events.iter().enumerate() {
                if index == afresh.index(events.len()) {
                    packer.begin_afresh();
                }
                packer.pack(event, &mut packed);
            }
            prop_assert_eq!(read(&packed), (events, true));
        }

        #[test]
        fn what_comes_after_a_new_beginning_stands_alone(
            before in prop::collection::vec(event(), 0..20),
            after in prop::collection::vec(event(), 0..20),
        ) {
            let mut packer = Packer::default();
            let mut packed = Vec::new();
            for event in &before {
                packer.pack(event, &mut packed);
            }
            packer.begin_afresh();
            packed.clear();
            for event in &after {
                packer.pack(event, &mut packed);
            }
            prop_assert_eq!(read(&packed), (after, true));
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (events, _) = read(&bytes);
            prop_assert!(events.iter().all(|event| usize::from(event.depth) <= OP_FRAMES));
        }
    }

    #[test]
    fn an_event_that_comes_again_takes_few_bytes() {
        let event = EventRecord {
            time_ns: 1_000_000,
            goroutine_id: 18,
            goroutine: 0xc000_1000,
            subject: 0xc000_2000,
            tid: 4321,
            depth: 3,
            frames: [0x40_1000, 0x40_2000, 0x40_3000, 0, 0, 0, 0, 0, 0, 0],
            ..EventRecord::default()
        };
        let mut packer = Packer::default();
        let mut bytes = Vec::new();
        packer.pack(&event, &mut bytes);
        let first = bytes.len();
        let again = EventRecord {
            time_ns: event.time_ns + 5_000,
            ..event
        };
        packer.pack(&again, &mut bytes);
        assert!(bytes.len() - first <= 10, "{}", bytes.len() - first);
        let (_, whole) = read(&bytes[..bytes.len() - 1]);
        assert!(!whole);
    }

    /// Recordings keep the numbers of kinds, so none may get another one.
    #[test]
    fn numbers_of_kinds_stay() {
        let names: Vec<_> = Event::ALL.iter().map(|(_, name, _)| *name).collect();
        let numbers = Event::ALL.iter().enumerate();
        assert!(
            numbers
                .clone()
                .all(|(number, (kind, ..))| number == *kind as usize)
        );
        let known = "assign delete clear access iterate_start iterate_next grow grow_step \
                     sync_map_load sync_map_store sync_map_load_or_store sync_map_delete \
                     sync_map_range sync_map_range_end lock_slow unlock_slow read_unlock_slow \
                     write_lock write_unlock semaphore_acquire semaphore_acquired \
                     semaphore_release gc_start gc_end world_stop world_start goroutine_start \
                     goroutine_end panic fatal throw watch_set watch_clear no_cpu";
        assert!(names.join(" ").starts_with(known), "{names:?}");
    }
}
