//! What is in a recording, as messages of Protocol Buffers: fields can be added
//! and old files still be read, and other tools can be taught to read them. A tag
//! is never used again for something else.

use injector_ebpf::{Endpoint, SEND_FRAMES, SendRecord, SendStack};
use prost::{Message, Oneof};

/// One thing that is recorded.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Item {
    /// Which one; none if a later version wrote something that this one does
    /// not know.
    #[prost(oneof = "Content", tags = "1, 2, 3, 4")]
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
