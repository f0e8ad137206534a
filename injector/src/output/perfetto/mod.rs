//! A trace for ui.perfetto.dev and its trace processor: sends, waits, holds and what
//! goes on in maps on one time line, with arrows from a send or hold to those who
//! waited for it.
//!
//! In the format of Perfetto itself and not in Chrome's JSON: times stay exact to
//! the nanosecond, tracks can be named and grouped, names stand once in the file,
//! and a run of a minute has a tenth of the size.

mod schema;
#[cfg(test)]
mod tests;
mod timeline;
mod tracks;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use prost::Message as _;

use self::{
    schema::{
        BUILTIN_CLOCK_MONOTONIC, BUILTIN_CLOCK_REALTIME, CHRONOLOGICAL, Clock, ClockSnapshot,
        DebugAnnotation, EXPLICIT, Interned, InternedData, ProcessDescriptor,
        SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE, TYPE_INSTANT, TYPE_SLICE_BEGIN,
        TYPE_SLICE_END, ThreadDescriptor, TracePacket, TracePacketDefaults, TrackDescriptor,
        TrackEvent,
    },
    timeline::{Drawn, Note, On},
    tracks::Step,
};
use super::profile::name;
use crate::recording::replay::Program;

pub use timeline::Timeline;

/// All packets are of one writer.
const SEQUENCE: u32 = 1;

/// When a run began, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// Nanoseconds since 1970 (UTC).
    pub unix_ns: u64,
}

/// Writes the trace of a run, with what was concluded of these programs.
pub fn write(
    out: &mut dyn Write,
    timeline: &Timeline,
    began: Began,
    programs: &[Program],
) -> io::Result<()> {
    let program = |pid| programs.iter().find(|it| it.tgid == pid);
    let concluded = |pid| program(pid).map(|it| &it.trace);
    let drawing = timeline.draw(concluded);
    let mut writer = Writer::default();
    for ((pid, on), slices) in drawing.iter() {
        let process = writer.process(*pid, || {
            let file = program(*pid).map(|it| it.file.clone());
            file.or_else(|| timeline.comm(*pid)).unwrap_or_default()
        });
        let known = concluded(*pid);
        let track = Track {
            pid: *pid,
            process,
            on: *on,
            name: match on {
                On::Collections => "garbage collection".to_owned(),
                On::Pauses => "no goroutine runs".to_owned(),
                On::Lock(lock) => name(known.and_then(|it| it.lock_at(*lock)), "lock", *lock),
                On::Map(map) => name(known.and_then(|it| it.map_at(*map)), "map", *map),
                On::Goroutine(id) => {
                    let start = known.and_then(|it| it.started_as(*id));
                    format!("goroutine {id} {}", start.unwrap_or_default())
                        .trim_end()
                        .to_owned()
                }
                On::Thread(tid) => timeline.thread(*tid).unwrap_or_default(),
            },
        };
        writer.track(&track, &tracks::steps(slices));
    }
    writer.write(out, began)
}

struct Track {
    pid: u32,
    process: u64,
    on: On,
    name: String,
}

/// Texts with numbers, from 1.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, u64>,
    all: Vec<Interned>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let iid = self.all.len() as u64 + 1;
        self.all.push(Interned {
            iid,
            text: text.to_owned(),
        });
        self.numbers.insert(text.to_owned(), iid);
        iid
    }
}

#[derive(Default)]
struct Writer {
    tracks: Vec<TrackDescriptor>,
    processes: HashMap<u32, u64>,
    /// Tracks that only have others below them, by process and name.
    groups: HashMap<(u64, &'static str), u64>,
    names: Texts,
    categories: Texts,
    keys: Texts,
    texts: Texts,
    events: Vec<(u64, TrackEvent)>,
}

impl Writer {
    fn describe(&mut self, track: TrackDescriptor) -> u64 {
        let uuid = self.tracks.len() as u64 + 1;
        self.tracks.push(TrackDescriptor { uuid, ..track });
        uuid
    }

    fn process(&mut self, pid: u32, name: impl FnOnce() -> String) -> u64 {
        if let Some(known) = self.processes.get(&pid) {
            return *known;
        }
        let uuid = self.describe(TrackDescriptor {
            process: Some(ProcessDescriptor {
                pid: pid as i32,
                process_name: name(),
            }),
            child_ordering: EXPLICIT,
            ..TrackDescriptor::default()
        });
        self.processes.insert(pid, uuid);
        uuid
    }

    fn group(&mut self, process: u64, name: &'static str, rank: i32) -> u64 {
        if let Some(known) = self.groups.get(&(process, name)) {
            return *known;
        }
        let uuid = self.describe(TrackDescriptor {
            name: name.to_owned(),
            parent_uuid: Some(process),
            child_ordering: CHRONOLOGICAL,
            sibling_order_rank: rank,
            ..TrackDescriptor::default()
        });
        self.groups.insert((process, name), uuid);
        uuid
    }

    fn track(&mut self, track: &Track, steps: &[(u64, usize, Step<'_, Drawn>)]) {
        let (parent, rank) = match track.on {
            On::Collections => (track.process, 1),
            On::Pauses => (track.process, 2),
            On::Lock(_) => (self.group(track.process, "locks", 3), 0),
            On::Map(_) => (self.group(track.process, "maps", 4), 0),
            On::Goroutine(_) => (self.group(track.process, "goroutines", 5), 0),
            On::Thread(_) => (track.process, 6),
        };
        let mut lanes: Vec<u64> = Vec::new();
        for (time_ns, lane, step) in steps {
            while lanes.len() <= *lane {
                // The first lane of a thread is the thread itself.
                let thread = match track.on {
                    On::Thread(tid) if lanes.is_empty() => Some(ThreadDescriptor {
                        pid: track.pid as i32,
                        tid: tid.into(),
                        thread_name: track.name.clone(),
                    }),
                    _ => None,
                };
                let named = thread.is_none();
                lanes.push(self.describe(TrackDescriptor {
                    name: if named {
                        track.name.clone()
                    } else {
                        String::new()
                    },
                    thread,
                    parent_uuid: named.then_some(parent),
                    sibling_order_rank: rank,
                    ..TrackDescriptor::default()
                }));
            }
            let event = self.event(lanes[*lane], step);
            self.events.push((*time_ns, event));
        }
    }

    fn event(&mut self, track_uuid: u64, step: &Step<'_, Drawn>) -> TrackEvent {
        let (r#type, drawn) = match step {
            Step::Begin(drawn) => (TYPE_SLICE_BEGIN, drawn),
            Step::Instant(drawn) => (TYPE_INSTANT, drawn),
            Step::End => {
                return TrackEvent {
                    r#type: TYPE_SLICE_END,
                    track_uuid,
                    ..TrackEvent::default()
                };
            }
        };
        let notes = drawn.notes.iter().map(|(key, note)| {
            let mut said = DebugAnnotation {
                name_iid: self.keys.number(key),
                ..DebugAnnotation::default()
            };
            match note {
                Note::Number(number) => said.uint_value = Some(*number),
                Note::Flag(flag) => said.bool_value = Some(*flag),
                Note::Text(text) => said.string_value_iid = Some(self.texts.number(text)),
            }
            said
        });
        TrackEvent {
            debug_annotations: notes.collect(),
            category_iids: vec![self.categories.number(drawn.category)],
            name_iid: Some(self.names.number(&drawn.name)),
            r#type,
            track_uuid,
            flow_ids: drawn.arrows.clone(),
        }
    }

    fn write(mut self, out: &mut dyn Write, began: Began) -> io::Result<()> {
        let packet = TracePacket {
            trusted_packet_sequence_id: SEQUENCE,
            sequence_flags: SEQ_NEEDS_INCREMENTAL_STATE,
            ..TracePacket::default()
        };
        let clock = |clock_id, timestamp| Clock {
            clock_id,
            timestamp,
        };
        let first = TracePacket {
            clock_snapshot: Some(ClockSnapshot {
                clocks: vec![
                    clock(BUILTIN_CLOCK_MONOTONIC, began.monotonic_ns),
                    clock(BUILTIN_CLOCK_REALTIME, began.unix_ns),
                ],
                primary_trace_clock: BUILTIN_CLOCK_MONOTONIC,
            }),
            ..TracePacket::default()
        };
        put(out, &first)?;
        let second = TracePacket {
            sequence_flags: SEQ_INCREMENTAL_STATE_CLEARED,
            defaults: Some(TracePacketDefaults {
                timestamp_clock_id: BUILTIN_CLOCK_MONOTONIC,
            }),
            interned_data: Some(InternedData {
                event_categories: self.categories.all,
                event_names: self.names.all,
                debug_annotation_names: self.keys.all,
                debug_annotation_string_values: self.texts.all,
            }),
            ..packet.clone()
        };
        put(out, &second)?;
        for track in self.tracks {
            let described = TracePacket {
                track_descriptor: Some(track),
                ..packet.clone()
            };
            put(out, &described)?;
        }
        // Keeps those of one lane that happen together in their order.
        self.events.sort_by_key(|(time_ns, _)| *time_ns);
        for (time_ns, event) in self.events {
            let happened = TracePacket {
                timestamp: Some(time_ns),
                track_event: Some(event),
                ..packet.clone()
            };
            put(out, &happened)?;
        }
        Ok(())
    }
}

/// Writes a packet as one of the trace's: its tag, its length, itself.
fn put(out: &mut dyn Write, packet: &TracePacket) -> io::Result<()> {
    const PACKET: u8 = 1 << 3 | 2;
    let mut bytes = vec![PACKET];
    // A vector has always room.
    let _ = packet.encode_length_delimited(&mut bytes);
    out.write_all(&bytes)
}
