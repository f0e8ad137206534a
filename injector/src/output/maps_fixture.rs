//! Conclusions about maps, for tests.

use crate::{
    explain::maps::{
        About, Claim, Class, Confidence, Figure, Finding, GuardView, LockView, MapView, Ops, Parts,
        Party, Place, Seen, Waits,
    },
    go::Frame,
};

fn frame(function: &str, line: u32) -> Frame {
    Frame {
        function: function.to_owned(),
        file: "/srv/cache.go".to_owned(),
        line,
    }
}

fn about(what: &'static str, address: u64, name: &str) -> About {
    About {
        what,
        address,
        name: Some(name.to_owned()),
        type_name: (what == "map").then(|| "map[string]*main.Order".to_owned()),
        first_use: Some(frame("main.(*Cache).Get", 31)),
    }
}

fn party(role: &'static str, goroutine: u64, place: Frame, count: u64, ms: u64) -> Party {
    Party {
        role,
        goroutine: Some(goroutine),
        started_as: (role == "held").then(|| "main.refresher".to_owned()),
        stack: vec![place.clone()],
        place: Some(place),
        count,
        total_ns: ms * 1_000_000,
    }
}

/// A contended lock.
pub fn finding() -> Finding {
    let figure = |name, value| Figure { name, value };
    Finding {
        claim: Claim::Contention,
        about: About {
            type_name: None,
            ..about("RWMutex", 0xc000, "main.(*Cache).mu")
        },
        confidence: Confidence::High,
        why: vec!["each of these waits was seen to begin and to end".to_owned()],
        measured: vec![
            figure("waits", 31),
            figure("total_ns", 1_200_000_000),
            figure("p50_ns", 20_000_000),
            figure("max_ns", 90_000_000),
            figure("paused_ns", 0),
        ],
        inferred: vec![
            "guards main.(*Cache).items (high confidence: fields mu and items of one struct; 30 \
             times used after the lock was got)"
                .to_owned(),
        ],
        seen: vec![Seen {
            what: "reads",
            share: 0.125,
        }],
        remedy: "do nothing slow under the lock: no send, no channel, no sleep, no file",
        parties: vec![
            party("held", 42, frame("main.(*Cache).Refresh", 88), 12, 1_100),
            party(
                "waited to read",
                7,
                frame("main.(*Cache).Get", 31),
                31,
                1_200,
            ),
        ],
        weight: 1,
    }
}

/// What the waits for it were for.
fn parts() -> Parts {
    Parts {
        injected: 900_000_000,
        sending: 100_000_000,
        pausing: 10_000_000,
        no_cpu: 20_000_000,
        unexplained: 170_000_000,
        ..Parts::default()
    }
}

/// The map that it guards.
pub fn map() -> MapView {
    MapView {
        about: about("map", 0xc008, "main.(*Cache).items"),
        name_measured: true,
        kind: "swiss",
        size: Some((300, 2)),
        ops: Ops {
            reads: 120_000,
            assigns: 900,
            deletes: 100,
            iterations: 12,
            steps: 3_600,
            growths: 3,
            ..Ops::default()
        },
        during_gc: 40,
        goroutines: 8,
        started_as: vec![("main.refresher".to_owned(), 4_000)],
        places: vec![Place {
            frame: frame("main.(*Cache).Get", 31),
            what: Class::Read.name(),
            count: 120_000,
        }],
        guard: Some(GuardView {
            lock: 0xc000,
            kind: Some("RWMutex"),
            name: Some("main.(*Cache).mu".to_owned()),
            confidence: Confidence::High,
            why: "fields mu and items of one struct".to_owned(),
        }),
        waits: Waits {
            count: 31,
            total_ns: 1_200_000_000,
            max_ns: 90_000_000,
        },
        blame: Some(parts()),
        shards: 1,
        risk: Some((Claim::ChangeDuringOwnIteration, Confidence::Low)),
    }
}

/// The lock.
pub fn lock() -> LockView {
    let finding = finding();
    let waits = map().waits;
    let none = Waits::default();
    LockView {
        about: finding.about,
        waits,
        quantiles_ns: Some((20_000_000, 88_000_000)),
        by_side: [none, none, waits],
        open: Some((2, 5_000_000)),
        unmeasured: 3,
        paused_ns: 100_000,
        during_gc: 1,
        holders: vec![finding.parties[0].clone()],
        waiters: vec![finding.parties[1].clone()],
        maps: vec![0xc008],
        blame: Some(parts()),
    }
}
