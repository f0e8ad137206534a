//! Traces read again by the schema, as a viewer reads them.

use std::collections::{BTreeMap, HashMap};

use injector_ebpf::SendRecord;
use prost::Message as _;

use super::{
    schema::{self, TrackEvent},
    *,
};
use crate::{
    explain::{
        fixture,
        maps::{Cause, Growth, Hold, Holder, Iteration, Parts, Span, Wait},
    },
    go::Frame,
};

const PID: u32 = 4321;
const LOCK: u64 = 0xc000_2000;
const MAP: u64 = 0xc000_1000;
const MS: u64 = 1_000_000;

/// Goroutine 1 sends under a lock, for 30 ms, 25 of them injected; 2 waits for it.
fn timeline() -> Timeline {
    let mut timeline = Timeline::default();
    let stack = [Frame {
        function: "main.slow".to_owned(),
        file: "/src/main.go".to_owned(),
        line: 7,
    }];
    timeline.keep_send(
        &SendRecord {
            start_ns: 5 * MS,
            goroutine: 1,
            ..fixture::delayed(20 * MS, 25 * MS, 5 * MS)
        },
        &stack,
    );
    // A thread that is none of Go's, and a send whose times are not known.
    timeline.keep_send(&fixture::send(), &[]);
    timeline.keep_send(
        &SendRecord {
            flags: injector_ebpf::flags::NO_START,
            ..fixture::send()
        },
        &[],
    );
    let wait = Wait {
        goroutine: 2,
        lock: LOCK,
        what: "Mutex",
        start_ns: 10 * MS,
        end_ns: 41 * MS,
        over: true,
        parts: Parts {
            injected: 20 * MS,
            sending: 5 * MS,
            unexplained: 6 * MS,
            ..Parts::default()
        },
        // It releases in two steps.
        holders: [40 * MS, 40 * MS + 1]
            .map(|until_ns| Holder {
                goroutine: 1,
                until_ns,
                stack: 0,
            })
            .into(),
        causes: [Cause {
            goroutine: 1,
            send_start_ns: 5 * MS,
            injected_ns: 20 * MS,
            sending_ns: 5 * MS,
        }]
        .into(),
        stack: 0,
    };
    let hold = |goroutine, start_ns, end_ns| {
        Span::Hold(Hold {
            goroutine,
            lock: LOCK,
            start_ns,
            end_ns,
            whole: true,
            stack: 0,
        })
    };
    for span in [
        hold(1, 4 * MS, 40 * MS),
        // Two readers at once.
        hold(3, 50 * MS, 60 * MS),
        hold(4, 55 * MS, 65 * MS),
        Span::Wait(wait),
        Span::Iteration(Iteration {
            goroutine: 2,
            map: MAP,
            sync: false,
            start_ns: 42 * MS,
            end_ns: 45 * MS,
            steps: 12,
            changes: 0,
            stack: 0,
        }),
        Span::Growth(Growth {
            goroutine: 1,
            map: MAP,
            time_ns: 46 * MS,
            stack: 0,
        }),
        Span::Collection {
            start_ns: 47 * MS,
            end_ns: 49 * MS,
        },
        Span::Pause {
            start_ns: 48 * MS,
            end_ns: 49 * MS,
        },
    ] {
        timeline.keep_span(PID, &span);
    }
    timeline
}

/// A slice as a viewer shows it: track, depth, name, start and end.
type Shown = (String, usize, String, u64, u64);

struct Read {
    slices: Vec<Shown>,
    /// By number of the arrow: the slices it goes through, in the order of time.
    arrows: BTreeMap<u64, Vec<String>>,
    trace: schema::Trace,
}

fn read(timeline: &Timeline) -> Read {
    let mut bytes = Vec::new();
    let began = Began {
        monotonic_ns: MS,
        unix_ns: 77,
    };
    write(&mut bytes, timeline, began, &[]).unwrap();
    let trace = schema::Trace::decode(bytes.as_slice()).unwrap();
    let mut names = HashMap::new();
    let mut tracks = HashMap::new();
    let mut open: HashMap<u64, Vec<(String, u64)>> = HashMap::new();
    let (mut slices, mut arrows) = (Vec::new(), BTreeMap::<u64, Vec<String>>::new());
    let mut last_ns = 0;
    for packet in &trace.packet {
        for interned in packet.interned_data.iter().flat_map(|it| &it.event_names) {
            names.insert(interned.iid, interned.text.clone());
        }
        if let Some(track) = &packet.track_descriptor {
            let name = match (&track.process, &track.thread) {
                (Some(process), _) => &process.process_name,
                (_, Some(thread)) => &thread.thread_name,
                _ => &track.name,
            };
            let parent = track.parent_uuid.map(|parent| &tracks[&parent]);
            let parent = parent.map_or(String::new(), |parent| format!("{parent}/"));
            assert!(
                tracks
                    .insert(track.uuid, format!("{parent}{name}"))
                    .is_none()
            );
        }
        let Some(TrackEvent {
            r#type,
            track_uuid,
            name_iid,
            flow_ids,
            ..
        }) = &packet.track_event
        else {
            continue;
        };
        let now_ns = packet.timestamp.unwrap();
        assert!(now_ns >= last_ns, "in the order of time");
        last_ns = now_ns;
        let name = name_iid.map(|iid| names[&iid].clone());
        for arrow in flow_ids {
            arrows
                .entry(*arrow)
                .or_default()
                .push(name.clone().unwrap());
        }
        let open = open.entry(*track_uuid).or_default();
        let on = tracks[track_uuid].clone();
        match *r#type {
            TYPE_SLICE_BEGIN => open.push((name.unwrap(), now_ns)),
            TYPE_SLICE_END => {
                let (name, start) = open.pop().expect("one is open");
                slices.push((on, open.len(), name, start, now_ns));
            }
            TYPE_INSTANT => slices.push((on, open.len(), name.unwrap(), now_ns, now_ns)),
            other => panic!("type {other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty));
    Read {
        slices,
        arrows,
        trace,
    }
}

#[test]
fn everything_is_on_its_track() {
    let mut slices = read(&timeline()).slices;
    slices.sort_by(|a, b| (&a.0, a.3, a.1).cmp(&(&b.0, b.3, b.1)));
    let slices: Vec<_> = slices
        .iter()
        .map(|(track, depth, name, start, end)| {
            format!("{track} {depth} {name} {}-{}", start / MS, end / MS)
        })
        .collect();
    assert_eq!(
        slices,
        [
            "order-api 0 tcp send 1000-1000",
            "order-api/garbage collection 0 garbage collection 47-49",
            "order-api/goroutines/goroutine 1 0 tcp send 5-35",
            "order-api/goroutines/goroutine 1 1 injected delay 5-30",
            "order-api/goroutines/goroutine 2 0 wait for Mutex at 0xc0002000 10-41",
            "order-api/goroutines/goroutine 2 1 held by goroutine 1 10-40",
            "order-api/goroutines/goroutine 2 1 got the lock 41-41",
            "order-api/goroutines/goroutine 2 0 iterate map at 0xc0001000 42-45",
            "order-api/locks/lock at 0xc0002000 0 held by goroutine 1 4-40",
            "order-api/locks/lock at 0xc0002000 0 held by goroutine 3 50-60",
            "order-api/locks/lock at 0xc0002000 0 held by goroutine 4 55-65",
            "order-api/maps/map at 0xc0001000 0 grows 46-46",
            "order-api/no goroutine runs 0 no goroutine runs 48-49",
        ]
    );
}

#[test]
fn arrows_go_from_the_delay_and_the_hold_to_the_one_who_waited() {
    let arrows = read(&timeline()).arrows;
    let arrows: Vec<_> = arrows.into_values().collect();
    assert_eq!(
        arrows,
        [
            ["injected delay", "got the lock"],
            ["held by goroutine 1", "got the lock"],
        ]
    );
}

#[test]
fn times_are_of_the_monotonic_clock_and_all_texts_are_there() {
    let Read { trace, .. } = read(&timeline());
    let clocks = trace.packet[0].clock_snapshot.as_ref().unwrap();
    assert_eq!(clocks.primary_trace_clock, BUILTIN_CLOCK_MONOTONIC);
    let clocks: Vec<_> = clocks
        .clocks
        .iter()
        .map(|it| (it.clock_id, it.timestamp))
        .collect();
    assert_eq!(clocks, [(3, MS), (1, 77)]);
    let second = &trace.packet[1];
    assert_eq!(second.sequence_flags, SEQ_INCREMENTAL_STATE_CLEARED);
    let defaults = second.defaults.unwrap();
    assert_eq!(defaults.timestamp_clock_id, BUILTIN_CLOCK_MONOTONIC);
    let interned = second.interned_data.as_ref().unwrap();
    let texts = |all: &[Interned]| -> HashMap<u64, String> {
        all.iter().map(|it| (it.iid, it.text.clone())).collect()
    };
    let (keys, strings) = (
        texts(&interned.debug_annotation_names),
        texts(&interned.debug_annotation_string_values),
    );
    let send = trace.packet.iter().find_map(|packet| {
        let event = packet.track_event.as_ref()?;
        (event.debug_annotations.len() > 6).then_some(event)
    });
    let said: BTreeMap<_, _> = send
        .unwrap()
        .debug_annotations
        .iter()
        .map(|it| {
            let text = it.string_value_iid.map(|iid| strings[&iid].clone());
            let number = it.uint_value.map(|number| number.to_string());
            (
                keys[&it.name_iid].as_str(),
                text.or(number).unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(said["asked_ns"], (20 * MS).to_string());
    assert_eq!(said["delivered_ns"], (25 * MS).to_string());
    assert_eq!(said["peer"], "127.0.0.1:80");
    assert_eq!(said["stack"], "main.slow /src/main.go:7");
}

#[test]
fn what_cannot_be_drawn_is_counted() {
    let timeline = timeline();
    assert_eq!(timeline.left_out, 1);
}
