//! What was recorded is what is replayed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use injector_ebpf::{
    Mode, SendRecord,
    go::{Event, EventRecord, OP_FRAMES},
};
use proptest::prelude::*;

use super::{
    fixture::{PID, begin, trace},
    read::NoRecording,
    replay::{Replayed, Unreadable, Watcher, replay},
    run,
    schema::{Advance, Content, Learnt, Named, Program, Stack, Told, Window},
    write::{Naming, Recorder},
};
use crate::{
    explain::{
        Summary,
        fixture::{delayed, send},
        maps::{Fact, Kinds, Symbols, Trace},
    },
    go::Frame,
    output::{fixture, maps_report},
};

/// Functions by address.
struct Functions;

const FUNCTIONS: [&str; 12] = [
    "?",
    "runtime.mapassign",
    "runtime.mapaccess1",
    "runtime.semacquire1",
    "sync.(*Mutex).lockSlow",
    "sync.(*Mutex).unlockSlow",
    "sync.(*RWMutex).RLock",
    "sync.(*RWMutex).Unlock",
    "sync.(*Map).Range",
    "main.put",
    "main.get",
    "main.hidden",
];

impl Symbols for Functions {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        let known = stack
            .iter()
            .filter_map(|at| Some((at, FUNCTIONS.get(*at as usize)?)));
        known
            .map(|(at, function)| Frame {
                function: (*function).to_owned(),
                file: "main.go".to_owned(),
                line: *at as u32 * 10,
            })
            .collect()
    }

    fn shows(&self, function: &str) -> bool {
        function != "main.hidden"
    }
}

/// A file that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("injector-recording-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn read(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Event(EventRecord),
    Send(SendRecord),
    Window(u64, u64, u64),
    Gap,
    Advance(u64),
    Learn(Fact),
    Flush,
}

/// A run that is observed and recorded.
struct Live {
    trace: Trace,
    sends: Summary,
    recorder: Recorder,
}

impl Live {
    fn begin(scratch: &Scratch) -> Self {
        let mut recorder = Recorder::create(&scratch.0).unwrap();
        begin(&mut recorder);
        Self {
            trace: trace(),
            sends: Summary::default(),
            recorder,
        }
    }

    fn step(&mut self, step: Step) {
        let Self {
            trace, recorder, ..
        } = self;
        match step {
            Step::Event(event) => {
                trace.feed(&event, &Naming::new(recorder, 0, &Functions));
                recorder.event(&event);
            }
            Step::Send(record) => {
                self.sends.record(&record);
                trace.send(&record);
                recorder.add(Content::Send((&record).into()));
            }
            Step::Window(start_ns, end_ns, kinds) => {
                trace.window(start_ns, end_ns, Kinds::from_bits(kinds));
                recorder.add(Content::Window(Window {
                    program: 0,
                    start_ns,
                    end_ns,
                    kinds,
                }));
            }
            Step::Gap => {
                trace.gap();
                recorder.add(Content::Gap(0));
            }
            Step::Advance(now_ns) => {
                trace.advance(now_ns);
                recorder.add(Content::Advance(Advance { program: 0, now_ns }));
            }
            Step::Learn(fact) => {
                let learnt = Learnt {
                    program: 0,
                    found: Some((&fact).into()),
                };
                trace.learn(fact, &Naming::new(recorder, 0, &Functions));
                recorder.add(Content::Learnt(learnt));
            }
            Step::Flush => recorder.flush().unwrap(),
        }
    }

    fn end(mut self) -> (Trace, Summary) {
        let info = fixture::info(Mode::Enforce);
        let mut run = run::begun(&info, "6.18".to_owned(), Duration::from_secs(1));
        run.end = Some(run::ended(&info, &fixture::totals(&self.sends)));
        self.recorder.add(Content::Run(run));
        self.recorder.finish().unwrap();
        (self.trace, self.sends)
    }
}

fn report(trace: &Trace) -> String {
    let mut json = Vec::new();
    maps_report::json(&mut json, PID, trace).unwrap();
    String::from_utf8(json).unwrap()
}

fn event() -> impl Strategy<Value = EventRecord> {
    let frames = prop::array::uniform(0..FUNCTIONS.len() as u64 + 1);
    let what = (
        0..Event::ALL.len() as u8,
        0..6u64,
        0..6u64,
        0..20_000_000u64,
    );
    let more = (0..5u8, 0..2u64, 0..3u64, 0..4u16);
    (what, more, frames).prop_map(
        |((kind, id, subject, time_ns), (depth, overlaps, iterator, site), frames): (
            _,
            _,
            [u64; OP_FRAMES],
        )| EventRecord {
            time_ns,
            goroutine_id: id,
            goroutine: 0xc000_0000 + id,
            subject: 0x1000 + subject * 4,
            map_type: 0x50_0000,
            iterator,
            overlaps,
            tid: 100 + id as u32,
            site,
            kind,
            depth,
            frames,
            ..EventRecord::default()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let time = || 0..20_000_000u64;
    let sent = (0..6u64, time(), 0..4_000_000u64, 0..100_000u64);
    let fact = prop_oneof![
        (0..6u64, 0..12u64, 0..12u64).prop_map(|(id, creator, start)| Fact::Goroutine {
            id,
            parent: 1,
            creator,
            start
        }),
        Just(Fact::MapType {
            address: 0x50_0000,
            name: "map[string]int".to_owned()
        }),
        (0..6u64, any::<bool>()).prop_map(|(subject, measured)| Fact::Name {
            address: 0x1000 + subject * 4,
            name: format!("main.v{subject}"),
            measured
        }),
        (0..6u64, any::<u64>()).prop_map(|(subject, elements)| Fact::MapSize {
            address: 0x1000 + subject * 4,
            elements,
            buckets_or_tables: 3
        }),
        (0..6u64, 0..6u64, any::<bool>()).prop_map(|(lock, map, named)| Fact::Guard {
            lock: 0x1000 + lock * 4,
            map: 0x1000 + map * 4,
            distance: -8,
            fields: named.then(|| ("mu".to_owned(), "items".to_owned()))
        }),
    ];
    prop_oneof![
        20 => event().prop_map(Step::Event),
        4 => sent.prop_map(|(goroutine, start_ns, delay, natural)| {
            Step::Send(SendRecord {
                start_ns,
                goroutine,
                ..if delay % 2 == 0 { delayed(delay, delay, natural) } else { send() }
            })
        }),
        1 => (time(), time(), any::<u64>()).prop_map(|(start, end, kinds)| {
            Step::Window(start.min(end), start.max(end), kinds)
        }),
        1 => Just(Step::Gap),
        1 => time().prop_map(Step::Advance),
        1 => fact.prop_map(Step::Learn),
        1 => Just(Step::Flush),
    ]
}

fn replayed(bytes: &[u8]) -> Replayed {
    replay(bytes, &mut []).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same conclusions, whatever happened.
    #[test]
    fn a_replay_concludes_what_the_run_did(steps in prop::collection::vec(step(), 0..400)) {
        let scratch = Scratch::new();
        let mut live = Live::begin(&scratch);
        for step in steps {
            live.step(step);
        }
        let (mut trace, sends) = live.end();
        let mut again = replayed(&scratch.read());
        prop_assert_eq!(again.damage, super::read::Damage::default());
        let program = &mut again.programs[0];
        prop_assert_eq!(report(&program.trace), report(&trace));
        prop_assert_eq!(program.trace.news(), trace.news());
        let sent = again.sends.expect("sends").total;
        prop_assert_eq!(format!("{sent:?}"), format!("{:?}", sends.total));
    }

    /// Whatever they are, also with the same numbers of goroutines.
    #[test]
    fn sends_of_other_processes_are_not_to_blame(
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let scratch = Scratch::new();
        let mut live = Live::begin(&scratch);
        for step in steps {
            match step {
                Step::Send(record) => {
                    let record = SendRecord { tgid: PID + 1, ..record };
                    live.recorder.add(Content::Send((&record).into()));
                }
                step => live.step(step),
            }
        }
        let (trace, _) = live.end();
        let again = replayed(&scratch.read());
        let replayed = &again.programs[0].trace;
        prop_assert_eq!(report(replayed), report(&trace));
        let waits = replayed.blame().expect("sends").waits;
        prop_assert_eq!((waits.injected, waits.sending), (0, 0));
    }

    /// What is cut off does no harm to what comes before.
    #[test]
    fn a_cut_recording_says_what_it_can(
        steps in prop::collection::vec(step(), 50..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let scratch = Scratch::new();
        let mut live = Live::begin(&scratch);
        live.step(Step::Flush);
        let begun = scratch.read().len();
        for (index, step) in steps.into_iter().enumerate() {
            live.step(step);
            if index % 20 == 0 {
                live.step(Step::Flush);
            }
        }
        live.end();
        let mut bytes = scratch.read();
        bytes.truncate(begun + cut.index(bytes.len() - begun));
        let again = replayed(&bytes);
        prop_assert_eq!(again.programs.len(), 1);
        prop_assert!(again.info.ended.contains("no end"));
        let _ = report(&again.programs[0].trace);
    }
}

#[derive(Default)]
struct Seen {
    sends: Vec<Vec<String>>,
    events: Vec<(u32, Vec<String>)>,
}

fn functions(stack: &[Frame]) -> Vec<String> {
    stack.iter().map(|frame| frame.function.clone()).collect()
}

impl Watcher for Seen {
    fn send(&mut self, _send: &SendRecord, stack: &[Frame]) {
        self.sends.push(functions(stack));
    }

    fn event(&mut self, pid: u32, _event: &EventRecord, stack: &[Frame]) {
        self.events.push((pid, functions(stack)));
    }
}

#[test]
fn watchers_see_sends_and_events_with_their_stacks() {
    let scratch = Scratch::new();
    let mut live = Live::begin(&scratch);
    live.step(Step::Event(EventRecord {
        time_ns: 5,
        goroutine_id: 1,
        kind: Event::Assign as u8,
        depth: 2,
        frames: [1, 9, 0, 0, 0, 0, 0, 0, 0, 0],
        ..EventRecord::default()
    }));
    let sent = SendRecord {
        tgid: PID,
        ..send()
    };
    let stack = [9, 10];
    let frames = || Functions.frames(&stack);
    live.recorder.name(0, &stack, frames, |_| true);
    live.recorder.add(Content::Stack(Stack {
        start_ns: sent.start_ns,
        tid: sent.tid,
        frames: stack.to_vec(),
        ..Stack::default()
    }));
    live.step(Step::Send(sent));
    live.end();
    let mut seen = Seen::default();
    replay(&scratch.read(), &mut [&mut seen]).unwrap();
    let op = ["runtime.mapassign", "main.put"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(seen.events, [(PID, op)]);
    let from = ["main.put", "main.get"].map(str::to_owned).to_vec();
    assert_eq!(seen.sends, [from]);
}

#[test]
fn what_the_run_told_is_told_again() {
    let scratch = Scratch::new();
    let mut live = Live::begin(&scratch);
    let told = Told {
        json: "{\"type\":\"map_fatal\"}".to_owned(),
        text: "a fatal error".to_owned(),
    };
    live.recorder.add(Content::Told(told.clone()));
    live.recorder.add(Content::Note("attached".to_owned()));
    live.end();
    let again = replayed(&scratch.read());
    assert_eq!(again.told, [told]);
    assert_eq!(again.notes, ["attached"]);
    assert_eq!(again.host.kernel, "6.18");
}

/// A chunk that is lost takes neither the program nor the run with it.
#[test]
fn what_is_left_after_damage_is_replayed() {
    let scratch = Scratch::new();
    let mut live = Live::begin(&scratch);
    live.step(Step::Flush);
    let write = |time_ns| {
        Step::Event(EventRecord {
            time_ns,
            goroutine_id: 1,
            goroutine: 0xc000,
            subject: 0x1000,
            kind: Event::Assign as u8,
            depth: 2,
            frames: [1, 9, 0, 0, 0, 0, 0, 0, 0, 0],
            ..EventRecord::default()
        })
    };
    let first = scratch.read().len();
    live.step(write(1));
    live.step(Step::Flush);
    live.step(write(2));
    live.step(write(3));
    live.step(Step::Flush);
    live.end();
    for damaged in [30, first + 30] {
        let mut bytes = scratch.read();
        bytes[damaged] ^= 1;
        let again = replayed(&bytes);
        assert_eq!(again.damage.places, 1);
        let kept = if damaged < first { 3 } else { 2 };
        assert_eq!(again.programs[0].trace.events(), kept);
        assert_eq!(again.info.targets, fixture::info(Mode::Enforce).targets);
    }
}

/// Items of hostile files that have what no injector writes.
#[test]
fn nonsense_is_passed_over() {
    let scratch = Scratch::new();
    let mut live = Live::begin(&scratch);
    live.recorder.add(Content::Events(vec![7; 3]));
    live.recorder.add(Content::Gap(99));
    live.recorder.add(Content::Program(Program {
        index: u32::MAX,
        ..Program::default()
    }));
    live.recorder.add(Content::Learnt(Learnt::default()));
    live.recorder.add(Content::Named(Named {
        program: 5,
        ..Named::default()
    }));
    live.end();
    let again = replayed(&scratch.read());
    assert_eq!((again.programs.len(), again.damage.unknown_items), (1, 3));
    assert_eq!(
        replay(b"no", &mut []).err(),
        Some(Unreadable::NoRecording(NoRecording::Other))
    );
}

/// A file of the first version, which had no events: a Go program whose delayed
/// sends were recorded with `--maps`.
#[test]
fn recordings_of_the_first_version_stay_readable() {
    let mut seen = Seen::default();
    let bytes = include_bytes!("golden/version-1.recording");
    let again = replay(bytes, &mut [&mut seen]).unwrap();
    assert_eq!(again.damage, super::read::Damage::default());
    let sends = again.sends.expect("sends").total;
    assert_eq!((sends.sends, sends.delayed), (150, 59));
    assert_eq!(seen.sends.len(), 150);
    assert_eq!(again.info.seed, 7);
    assert_eq!(again.info.ended, "no target is left");
    assert!(again.programs.is_empty() && again.told.is_empty());
}
