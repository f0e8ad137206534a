//! The kernel side of the map tracer: its programs and maps, loaded apart from
//! those for sends.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, IterableMap as _, Map, MapData, PerCpuArray, RingBuf},
    programs::{RawTracePoint, raw_trace_point::RawTracePointLink},
};
use injector_ebpf::go::{Counter, Gate, Hold, Layout, SiteStats, Stats, Watch};

use super::{
    host::Host,
    take,
    trap::{self, Traps},
    uprobes::{self, Link, Place, Program, Programs, UprobeError},
};
use crate::go::{self, Attachment, Tracing};

/// The object that build.rs has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-go"));

/// From this kernel on, the verifier accepts the whole program for fatal errors
/// (6.12 gives up on it, 6.18 does not).
const WHOLE_SINCE: (u32, u32) = (6, 18);

/// The loaded programs with their maps.
pub struct Tracer {
    pub(super) ebpf: Ebpf,
    pub(super) watches: Array<MapData, Watch>,
    version: (u32, u32),
    event: Program,
    fatal: Program,
    nothing: Program,
    layouts: Array<MapData, Layout>,
    targets: HashMap<MapData, u32, u32>,
    sites: PerCpuArray<MapData, SiteStats>,
    stats: PerCpuArray<MapData, Stats>,
    gate: Array<MapData, Gate>,
    spent: Array<MapData, u64>,
    allowed_ns: u64,
}

impl Tracer {
    /// Loads everything; attaches nothing yet.
    pub fn load(host: &Host) -> Result<Self> {
        uprobes::check(&host.release, host.version)?;
        let mut ebpf = EbpfLoader::new().load(OBJECT).context(
            "cannot create the kernel maps (is there memory and room under RLIMIT_MEMLOCK?)",
        )?;
        let programs = Programs::of(OBJECT, &ebpf)?;
        Ok(Self {
            event: programs.load("go_event")?,
            fatal: programs.load(if host.version < WHOLE_SINCE {
                "go_fatal_lean"
            } else {
                "go_fatal"
            })?,
            nothing: programs.load("go_nothing")?,
            layouts: Array::try_from(take(&mut ebpf, "LAYOUTS")?)?,
            targets: HashMap::try_from(take(&mut ebpf, "TARGETS")?)?,
            sites: PerCpuArray::try_from(take(&mut ebpf, "SITES")?)?,
            watches: Array::try_from(take(&mut ebpf, "WATCHES")?)?,
            stats: PerCpuArray::try_from(take(&mut ebpf, "STATS")?)?,
            gate: Array::try_from(take(&mut ebpf, "GATE")?)?,
            spent: Array::try_from(take(&mut ebpf, "SPENT")?)?,
            allowed_ns: u64::MAX,
            version: host.version,
            ebpf,
        })
    }

    /// The ring of fatal errors; can be taken once.
    pub fn take_fatals(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "FATALS")?)?)
    }

    /// What stops a process at its fatal error; can be taken once.
    pub fn take_hold(&mut self) -> Result<HoldMaps> {
        let bell = take(&mut self.ebpf, "HOLD_BELL")?;
        let Map::RingBuf(bell) = bell else {
            bail!("HOLD_BELL is no ring; this is a bug in injector");
        };
        Ok(HoldMaps {
            bell,
            armed: Array::try_from(take(&mut self.ebpf, "HOLD_ARMED")?)?,
            holds: Array::try_from(take(&mut self.ebpf, "HOLDS")?)?,
        })
    }

    /// The ring of events; can be taken once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?)?)
    }

    /// Tells the kernel side of a program, before any probe is put into it.
    pub fn add_target(&mut self, tracing: &Tracing) -> Result<()> {
        let target = u32::from(tracing.target);
        let set = self.layouts.set(target, tracing.layout, 0);
        set.context("cannot write the layout to the kernel")?;
        let set = self.targets.insert(tracing.layout.tgid, target, 0);
        set.context("cannot write the process to the kernel")
    }

    /// Tells from now on when a goroutine could run and has no CPU. Its price is paid
    /// by every switch from one thread to another, of any process.
    pub fn see_waits_for_cpus(&mut self) -> Result<RawTracePointLink> {
        let program = self.ebpf.program_mut("go_switch");
        let program = program.context("it has no program go_switch; this is a bug in injector")?;
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        let link = program.attach("sched_switch")?;
        Ok(program.take_link(link)?)
    }

    /// Puts the probes on fatal errors into a program.
    pub fn attach_fatals(
        &self,
        program: &go::Program,
        tracing: &Tracing,
    ) -> Result<Link, UprobeError> {
        let fatals: Vec<&Attachment> = tracing.fatals.iter().collect();
        self.put(&self.fatal, program, tracing, &fatals)
    }

    /// Puts other probes into it.
    pub fn attach(
        &self,
        program: &go::Program,
        tracing: &Tracing,
        probes: &[&Attachment],
    ) -> Result<Link, UprobeError> {
        self.put(&self.event, program, tracing, probes)
    }

    fn put(
        &self,
        with: &Program,
        program: &go::Program,
        tracing: &Tracing,
        probes: &[&Attachment],
    ) -> Result<Link, UprobeError> {
        let places: Vec<Place> = probes.iter().map(|it| place(it)).collect();
        let image = program.image();
        let pid = tracing.layout.tgid;
        with.attach(image.file(), &image.name, pid, self.version, &places)
    }

    /// Measures what a trap costs.
    pub fn measure_traps(&self) -> Result<Traps> {
        trap::measure(&self.nothing, self.version)
    }

    /// Allows hits to cost this much more from now on, in nanoseconds.
    pub fn allow(&mut self, allowance_ns: f64, traps: Traps) -> Result<()> {
        let gate = Gate {
            allowed_ns: self.spent()?.saturating_add(allowance_ns as u64),
            trap_ns: [traps.emulated_ns, traps.single_stepped_ns],
        };
        let set = self.gate.set(0, gate, 0);
        set.context("cannot write the budget to the kernel")?;
        self.allowed_ns = gate.allowed_ns;
        Ok(())
    }

    /// Whether all that was allowed is spent.
    pub fn is_gate_shut(&self) -> Result<bool> {
        Ok(self.spent()? >= self.allowed_ns)
    }

    fn spent(&self) -> Result<u64> {
        let spent = self.spent.get(&0, 0);
        spent.context("cannot read what the probes have cost")
    }

    /// Use of one probe, on all CPUs.
    pub fn site(&self, site: u16) -> Result<SiteStats> {
        let values = self.sites.get(&u32::from(site), 0);
        let values = values.context("cannot read the use of a probe")?;
        let mut sum = SiteStats::default();
        for value in values.iter() {
            sum.hits += value.hits;
            sum.ns += value.ns;
        }
        Ok(sum)
    }

    /// The counters, on all CPUs, in the order of [`Counter::ALL`].
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()]> {
        let values = self.stats.get(&0, 0).context("cannot read the counters")?;
        let mut sum = Stats::default().values;
        for value in values.iter() {
            for (sum, value) in sum.iter_mut().zip(value.values) {
                *sum += value;
            }
        }
        Ok(sum)
    }
}

/// The kernel's half of `--hold-on-fatal`. The ids are for the watchdog.
pub struct HoldMaps {
    armed: Array<MapData, u64>,
    holds: Array<MapData, Hold>,
    bell: MapData,
}

impl HoldMaps {
    /// Id of the map that says whether a program is to be stopped.
    pub fn armed_id(&self) -> Result<u32> {
        Ok(self.armed.map().info()?.id())
    }

    /// Id of the map that says since when one is.
    pub fn holds_id(&self) -> Result<u32> {
        Ok(self.holds.map().info()?.id())
    }

    /// Id of the ring that is written to when one is.
    pub fn bell_id(&self) -> Result<u32> {
        Ok(self.bell.info()?.id())
    }

    /// Whether this program is to be stopped at its fatal error.
    pub fn arm(&mut self, target: u32, armed: bool) -> Result<()> {
        let armed = u64::from(armed);
        let set = self.armed.set(target, armed, 0);
        set.context("cannot tell the kernel whether to stop the process")
    }

    /// Whether it was stopped.
    pub fn is_claimed(&self, target: u32) -> Result<bool> {
        let hold = self.holds.get(&target, 0);
        Ok(hold
            .context("cannot read whether the process is held")?
            .claims
            != 0)
    }
}

fn place(attachment: &Attachment) -> Place {
    Place {
        offset: attachment.offset,
        cookie: attachment.cookie.encode(),
    }
}
