//! Which probes trace a program's maps, and what the kernel side has to know of
//! it.

use injector_ebpf::go::{Cookie, Event, Layout, NO_ARGUMENT, NO_FIELD};
use thiserror::Error;

use super::{
    layout::Field,
    maps::MapKind,
    probes::{Place, Probe, Subject},
    program::{Placement, Program},
    site::Method,
};

/// It is a Go program, and too little is known of it.
#[derive(Debug, Error)]
#[error(
    "{program} ({version}) cannot be traced: {why}; `injector doctor --pid` says what is known"
)]
pub struct NotTraceable {
    program: String,
    version: String,
    why: String,
}

/// A probe and its place.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The row of the table.
    pub probe: &'static Probe,
    /// Offset in the program's file, in bytes.
    pub offset: u64,
    /// How the kernel goes on after a hit.
    pub method: Method,
    /// What its hits are known by.
    pub cookie: Cookie,
}

/// What traces a program's maps.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Index into the kernel's table of programs.
    pub target: u16,
    /// Where the runtime keeps what.
    pub layout: Layout,
    /// Probes on fatal errors.
    pub fatals: Vec<Attachment>,
    /// All others.
    pub events: Vec<Attachment>,
    /// Functions that should be probed and are not, with the reason.
    pub left_out: Vec<(&'static str, &'static str)>,
}

impl Tracing {
    /// For the program of a process, which is `target` in the kernel's table;
    /// its probes are numbered from `first_site` on.
    pub fn of(
        program: &Program,
        pid: u32,
        target: u16,
        first_site: u16,
    ) -> Result<Self, NotTraceable> {
        let refuse = |why: String| NotTraceable {
            program: program.image().name.clone(),
            version: program
                .version
                .as_ref()
                .map_or_else(|| "version unknown".to_owned(), ToString::to_string),
            why,
        };
        let field = |field: Field| {
            let known = program.offsets.get(field);
            known.ok_or_else(|| refuse(format!("it is not known where {field:?} is")))
        };
        let optional = |field: Field| program.offsets.get(field).unwrap_or(NO_FIELD);
        let iterator_map = match program.maps {
            Some(MapKind::Classic) => Field::ClassicIteratorMap,
            Some(MapKind::Swiss) => Field::SwissIteratorMap,
            None => return Err(refuse("it has no maps".to_owned())),
        };
        let mut tracing = Self {
            target,
            layout: Layout {
                tgid: pid,
                goroutine_id: field(Field::GoroutineId)?,
                goroutine_thread: field(Field::GoroutineThread)?,
                thread_goroutine: field(Field::ThreadGoroutine)?,
                iterator_map: field(iterator_map)?,
                goroutine_parent: optional(Field::GoroutineParent),
                goroutine_creator: optional(Field::GoroutineCreator),
                goroutine_start: optional(Field::GoroutineStart),
            },
            fatals: Vec::new(),
            events: Vec::new(),
            left_out: Vec::new(),
        };
        for sited in &program.sites {
            let probe = sited.probe;
            let (offset, method, repeats) = match &sited.at {
                Placement::Site { offset, site, .. } => (*offset, site.method, site.repeats),
                Placement::Nowhere(why) => {
                    tracing.left_out.push((probe.function, why));
                    continue;
                }
            };
            let site = first_site + (tracing.fatals.len() + tracing.events.len()) as u16;
            let list = if matches!(probe.event, Event::Fatal | Event::Throw) {
                &mut tracing.fatals
            } else {
                &mut tracing.events
            };
            list.push(Attachment {
                probe,
                offset,
                method,
                cookie: Cookie {
                    single_stepped: method == Method::SingleStepped,
                    repeats,
                    ..cookie(probe, site, target)
                },
            });
        }
        if !tracing.events.iter().any(|it| it.probe.event.is_map_op()) {
            return Err(refuse("none of its map functions can be probed".to_owned()));
        }
        Ok(tracing)
    }

    /// How many probes there are.
    pub fn sites(&self) -> u16 {
        (self.fatals.len() + self.events.len()) as u16
    }
}

fn cookie(probe: &Probe, site: u16, target: u16) -> Cookie {
    // Functions of the runtime are f(type, map, …), methods of the map
    // (map).f(type, …), and those of its tables (table).f(type, map, …).
    let (subject, map_type) = match probe.subject {
        Subject::Argument(map @ 1) if probe.event.is_map_op() => (map, 0),
        Subject::Argument(map) if probe.event.is_map_op() => (map, 1),
        Subject::Argument(subject) => (subject, NO_ARGUMENT),
        _ => (NO_ARGUMENT, NO_ARGUMENT),
    };
    let iterator = match (probe.event, probe.subject) {
        (_, Subject::Iterator(iterator)) => iterator,
        // mapiterinit(t, h, it), mapIterStart(t, m, it).
        (Event::IterateStart, _) => 2,
        _ => NO_ARGUMENT,
    };
    Cookie {
        kind: probe.event as u8,
        subject,
        map_type,
        iterator,
        at_entry: probe.place == Place::Entry,
        single_stepped: false,
        repeats: false,
        site,
        target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::probes::TABLE;

    fn of(function: &str) -> Cookie {
        let probe = TABLE.iter().find(|probe| probe.function == function);
        cookie(probe.expect(function), 0, 0)
    }

    /// As the functions are declared in runtime/map.go and
    /// internal/runtime/maps.
    #[test]
    fn arguments_are_where_go_puts_them() {
        let arguments = |function| {
            let cookie = of(function);
            (cookie.subject, cookie.map_type, cookie.iterator)
        };
        assert_eq!(arguments("runtime.mapassign_faststr"), (1, 0, NO_ARGUMENT));
        assert_eq!(arguments("runtime.mapiterinit"), (1, 0, 2));
        assert_eq!(
            arguments("runtime.mapiternext"),
            (NO_ARGUMENT, NO_ARGUMENT, 0)
        );
        assert_eq!(
            arguments("internal/runtime/maps.(*Map).Delete"),
            (0, 1, NO_ARGUMENT)
        );
        assert_eq!(
            arguments("internal/runtime/maps.(*table).split"),
            (2, 1, NO_ARGUMENT)
        );
        let (none, lock) = (NO_ARGUMENT, "internal/sync.(*Mutex).lockSlow");
        assert_eq!(arguments(lock), (0, none, none));
        assert_eq!(arguments("runtime.gcStart"), (none, none, none));
    }

    #[test]
    fn every_operation_has_a_map_or_an_iterator() {
        for probe in TABLE.iter().filter(|probe| probe.event.is_map_op()) {
            let cookie = cookie(probe, 0, 0);
            assert!(
                cookie.subject != NO_ARGUMENT || cookie.iterator != NO_ARGUMENT,
                "{}",
                probe.function
            );
        }
    }
}
