//! The kernel side of the map tracer: its programs and maps, loaded apart from
//! those for sends.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, IterableMap as _, Map, MapData, PerCpuArray, RingBuf},
};
use injector_ebpf::go::{Counter, Hold, Layout, SiteStats, Stats};

use super::{
    host::Host,
    take,
    uprobes::{self, Link, Place, Program, Programs},
};
use crate::go::{self, Attachment, Tracing};

/// The object that build.rs has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-go"));

/// The loaded programs with their maps.
pub struct Tracer {
    ebpf: Ebpf,
    version: (u32, u32),
    map_op: Program,
    fatal: Program,
    layouts: Array<MapData, Layout>,
    sites: PerCpuArray<MapData, SiteStats>,
    stats: PerCpuArray<MapData, Stats>,
}

/// What is attached to one process. Dropping it takes all probes away, first
/// those that are hit often.
#[derive(Debug)]
pub struct Attached {
    _map_ops: Option<Link>,
    _fatals: Option<Link>,
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
            map_op: programs.load("go_map_op")?,
            fatal: programs.load("go_fatal")?,
            layouts: Array::try_from(take(&mut ebpf, "LAYOUTS")?)?,
            sites: PerCpuArray::try_from(take(&mut ebpf, "SITES")?)?,
            stats: PerCpuArray::try_from(take(&mut ebpf, "STATS")?)?,
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

    /// Puts the probes into a program; fatal errors first, so that none is
    /// missed.
    pub fn attach(
        &mut self,
        program: &go::Program,
        target: u16,
        tracing: &Tracing,
    ) -> Result<Attached> {
        self.layouts
            .set(u32::from(target), tracing.layout, 0)
            .context("cannot write the layout to the kernel")?;
        let attach = |with: &Program, attachments: &[Attachment]| {
            if attachments.is_empty() {
                return Ok(None);
            }
            let places: Vec<Place> = attachments.iter().map(place).collect();
            let image = program.image();
            let pid = tracing.layout.tgid;
            with.attach(image.file(), &image.name, pid, self.version, &places)
                .map(Some)
        };
        let fatals = attach(&self.fatal, &tracing.fatals)?;
        Ok(Attached {
            _map_ops: attach(&self.map_op, &tracing.map_ops)?,
            _fatals: fatals,
        })
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
