//! The map tracer as a part of a run: puts probes into Go programs, hands out
//! what they tell, and takes them away.

use std::{io, time::Duration};

use anyhow::Result;
use injector_ebpf::go::{Counter, EventRecord, FatalRecord, SiteStats};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    clock,
    go::{Loaded, Program, Tracing},
    kernel::{
        host::Host,
        tracer::{Attached, Tracer},
    },
    stream::{Events, Ordered},
};

/// How often the ring of events is looked at. The kernel side wakes us earlier
/// when it fills up.
const POLL: Duration = Duration::from_millis(25);
/// Events, and fatal errors, that are read before something else gets its turn.
const EVENT_BATCH: usize = 65_536;
const FATAL_BATCH: usize = 16;

/// A process that is traced.
pub struct Traced {
    /// Its id.
    pub pid: u32,
    /// Its program, where the process has it.
    pub loaded: Loaded,
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

/// The tracer of some processes.
pub struct MapTracer {
    kernel: Tracer,
    targets: Vec<Traced>,
    attached: Vec<Attached>,
    fatals: AsyncFd<Events<FatalRecord>>,
    events: AsyncFd<Events<EventRecord>>,
    ordered: Ordered,
    poll: Interval,
}

impl MapTracer {
    /// Puts probes into all these processes, or into none.
    pub fn start(host: &Host, programs: Vec<(u32, Program)>) -> Result<Self> {
        let mut targets: Vec<Traced> = Vec::new();
        let mut first_site = 0;
        for (pid, program) in programs {
            let tracing = Tracing::of(&program, pid, targets.len() as u16, first_site)?;
            first_site += tracing.sites();
            let loaded = Loaded::new(program, pid)?;
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
        let attached = targets
            .iter()
            .map(|target| kernel.attach(target.loaded.program(), &target.tracing))
            .collect::<Result<_>>()?;
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            kernel,
            targets,
            attached,
            fatals,
            events,
            ordered: Ordered::default(),
            poll,
        })
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

    /// Hands out events in the order of their time; those of the last
    /// milliseconds wait for the next time.
    pub fn events(&mut self, each: impl FnMut(&Traced, &EventRecord)) -> Result<()> {
        self.hand_out(EVENT_BATCH, Ordered::settled, each)
    }

    fn hand_out<'a, I: Iterator<Item = EventRecord>>(
        &'a mut self,
        limit: usize,
        ready: impl FnOnce(&'a mut Ordered, u64) -> I,
        mut each: impl FnMut(&Traced, &EventRecord),
    ) -> Result<()> {
        let now = clock::monotonic_ns();
        let ordered = &mut self.ordered;
        self.events.get_mut().drain(limit, |event| {
            ordered.push(*event);
            Ok(())
        })?;
        for event in ready(ordered, now) {
            if let Some(target) = self.targets.get(usize::from(event.target)) {
                each(target, &event);
            }
        }
        Ok(())
    }

    /// Takes all probes away and hands out the events that are left.
    pub fn finish(&mut self, each: impl FnMut(&Traced, &EventRecord)) -> Result<()> {
        self.attached.clear();
        self.hand_out(usize::MAX, |ordered, _| ordered.rest(), each)
    }

    /// Use of one probe.
    pub fn site(&self, site: u16) -> Result<SiteStats> {
        self.kernel.site(site)
    }

    /// The counters of the kernel side, in the order of [`Counter::ALL`].
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()]> {
        self.kernel.counters()
    }
}
