//! What took time, one by one.

use super::*;
use crate::explain::fixture;

fn waits(spans: &[Span]) -> Vec<&Wait> {
    spans
        .iter()
        .filter_map(|span| match span {
            Span::Wait(wait) => Some(wait),
            _ => None,
        })
        .collect()
}

fn holds(spans: &[Span]) -> Vec<&Hold> {
    spans
        .iter()
        .filter_map(|span| match span {
            Span::Hold(hold) => Some(hold),
            _ => None,
        })
        .collect()
}

fn function(story: &Story, stack: StackId) -> &str {
    &story.trace.frames(stack).last().unwrap().function
}

fn wanted() -> Story {
    let mut story = Story::new();
    story.trace.keep_spans();
    story
}

/// Goroutine 1 sends under the mutex, from 5 to 35 ms, 25 ms of it delayed; 2 waits
/// for it from 10 ms on, until it is released at 40 ms.
fn a_send_under_a_mutex(story: &mut Story) {
    story.at(10 * MS).waits_for_mutex(2).at(40 * MS);
    story.trace.send(&SendRecord {
        start_ns: 5 * MS,
        goroutine: 1,
        ..fixture::delayed(25 * MS, 25 * MS, 5 * MS)
    });
    story
        .unlocks_mutex(1, "main.slow")
        .at(41 * MS)
        .gets_it(2)
        .at(42 * MS)
        .writes(2);
}

#[test]
fn a_wait_knows_its_holder_and_the_send() {
    let mut story = wanted();
    story.trace.expect_sends();
    a_send_under_a_mutex(&mut story);
    let spans = story.trace.take_spans();
    let [wait] = waits(&spans)[..] else {
        panic!("one wait: {spans:?}");
    };
    assert_eq!((wait.goroutine, wait.lock, wait.what), (2, MUTEX, "Mutex"));
    assert_eq!((wait.start_ns, wait.end_ns), (10 * MS, 41 * MS));
    assert!(wait.over);
    let expected = Parts {
        injected: 20 * MS,
        sending: 5 * MS,
        unexplained: 6 * MS,
        ..Parts::default()
    };
    assert_eq!(wait.parts, expected);
    let holder = wait.holders[0];
    assert_eq!((holder.goroutine, holder.until_ns), (1, 40 * MS));
    let cause = Cause {
        goroutine: 1,
        send_start_ns: 5 * MS,
        injected_ns: 20 * MS,
        sending_ns: 5 * MS,
    };
    assert_eq!(*wait.causes, [cause]);
    assert_eq!(function(&story, wait.stack), "main.put");
    assert_eq!(function(&story, holder.stack), "main.slow");
    let [hold] = holds(&spans)[..] else {
        panic!("one hold: {spans:?}");
    };
    // When it was got was not seen.
    assert_eq!((hold.goroutine, hold.whole), (1, false));
    assert_eq!((hold.start_ns, hold.end_ns), (10 * MS, 40 * MS));
    assert!(story.trace.take_spans().is_empty(), "they were taken");
}

#[test]
fn without_sends_nothing_is_explained() {
    let mut story = wanted();
    a_send_under_a_mutex(&mut story);
    let spans = story.trace.take_spans();
    let wait = waits(&spans)[0];
    assert_eq!(wait.parts.unexplained, 31 * MS);
    assert!(wait.causes.is_empty());
    let holder = wait.holders[0];
    assert_eq!((holder.goroutine, holder.until_ns), (1, 40 * MS));
}

#[test]
fn nobody_asked_for_them() {
    let mut story = Story::new();
    a_send_under_a_mutex(&mut story);
    story.trace.end_spans();
    assert!(story.trace.take_spans().is_empty());
}

#[test]
fn a_hold_that_was_seen_from_its_beginning_is_whole() {
    let mut story = wanted();
    // 3 waits behind 2, so that the release by 2 is seen, and when it got the lock.
    story
        .at(10 * MS)
        .waits_for_mutex(2)
        .at(11 * MS)
        .waits_for_mutex(3)
        .at(20 * MS)
        .unlocks_mutex(1, "main.slow")
        .gets_it(2)
        .at(30 * MS)
        .unlocks_mutex(2, "main.put");
    // A writer's lock and release are seen though nobody waits.
    story
        .at(40 * MS)
        .does(
            4,
            Event::WriteLock,
            RW,
            &["sync.(*RWMutex).Lock", "main.put"],
        )
        .at(47 * MS)
        .does(
            4,
            Event::WriteUnlock,
            RW,
            &["sync.(*RWMutex).Unlock", "main.put"],
        );
    let spans = story.trace.take_spans();
    let holds: Vec<_> = holds(&spans)
        .into_iter()
        .map(|hold| {
            (
                hold.goroutine,
                hold.start_ns / MS,
                hold.end_ns / MS,
                hold.whole,
            )
        })
        .collect();
    assert_eq!(
        holds,
        [(1, 10, 20, false), (2, 20, 30, true), (4, 40, 47, true)]
    );
}

#[test]
fn what_lasts_is_told_at_the_end() {
    let mut story = wanted();
    story.at(10 * MS).waits_for_mutex(2).at(15 * MS);
    story
        .iterates(3, Event::IterateStart)
        .at(17 * MS)
        .iterates(3, Event::IterateNext)
        .at(30 * MS)
        .reads(4);
    assert!(story.trace.take_spans().is_empty());
    story.trace.end_spans();
    let spans = story.trace.take_spans();
    let wait = waits(&spans)[0];
    assert_eq!((wait.over, wait.end_ns), (false, 30 * MS));
    assert!(
        spans.contains(&Span::Iteration(Iteration {
            goroutine: 3,
            map: MAP,
            sync: false,
            start_ns: 15 * MS,
            end_ns: 17 * MS,
            steps: 1,
            changes: 0,
            stack: spans
                .iter()
                .find_map(|span| match span {
                    Span::Iteration(iteration) => Some(iteration.stack),
                    _ => None,
                })
                .unwrap(),
        }))
    );
}

#[test]
fn changes_growths_collections_and_other_waits() {
    let mut story = wanted();
    story.iterates(3, Event::IterateStart).at(MS).writes(4);
    story
        .at(2 * MS)
        .does(4, Event::Grow, MAP, &["runtime.mapassign", "main.put"])
        .iterates(3, Event::IterateNext);
    for (ms, kind) in [
        (3, Event::GcStart),
        (4, Event::WorldStop),
        (5, Event::WorldStart),
        (6, Event::GcEnd),
    ] {
        story.at(ms * MS).does(0, kind, 0, &[]);
    }
    let group = &[
        "sync.runtime_Semacquire",
        "sync.(*WaitGroup).Wait",
        "main.get",
    ];
    story
        .does(5, Event::SemaphoreAcquire, MUTEX, group)
        .at(9 * MS)
        .gets_it(5);
    let ranges = &["sync.(*Map).Range", "main.walk"];
    story
        .does(6, Event::SyncMapRange, SYNC, ranges)
        .does(
            7,
            Event::SyncMapStore,
            SYNC,
            &["sync.(*Map).Store", "main.put"],
        )
        .at(12 * MS)
        .does(6, Event::SyncMapRangeEnd, SYNC, ranges);
    story.trace.end_spans();
    let spans = story.trace.take_spans();
    let growth = spans.iter().find_map(|span| match span {
        Span::Growth(growth) => Some((growth.goroutine, growth.map, growth.time_ns)),
        _ => None,
    });
    assert_eq!(growth, Some((4, MAP, 2 * MS)));
    let (start_ns, end_ns) = (3 * MS, 6 * MS);
    assert!(spans.contains(&Span::Collection { start_ns, end_ns }));
    let (start_ns, end_ns) = (4 * MS, 5 * MS);
    assert!(spans.contains(&Span::Pause { start_ns, end_ns }));
    let wait = waits(&spans)[0];
    assert_eq!((wait.lock, wait.what), (0, "WaitGroup"));
    assert_eq!((wait.start_ns, wait.end_ns), (6 * MS, 9 * MS));
    let mut iterations: Vec<_> = spans
        .iter()
        .filter_map(|span| match span {
            Span::Iteration(it) => Some((it.goroutine, it.map, it.sync, it.steps, it.changes)),
            _ => None,
        })
        .collect();
    iterations.sort_unstable();
    assert_eq!(iterations, [(3, MAP, false, 1, 2), (6, SYNC, true, 0, 1)]);
}

#[test]
fn those_that_are_not_taken_are_counted() {
    let mut story = wanted();
    let growths = 70_000;
    for _ in 0..growths {
        story.does(4, Event::Grow, MAP, &["runtime.mapassign", "main.put"]);
    }
    let kept = story.trace.take_spans().len() as u64;
    assert!(kept > 60_000);
    assert_eq!(kept + story.trace.lost_spans(), growths);
}
