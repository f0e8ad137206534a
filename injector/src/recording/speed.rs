//! How much explaining and recording take, for `cargo xtask bench`: ignored
//! among the tests, and run by it with what a release has.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use injector_ebpf::{
    Mode, SendRecord,
    go::{Event, EventRecord, OP_FRAMES},
};
use serde_json::json;

use super::{
    fixture::{PID, begin, trace},
    replay::replay,
    run,
    schema::{Advance, Content},
    write::{Naming, Recorder},
};
use crate::{
    explain::{
        Totals,
        fixture::delayed,
        maps::{Symbols, Trace},
    },
    go::Frame,
    output::{findings, fixture::info, maps_report},
};

/// Events of one measurement.
const EVENTS: u64 = 4_000_000;
/// Length of the recording that is reported, in seconds.
const RECORDED: u64 = 600;

/// Frames that stand in the runtime, by address; all others are the program's.
const RUNTIME: [&str; 8] = [
    "runtime.mapassign_faststr",
    "runtime.mapaccess2_faststr",
    "sync.(*Mutex).lockSlow",
    "runtime.semacquire1",
    "sync.(*Mutex).unlockSlow",
    "runtime.semrelease1",
    "runtime.mapiternext",
    "sync.(*Mutex).Unlock",
];

struct Names;

impl Symbols for Names {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        let frame = |address: &u64| Frame {
            function: match RUNTIME.get(*address as usize) {
                Some(name) => (*name).to_owned(),
                None => format!("example.com/shop/cache.(*Store).function{address}"),
            },
            file: "/home/build/shop/cache/store.go".to_owned(),
            line: *address as u32,
        };
        stack.iter().map(frame).collect()
    }
}

/// Numbers that look random and are the same each time.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn event(time_ns: u64, id: u64, kind: Event, subject: u64, stack: &[u64]) -> EventRecord {
    let mut frames = [0; OP_FRAMES];
    frames[..stack.len()].copy_from_slice(stack);
    EventRecord {
        time_ns,
        goroutine_id: id,
        goroutine: 0xc000_0000 + id * 512,
        subject,
        map_type: if kind.is_map_op() { 0x50_0000 } else { 0 },
        tid: 100 + (id % 16) as u32,
        site: kind as u16,
        kind: kind as u8,
        depth: stack.len() as u8,
        frames,
        ..EventRecord::default()
    }
}

/// A service: 256 goroutines that use 64 maps from 200 places; in every 50
/// events one of 16 mutexes is waited for, and every second of their holders
/// sends, delayed, while the other waits.
fn service(number: u64, gap_ns: u64) -> (Option<SendRecord>, EventRecord) {
    let now = number * gap_ns;
    let random = mixed(number);
    let (round, step) = (number / 50, number % 50);
    let lock = 0xc100_0000 + mixed(round) % 16 * 64;
    let (holder, waiter) = (1 + mixed(round) % 256, 1 + (mixed(round) + 1) % 256);
    let place = 1_000 + mixed(round) % 20;
    let act = |id, kind, subject, stack: &[u64]| (None, event(now, id, kind, subject, stack));
    match step {
        0 => act(waiter, Event::LockSlow, lock, &[2, place]),
        1 => act(waiter, Event::SemaphoreAcquire, lock + 4, &[3, 2, place]),
        40 => {
            let mut event = act(holder, Event::UnlockSlow, lock, &[4, 7, place + 50]);
            event.0 = (round % 2 == 0).then(|| SendRecord {
                start_ns: now - 30 * gap_ns,
                tgid: PID,
                goroutine: holder,
                ..delayed(20 * gap_ns, 20 * gap_ns, gap_ns)
            });
            event
        }
        41 => act(
            holder,
            Event::SemaphoreRelease,
            lock + 4,
            &[5, 4, 7, place + 50],
        ),
        42 => act(waiter, Event::SemaphoreAcquired, lock + 4, &[3, 2, place]),
        _ => {
            let writes = random.is_multiple_of(4);
            let map = 0xc200_0000 + random % 64 * 48;
            let place = 2_000 + random / 64 % 200;
            let stack = [u64::from(!writes), place, place + 1, place + 2, 9_000];
            let kind = if writes { Event::Assign } else { Event::Access };
            act(1 + random / 4096 % 256, kind, map, &stack)
        }
    }
}

/// Nothing twice: each event has a goroutine, a map or a lock, and a stack of its
/// own.
fn wild(number: u64) -> EventRecord {
    let random = mixed(number);
    let kind = Event::ALL[random as usize % 26].0;
    let stack = [random % 8, 1_000 + random % 1_000_000, 9_000];
    event(
        number * 5_000,
        1 + number,
        kind,
        0xc000_0000 + number * 64,
        &stack,
    )
}

fn per_second(count: u64, took: Duration) -> f64 {
    (count as f64 / took.as_secs_f64()).round()
}

/// Memory of this process that is its own, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<u64>().unwrap() * 1024
}

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("injector-speed-{}", std::process::id()))
}

/// Records this many events of the service, and feeds them to a trace if one is
/// given, as a run does.
fn record(count: u64, gap_ns: u64, mut trace: Option<&mut Trace>) -> u64 {
    let path = scratch();
    let mut recorder = Recorder::create(&path).unwrap();
    let mut run = begin(&mut recorder);
    let mut second = 1;
    for number in 0..count {
        let (send, event) = service(number, gap_ns);
        if let Some(send) = send {
            if let Some(trace) = &mut trace {
                trace.send(&send);
            }
            recorder.add(Content::Send((&send).into()));
        }
        if let Some(trace) = &mut trace {
            trace.feed(&event, &Naming::new(&mut recorder, 0, &Names));
        } else {
            let stack = &event.frames[..usize::from(event.depth)];
            recorder.name(0, stack, || Names.frames(stack), |_| true);
        }
        recorder.event(&event);
        if event.time_ns >= second * 1_000_000_000 {
            second += 1;
            recorder.add(Content::Advance(Advance {
                program: 0,
                now_ns: event.time_ns,
            }));
            recorder.flush().unwrap();
        }
    }
    run.end = Some(run::ended(&info(Mode::Enforce), &Totals::default()));
    recorder.add(Content::Run(run));
    recorder.finish().unwrap()
}

/// Replays it and writes all that `injector report` does.
fn report() -> (u64, Duration) {
    let bytes = fs::read(scratch()).unwrap();
    let start = Instant::now();
    let replayed = replay(&bytes, &mut []).unwrap();
    let trace = &replayed.programs[0].trace;
    maps_report::text(&mut io::sink(), trace).unwrap();
    findings::text(&mut io::sink(), &findings::all([(PID, trace)]), None).unwrap();
    (trace.events(), start.elapsed())
}

/// Writes one JSON object.
#[test]
#[ignore = "a benchmark: cargo xtask bench --only explain"]
fn speed() {
    let gap_ns = 5_000;
    let begun = Instant::now();
    let mut sum = 0;
    for number in 0..EVENTS {
        sum ^= service(number, gap_ns).1.time_ns;
    }
    std::hint::black_box(sum);
    let making = begun.elapsed();

    let mut fed = trace();
    let begun = Instant::now();
    for number in 0..EVENTS {
        let (send, event) = service(number, gap_ns);
        if let Some(send) = send {
            fed.send(&send);
        }
        fed.feed(&event, &Names);
    }
    let feeding = begun.elapsed().saturating_sub(making);

    let mut recorded = trace();
    let begun = Instant::now();
    let bytes = record(EVENTS, gap_ns, Some(&mut recorded));
    let recording = begun.elapsed().saturating_sub(making);
    fs::remove_file(scratch()).unwrap();

    let before = resident();
    let mut bounded = trace();
    let begun = Instant::now();
    let mut memory = Vec::new();
    for number in 0..3 * EVENTS {
        bounded.feed(&wild(number), &Names);
        if (number + 1) % EVENTS == 0 {
            memory.push(resident().saturating_sub(before));
        }
    }
    let wild = begun.elapsed();
    let lost: u64 = bounded.limits().rows().iter().map(|row| row.1).sum();
    assert!(lost > 0, "what had no room is counted");
    drop(bounded);

    let mut reports = Vec::new();
    for rate in [25_000, 200_000] {
        let bytes = record(rate * RECORDED, 1_000_000_000 / rate, None);
        let (events, took) = report();
        assert_eq!(events, rate * RECORDED);
        fs::remove_file(scratch()).unwrap();
        reports.push(json!({
            "events_per_s": rate,
            "events": events,
            "bytes": bytes,
            "report_s": took.as_secs_f64(),
        }));
    }
    println!(
        "\n{}",
        json!({
            "feed_per_s": per_second(EVENTS, feeding),
            "record_per_s": per_second(EVENTS, recording),
            "bytes_per_event": bytes as f64 / EVENTS as f64,
            "wild_per_s": per_second(3 * EVENTS, wild),
            "wild_memory_bytes": memory,
            "wild_lost": lost,
            "reports": reports,
        })
    );
}
