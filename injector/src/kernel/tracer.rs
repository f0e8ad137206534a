//! The kernel side of the map tracer: its programs and maps, loaded apart from
//! those for sends.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray, RingBuf},
};
use injector_ebpf::go::{Counter, Layout, SiteStats, Stats};

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
    event: Program,
    fatal: Program,
    layouts: Array<MapData, Layout>,
    sites: PerCpuArray<MapData, SiteStats>,
    stats: PerCpuArray<MapData, Stats>,
}

/// What is attached to one process. Dropping it takes all probes away, first
/// those that are hit often.
#[derive(Debug)]
pub struct Attached {
    _events: Vec<Link>,
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
            event: programs.load("go_event")?,
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

    /// The ring of events; can be taken once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?)?)
    }

    /// Puts the probes into a program; fatal errors first, so that none is
    /// missed.
    pub fn attach(&mut self, program: &go::Program, tracing: &Tracing) -> Result<Attached> {
        self.layouts
            .set(u32::from(tracing.target), tracing.layout, 0)
            .context("cannot write the layout to the kernel")?;
        let attach = |with: &Program, attachments: &[&Attachment]| {
            if attachments.is_empty() {
                return Ok(None);
            }
            let places: Vec<Place> = attachments.iter().copied().map(place).collect();
            let image = program.image();
            let pid = tracing.layout.tgid;
            with.attach(image.file(), &image.name, pid, self.version, &places)
                .map(Some)
        };
        let fatals: Vec<&Attachment> = tracing.fatals.iter().collect();
        let fatals = attach(&self.fatal, &fatals)?;
        let (map_ops, others): (Vec<_>, Vec<_>) = tracing
            .events
            .iter()
            .partition(|it| it.probe.event.is_map_op());
        let others = attach(&self.event, &others)?;
        let map_ops = attach(&self.map_op, &map_ops)?;
        Ok(Attached {
            _events: map_ops.into_iter().chain(others).collect(),
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

fn place(attachment: &Attachment) -> Place {
    Place {
        offset: attachment.offset,
        cookie: attachment.cookie.encode(),
    }
}
