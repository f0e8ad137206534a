//! A program that ended itself: who ran into whom. From what the kernel side
//! froze at that instant; pure.

mod evidence;

use injector_ebpf::go::{
    self, Event, EventRecord, FatalRecord, FrozenMap, ITERATOR_BYTES, MAP_BYTES, MESSAGE_LEN,
    WRITERS, fatal_flags, frozen_flags,
};

use self::evidence::{Evidence, Suspect};
use super::Confidence;
use crate::go::{Frame, WritingBit};

/// Frames of a stack: an instruction, then return addresses, innermost first.
pub type Names<'a> = &'a dyn Fn(&[u64]) -> Vec<Frame>;

/// The longest that the other party of such an accident was seen to have been
/// in its write, in nanoseconds: 21 ms, when its thread had lost its CPU. An
/// older write is named with less confidence.
const LONGEST_WRITE_NS: u64 = 100_000_000;
/// Since this minor version of Go, the program's own report of such an accident
/// shows only the goroutine that found it.
const ONLY_VICTIM_SINCE: u32 = 26;

/// What the runtime found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// Two goroutines write.
    Writes,
    /// One reads, one writes.
    ReadAndWrite,
    /// One iterates, one writes.
    IterationAndWrite,
    /// One clones the map, one writes.
    CloneAndWrite,
}

impl Accident {
    /// By the text of the error: `fatal("…")` in runtime/map.go and
    /// internal/runtime/maps, the same from Go 1.19 to 1.27.
    fn of(message: &str) -> Option<Self> {
        Some(match message {
            "concurrent map writes" => Self::Writes,
            "concurrent map read and map write" => Self::ReadAndWrite,
            "concurrent map iteration and map write" => Self::IterationAndWrite,
            "concurrent map clone and map write" => Self::CloneAndWrite,
            _ => return None,
        })
    }

    /// The name that output uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writes => "concurrent_writes",
            Self::ReadAndWrite => "read_and_write",
            Self::IterationAndWrite => "iteration_and_write",
            Self::CloneAndWrite => "clone_and_write",
        }
    }

    /// Whether who did this can be the one that found it.
    fn fits(self, kind: Event) -> bool {
        match self {
            Self::Writes => kind.is_write(),
            Self::ReadAndWrite => kind == Event::Access,
            Self::IterationAndWrite => {
                matches!(kind, Event::IterateStart | Event::IterateNext)
            }
            // Cloning is not probed.
            Self::CloneAndWrite => false,
        }
    }
}

/// Who made a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Number of the goroutine that made it, when known (since Go 1.21).
    pub parent: Option<u64>,
    /// Return address of the `go` statement; none for the main goroutine.
    pub creator: Option<u64>,
    /// Entry of its first function.
    pub start: Option<u64>,
}

impl Origin {
    fn of(frozen: &go::Origin, goroutine: u64) -> Option<Self> {
        let known = |value: u64| (value != 0).then_some(value);
        (frozen.goroutine_id != 0 && frozen.goroutine_id == goroutine).then(|| Self {
            parent: known(frozen.parent),
            creator: known(frozen.creator),
            start: known(frozen.start),
        })
    }
}

/// What the goroutine that found the other one was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// It.
    pub operation: Event,
    /// How long before the error it began, in nanoseconds; none when that was
    /// not seen, and the operation is known by the goroutine's stack alone.
    pub age_ns: Option<u64>,
}

/// One goroutine and its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Number of the goroutine.
    pub goroutine: u64,
    /// Thread that it ran on.
    pub tid: u32,
    /// What it began to do.
    pub operation: Event,
    /// How long before the error, in nanoseconds.
    pub age_ns: u64,
    /// The map's type, 0 when not known.
    pub map_type: u64,
    /// The probed instruction, then return addresses, innermost first.
    pub stack: Vec<u64>,
    /// Who made it, if its `g` could be read.
    pub origin: Option<Origin>,
}

/// The goroutine that the victim ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// It.
    pub party: Party,
    /// How sure that is.
    pub confidence: Confidence,
    /// What speaks for it.
    pub because: Vec<&'static str>,
    /// Why it may be another; empty when nothing speaks against it.
    pub doubts: Vec<&'static str>,
}

/// What Go's own report shows of the other party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnReport {
    /// Nothing.
    VictimOnly,
    /// It is among all goroutines, unmarked.
    OneOfAll,
    /// The version is not known.
    Unknown,
}

/// One operation in the map's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Number of the goroutine.
    pub goroutine: u64,
    /// What it began to do.
    pub operation: Event,
    /// How long before the error, in nanoseconds.
    pub age_ns: u64,
    /// The first return addresses, innermost first; 0 when not known.
    pub callers: [u64; 2],
}

/// What is known of the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// Process id.
    pub pid: u32,
    /// When.
    pub time_ns: u64,
    /// How.
    pub kind: Option<Event>,
    /// The runtime's words, as far as they were kept.
    pub message: String,
    /// There were more.
    pub message_cut: bool,
    /// What they mean, if it is about a map.
    pub accident: Option<Accident>,
    /// The goroutine that ended the program.
    pub goroutine: u64,
    /// Its thread.
    pub tid: u32,
    /// Where it was then: the probed instruction, then return addresses.
    pub stack: Vec<u64>,
    /// Who made it, if its `g` could be read.
    pub origin: Option<Origin>,
    /// Its operation on the map; only for accidents.
    pub victim: Option<Found>,
    /// Address of the map; only for accidents.
    pub map: Option<u64>,
    /// The map's type, 0 when not known.
    pub map_type: u64,
    /// Whether the map was marked as being written to.
    pub writing: Option<bool>,
    /// The map's header in memory.
    pub header: Option<[u8; MAP_BYTES]>,
    /// The iterator in memory.
    pub iterator: Option<[u8; ITERATOR_BYTES]>,
    /// Who was in the way, or why that cannot be said; only for accidents.
    pub other: Option<Result<Other, &'static str>>,
    /// Other goroutines that wrote the map, latest first.
    pub more_writers: Vec<Party>,
    /// The last operations on the map, oldest first.
    pub history: Vec<Past>,
    /// What Go's own report shows of the other party.
    pub own_report: OwnReport,
    /// Whether the process was stopped to be looked at; none when nobody asked.
    pub held: Option<bool>,
}

impl Fatal {
    /// Explains a record of a program. `writing` is the bit of a map's header
    /// that says that it is being written to.
    pub fn new(
        record: &FatalRecord,
        minor: Option<u32>,
        writing: Option<WritingBit>,
        names: Names<'_>,
    ) -> Self {
        let length = usize::try_from(record.message_length).unwrap_or(usize::MAX);
        let text = &record.message[..length.min(MESSAGE_LEN)];
        let message = String::from_utf8_lossy(text).into_owned();
        let stack = stack(&record.frames, record.depth);
        let accident = Accident::of(&message);
        let mut fatal = Self {
            pid: record.tgid,
            time_ns: record.time_ns,
            kind: Event::from_number(record.kind),
            message,
            message_cut: length > MESSAGE_LEN,
            accident,
            goroutine: record.goroutine_id,
            tid: record.tid,
            origin: Origin::of(&record.origin, record.goroutine_id),
            victim: None,
            map: None,
            map_type: 0,
            writing: None,
            header: None,
            iterator: None,
            other: None,
            more_writers: Vec::new(),
            history: Vec::new(),
            own_report: match minor {
                Some(minor) if minor >= ONLY_VICTIM_SINCE => OwnReport::VictimOnly,
                Some(_) => OwnReport::OneOfAll,
                None => OwnReport::Unknown,
            },
            held: match record.flags & (fatal_flags::HELD | fatal_flags::NOT_HELD) {
                0 => None,
                flags => Some(flags & fatal_flags::HELD != 0),
            },
            stack: Vec::new(),
        };
        if let Some(accident) = accident {
            let evidence = Evidence::new(record, &stack, accident, writing, names);
            fatal.blame(record, &evidence);
        }
        fatal.stack = stack;
        fatal
    }

    /// Finds the map and the other party.
    fn blame(&mut self, record: &FatalRecord, evidence: &Evidence<'_>) {
        self.victim = evidence.found();
        let suspect = if evidence.saw_operation() {
            self.map_type = record.last.map_type;
            let has_iterator = record.flags & fatal_flags::ITERATOR != 0;
            self.iterator = has_iterator.then_some(record.iterator);
            self.look_at(&record.maps[0], record, evidence);
            evidence.of_seen()
        } else {
            let suspect = evidence.of_unseen();
            if let Ok(suspect) = &suspect {
                self.map_type = suspect.party.map_type;
                self.look_at(suspect.map, record, evidence);
            }
            suspect
        };
        self.other = Some(suspect.map(
            |Suspect {
                 party,
                 more,
                 confidence,
                 because,
                 doubts,
                 ..
             }| {
                self.more_writers = more;
                Other {
                    party,
                    confidence,
                    because,
                    doubts,
                }
            },
        ));
    }

    fn look_at(&mut self, map: &FrozenMap, record: &FatalRecord, evidence: &Evidence<'_>) {
        self.map = Some(map.address);
        self.header = (map.flags & frozen_flags::HEADER != 0).then_some(map.header);
        self.writing = evidence.writing(map);
        self.history = history(map, record.time_ns);
    }
}

/// The used part of a stack.
fn stack(frames: &[u64], depth: u8) -> Vec<u64> {
    frames[..usize::from(depth).min(frames.len())].to_vec()
}

fn party(op: &EventRecord, origin: &go::Origin, now: u64) -> Option<Party> {
    if op.time_ns == 0 {
        return None;
    }
    Some(Party {
        goroutine: op.goroutine_id,
        tid: op.tid,
        operation: Event::from_number(op.kind)?,
        // The other's clock can be read after ours.
        age_ns: now.saturating_sub(op.time_ns),
        map_type: op.map_type,
        stack: stack(&op.frames, op.depth),
        origin: Origin::of(origin, op.goroutine_id),
    })
}

/// The last write of each goroutine but `except` that wrote the map, latest
/// first.
fn writers(map: &FrozenMap, except: u64, now: u64) -> Vec<Party> {
    let history = &map.history;
    if map.flags & frozen_flags::HISTORY == 0 {
        return Vec::new();
    }
    let mut writes: Vec<(&EventRecord, &go::Origin)> = (0..WRITERS)
        .map(|slot| {
            let turn = (history.turns[slot] & 1) as usize;
            (&history.writes[slot * 2 + turn], &map.origins[slot])
        })
        .filter(|(op, _)| op.time_ns != 0 && op.goroutine_id != except)
        .collect();
    writes.sort_by_key(|(op, _)| std::cmp::Reverse(op.time_ns));
    // A goroutine has two slots after it was pushed out of one.
    let mut seen = Vec::new();
    writes.retain(|(op, _)| {
        let new = !seen.contains(&op.goroutine_id);
        seen.push(op.goroutine_id);
        new
    });
    writes
        .into_iter()
        .filter_map(|(op, origin)| party(op, origin, now))
        .collect()
}

fn history(map: &FrozenMap, now: u64) -> Vec<Past> {
    let touches = map.history.touches.iter();
    let mut touches: Vec<_> = touches.filter(|touch| touch.time_ns != 0).collect();
    touches.sort_by_key(|touch| touch.time_ns);
    touches
        .into_iter()
        .filter_map(|touch| {
            Some(Past {
                goroutine: touch.goroutine_id,
                operation: Event::from_number(touch.kind)?,
                age_ns: now.saturating_sub(touch.time_ns),
                callers: touch.callers,
            })
        })
        .collect()
}

#[cfg(test)]
pub mod fixture {
    //! A frozen record, as the kernel side writes it.

    use injector_ebpf::go::{TOUCHES, Touch};

    use super::*;

    /// When the error is.
    pub const NOW: u64 = 1_000_000_000;
    /// Address of the map.
    pub const MAP: u64 = 0x00c0_0001_2340;

    /// An operation of a goroutine, so many nanoseconds before.
    pub fn op(goroutine: u64, kind: Event, age: u64) -> EventRecord {
        EventRecord {
            time_ns: NOW - age,
            goroutine_id: goroutine,
            subject: MAP,
            map_type: 0x4a_0000,
            tid: 100 + goroutine as u32,
            kind: kind as u8,
            depth: 2,
            frames: [0x40_1000, 0x40_2000 + goroutine, 0, 0, 0, 0, 0, 0, 0, 0],
            ..EventRecord::default()
        }
    }

    /// An error that goroutine 7 ran into, which had begun `kind` 300 ns before.
    pub fn record(message: &str, kind: Event) -> FatalRecord {
        let mut record = FatalRecord {
            time_ns: NOW,
            goroutine_id: 7,
            tgid: 4242,
            tid: 107,
            kind: Event::Fatal as u8,
            depth: 3,
            flags: fatal_flags::LAST,
            message_length: message.len() as u64,
            last: op(7, kind, 300),
            ..FatalRecord::EMPTY
        };
        record.maps[0].address = MAP;
        record.maps[0].flags = frozen_flags::HISTORY | frozen_flags::HEADER;
        record.message[..message.len()].copy_from_slice(message.as_bytes());
        record.frames[..3].copy_from_slice(&[0x40_3000, 0x40_1010, 0x40_2007]);
        record
    }

    /// A write into a slot of a map's history.
    pub fn write(map: &mut FrozenMap, slot: usize, op: EventRecord) {
        let history = &mut map.history;
        history.writers[slot] = op.goroutine_id;
        history.turns[slot] += 1;
        let turn = history.turns[slot] as usize & 1;
        history.writes[slot * 2 + turn] = op;
        map.origins[slot] = go::Origin {
            goroutine_id: op.goroutine_id,
            parent: 1,
            creator: 0x40_5001,
            start: 0x40_6000,
        };
        touch(map, op);
    }

    /// Any operation in a map's history.
    pub fn touch(map: &mut FrozenMap, op: EventRecord) {
        let history = &mut map.history;
        let touched = history.touched as usize;
        history.touches[touched % TOUCHES] = Touch {
            time_ns: op.time_ns,
            goroutine_id: op.goroutine_id,
            callers: [op.frames[1], 0],
            tid: op.tid,
            site: 0,
            kind: op.kind,
            reserved: 0,
        };
        history.touched += 1;
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::{
        Event::{Access, Assign, Delete, IterateNext},
        FATAL_FRAMES,
    };

    use super::{
        fixture::{MAP, op, record, touch, write},
        *,
    };

    const WRITES: &str = "concurrent map writes";
    const READ: &str = "concurrent map read and map write";
    const ITERATION: &str = "concurrent map iteration and map write";

    /// Functions at the addresses of the fixture.
    fn names(stack: &[u64]) -> Vec<Frame> {
        let named = |address: &u64| {
            Some(match address {
                0x40_1010 => "runtime.mapaccess1_fast64",
                0x40_1000 => "runtime.mapassign_fast64",
                0x40_1500 => "runtime.mapassign_faststr",
                0x40_2000.. => "main.use",
                _ => return None,
            })
        };
        let frame = |function: &str| Frame {
            function: function.to_owned(),
            file: String::new(),
            line: 1,
        };
        stack.iter().filter_map(named).map(frame).collect()
    }

    const WRITING: WritingBit = WritingBit {
        offset: 34,
        mask: 1,
    };

    fn explain(record: &FatalRecord) -> Fatal {
        Fatal::new(record, Some(27), Some(WRITING), &names)
    }

    fn other(fatal: &Fatal) -> &Other {
        fatal.other.as_ref().unwrap().as_ref().unwrap()
    }

    #[test]
    fn the_other_writer_is_named() {
        let mut record = record(WRITES, Assign);
        write(&mut record.maps[0], 0, op(7, Assign, 300));
        write(&mut record.maps[0], 1, op(9, Delete, 5_000));
        let fatal = explain(&record);
        assert_eq!(fatal.accident, Some(Accident::Writes));
        assert_eq!(fatal.map, Some(MAP));
        assert_eq!(
            fatal
                .victim
                .as_ref()
                .map(|found| (found.operation, found.age_ns)),
            Some((Assign, Some(300)))
        );
        let other = other(&fatal);
        assert_eq!((other.party.goroutine, other.party.operation), (9, Delete));
        assert_eq!(other.party.age_ns, 5_000);
        assert_eq!(other.party.stack, [0x40_1000, 0x40_2009]);
        assert!(other.doubts.is_empty());
        assert_eq!(fatal.own_report, OwnReport::VictimOnly);
    }

    /// The slot's second place is the newer one after an odd number of turns.
    #[test]
    fn the_last_write_of_each_counts_and_the_latest_of_all() {
        let mut record = record(READ, Access);
        write(&mut record.maps[0], 0, op(9, Assign, 90_000));
        write(&mut record.maps[0], 0, op(9, Assign, 9_000));
        write(&mut record.maps[0], 3, op(11, Assign, 40_000));
        write(&mut record.maps[0], 3, op(11, Assign, 30_000));
        write(&mut record.maps[0], 3, op(11, Delete, 2_000));
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 11);
        assert_eq!(other(&fatal).party.operation, Delete);
        assert_eq!(fatal.more_writers.len(), 1);
        assert_eq!(fatal.more_writers[0].age_ns, 9_000);
        assert_eq!(fatal.history.len(), 5);
        assert!(
            fatal
                .history
                .is_sorted_by_key(|past| std::cmp::Reverse(past.age_ns))
        );
    }

    #[test]
    fn a_goroutine_is_never_its_own_other_party() {
        let mut record = record(ITERATION, IterateNext);
        write(&mut record.maps[0], 0, op(7, Assign, 1_000));
        let fatal = explain(&record);
        let why = fatal.other.unwrap().unwrap_err();
        assert!(why.contains("no write of this map by another"));
    }

    #[test]
    fn without_any_write_nobody_is_named() {
        let mut record = record(READ, Assign);
        record.flags = 0;
        record.maps[0].address = 0;
        let fatal = explain(&record);
        assert!(fatal.map.is_none() && fatal.other.unwrap().is_err());
        let found = fatal.victim.unwrap();
        assert_eq!((found.operation, found.age_ns), (Access, None));
    }

    /// A record of an error in a read that no probe was there for.
    fn unseen() -> FatalRecord {
        unseen_of(READ)
    }

    fn unseen_of(message: &str) -> FatalRecord {
        let mut record = record(message, Assign);
        record.flags = 0;
        for (index, map) in record.maps.iter_mut().enumerate() {
            map.address = MAP + index as u64 * 0x100;
            map.flags = frozen_flags::HISTORY | frozen_flags::HEADER;
        }
        record
    }

    #[test]
    fn of_several_maps_the_one_that_is_being_written_is_blamed() {
        let mut record = unseen();
        write(&mut record.maps[1], 0, op(8, Assign, 900));
        write(&mut record.maps[2], 0, op(9, Assign, 90_000));
        // That one was written last speaks for none of them.
        let fatal = explain(&record);
        let why = fatal.other.unwrap().unwrap_err();
        assert!(why.contains("nothing but the time"), "{why}");
        assert_eq!(fatal.map, None);

        record.maps[2].header[34] = 1;
        let fatal = explain(&record);
        assert_eq!(
            (other(&fatal).party.goroutine, fatal.map),
            (9, Some(MAP + 0x200))
        );
        assert_eq!(fatal.writing, Some(true));
        assert_eq!(other(&fatal).confidence, Confidence::Medium);
        assert!(other(&fatal).doubts[0].contains("was not seen"));
    }

    /// As an iterator does, which has the address of its map.
    #[test]
    fn an_address_on_the_stack_speaks_for_a_map() {
        let mut record = unseen();
        write(&mut record.maps[1], 0, op(8, Assign, 900));
        write(&mut record.maps[2], 0, op(9, Assign, 90_000));
        record.stack[64..72].copy_from_slice(&(MAP + 0x200).to_le_bytes());
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 9);
        assert_eq!(other(&fatal).confidence, Confidence::Medium);
    }

    #[test]
    fn a_map_is_iterated_from_a_stack_that_has_it() {
        let mut record = unseen_of(ITERATION);
        write(&mut record.maps[1], 0, op(8, Assign, 900));
        record.maps[1].header[34] = 1;
        assert!(explain(&record).other.unwrap().is_err());
        record.stack[64..72].copy_from_slice(&(MAP + 0x100).to_le_bytes());
        assert_eq!(other(&explain(&record)).party.goroutine, 8);
    }

    #[test]
    fn the_place_in_the_program_speaks_for_a_map() {
        let mut record = unseen();
        write(&mut record.maps[1], 0, op(8, Assign, 900));
        write(&mut record.maps[3], 0, op(9, Assign, 90_000));
        // The fixture's goroutine 7 fails in a call from 0x402007.
        touch(&mut record.maps[3], op(7, Access, 400_000_000));
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 9);
        assert_eq!(other(&fatal).confidence, Confidence::Medium);
    }

    #[test]
    fn maps_with_other_keys_and_old_writes_do_not_count() {
        let mut record = unseen();
        let mut of_strings = op(8, Assign, 900);
        of_strings.frames[0] = 0x40_1500;
        write(&mut record.maps[1], 0, of_strings);
        write(&mut record.maps[2], 0, op(9, Assign, 2 * LONGEST_WRITE_NS));
        write(&mut record.maps[3], 0, op(10, Assign, 3_000));
        write(&mut record.maps[3], 1, op(7, Assign, 2_000));
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 10);
        // Nothing else is left that it could be, and it was used from there.
        assert_eq!(other(&fatal).confidence, Confidence::High);
    }

    #[test]
    fn an_operation_elsewhere_is_not_the_one_that_failed() {
        let mut record = record(READ, Access);
        record.last.frames[1] = 0x40_2999;
        write(&mut record.maps[0], 0, op(9, Assign, 1_000));
        let fatal = explain(&record);
        assert_eq!(fatal.victim.unwrap().age_ns, None);
        assert!(fatal.other.unwrap().unwrap_err().contains("was not seen"));
    }

    #[test]
    fn who_made_a_goroutine_is_known_while_it_lives() {
        let mut record = record(READ, Access);
        write(&mut record.maps[0], 0, op(9, Assign, 1_000));
        let origin = other(&explain(&record)).party.origin.unwrap();
        assert_eq!((origin.parent, origin.start), (Some(1), Some(0x40_6000)));
        record.maps[0].origins[0].goroutine_id = 12;
        assert!(other(&explain(&record)).party.origin.is_none());
    }

    #[test]
    fn doubts_are_told() {
        let mut record = record(WRITES, Assign);
        let mut old = op(9, Assign, 2 * LONGEST_WRITE_NS);
        old.map_type += 64;
        write(&mut record.maps[0], 0, old);
        assert_eq!(other(&explain(&record)).doubts.len(), 2);

        write(&mut record.maps[0], 1, op(10, Assign, 800));
        write(&mut record.maps[0], 2, op(11, Assign, 900));
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 10);
        assert_eq!(other(&fatal).doubts.len(), 1);
    }

    #[test]
    fn other_errors_are_about_no_map() {
        let mut record = record("all goroutines are asleep - deadlock!", Assign);
        write(&mut record.maps[0], 0, op(9, Assign, 1_000));
        let fatal = explain(&record);
        assert_eq!((fatal.accident, &fatal.other), (None, &None));
        assert!(fatal.map.is_none() && fatal.history.is_empty());
        assert!(fatal.more_writers.is_empty());
        assert_eq!(fatal.message, "all goroutines are asleep - deadlock!");
    }

    #[test]
    fn long_messages_and_depths_stay_within_bounds() {
        let mut record = record(WRITES, Assign);
        record.message_length = u64::MAX;
        record.depth = u8::MAX;
        record.last.depth = u8::MAX;
        record.kind = 99;
        let fatal = Fatal::new(&record, None, None, &names);
        assert!(fatal.message_cut && fatal.kind.is_none());
        assert_eq!(fatal.stack.len(), FATAL_FRAMES);
        assert_eq!(fatal.own_report, OwnReport::Unknown);
    }
}
