//! A program that ended itself: who ran into whom. From what the kernel side
//! froze at that instant; pure.

use injector_ebpf::go::{
    Event, EventRecord, FatalRecord, ITERATOR_BYTES, MAP_BYTES, MESSAGE_LEN, Touch, WRITERS,
    fatal_flags,
};

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
}

/// The goroutine that the victim ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// It.
    pub party: Party,
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
    /// Its operation on the map; only for accidents.
    pub victim: Option<Party>,
    /// Address of the map.
    pub map: Option<u64>,
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
}

impl Fatal {
    /// Explains a record of a program that was built with Go 1.`minor`.
    pub fn new(record: &FatalRecord, minor: Option<u32>) -> Self {
        let length = usize::try_from(record.message_length).unwrap_or(usize::MAX);
        let text = &record.message[..length.min(MESSAGE_LEN)];
        let message = String::from_utf8_lossy(text).into_owned();
        let has = |flag| record.flags & flag != 0;
        let accident = Accident::of(&message);
        let about_map = accident.is_some() && has(fatal_flags::LAST);
        let victim = party(&record.last, record.time_ns).filter(|_| about_map);
        let mut writers = writers(record);
        let map = about_map.then_some(record.last.subject);
        let other = accident.map(|accident| {
            let victim = victim
                .as_ref()
                .ok_or("no operation of this goroutine was seen: the probes are too new")?;
            if !accident.fits(victim.operation) {
                return Err(
                    "the operation that failed was not seen, so neither was the map: \
                     its function is not probed",
                );
            }
            if writers.is_empty() {
                return Err(
                    "no write of this map by another goroutine was seen: the probes are too \
                     new, or its function is not probed",
                );
            }
            let party = writers.remove(0);
            let doubts = doubts(&party, victim, writers.first());
            Ok(Other { party, doubts })
        });
        Self {
            pid: record.tgid,
            time_ns: record.time_ns,
            kind: Event::from_number(record.kind),
            message,
            message_cut: length > MESSAGE_LEN,
            accident,
            goroutine: record.goroutine_id,
            tid: record.tid,
            stack: stack(&record.frames, record.depth),
            victim,
            map,
            header: (about_map && has(fatal_flags::MAP)).then_some(record.map),
            iterator: (about_map && has(fatal_flags::ITERATOR)).then_some(record.iterator),
            other,
            more_writers: if about_map { writers } else { Vec::new() },
            history: if about_map {
                history(record)
            } else {
                Vec::new()
            },
            own_report: match minor {
                Some(minor) if minor >= ONLY_VICTIM_SINCE => OwnReport::VictimOnly,
                Some(_) => OwnReport::OneOfAll,
                None => OwnReport::Unknown,
            },
        }
    }
}

fn stack(frames: &[u64], depth: u8) -> Vec<u64> {
    frames[..usize::from(depth).min(frames.len())].to_vec()
}

fn party(op: &EventRecord, now: u64) -> Option<Party> {
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
    })
}

/// The last write of each other goroutine that wrote the map, latest first.
fn writers(record: &FatalRecord) -> Vec<Party> {
    let history = &record.history;
    if record.flags & fatal_flags::HISTORY == 0 {
        return Vec::new();
    }
    let mut writes: Vec<&EventRecord> = (0..WRITERS)
        .map(|slot| &history.writes[slot * 2 + (history.turns[slot] & 1) as usize])
        .filter(|op| op.time_ns != 0 && op.goroutine_id != record.goroutine_id)
        .collect();
    writes.sort_by_key(|op| std::cmp::Reverse(op.time_ns));
    // A goroutine has two slots after it was pushed out of one.
    let mut seen = Vec::new();
    writes.retain(|op| {
        let new = !seen.contains(&op.goroutine_id);
        seen.push(op.goroutine_id);
        new
    });
    let now = record.time_ns;
    writes.into_iter().filter_map(|op| party(op, now)).collect()
}

fn doubts(other: &Party, victim: &Party, next: Option<&Party>) -> Vec<&'static str> {
    let mut doubts = Vec::new();
    if other.age_ns > LONGEST_WRITE_NS {
        doubts.push("its last write that was seen began long ago");
    }
    let types = (other.map_type, victim.map_type);
    if types.0 != 0 && types.1 != 0 && types.0 != types.1 {
        doubts.push("it wrote a map of another type that was at this address before");
    }
    // Then each of the two can be the one that is still in its write.
    if next.is_some_and(|next| next.age_ns - other.age_ns < 1000) {
        doubts.push("another goroutine wrote within the same microsecond");
    }
    doubts
}

fn history(record: &FatalRecord) -> Vec<Past> {
    let mut touches: Vec<&Touch> = record
        .history
        .touches
        .iter()
        .filter(|touch| touch.time_ns != 0)
        .collect();
    touches.sort_by_key(|touch| touch.time_ns);
    touches
        .into_iter()
        .filter_map(|touch| {
            Some(Past {
                goroutine: touch.goroutine_id,
                operation: Event::from_number(touch.kind)?,
                age_ns: record.time_ns.saturating_sub(touch.time_ns),
                callers: touch.callers,
            })
        })
        .collect()
}

#[cfg(test)]
pub mod fixture {
    //! A frozen record, as the kernel side writes it.

    use injector_ebpf::go::TOUCHES;

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
            flags: fatal_flags::LAST | fatal_flags::HISTORY | fatal_flags::MAP,
            message_length: message.len() as u64,
            last: op(7, kind, 300),
            ..FatalRecord::EMPTY
        };
        record.message[..message.len()].copy_from_slice(message.as_bytes());
        record.frames[..3].copy_from_slice(&[0x40_3000, 0x40_1010, 0x40_2007]);
        record
    }

    /// A write into a slot of the history.
    pub fn write(record: &mut FatalRecord, slot: usize, op: EventRecord) {
        record.history.writers[slot] = op.goroutine_id;
        record.history.turns[slot] += 1;
        let turn = record.history.turns[slot] as usize & 1;
        record.history.writes[slot * 2 + turn] = op;
        let touched = record.history.touched as usize;
        record.history.touches[touched % TOUCHES] = Touch {
            time_ns: op.time_ns,
            goroutine_id: op.goroutine_id,
            callers: [op.frames[1], 0],
            tid: op.tid,
            site: 0,
            kind: op.kind,
            reserved: 0,
        };
        record.history.touched += 1;
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::{
        Event::{Access, Assign, Delete, IterateNext},
        FATAL_FRAMES,
    };

    use super::{
        fixture::{MAP, op, record, write},
        *,
    };

    const WRITES: &str = "concurrent map writes";
    const READ: &str = "concurrent map read and map write";
    const ITERATION: &str = "concurrent map iteration and map write";

    fn explain(record: &FatalRecord) -> Fatal {
        Fatal::new(record, Some(27))
    }

    fn other(fatal: &Fatal) -> &Other {
        fatal.other.as_ref().unwrap().as_ref().unwrap()
    }

    #[test]
    fn the_other_writer_is_named() {
        let mut record = record(WRITES, Assign);
        write(&mut record, 0, op(7, Assign, 300));
        write(&mut record, 1, op(9, Delete, 5_000));
        let fatal = explain(&record);
        assert_eq!(fatal.accident, Some(Accident::Writes));
        assert_eq!(fatal.map, Some(MAP));
        assert_eq!(
            fatal
                .victim
                .as_ref()
                .map(|party| (party.goroutine, party.operation)),
            Some((7, Assign))
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
        write(&mut record, 0, op(9, Assign, 90_000));
        write(&mut record, 0, op(9, Assign, 9_000));
        write(&mut record, 3, op(11, Assign, 40_000));
        write(&mut record, 3, op(11, Assign, 30_000));
        write(&mut record, 3, op(11, Delete, 2_000));
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
        write(&mut record, 0, op(7, Assign, 1_000));
        let fatal = explain(&record);
        let why = fatal.other.unwrap().unwrap_err();
        assert!(why.contains("no write of this map by another"));
    }

    #[test]
    fn an_operation_that_does_not_fit_names_nobody() {
        let mut record = record(READ, Assign);
        write(&mut record, 0, op(9, Assign, 1_000));
        assert!(explain(&record).other.unwrap().is_err());
        record.flags = 0;
        let fatal = explain(&record);
        assert!(fatal.victim.is_none() && fatal.map.is_none());
        assert!(fatal.other.unwrap().is_err());
    }

    #[test]
    fn doubts_are_told() {
        let mut record = record(WRITES, Assign);
        let mut old = op(9, Assign, 2 * LONGEST_WRITE_NS);
        old.map_type += 64;
        write(&mut record, 0, old);
        assert_eq!(other(&explain(&record)).doubts.len(), 2);

        write(&mut record, 1, op(10, Assign, 800));
        write(&mut record, 2, op(11, Assign, 900));
        let fatal = explain(&record);
        assert_eq!(other(&fatal).party.goroutine, 10);
        assert_eq!(other(&fatal).doubts.len(), 1);
    }

    #[test]
    fn other_errors_are_about_no_map() {
        let mut record = record("all goroutines are asleep - deadlock!", Assign);
        write(&mut record, 0, op(9, Assign, 1_000));
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
        let fatal = Fatal::new(&record, None);
        assert!(fatal.message_cut && fatal.kind.is_none());
        assert_eq!(fatal.stack.len(), FATAL_FRAMES);
        assert_eq!(fatal.own_report, OwnReport::Unknown);
    }
}
