//! The inspector against the programs of the matrix while they run: what it
//! says of their maps, locks and goroutines is compared with what they say of
//! themselves.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use super::Cell;
use crate::{
    explain::maps::{Fact, Unknown},
    go::{inspect::Inspector, loaded::Loaded},
};

/// A running program of the matrix and what it told; dropping it ends it.
struct Running {
    child: Child,
    lines: Vec<Vec<String>>,
}

impl Running {
    fn start(cell: &Cell) -> Self {
        let mut child = Command::new(&cell.path)
            .arg("truth")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program of the matrix");
        let stdout = BufReader::new(child.stdout.as_mut().expect("its stdout"));
        let lines = stdout.lines().map(|line| line.expect("a line"));
        let fields = |line: String| line.split('\t').map(str::to_owned).collect();
        let lines = lines.take_while(|line| line != "ready").map(fields);
        let lines: Vec<Vec<String>> = lines.collect();
        assert!(lines.len() > 15, "{} tells {lines:?}", cell.name());
        Self { child, lines }
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a [String]> {
        let lines = self.lines.iter().map(Vec::as_slice);
        lines.filter(move |line| line[0] == kind)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").expect("an address");
    u64::from_str_radix(digits, 16).expect("an address")
}

fn inspector(cell: &Cell, running: &Running) -> (Arc<Loaded>, Inspector) {
    let pid = running.child.id();
    let loaded = Loaded::new(cell.program(), pid).expect("a running program");
    let loaded = Arc::new(loaded);
    let mut inspector = Inspector::new(Arc::clone(&loaded), pid);
    while !inspector.is_ready() {
        thread::sleep(Duration::from_millis(5));
    }
    (loaded, inspector)
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn maps_and_locks_are_what_the_running_program_says() {
    for cell in Cell::all().iter().filter(|cell| cell.runs_here()) {
        let running = Running::start(cell);
        let (loaded, mut inspector) = inspector(cell, &running);
        let cell_name = cell.name();
        let named = loaded.program().has_dwarf();
        assert_eq!(inspector.lacks_names().is_none(), named, "{cell_name}");
        let mut questions = Vec::new();
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        let mut name = |at: &str, name: &str| {
            let fact = Fact::Name {
                address: address(at),
                name: name.to_owned(),
                measured: true,
            };
            if named && name != "?" {
                wanted.push(fact);
            } else {
                unwanted.push(address(at));
            }
        };
        for line in running.of("map") {
            name(&line[1], &line[2]);
        }
        for line in running.of("lock").chain(running.of("sync.Map")) {
            name(&line[1], &line[2]);
        }
        for line in running.of("map") {
            let (at, map_type) = (address(&line[1]), address(&line[3]));
            questions.extend([
                Unknown::Map {
                    address: at,
                    map_type,
                },
                Unknown::MapType(map_type),
                Unknown::MapSize(at),
            ]);
            wanted.push(Fact::MapType {
                address: map_type,
                name: line[4].clone(),
            });
        }
        questions.extend(
            running
                .of("lock")
                .map(|line| Unknown::Lock(address(&line[1]))),
        );
        questions.extend(
            running
                .of("sync.Map")
                .map(|line| Unknown::SyncMap(address(&line[1]))),
        );
        for line in running.of("guard") {
            let (lock, map) = (address(&line[1]), address(&line[2]));
            questions.push(Unknown::Lock(lock));
            let fields = named.then(|| (line[4].clone(), line[5].clone()));
            wanted.push(Fact::Guard {
                lock,
                map,
                distance: line[3].parse().expect("a distance"),
                fields,
            });
        }
        let facts = inspector.answer(&questions);
        for fact in &wanted {
            assert!(
                facts.contains(fact),
                "{cell_name}: {fact:?} is not in {facts:#?}"
            );
        }
        for line in running.of("map") {
            let of = address(&line[1]);
            let len: u64 = line[5].parse().expect("a length");
            let sizes: Vec<u64> = facts
                .iter()
                .filter_map(|fact| match fact {
                    Fact::MapSize {
                        address, elements, ..
                    } if *address == of => Some(*elements),
                    _ => None,
                })
                .collect();
            assert_eq!(sizes, [len], "{cell_name}: {line:?}");
        }
        let wrong = facts.iter().find(|fact| {
            matches!(fact, Fact::Name { address, measured: true, .. } if unwanted.contains(address))
        });
        assert_eq!(wrong, None, "{cell_name}");
        // Asked again, it is not found anew where nothing has changed.
        let again = inspector.answer(&questions);
        let is_guard = |fact: &Fact| matches!(fact, Fact::Guard { .. });
        assert!(!again.iter().any(is_guard), "{cell_name}");
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn goroutines_are_from_where_the_running_program_says() {
    for cell in Cell::all().iter().filter(|cell| cell.runs_here()) {
        let running = Running::start(cell);
        let (loaded, mut inspector) = inspector(cell, &running);
        let line = running.of("goroutine").next().expect("a goroutine");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (id, address) = (number(&line[1]), address(&line[2]));
        let facts = inspector.answer(&[
            Unknown::Goroutine { id, address },
            // Of another goroutine at this place there is nothing to say.
            Unknown::Goroutine {
                id: id + 1000,
                address,
            },
            Unknown::Goroutine { id, address: 16 },
        ]);
        let [
            Fact::Goroutine {
                id: found,
                parent,
                creator,
                start,
            },
        ] = facts[..]
        else {
            panic!("{}: {facts:?}", cell.name());
        };
        assert_eq!(found, id);
        let kept = if cell.minor < 21 { 0 } else { number(&line[3]) };
        assert_eq!(parent, kept, "{}", cell.name());
        let function = |stack: &[u64]| {
            let frame = loaded.frames(stack).pop();
            frame.map(|frame| frame.function).unwrap_or_default()
        };
        assert_eq!(function(&[0, creator]), "main.truth", "{}", cell.name());
        // Behind the call of newproc, which is not the function that was started.
        let called = loaded.program().symbols().expect("functions");
        let called = called.find(&["runtime.newproc"])["runtime.newproc"].address;
        assert_eq!(loaded.wrong(&[loaded.placed(called), creator]), 0);
        assert_eq!(loaded.wrong(&[start, creator]), 1);
        assert_eq!(loaded.wrong(&[start, creator + 1, start]), 2);
        let started = function(&[start]);
        assert!(started.starts_with("main.truth.func"), "{started}");
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn addresses_of_anything_else_are_answered_with_nothing() {
    for cell in Cell::all().iter().filter(|cell| cell.runs_here()) {
        let running = Running::start(cell);
        let (loaded, mut inspector) = inspector(cell, &running);
        let image = loaded.program().image();
        let types = loaded.program().types().map(|start| loaded.placed(start));
        let segments = image.segments().iter();
        let inside = segments.flat_map(|segment| {
            let step = (segment.size / 100).max(1) as usize;
            let all = (segment.address..segment.address + segment.size).step_by(step);
            all.map(|address| loaded.placed(address))
        });
        let odd = [0, 1, 8, u64::MAX, u64::MAX - 7, 1 << 63, types.unwrap_or(0)];
        for address in inside.chain(odd) {
            // No panic, and nothing of what cannot be.
            let facts = inspector.answer(&[
                Unknown::MapType(address),
                Unknown::MapSize(address),
                Unknown::Goroutine { id: 5, address },
                Unknown::Lock(address),
            ]);
            for fact in facts {
                if let Fact::MapType { name, .. } = fact {
                    assert!(name.len() <= 4096, "{name}");
                }
            }
        }
    }
}
