//! What a recording says: everything is fed once more, in the order in which it
//! was, to what drew the conclusions when the run was live.

use std::collections::HashMap;

use injector_ebpf::{
    SendRecord,
    go::{EventRecord, OP_FRAMES},
};
use thiserror::Error;

use super::{
    events::Unpacker,
    names::Names,
    read::{Damage, NoRecording, Reader},
    run,
    schema::{self, Content, Told},
};
use crate::{
    explain::{
        RunInfo, Summary, Totals,
        maps::{Kinds, LockLayout, Span, Trace},
    },
    go::{Frame, MapKind},
};

/// Stacks of sends that are kept until their send comes.
const STACKS: usize = 1 << 16;

/// What a recording says, with all that was concluded at its end.
pub struct Replayed {
    /// Where it was recorded.
    pub host: Recorded,
    /// What was run.
    pub info: RunInfo,
    /// What the kernel side counted.
    pub totals: Totals,
    /// Sends, if they were recorded.
    pub sends: Option<Summary>,
    /// Go programs whose maps were traced.
    pub programs: Vec<Program>,
    /// What only the live run could conclude, in its order.
    pub told: Vec<Told>,
    /// What it said to the user meanwhile.
    pub notes: Vec<String>,
    /// What could not be read.
    pub damage: Damage,
}

/// Where and with what a recording was made.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Version of injector.
    pub injector: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture.
    pub machine: String,
    /// CPUs, 0 when that is not known.
    pub cpus: u32,
    /// Wall clock at the start, in nanoseconds since 1970 (UTC).
    pub started_unix_ns: u64,
}

/// A Go program whose maps were traced.
pub struct Program {
    /// Its process id.
    pub pid: u32,
    /// Its file.
    pub file: String,
    /// Which Go built it, if it says.
    pub go_version: Option<String>,
    /// What was concluded of it.
    pub trace: Trace,
    /// Its process id in records of sends: another one if injector runs in a
    /// namespace of process ids.
    pub tgid: u32,
    names: Names,
}

/// Somebody who wants to see each thing pass by, in the order of time as far as
/// the run knew it.
pub trait Watcher {
    /// The run began at this time; first, and perhaps again.
    fn begun(&mut self, _start_ns: u64) {}

    /// A send, and where the goroutine was that sent; empty when that is not
    /// known.
    fn send(&mut self, _send: &SendRecord, _stack: &[Frame]) {}

    /// An event of the program with this process id, and where its goroutine was.
    fn event(&mut self, _pid: u32, _event: &EventRecord, _stack: &[Frame]) {}

    /// Whether [`Self::span`] is wanted.
    fn wants_spans(&self) -> bool {
        false
    }

    /// Something that took time, when it is over, in this program.
    fn span(&mut self, _program: &Program, _span: &Span) {}
}

/// Nothing can be made of it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no recording, or one of a later format.
    #[error(transparent)]
    NoRecording(#[from] NoRecording),
    /// It is damaged too much.
    #[error("it is damaged: nothing in it says what was run")]
    NoRun,
}

/// Reads a recording and draws its conclusions.
///
/// # Errors
///
/// It is something else than a recording, or nothing is left of it.
pub fn replay(bytes: &[u8], watchers: &mut [&mut dyn Watcher]) -> Result<Replayed, Unreadable> {
    let mut reader = Reader::new(bytes)?;
    let mut replay = Replay {
        watchers,
        run: None,
        sends: Summary::default(),
        stacks: HashMap::new(),
        programs: Vec::new(),
        unpacker: Unpacker::default(),
        told: Vec::new(),
        notes: Vec::new(),
        last_ns: 0,
        unreadable: 0,
    };
    let mut places = 0;
    while let Some(content) = reader.next() {
        if reader.damage.places > places {
            places = reader.damage.places;
            replay.lost();
        }
        replay.take(content);
        replay.spans();
    }
    replay.end(reader.damage)
}

struct Replay<'w, 'd> {
    watchers: &'w mut [&'d mut dyn Watcher],
    run: Option<schema::Run>,
    sends: Summary,
    /// By start and thread of their sends.
    stacks: HashMap<(u64, u32), schema::Stack>,
    /// By their index.
    programs: Vec<Option<Program>>,
    unpacker: Unpacker,
    told: Vec<Told>,
    notes: Vec<String>,
    last_ns: u64,
    unreadable: u64,
}

/// More are not traced at once.
const PROGRAMS: usize = injector_ebpf::go::MAX_TARGETS as usize;

impl Replay<'_, '_> {
    fn take(&mut self, content: Content) {
        match content {
            // The one with the end is the last.
            Content::Run(run) => {
                for watcher in &mut *self.watchers {
                    watcher.begun(run.start_ns);
                }
                self.run = Some(run);
            }
            Content::Program(program) => self.program(program),
            Content::Send(send) => self.send(&SendRecord::from(&send)),
            Content::Stack(stack) => {
                if self.stacks.len() == STACKS {
                    self.stacks.clear();
                }
                self.stacks.insert((stack.start_ns, stack.tid), stack);
            }
            Content::Named(named) => {
                if let Some(program) = self.traced(named.program) {
                    program.names.add(named);
                }
            }
            Content::Events(packed) => self.events(&packed),
            Content::Window(window) => {
                self.last_ns = self.last_ns.max(window.end_ns);
                if let Some(program) = self.traced(window.program) {
                    let kinds = Kinds::from_bits(window.kinds);
                    program.trace.window(window.start_ns, window.end_ns, kinds);
                }
            }
            Content::Gap(index) => {
                if let Some(program) = self.traced(index) {
                    program.trace.gap();
                }
            }
            Content::Advance(advance) => {
                self.last_ns = self.last_ns.max(advance.now_ns);
                if let Some(program) = self.traced(advance.program) {
                    program.trace.advance(advance.now_ns);
                }
            }
            Content::Learnt(learnt) => match learnt.found {
                Some(found) => {
                    if let Some(program) = self.traced(learnt.program) {
                        program.trace.learn(found.into(), &program.names);
                    }
                }
                None => self.unreadable += 1,
            },
            Content::Told(told) => self.told.push(told),
            Content::Note(note) => self.notes.push(note),
        }
    }

    fn traced(&mut self, index: u32) -> Option<&mut Program> {
        self.programs.get_mut(index as usize)?.as_mut()
    }

    fn program(&mut self, program: schema::Program) {
        let index = program.index as usize;
        if index >= PROGRAMS {
            self.unreadable += 1;
            return;
        }
        if self.programs.len() <= index {
            self.programs.resize_with(index + 1, || None);
        }
        // It is told again and again.
        let watchers = &*self.watchers;
        self.programs[index].get_or_insert_with(|| {
            let kind = if program.swiss {
                MapKind::Swiss
            } else {
                MapKind::Classic
            };
            let locks = program.locks.unwrap_or_default();
            let mut trace = Trace::new(program.start_ns, kind, LockLayout::from(&locks));
            if program.sends {
                trace.expect_sends();
            }
            if watchers.iter().any(|watcher| watcher.wants_spans()) {
                trace.keep_spans();
            }
            Program {
                pid: program.pid,
                file: program.file,
                go_version: program.go_version,
                trace,
                tgid: program.tgid,
                names: Names::default(),
            }
        });
    }

    fn send(&mut self, record: &SendRecord) {
        self.last_ns = self.last_ns.max(record.start_ns);
        self.sends.record(record);
        let sender = self.programs.iter_mut().flatten();
        let mut sender = sender
            .into_iter()
            .find(|program| program.tgid == record.tgid);
        if let Some(program) = &mut sender {
            program.trace.send(record);
        }
        let stack = self.stacks.remove(&(record.start_ns, record.tid));
        let frames = match (&stack, &sender) {
            (Some(stack), Some(program)) => program.names.of(&stack.frames),
            _ => &[],
        };
        for watcher in &mut *self.watchers {
            watcher.send(record, frames);
        }
    }

    fn events(&mut self, packed: &[u8]) {
        let Self {
            watchers,
            programs,
            unpacker,
            last_ns,
            ..
        } = self;
        let whole = unpacker.unpack(packed, |event| {
            *last_ns = event.time_ns.max(*last_ns);
            let program = programs.get_mut(usize::from(event.target));
            let Some(Program {
                pid, trace, names, ..
            }) = program.and_then(Option::as_mut)
            else {
                return;
            };
            if !watchers.is_empty() {
                let depth = usize::from(event.depth).min(OP_FRAMES);
                let stack = names.of(&event.frames[..depth]);
                for watcher in &mut **watchers {
                    watcher.event(*pid, event, stack);
                }
            }
            trace.feed(event, names);
        });
        self.unreadable += u64::from(!whole);
    }

    /// Shows what is over by now.
    fn spans(&mut self) {
        for program in self.programs.iter_mut().flatten() {
            let spans = program.trace.take_spans();
            for watcher in &mut *self.watchers {
                for span in &spans {
                    watcher.span(program, span);
                }
            }
        }
    }

    /// Something is missing here.
    fn lost(&mut self) {
        for program in self.programs.iter_mut().flatten() {
            program.trace.gap();
        }
    }

    fn end(mut self, damage: Damage) -> Result<Replayed, Unreadable> {
        let run = self.run.take().ok_or(Unreadable::NoRun)?;
        if run.end.is_none() {
            for program in self.programs.iter_mut().flatten() {
                program.trace.advance(self.last_ns);
            }
        }
        if self.watchers.iter().any(|watcher| watcher.wants_spans()) {
            for program in self.programs.iter_mut().flatten() {
                program.trace.end_spans();
            }
            self.spans();
        }
        let (info, totals) = run::read(&run, self.last_ns);
        Ok(Replayed {
            sends: (!info.hook.is_empty()).then_some(self.sends),
            host: Recorded {
                injector: run.injector,
                kernel: run.kernel,
                machine: run.machine,
                cpus: run.cpus,
                started_unix_ns: run.started_unix_ns,
            },
            info,
            totals,
            programs: self.programs.into_iter().flatten().collect(),
            told: self.told,
            notes: self.notes,
            damage: Damage {
                unknown_items: damage.unknown_items + self.unreadable,
                ..damage
            },
        })
    }
}
