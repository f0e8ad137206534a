//! `--watch-map`: which maps hardware watches, and what it tells.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use anyhow::{Context as _, Result, bail, ensure};
use injector_ebpf::go::{EventRecord, MAX_SITES, MAX_WATCHES, Watch};
use tokio::io::{Interest, unix::AsyncFd};

use super::tracer::{MapTracer, Traced};
use crate::{
    explain::watch::Watched,
    go::{self, Loaded, Memory},
    kernel::{tracer::Tracer, watch::Watching},
    output::watch::{Report, Watch as Told},
    stream::Events,
};

/// Hits that are read before something else gets its turn.
const BATCH: usize = 16_384;
/// Maps of a type among which the busiest are chosen.
const MOST_MAPS: usize = 4096;
/// Operations on maps of a type after which the busiest are chosen: enough to
/// tell them from others.
const ENOUGH: u64 = 64;

/// The watched maps of one process.
pub struct Watches {
    pid: u32,
    events: AsyncFd<Events<EventRecord>>,
    offset: u64,
    mask: u32,
    price_ns: u64,
    active: Vec<Active>,
    wanted: Vec<Wanted>,
}

struct Active {
    expression: String,
    map: u64,
    watching: Watching,
    watched: Watched,
}

/// A type, of whose maps some will be watched.
struct Wanted {
    name: String,
    types: HashMap<u64, bool>,
    operations: u64,
    maps: BTreeMap<u64, u64>,
}

impl Watches {
    /// Begins to watch the maps of these expressions: addresses, variables, or
    /// types, whose maps have to be seen in use first.
    pub fn start(expressions: &[String], tracer: &mut MapTracer) -> Result<Self> {
        ensure!(
            expressions.len() <= MAX_WATCHES as usize,
            "--watch-map: a thread has registers for {MAX_WATCHES} maps, not for {}",
            expressions.len()
        );
        let (kernel, target) = tracer.kernel_and_first();
        let program = target.loaded.program();
        let bit = program.writing_bit().with_context(|| {
            format!(
                "{}: it is not known where its maps have the flag that says that they are \
                 written to, so none can be watched",
                program.image().name
            )
        })?;
        let ring = Events::new(kernel.take_watched()?);
        // SAFETY: the ring owns its descriptor, returns the same one each time,
        // and is never taken out of the `AsyncFd`.
        let events = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
        let price_ns = kernel.watch_price().context("--watch-map")?;
        let mut watches = Self {
            pid: target.pid,
            events,
            offset: u64::from(bit.offset),
            mask: u32::from(bit.mask),
            price_ns,
            active: Vec::new(),
            wanted: Vec::new(),
        };
        for expression in expressions {
            match resolve(expression, target)? {
                Some(map) => watches.watch(expression.clone(), map, kernel)?,
                None => watches.wanted.push(Wanted {
                    name: expression.clone(),
                    types: HashMap::new(),
                    operations: 0,
                    maps: BTreeMap::new(),
                }),
            }
        }
        Ok(watches)
    }

    fn watch(&mut self, expression: String, map: u64, kernel: &mut Tracer) -> Result<()> {
        let index = self.active.len() as u32;
        let watch = Watch {
            byte: map + self.offset,
            map,
            mask: self.mask,
            // Behind those of probes, which begin at 0.
            site: site(index),
            target: 0,
        };
        let watching = kernel
            .watch(index, watch, self.pid)
            .with_context(|| format!("--watch-map {expression}"))?;
        eprintln!(
            "injector: watching map {expression} at {map:#x} in {} threads: each write costs the \
             program {} ns twice",
            watching.threads, self.price_ns
        );
        self.active.push(Active {
            expression,
            map,
            watching,
            watched: Watched::default(),
        });
        Ok(())
    }

    /// Waits for hits.
    pub async fn ready(&mut self) -> io::Result<()> {
        self.events.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes in the hits that are there.
    pub fn read(&mut self, loaded: &Loaded) -> Result<()> {
        let Self { events, active, .. } = self;
        let names = |stack: &[u64]| loaded.frames(stack);
        let mut handle = |event: &EventRecord| {
            let of = active.iter_mut().find(|it| it.map == event.subject);
            if let Some(one) = of
                && one.watched.feed(event, &names)
                && one.watched.overlapping == 1
            {
                eprintln!(
                    "injector: two goroutines are in operations on map {} at once, without a lock",
                    one.expression
                );
            }
            Ok(())
        };
        while events.get_mut().drain(BATCH, &mut handle)? >= BATCH {}
        Ok(())
    }

    /// Counts an operation, if maps of its type are wanted.
    pub fn see(&mut self, event: &EventRecord, loaded: &Loaded) {
        if event.map_type == 0 {
            return;
        }
        for wanted in &mut self.wanted {
            let memory = Memory::of(self.pid);
            let is_it = *wanted.types.entry(event.map_type).or_insert_with(|| {
                let name = go::map_name(loaded, memory, event.map_type);
                name.is_some_and(|name| name == wanted.name)
            });
            let room = wanted.maps.len() < MOST_MAPS;
            if is_it && (room || wanted.maps.contains_key(&event.subject)) {
                wanted.operations += 1;
                *wanted.maps.entry(event.subject).or_default() += 1;
            }
        }
    }

    /// Begins to watch the busiest maps of the types that are wanted, as soon as
    /// enough was seen.
    pub fn choose(&mut self, tracer: &mut MapTracer) -> Result<()> {
        let (kernel, _) = tracer.kernel_and_first();
        while let Some(index) = self.wanted.iter().position(|it| it.operations >= ENOUGH) {
            let wanted = self.wanted.swap_remove(index);
            let mut maps: Vec<(u64, u64)> = wanted.maps.into_iter().collect();
            maps.sort_by_key(|(_, operations)| std::cmp::Reverse(*operations));
            let free = (MAX_WATCHES as usize).saturating_sub(self.active.len() + self.wanted.len());
            for (map, _) in maps.into_iter().take(free) {
                if self.active.iter().all(|it| it.map != map) {
                    self.watch(wanted.name.clone(), map, kernel)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the watchpoints away and tells what came of them; types of which
    /// nothing was seen have a word on stderr.
    pub fn finish(mut self, tracer: &mut MapTracer) -> Result<Vec<Report>> {
        for wanted in &self.wanted {
            eprintln!(
                "injector: no map of type {} was watched: {} operations on such maps were seen, \
                 and {ENOUGH} are needed to choose",
                wanted.name, wanted.operations
            );
        }
        let (kernel, target) = tracer.kernel_and_first();
        let loaded = &target.loaded;
        let threads: Vec<usize> = self.active.iter().map(|it| it.watching.threads).collect();
        for active in &mut self.active {
            active.watching.stop();
        }
        self.read(loaded)?;
        let names = |stack: &[u64]| loaded.frames(stack);
        let reports = self.active.iter().zip(threads).enumerate();
        reports
            .map(|(index, (active, threads))| {
                let told = Told {
                    pid: self.pid,
                    expression: active.expression.clone(),
                    address: active.map,
                    threads,
                    price_ns: self.price_ns,
                    program_ns: kernel.site(site(index as u32))?.ns,
                };
                Ok(Report::new(&told, &active.watched, &names))
            })
            .collect()
    }
}

/// Places in the table of the use of probes that no probe gets: the last ones.
fn site(index: u32) -> u16 {
    (MAX_SITES - MAX_WATCHES + index) as u16
}

/// The address of a map's header; none for a type.
fn resolve(expression: &str, target: &Traced) -> Result<Option<u64>> {
    if let Some(digits) = expression.strip_prefix("0x") {
        let address = u64::from_str_radix(digits, 16);
        return Ok(Some(address.with_context(|| {
            format!("--watch-map {expression}: no address")
        })?));
    }
    if expression.starts_with("map[") {
        return Ok(None);
    }
    let Some(variable) = target.loaded.variable(expression) else {
        bail!(
            "--watch-map {expression}: the program has no such package variable in its symbol \
             table; give an address (0x…) or a type (map[string]int)"
        );
    };
    match Memory::of(target.pid).word(variable) {
        None => bail!("--watch-map {expression}: the memory at {variable:#x} cannot be read"),
        Some(0) => bail!("--watch-map {expression}: it is nil now, so there is no map to watch"),
        Some(map) => Ok(Some(map)),
    }
}
