//! What a run was, put on tracks.

use std::collections::{BTreeMap, HashMap};

use injector_ebpf::{SendRecord, flags};

use super::{
    super::profile::name,
    tracks::{Slice, Tracks},
};
use crate::{
    explain::{
        SendView,
        maps::{Growth, Hold, Iteration, Span, StackId, Trace, Wait},
    },
    go::Frame,
    recording::replay::{Program, Watcher},
};

/// Things of one kind that are drawn, the first of them: viewers get slow with
/// some millions. With all kinds full, 300 MB.
const DRAWN: usize = 200_000;

/// A track, in the order in which those of one process are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// Garbage collections.
    Collections,
    /// Times in which no goroutine ran.
    Pauses,
    /// Who had this lock.
    Lock(u64),
    /// What happened to this map.
    Map(u64),
    /// What this goroutine did.
    Goroutine(u64),
    /// What this thread did, where there is no goroutine.
    Thread(u32),
}

/// Something that is said of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(String),
}

impl From<u64> for Note {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Note {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<String> for Note {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// What is written on it.
    pub name: String,
    /// What sort of thing it is.
    pub category: &'static str,
    /// What is said of it.
    pub notes: Vec<(&'static str, Note)>,
    /// Arrows that begin or end here, by numbers that both ends have.
    pub arrows: Vec<u64>,
}

/// Everything on its track.
pub type Drawing = Tracks<(u32, On), Drawn>;

/// Sees a run pass by.
#[derive(Debug, Default)]
pub struct Timeline {
    sends: Vec<(SendRecord, u32)>,
    stacks: HashMap<Vec<Frame>, u32>,
    spans: Vec<(u32, Span)>,
    kept: [usize; 6],
    /// Things that are not drawn because there are too many of their kind.
    pub left_out: u64,
}

/// Arrows from sends and holds to those who waited for them.
#[derive(Default)]
struct Arrows {
    last: u64,
    /// By process, goroutine and start: from the injected delay, or the send.
    sends: HashMap<(u32, u64, u64), Vec<(u64, bool)>>,
    /// By process, lock, goroutine and end.
    holds: BTreeMap<(u32, u64, u64, u64), Vec<u64>>,
}

impl Timeline {
    /// A send, and where it was made.
    pub(super) fn keep_send(&mut self, record: &SendRecord, stack: &[Frame]) {
        if SendView::new(record).start().is_none() || self.sends.len() >= DRAWN {
            self.left_out += 1;
            return;
        }
        let known = self.stacks.get(stack).copied();
        let stack = known.unwrap_or_else(|| {
            let id = self.stacks.len() as u32;
            self.stacks.insert(stack.to_vec(), id);
            id
        });
        self.sends.push((*record, stack));
    }

    /// A span of the process with this id.
    pub(super) fn keep_span(&mut self, pid: u32, span: &Span) {
        let kept = &mut self.kept[match span {
            Span::Wait(_) => 0,
            Span::Hold(_) => 1,
            Span::Iteration(_) => 2,
            Span::Growth(_) => 3,
            Span::Collection { .. } => 4,
            Span::Pause { .. } => 5,
        }];
        if *kept >= DRAWN {
            self.left_out += 1;
            return;
        }
        *kept += 1;
        self.spans.push((pid, span.clone()));
    }

    /// Name of a process by its sends, if it had any.
    pub fn comm(&self, pid: u32) -> Option<String> {
        let first = self.sends.iter().find(|(send, _)| send.tgid == pid);
        first.map(|(send, _)| SendView::new(send).comm().to_string())
    }

    /// Name of a thread by its sends.
    pub fn thread(&self, tid: u32) -> Option<String> {
        let first = self.sends.iter().find(|(send, _)| send.tid == tid);
        first.map(|(send, _)| SendView::new(send).comm().to_string())
    }

    /// Puts all on tracks, with the names that each program's trace knows in the
    /// end.
    pub fn draw<'t>(&self, trace: impl Fn(u32) -> Option<&'t Trace>) -> Drawing {
        let mut drawing = Drawing::default();
        let mut arrows = Arrows::default();
        for (pid, span) in &self.spans {
            if let Span::Hold(hold) = span {
                let key = (*pid, hold.lock, hold.goroutine, hold.end_ns);
                arrows.holds.entry(key).or_default();
            }
        }
        for (pid, span) in &self.spans {
            let names = Names(trace(*pid));
            if let Span::Wait(wait) = span {
                draw_wait(&mut drawing, *pid, wait, &names, &mut arrows);
            }
        }
        for (pid, span) in &self.spans {
            let names = Names(trace(*pid));
            let (on, slice) = match span {
                Span::Wait(_) => continue,
                Span::Hold(hold) => (On::Lock(hold.lock), hold_slice(*pid, hold, &names, &arrows)),
                Span::Iteration(it) => (On::Goroutine(it.goroutine), iteration(it, &names)),
                Span::Growth(growth) => (On::Map(growth.map), grows(growth, &names)),
                Span::Collection { start_ns, end_ns } => (
                    On::Collections,
                    plain(*start_ns, *end_ns, "garbage collection"),
                ),
                Span::Pause { start_ns, end_ns } => {
                    (On::Pauses, plain(*start_ns, *end_ns, "no goroutine runs"))
                }
            };
            drawing.add((*pid, on), slice);
        }
        let stacks: HashMap<u32, &Vec<Frame>> =
            self.stacks.iter().map(|(stack, id)| (*id, stack)).collect();
        for (record, stack) in &self.sends {
            draw_send(&mut drawing, record, stacks[stack], &arrows);
        }
        drawing
    }
}

impl Watcher for Timeline {
    fn send(&mut self, send: &SendRecord, stack: &[Frame]) {
        self.keep_send(send, stack);
    }

    fn wants_spans(&self) -> bool {
        true
    }

    fn span(&mut self, program: &Program, span: &Span) {
        self.keep_span(program.tgid, span);
    }
}

/// What is known of one program.
struct Names<'t>(Option<&'t Trace>);

impl Names<'_> {
    fn lock(&self, what: &str, address: u64) -> String {
        name(
            self.0.and_then(|trace| trace.lock_at(address)),
            what,
            address,
        )
    }

    fn map(&self, address: u64) -> String {
        name(
            self.0.and_then(|trace| trace.map_at(address)),
            "map",
            address,
        )
    }

    fn stack(&self, stack: StackId) -> Option<(&'static str, Note)> {
        stack_note(self.0?.frames(stack))
    }
}

/// One frame a line, innermost first.
fn stack_note(frames: &[Frame]) -> Option<(&'static str, Note)> {
    let lines: Vec<_> = frames
        .iter()
        .map(|frame| format!("{} {}:{}", frame.function, frame.file, frame.line))
        .collect();
    (!lines.is_empty()).then(|| ("stack", lines.join("\n").into()))
}

fn plain(start_ns: u64, end_ns: u64, name: &str) -> Slice<Drawn> {
    Slice {
        start_ns,
        end_ns: Some(end_ns),
        what: Drawn {
            name: name.to_owned(),
            category: "gc",
            ..Drawn::default()
        },
    }
}

fn draw_send(drawing: &mut Drawing, record: &SendRecord, stack: &[Frame], arrows: &Arrows) {
    let send = SendView::new(record);
    let Some(start_ns) = send.start() else { return };
    let (delay, natural) = (send.delivered().unwrap_or(0), send.natural().unwrap_or(0));
    let on = send
        .goroutine()
        .map_or(On::Thread(record.tid), On::Goroutine);
    let track = (record.tgid, on);
    let protocol = send.protocol().map_or("unknown", |it| it.name());
    let mut notes: Vec<(_, Note)> = vec![
        ("protocol", protocol.into()),
        ("peer", send.peer().to_string().into()),
        ("tid", u64::from(record.tid).into()),
    ];
    notes.extend(send.verdict().map(|it| ("verdict", it.name().into())));
    notes.extend(send.guard().map(|it| ("guard", it.name().into())));
    for (name, value) in [
        ("asked_ns", send.asked()),
        ("delivered_ns", send.delivered()),
        ("natural_ns", send.natural()),
        ("bytes", send.sent_bytes()),
        ("errno", send.errno().map(|errno| errno as u64)),
    ] {
        notes.extend(value.map(|value| (name, value.into())));
    }
    if send.has(flags::FLAGGED) {
        notes.push(("flagged", true.into()));
    }
    notes.extend(stack_note(stack));
    let key = (record.tgid, record.goroutine, record.start_ns);
    let from = arrows.sends.get(&key).map_or(&[][..], Vec::as_slice);
    let arrows = |injected| {
        let mine = from.iter().filter(move |(_, it)| *it == injected);
        mine.map(|(arrow, _)| *arrow).collect()
    };
    drawing.add(
        track,
        Slice {
            start_ns,
            end_ns: Some(start_ns + delay + natural),
            what: Drawn {
                name: format!("{protocol} send"),
                category: "send",
                notes,
                arrows: arrows(false),
            },
        },
    );
    if delay > 0 {
        let after = if send.has(flags::AFTER) { natural } else { 0 };
        let start_ns = start_ns + after;
        drawing.add(
            track,
            Slice {
                start_ns,
                end_ns: Some(start_ns + delay),
                what: Drawn {
                    name: "injected delay".to_owned(),
                    category: "injected",
                    notes: Vec::new(),
                    arrows: arrows(true),
                },
            },
        );
    }
}

fn draw_wait(drawing: &mut Drawing, pid: u32, wait: &Wait, names: &Names<'_>, arrows: &mut Arrows) {
    let track = (pid, On::Goroutine(wait.goroutine));
    let mut into = Vec::new();
    for cause in &wait.causes {
        arrows.last += 1;
        into.push(arrows.last);
        let key = (pid, cause.goroutine, cause.send_start_ns);
        let from = arrows.sends.entry(key).or_default();
        from.push((arrows.last, cause.injected_ns > 0));
    }
    let parts = wait.parts;
    let mut notes: Vec<(_, Note)> = vec![
        ("waited_for", wait.what.into()),
        ("injected_ns", parts.injected.into()),
        ("sending_ns", parts.sending.into()),
        ("pausing_ns", parts.pausing.into()),
        ("no_cpu_ns", parts.no_cpu.into()),
        ("unexplained_ns", parts.unexplained.into()),
        ("chained_ns", parts.chained.into()),
        ("over", wait.over.into()),
    ];
    notes.extend(names.stack(wait.stack));
    drawing.add(
        track,
        Slice {
            start_ns: wait.start_ns,
            end_ns: Some(wait.end_ns),
            what: Drawn {
                name: format!("wait for {}", names.lock(wait.what, wait.lock)),
                category: "wait",
                notes,
                arrows: Vec::new(),
            },
        },
    );
    let mut from_ns = wait.start_ns;
    for (index, holder) in wait.holders.iter().enumerate() {
        let next = wait.holders.get(index + 1);
        if next.is_some_and(|next| next.goroutine == holder.goroutine) {
            // It released in two steps, or got it again before anybody else.
            continue;
        }
        let until_ns = holder.until_ns.clamp(from_ns, wait.end_ns.max(from_ns));
        drawing.add(
            track,
            Slice {
                start_ns: from_ns,
                end_ns: Some(until_ns),
                what: Drawn {
                    name: format!("held by goroutine {}", holder.goroutine),
                    category: "wait",
                    notes: names.stack(holder.stack).into_iter().collect(),
                    arrows: Vec::new(),
                },
            },
        );
        from_ns = until_ns;
        let hold = (pid, wait.lock, holder.goroutine);
        let first = (hold.0, hold.1, hold.2, wait.start_ns);
        let last = (hold.0, hold.1, hold.2, holder.until_ns);
        if let Some((_, from)) = arrows.holds.range_mut(first..=last).next_back() {
            arrows.last += 1;
            into.push(arrows.last);
            from.push(arrows.last);
        }
    }
    if wait.over && wait.lock != 0 {
        // At its end, so that arrows go forward in time.
        drawing.add(
            track,
            Slice {
                start_ns: wait.end_ns,
                end_ns: None,
                what: Drawn {
                    name: "got the lock".to_owned(),
                    category: "wait",
                    notes: Vec::new(),
                    arrows: into,
                },
            },
        );
    }
}

fn hold_slice(pid: u32, hold: &Hold, names: &Names<'_>, arrows: &Arrows) -> Slice<Drawn> {
    let key = (pid, hold.lock, hold.goroutine, hold.end_ns);
    let mut notes = vec![("seen_from_its_beginning", hold.whole.into())];
    notes.extend(names.stack(hold.stack));
    Slice {
        start_ns: hold.start_ns,
        end_ns: Some(hold.end_ns),
        what: Drawn {
            name: format!("held by goroutine {}", hold.goroutine),
            category: "hold",
            notes,
            arrows: arrows.holds.get(&key).cloned().unwrap_or_default(),
        },
    }
}

fn iteration(it: &Iteration, names: &Names<'_>) -> Slice<Drawn> {
    let verb = if it.sync { "Range over" } else { "iterate" };
    let mut notes = vec![("changes_meanwhile", it.changes.into())];
    if !it.sync {
        notes.push(("steps", it.steps.into()));
    }
    notes.extend(names.stack(it.stack));
    Slice {
        start_ns: it.start_ns,
        end_ns: Some(it.end_ns),
        what: Drawn {
            name: format!("{verb} {}", names.map(it.map)),
            category: "map",
            notes,
            arrows: Vec::new(),
        },
    }
}

fn grows(growth: &Growth, names: &Names<'_>) -> Slice<Drawn> {
    let mut notes = vec![("goroutine", growth.goroutine.into())];
    notes.extend(names.stack(growth.stack));
    Slice {
        start_ns: growth.time_ns,
        end_ns: None,
        what: Drawn {
            name: "grows".to_owned(),
            category: "map",
            notes,
            arrows: Vec::new(),
        },
    }
}
