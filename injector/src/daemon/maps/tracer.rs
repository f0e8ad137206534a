//! The map tracer as a part of a run: puts probes into Go programs as far as the
//! budget goes, hands out what they tell, and takes them away.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::programs::raw_trace_point::RawTracePointLink;
use injector_ebpf::go::{Counter, Event, EventRecord, FatalRecord, SiteStats};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    governor::{Governor, Rank, Use, Wanted},
    units::{self, Unit},
};
use crate::{
    clock,
    go::{Attachment, Loaded, Program, Tracing},
    kernel::{
        host::Host,
        tracer::{HoldMaps, Tracer},
        trap::Traps,
        uprobes::{Link, UprobeError},
    },
    stream::{Events, Ordered, SETTLED_NS},
};

/// How often the ring of events is looked at, and what probes have cost. The
/// kernel side wakes us earlier when the ring fills up or the budget is spent.
const POLL: Duration = Duration::from_millis(30);
/// The longest slice of time that is told as one, in nanoseconds: so far behind is
/// what is known of how long something was seen.
const LONGEST_SLICE_NS: u64 = 10_000_000_000;
/// The share of what hits cost a program that their traps and programs account
/// for; the rest is what they leave of its caches, and what opening and closing
/// windows costs. So that none loses more than it was asked for, it is about the
/// least that was measured: prometheus had 0.74, a loop of writes 0.8 to 0.92, caddy
/// 0.98 (docs/performance.md, "Tracing maps").
const MEASURED: f64 = 0.75;
/// Events, and fatal errors, that are read before something else gets its turn.
const EVENT_BATCH: usize = 65_536;
const FATAL_BATCH: usize = 16;

/// A process that is traced.
pub struct Traced {
    /// Its id.
    pub pid: u32,
    /// Its program, where the process has it.
    pub loaded: Arc<Loaded>,
    /// Its probes.
    pub tracing: Tracing,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Fatal errors.
    Fatals,
    /// Events, perhaps.
    Events,
}

/// What a traced process is known to have done.
pub enum News<'a> {
    /// This.
    Event(&'a EventRecord),
    /// Nothing but what was told, of these kinds of events, in this time.
    Seen(&'a Slice),
    /// Events were lost, or only counted because the budget was used up.
    Gap,
}

/// A time in which all events of some kinds were seen, of one process.
#[derive(Debug)]
pub struct Slice {
    /// The process, in the order of [`MapTracer::targets`].
    pub target: usize,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub start_ns: u64,
    /// The same.
    pub end_ns: u64,
    /// These kinds.
    pub kinds: Vec<Event>,
    /// Afterwards, other kinds are seen, or nothing is.
    pub changes: bool,
}

/// What the tracer was allowed, and what it took.
#[derive(Debug)]
pub struct Spending {
    /// Cores that probes may cost; none: any number.
    pub budget: Option<f64>,
    /// Since the start, in nanoseconds.
    pub elapsed_ns: u64,
    /// What probes have cost in this time, in nanoseconds of one core, by these
    /// prices and the measured time in their programs.
    pub cost_ns: u64,
    /// Measured prices of traps.
    pub traps: Traps,
    /// Windows that were opened.
    pub windows: u64,
    /// The longest that it took to put probes in.
    pub longest_attach: Duration,
    /// The longest that it took to take probes away while others stayed; none if
    /// none were taken away.
    pub longest_detach: Option<Duration>,
    /// How long it took to take all away; zero before the end.
    pub end_detach: Duration,
    /// Operations that began while another goroutine was in one on the same map,
    /// one of both a write.
    pub overlaps: u64,
    /// Kinds of events, and in which share (0 to 1) of the time all of them were
    /// seen.
    pub seen: Vec<(Event, f64)>,
    /// Functions that are too hot for any window.
    pub dropped: Vec<&'static str>,
}

/// Probes that were attached in one step.
struct Attached {
    units: Vec<usize>,
    since_ns: u64,
    links: Vec<Link>,
}

/// The tracer of some processes.
pub struct MapTracer {
    kernel: Tracer,
    targets: Vec<Traced>,
    fatals: AsyncFd<Events<FatalRecord>>,
    events: AsyncFd<Events<EventRecord>>,
    ordered: Ordered,
    poll: Interval,
    /// They are never taken away before the end.
    fatal_links: Vec<Link>,
    switch: Option<RawTracePointLink>,
    units: Vec<Unit>,
    attached: Vec<Attached>,
    /// Links are closed in threads of their own: that waits for the kernel.
    closing: Vec<JoinHandle<Duration>>,
    longest_attach: Duration,
    longest_detach: Option<Duration>,
    end_detach: Duration,
    overlaps: u64,
    used: Vec<Use>,
    governor: Governor,
    traps: Traps,
    budget: Option<f64>,
    start_ns: u64,
    looked_ns: u64,
    /// Those that are over, and for each process the one that is not.
    slices: VecDeque<Slice>,
    current: Vec<Slice>,
    /// Losses that were counted, and whether that is to be told.
    losses: u64,
    has_gap: bool,
    seen_ns: [u64; Event::ALL.len()],
}

/// Tells of the slices that ended before this time.
fn tell(
    slices: &mut VecDeque<Slice>,
    targets: &[Traced],
    until_ns: u64,
    mut each: impl FnMut(usize, &Traced, News<'_>),
) {
    while let Some(slice) = slices.pop_front_if(|slice| slice.end_ns < until_ns) {
        each(slice.target, &targets[slice.target], News::Seen(&slice));
    }
}

impl MapTracer {
    /// Prepares everything for the wanted kinds of events of these processes; there
    /// are no probes yet. The budget is a number of cores; none: whatever it costs.
    pub fn load(
        host: &Host,
        programs: Vec<(u32, Program)>,
        budget: Option<f64>,
        wanted: impl Fn(Event) -> bool,
    ) -> Result<Self> {
        let mut targets: Vec<Traced> = Vec::new();
        let mut units = Vec::new();
        let mut first_site = 0;
        for (pid, program) in programs {
            let index = targets.len();
            let mut tracing = Tracing::of(&program, pid, index as u16, first_site)?;
            first_site += tracing.sites();
            tracing.events.retain(|it| wanted(it.probe.event));
            units.extend(units::of(index, &tracing));
            let loaded = Arc::new(Loaded::new(program, pid)?);
            targets.push(Traced {
                pid,
                loaded,
                tracing,
            });
        }
        let mut kernel = Tracer::load(host)?;
        let fatals = Events::new(kernel.take_fatals()?);
        let events = Events::new(kernel.take_events()?);
        // SAFETY: both rings own their descriptor, return the same one each
        // time, and are never taken out of the `AsyncFd`.
        let (fatals, events) = unsafe {
            (
                AsyncFd::register_with_interest(fatals, Interest::READABLE)?,
                AsyncFd::register_with_interest(events, Interest::READABLE)?,
            )
        };
        let traps = match (kernel.measure_traps(), budget) {
            (Ok(traps), _) => traps,
            (Err(error), Some(_)) => {
                return Err(error.context(
                    "the price of a hit cannot be measured, so no budget can be kept; --budget \
                     none traces without one",
                ));
            }
            (Err(error), None) => {
                eprintln!("injector: {error:#}; what is told of the cost leaves traps out");
                Traps::UNKNOWN
            }
        };
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = clock::monotonic_ns();
        Ok(Self {
            kernel,
            targets,
            fatals,
            events,
            ordered: Ordered::default(),
            poll,
            fatal_links: Vec::new(),
            switch: None,
            attached: Vec::new(),
            closing: Vec::new(),
            longest_attach: Duration::ZERO,
            longest_detach: None,
            end_detach: Duration::ZERO,
            overlaps: 0,
            used: vec![Use::default(); units.len()],
            governor: Governor::new(
                budget.map(|budget| budget * MEASURED),
                units.iter().map(|unit| unit.rank),
                now,
            ),
            units,
            traps,
            budget,
            start_ns: now,
            looked_ns: now,
            slices: VecDeque::new(),
            current: Vec::new(),
            losses: 0,
            has_gap: false,
            seen_ns: [0; Event::ALL.len()],
        })
    }

    /// The kernel side, and the first process.
    pub fn kernel_and_first(&mut self) -> (&mut Tracer, &Traced) {
        // There is always one.
        (&mut self.kernel, &self.targets[0])
    }

    /// What stops a process at its fatal error; can be taken once.
    pub fn take_hold(&mut self) -> Result<HoldMaps> {
        self.kernel.take_hold()
    }

    /// Puts probes into all processes; dropped after an error, it takes them away
    /// again.
    pub fn attach(&mut self) -> Result<()> {
        for Traced {
            loaded, tracing, ..
        } in &self.targets
        {
            // Fatal errors first, so that none is missed.
            self.kernel.add_target(tracing)?;
            if !tracing.fatals.is_empty() {
                let link = self.kernel.attach_fatals(loaded.program(), tracing)?;
                self.fatal_links.push(link);
            }
        }
        self.start_ns = clock::monotonic_ns();
        self.looked_ns = self.start_ns;
        self.look()
    }

    /// Sees from now on when goroutines have no CPU.
    pub fn see_waits_for_cpus(&mut self) -> Result<()> {
        self.switch = Some(self.kernel.see_waits_for_cpus()?);
        Ok(())
    }

    /// The processes, in the order of [`EventRecord::target`].
    pub fn targets(&self) -> &[Traced] {
        &self.targets
    }

    /// Waits until there is something to read.
    pub async fn ready(&mut self) -> io::Result<Ready> {
        tokio::select! {
            biased;
            ready = self.fatals.readable() => {
                ready?.clear_ready();
                Ok(Ready::Fatals)
            }
            ready = self.events.readable() => {
                ready?.clear_ready();
                Ok(Ready::Events)
            }
            _ = self.poll.tick() => Ok(Ready::Events),
        }
    }

    /// Hands out fatal errors.
    pub fn fatals(
        &mut self,
        mut each: impl FnMut(&Traced, &FatalRecord) -> Result<()>,
    ) -> Result<()> {
        let targets = &self.targets;
        let mut handle = |record: &FatalRecord| match targets.get(usize::from(record.target)) {
            Some(target) => each(target, record),
            None => Ok(()),
        };
        while self.fatals.get_mut().drain(FATAL_BATCH, &mut handle)? > 0 {}
        Ok(())
    }

    /// Looks at what the probes have cost, opens and closes windows, and hands out
    /// what has happened, in the order of time; the last milliseconds wait for the
    /// next time.
    pub fn events(&mut self, each: impl FnMut(usize, &Traced, News<'_>)) -> Result<()> {
        self.look()?;
        let settled = clock::monotonic_ns().saturating_sub(SETTLED_NS);
        self.drain(EVENT_BATCH)?;
        self.hand_out(settled, each);
        Ok(())
    }

    fn drain(&mut self, limit: usize) -> Result<usize> {
        let ordered = &mut self.ordered;
        self.events.get_mut().drain(limit, |event| {
            ordered.push(*event);
            Ok(())
        })
    }

    fn hand_out(&mut self, until_ns: u64, mut each: impl FnMut(usize, &Traced, News<'_>)) {
        if std::mem::take(&mut self.has_gap) {
            for (index, target) in self.targets.iter().enumerate() {
                each(index, target, News::Gap);
            }
        }
        for event in self.ordered.until(until_ns) {
            // What is seen changes between events, not after all of them.
            tell(&mut self.slices, &self.targets, event.time_ns, &mut each);
            let index = usize::from(event.target);
            self.overlaps += u64::from(event.overlaps != 0);
            if let Some(target) = self.targets.get(index) {
                each(index, target, News::Event(&event));
            }
        }
        tell(&mut self.slices, &self.targets, until_ns, &mut each);
    }

    /// Takes all probes away and hands out what is left.
    pub fn finish(&mut self, each: impl FnMut(usize, &Traced, News<'_>)) -> Result<()> {
        let now = clock::monotonic_ns();
        self.account(now)?;
        self.note_closed();
        let start = Instant::now();
        for index in (0..self.attached.len()).rev() {
            self.close(index, now);
        }
        self.fatal_links.clear();
        self.switch = None;
        // They wait for each other, so none of them is what a window takes.
        self.closed(|_| true);
        self.end_detach = start.elapsed();
        self.slices.extend(self.current.drain(..));
        while self.drain(EVENT_BATCH)? > 0 {}
        self.hand_out(u64::MAX, each);
        Ok(())
    }

    /// Looks at what the probes have cost, and does what the governor wants.
    fn look(&mut self) -> Result<()> {
        let now = clock::monotonic_ns();
        let gated = self.account(now)?;
        self.note_closed();
        let is_closing = !self.closing.is_empty();
        self.governor.look(now, &self.used, gated, is_closing);
        self.kernel
            .allow(self.governor.allowance_ns(), self.traps)?;
        let wanted: Vec<Wanted> = self.governor.wanted().collect();
        for index in (0..self.attached.len()).rev() {
            let units = &self.attached[index].units;
            if units.iter().any(|unit| wanted[*unit] == Wanted::Off) {
                self.close(index, now);
            }
        }
        // A probe that is still being taken away would tell everything twice.
        if self.closing.is_empty() {
            // What is rare stays when the rest of what was to stay does not.
            for (kind, rare) in [
                (Wanted::Steady, true),
                (Wanted::Steady, false),
                (Wanted::Window, false),
            ] {
                let ranks: Vec<Rank> = self.units.iter().map(|unit| unit.rank).collect();
                let opened =
                    self.open(|unit| wanted[unit] == kind && (ranks[unit] == Rank::Rare) == rare)?;
                self.attached.extend(opened);
            }
        }
        Ok(())
    }

    /// Keeps how long the links took that were closed while others stayed.
    fn note_closed(&mut self) {
        let took = self.closed(JoinHandle::is_finished);
        self.longest_detach = self.longest_detach.max(took);
    }

    /// Lets threads go that close links; the longest that one took.
    fn closed(&mut self, which: impl Fn(&JoinHandle<Duration>) -> bool) -> Option<Duration> {
        let threads = self.closing.extract_if(.., |thread| which(thread));
        threads.filter_map(|thread| thread.join().ok()).max()
    }

    /// Attaches some units, but for those that are attached.
    fn open(&mut self, which: impl Fn(usize) -> bool) -> Result<Option<Attached>> {
        let is_attached = |unit| self.attached.iter().any(|it| it.units.contains(&unit));
        let units: Vec<usize> = (0..self.units.len())
            .filter(|unit| which(*unit) && !is_attached(*unit))
            .collect();
        let mut links = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            let units = units.iter().map(|unit| &self.units[*unit]);
            let probes: Vec<&Attachment> = units
                .filter(|unit| unit.target == index)
                .flat_map(|unit| &unit.probes)
                .collect();
            if !probes.is_empty() {
                let (program, tracing) = (target.loaded.program(), &target.tracing);
                let start = Instant::now();
                match self.kernel.attach(program, tracing, &probes) {
                    Ok(link) => links.push(link),
                    // Whoever watches the process will hear of it.
                    Err(UprobeError::Attach { source, .. })
                        if source.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(error.into()),
                }
                self.longest_attach = self.longest_attach.max(start.elapsed());
            }
        }
        Ok((!links.is_empty()).then(|| Attached {
            units,
            since_ns: clock::monotonic_ns(),
            links,
        }))
    }

    fn close(&mut self, index: usize, now: u64) {
        let attached = self.attached.swap_remove(index);
        debug_assert!(attached.since_ns <= now);
        for link in attached.links {
            self.closing.push(thread::spawn(move || {
                let start = Instant::now();
                drop(link);
                start.elapsed()
            }));
        }
    }

    /// Takes in what the probes have cost; whether the allowance was spent.
    fn account(&mut self, now: u64) -> Result<bool> {
        let gated = self.kernel.is_gate_shut()?;
        let looked = std::mem::replace(&mut self.looked_ns, now);
        let counters = self.kernel.counters()?;
        let losses = counters[Counter::EventsDropped as usize] + counters[Counter::Gated as usize];
        self.has_gap |= losses > self.losses;
        self.losses = losses;
        let mut since = vec![u64::MAX; self.units.len()];
        for attached in &self.attached {
            for unit in &attached.units {
                since[*unit] = attached.since_ns;
                self.used[*unit].attached_ns += now - attached.since_ns.max(looked);
            }
        }
        for (unit, used) in self.units.iter().zip(&mut self.used) {
            used.cost_ns = 0.;
            for probe in &unit.probes {
                let site = self.kernel.site(probe.cookie.site)?;
                used.cost_ns += units::cost(probe, site, self.traps);
            }
        }
        for target in 0..self.targets.len() {
            let kinds = if gated {
                Vec::new()
            } else {
                self.seen(target, looked, &since)
            };
            for kind in &kinds {
                self.seen_ns[*kind as usize] += now - looked;
            }
            self.slice(target, looked, now, kinds);
        }
        Ok(gated)
    }

    /// The kinds of events of which all probes were attached from this time on.
    fn seen(&self, target: usize, start_ns: u64, since: &[u64]) -> Vec<Event> {
        let (mut seen, mut missed) = (Vec::new(), Vec::new());
        let units = self.units.iter().zip(since);
        for (unit, since) in units.filter(|(unit, _)| unit.target == target) {
            let kinds = unit.probes.iter().map(|probe| probe.probe.event);
            if *since <= start_ns {
                seen.extend(kinds);
            } else {
                missed.extend(kinds);
            }
        }
        let mut kinds: Vec<Event> = Vec::new();
        for kind in seen {
            if !missed.contains(&kind) && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Goes on with the slice of a process, or begins the next one.
    fn slice(&mut self, target: usize, start_ns: u64, end_ns: u64, kinds: Vec<Event>) {
        let next = Slice {
            target,
            start_ns,
            end_ns,
            kinds,
            changes: true,
        };
        match self.current.iter_mut().find(|it| it.target == target) {
            None => self.current.push(next),
            Some(current) => {
                let length = current.end_ns - current.start_ns;
                if current.kinds == next.kinds && length < LONGEST_SLICE_NS {
                    current.end_ns = end_ns;
                } else {
                    let mut over = std::mem::replace(current, next);
                    over.changes = over.kinds != current.kinds;
                    self.slices.push_back(over);
                }
            }
        }
    }

    /// Use of one probe.
    pub fn site(&self, site: u16) -> Result<SiteStats> {
        self.kernel.site(site)
    }

    /// The counters of the kernel side, in the order of [`Counter::ALL`].
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()]> {
        self.kernel.counters()
    }

    /// When it began, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// What was asked for and what came of it.
    pub fn spending(&self) -> Spending {
        let elapsed_ns = self.looked_ns - self.start_ns;
        let processes = self.targets.len().max(1) as u64;
        let mut kinds = Vec::new();
        for unit in &self.units {
            for probe in &unit.probes {
                let event = probe.probe.event;
                if !kinds.contains(&event) {
                    kinds.push(event);
                }
            }
        }
        let share = |ns: u64| ns as f64 / (elapsed_ns * processes).max(1) as f64;
        let dropped = self.units.iter().enumerate();
        let dropped = dropped.filter(|(unit, _)| self.governor.is_dropped(*unit));
        Spending {
            budget: self.budget,
            elapsed_ns,
            cost_ns: self.used.iter().map(|used| used.cost_ns).sum::<f64>() as u64,
            traps: self.traps,
            windows: self.governor.windows(),
            longest_attach: self.longest_attach,
            longest_detach: self.longest_detach,
            end_detach: self.end_detach,
            overlaps: self.overlaps,
            seen: kinds
                .into_iter()
                .map(|kind| (kind, share(self.seen_ns[kind as usize])))
                .collect(),
            dropped: dropped
                .flat_map(|(_, unit)| unit.probes.iter().map(|probe| probe.probe.function))
                .collect(),
        }
    }
}
