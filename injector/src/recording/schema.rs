//! What is in a recording, as messages of Protocol Buffers: fields can be added
//! and old files still be read, and other tools can be taught to read them. A tag
//! is never used again for something else.

use injector_ebpf::{Endpoint, SEND_FRAMES, SendRecord, SendStack};
use prost::{Message, Oneof};

use crate::{
    explain::maps::{Fact, LockLayout},
    go::Frame,
};

/// One thing that is recorded.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Item {
    /// Which one; none if a later version wrote something that this one does
    /// not know.
    #[prost(oneof = "Content", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub content: Option<Content>,
}

/// What can be recorded.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Content {
    /// The run: first, and at the end once more, with the end.
    #[prost(message, tag = "1")]
    Run(Run),
    /// A send.
    #[prost(message, tag = "2")]
    Send(Send),
    /// Where a goroutine was that sent.
    #[prost(message, tag = "3")]
    Stack(Stack),
    /// Something that the run said to the user.
    #[prost(string, tag = "4")]
    Note(String),
    /// A program whose maps were traced, before all that is told of it.
    #[prost(message, tag = "5")]
    Program(Program),
    /// What a stack is, before what has it.
    #[prost(message, tag = "6")]
    Named(Named),
    /// Events of all programs, see [`super::events`].
    #[prost(bytes = "vec", tag = "7")]
    Events(Vec<u8>),
    /// Some kinds of events were seen for some time, which is over.
    #[prost(message, tag = "8")]
    Window(Window),
    /// Other kinds of events are seen from now on, or some were lost: the index of
    /// the program.
    #[prost(uint32, tag = "9")]
    Gap(u32),
    /// Time has come this far.
    #[prost(message, tag = "10")]
    Advance(Advance),
    /// Something that was found out about an address.
    #[prost(message, tag = "11")]
    Learnt(Learnt),
    /// What the run concluded that no other item tells.
    #[prost(message, tag = "12")]
    Told(Told),
}

/// What was run, on what.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Run {
    /// Version of injector that wrote it.
    #[prost(string, tag = "1")]
    pub injector: String,
    /// Release of the kernel.
    #[prost(string, tag = "2")]
    pub kernel: String,
    /// Architecture.
    #[prost(string, tag = "3")]
    pub machine: String,
    /// Wall clock at the start, in nanoseconds since 1970 (UTC).
    #[prost(uint64, tag = "4")]
    pub started_unix_ns: u64,
    /// `CLOCK_MONOTONIC` at the start; all other times are on this clock.
    #[prost(uint64, tag = "5")]
    pub start_ns: u64,
    /// Which processes were selected, in the user's words.
    #[prost(string, tag = "6")]
    pub targets: String,
    /// Each rule, in the user's words.
    #[prost(string, repeated, tag = "7")]
    pub rules: Vec<String>,
    /// `true`: faults were delivered; `false`: shadow mode.
    #[prost(bool, tag = "8")]
    pub enforced: bool,
    /// Seed of the decisions.
    #[prost(uint64, tag = "9")]
    pub seed: u64,
    /// Hook.
    #[prost(string, tag = "10")]
    pub hook: String,
    /// Engine.
    #[prost(string, tag = "11")]
    pub engine: String,
    /// Only at the end: how it went.
    #[prost(message, optional, tag = "12")]
    pub end: Option<End>,
    /// CPUs that were online, 0 when that is not known.
    #[prost(uint32, tag = "13")]
    pub cpus: u32,
}

/// How a run ended, and what only then is known.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct End {
    /// Why.
    #[prost(string, tag = "1")]
    pub why: String,
    /// How long it took.
    #[prost(uint64, tag = "2")]
    pub elapsed_ns: u64,
    /// Sends that had not returned.
    #[prost(uint64, tag = "3")]
    pub in_flight: u64,
    /// Times that the kernel left out a program.
    #[prost(uint64, tag = "4")]
    pub skipped: u64,
    /// CPU time of injector, if it was measured.
    #[prost(uint64, optional, tag = "5")]
    pub own_cpu_ns: Option<u64>,
    /// The kernel side's counters, each with its name in docs/json.md.
    #[prost(message, repeated, tag = "6")]
    pub counters: Vec<Counted>,
}

/// A counter.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Counted {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(uint64, tag = "2")]
    pub value: u64,
}

/// One end of a socket, see [`Endpoint`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Peer {
    /// Address, without the zeros at its end.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Port, or length of the name.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

impl From<&Endpoint> for Peer {
    fn from(end: &Endpoint) -> Self {
        Self {
            address: trimmed(&end.address),
            port: end.port.into(),
        }
    }
}

impl From<&Peer> for Endpoint {
    fn from(peer: &Peer) -> Self {
        let mut end = Self {
            port: peer.port as u16,
            ..Self::NOWHERE
        };
        fill(&mut end.address, &peer.address);
        end
    }
}

fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.iter().rposition(|byte| *byte != 0);
    bytes[..length.map_or(0, |last| last + 1)].to_vec()
}

fn fill(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    to[..length].copy_from_slice(&from[..length]);
}

/// A send: the fields of [`SendRecord`] under their names.
#[allow(missing_docs, reason = "see the record")]
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Send {
    #[prost(uint64, tag = "1")]
    pub start_ns: u64,
    #[prost(uint64, tag = "2")]
    pub asked_ns: u64,
    #[prost(uint64, tag = "3")]
    pub delivered_ns: u64,
    #[prost(uint64, tag = "4")]
    pub natural_ns: u64,
    #[prost(uint64, tag = "5")]
    pub bytes_asked: u64,
    #[prost(sint64, tag = "6")]
    pub result: i64,
    #[prost(uint64, tag = "7")]
    pub cgroup: u64,
    #[prost(uint64, tag = "8")]
    pub call_index: u64,
    #[prost(uint64, tag = "9")]
    pub thread_ordinal: u64,
    #[prost(uint64, tag = "10")]
    pub goroutine: u64,
    #[prost(uint32, tag = "11")]
    pub tgid: u32,
    #[prost(uint32, tag = "12")]
    pub tid: u32,
    #[prost(uint32, tag = "13")]
    pub flags: u32,
    #[prost(uint32, tag = "14")]
    pub rule: u32,
    #[prost(uint32, tag = "15")]
    pub verdict: u32,
    #[prost(uint32, tag = "16")]
    pub guard: u32,
    #[prost(uint32, tag = "17")]
    pub hook: u32,
    #[prost(uint32, tag = "18")]
    pub protocol: u32,
    #[prost(uint32, tag = "19")]
    pub place: u32,
    #[prost(message, optional, tag = "20")]
    pub local: Option<Peer>,
    #[prost(message, optional, tag = "21")]
    pub peer: Option<Peer>,
    /// Without the zeros at its end.
    #[prost(bytes = "vec", tag = "22")]
    pub comm: Vec<u8>,
}

/// Copies numbers between a record and its message, whose types are wider.
macro_rules! copy {
    ($from:ident, $to:ident, $($field:ident)+) => {
        $($to.$field = $from.$field as _;)+
    };
}

macro_rules! copy_send {
    ($from:ident, $to:ident) => {
        copy!(
            $from, $to,
            start_ns asked_ns delivered_ns natural_ns bytes_asked result cgroup call_index
            thread_ordinal goroutine tgid tid flags rule verdict guard hook protocol place
        );
    };
}

impl From<&SendRecord> for Send {
    #[allow(clippy::unnecessary_cast, reason = "not in every field")]
    fn from(record: &SendRecord) -> Self {
        let mut send = Self {
            local: Some((&record.local).into()),
            peer: Some((&record.peer).into()),
            comm: trimmed(&record.comm),
            ..Self::default()
        };
        copy_send!(record, send);
        send
    }
}

impl From<&Send> for SendRecord {
    #[allow(clippy::unnecessary_cast, reason = "not in every field")]
    fn from(send: &Send) -> Self {
        let end = |peer: &Option<Peer>| Endpoint::from(&peer.clone().unwrap_or_default());
        let mut record = Self {
            local: end(&send.local),
            peer: end(&send.peer),
            ..Self::EMPTY
        };
        copy_send!(send, record);
        fill(&mut record.comm, &send.comm);
        record
    }
}

/// Where a goroutine was that sent, see [`SendStack`].
#[allow(missing_docs, reason = "see the record")]
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stack {
    #[prost(uint64, tag = "1")]
    pub start_ns: u64,
    #[prost(uint64, tag = "2")]
    pub goroutine: u64,
    #[prost(uint32, tag = "3")]
    pub tgid: u32,
    #[prost(uint32, tag = "4")]
    pub tid: u32,
    #[prost(fixed64, repeated, tag = "5")]
    pub frames: Vec<u64>,
}

impl From<&SendStack> for Stack {
    fn from(stack: &SendStack) -> Self {
        let depth = usize::try_from(stack.depth).unwrap_or(SEND_FRAMES);
        Self {
            start_ns: stack.start_ns,
            goroutine: stack.goroutine,
            tgid: stack.tgid,
            tid: stack.tid,
            frames: stack.frames[..depth.min(SEND_FRAMES)].to_vec(),
        }
    }
}

/// A Go program whose maps were traced.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Program {
    /// By which other items name it, from 0.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Process id, as the user knows it.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Process id in records of sends.
    #[prost(uint32, tag = "3")]
    pub tgid: u32,
    /// The program file.
    #[prost(string, tag = "4")]
    pub file: String,
    /// Which Go built it, if it says.
    #[prost(string, optional, tag = "5")]
    pub go_version: Option<String>,
    /// Its maps are Swiss tables.
    #[prost(bool, tag = "6")]
    pub swiss: bool,
    /// When the first probe was there, by `CLOCK_MONOTONIC`, in nanoseconds.
    #[prost(uint64, tag = "7")]
    pub start_ns: u64,
    /// Its sends were recorded, too.
    #[prost(bool, tag = "8")]
    pub sends: bool,
    /// Where its locks have their semaphores.
    #[prost(message, optional, tag = "9")]
    pub locks: Option<LockOffsets>,
}

/// Offsets in bytes, see [`crate::explain::maps::LockLayout`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LockOffsets {
    #[prost(uint64, tag = "1")]
    pub mutex: u64,
    #[prost(uint64, tag = "2")]
    pub inner: u64,
    #[prost(uint64, tag = "3")]
    pub writer: u64,
    #[prost(uint64, tag = "4")]
    pub reader: u64,
}

/// What a stack is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Named {
    /// Index of the program.
    #[prost(uint32, tag = "1")]
    pub program: u32,
    /// Its addresses: an instruction, then return addresses, innermost first.
    #[prost(uint64, repeated, tag = "2")]
    pub addresses: Vec<u64>,
    /// Functions and lines; calls that were inlined have frames of their own.
    #[prost(message, repeated, tag = "3")]
    pub frames: Vec<NamedFrame>,
}

/// A function and a line in it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NamedFrame {
    /// Full name, such as `main.(*Store).Put`.
    #[prost(string, tag = "1")]
    pub function: String,
    /// Source file.
    #[prost(string, tag = "2")]
    pub file: String,
    /// Line, 0 when unknown.
    #[prost(uint32, tag = "3")]
    pub line: u32,
    /// The user wanted not to be shown the work of this function.
    #[prost(bool, tag = "4")]
    pub hidden: bool,
}

impl NamedFrame {
    /// A frame, and whether the user wanted to be shown what it does.
    pub fn new(frame: &Frame, shown: bool) -> Self {
        Self {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
            hidden: !shown,
        }
    }
}

impl From<NamedFrame> for Frame {
    fn from(frame: NamedFrame) -> Self {
        Self {
            function: frame.function,
            file: frame.file,
            line: frame.line,
        }
    }
}

/// For some time all events of some kinds were seen.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Window {
    /// Index of the program.
    #[prost(uint32, tag = "1")]
    pub program: u32,
    /// From this time on, in nanoseconds of `CLOCK_MONOTONIC`.
    #[prost(uint64, tag = "2")]
    pub start_ns: u64,
    /// Until this time.
    #[prost(uint64, tag = "3")]
    pub end_ns: u64,
    /// A bit for each number of an event's kind.
    #[prost(uint64, tag = "4")]
    pub kinds: u64,
}

/// Time has come this far.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Advance {
    /// Index of the program.
    #[prost(uint32, tag = "1")]
    pub program: u32,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    #[prost(uint64, tag = "2")]
    pub now_ns: u64,
}

/// What the run concluded that no other item tells: reports of fatal errors and of
/// watched maps, and what tracing has cost.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Told {
    /// As an object of JSON.
    #[prost(string, tag = "1")]
    pub json: String,
    /// For people.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// Something that was found out.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Learnt {
    /// Index of the program.
    #[prost(uint32, tag = "1")]
    pub program: u32,
    /// What; none if a later version found out something else.
    #[prost(oneof = "Found", tags = "2, 3, 4, 5, 6")]
    pub found: Option<Found>,
}

/// What can be found out, see [`Fact`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Found {
    #[prost(message, tag = "2")]
    Goroutine(Goroutine),
    #[prost(message, tag = "3")]
    MapType(MapType),
    #[prost(message, tag = "4")]
    Name(Name),
    #[prost(message, tag = "5")]
    MapSize(MapSize),
    #[prost(message, tag = "6")]
    Guard(Guard),
}

/// See [`Fact::Goroutine`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Goroutine {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    #[prost(uint64, tag = "3")]
    pub creator: u64,
    #[prost(uint64, tag = "4")]
    pub start: u64,
}

/// See [`Fact::MapType`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MapType {
    #[prost(uint64, tag = "1")]
    pub address: u64,
    #[prost(string, tag = "2")]
    pub name: String,
}

/// See [`Fact::Name`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Name {
    #[prost(uint64, tag = "1")]
    pub address: u64,
    #[prost(string, tag = "2")]
    pub text: String,
    #[prost(bool, tag = "3")]
    pub measured: bool,
}

/// See [`Fact::MapSize`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MapSize {
    #[prost(uint64, tag = "1")]
    pub address: u64,
    #[prost(uint64, tag = "2")]
    pub elements: u64,
    #[prost(uint64, tag = "3")]
    pub buckets_or_tables: u64,
}

/// See [`Fact::Guard`].
#[allow(missing_docs, reason = "see there")]
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Guard {
    #[prost(uint64, tag = "1")]
    pub lock: u64,
    #[prost(uint64, tag = "2")]
    pub map: u64,
    #[prost(sint64, tag = "3")]
    pub distance: i64,
    /// Both or neither.
    #[prost(string, optional, tag = "4")]
    pub lock_field: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub map_field: Option<String>,
}

impl From<&Fact> for Found {
    fn from(fact: &Fact) -> Self {
        match fact.clone() {
            Fact::Goroutine {
                id,
                parent,
                creator,
                start,
            } => Self::Goroutine(Goroutine {
                id,
                parent,
                creator,
                start,
            }),
            Fact::MapType { address, name } => Self::MapType(MapType { address, name }),
            Fact::Name {
                address,
                name,
                measured,
            } => Self::Name(Name {
                address,
                text: name,
                measured,
            }),
            Fact::MapSize {
                address,
                elements,
                buckets_or_tables,
            } => Self::MapSize(MapSize {
                address,
                elements,
                buckets_or_tables,
            }),
            Fact::Guard {
                lock,
                map,
                distance,
                fields,
            } => {
                let (lock_field, map_field) = fields.unzip();
                Self::Guard(Guard {
                    lock,
                    map,
                    distance,
                    lock_field,
                    map_field,
                })
            }
        }
    }
}

impl From<Found> for Fact {
    fn from(found: Found) -> Self {
        match found {
            Found::Goroutine(it) => Self::Goroutine {
                id: it.id,
                parent: it.parent,
                creator: it.creator,
                start: it.start,
            },
            Found::MapType(it) => Self::MapType {
                address: it.address,
                name: it.name,
            },
            Found::Name(it) => Self::Name {
                address: it.address,
                name: it.text,
                measured: it.measured,
            },
            Found::MapSize(it) => Self::MapSize {
                address: it.address,
                elements: it.elements,
                buckets_or_tables: it.buckets_or_tables,
            },
            Found::Guard(it) => Self::Guard {
                lock: it.lock,
                map: it.map,
                distance: it.distance,
                fields: it.lock_field.zip(it.map_field),
            },
        }
    }
}

impl From<LockLayout> for LockOffsets {
    fn from(layout: LockLayout) -> Self {
        Self {
            mutex: layout.mutex,
            inner: layout.inner,
            writer: layout.writer,
            reader: layout.reader,
        }
    }
}

impl From<&LockOffsets> for LockLayout {
    fn from(offsets: &LockOffsets) -> Self {
        Self {
            mutex: offsets.mutex,
            inner: offsets.inner,
            writer: offsets.writer,
            reader: offsets.reader,
        }
    }
}
