//! The kernel side as userspace sees it: what the host can do, loading and
//! attaching, the shared maps, the lease.

pub mod btf;
pub mod client;
pub mod doctor;
pub mod engine;
pub mod hooks;
pub mod host;
pub mod kfunc;
pub mod lock;
pub mod log;
pub mod mounts;
mod offsets;
pub mod sleep;
pub mod tracer;
pub mod trap;
pub mod uprobes;
pub mod watch;

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf},
};
use injector_ebpf::{
    Budget, Control, Hook, InFlight, MARGIN_CLASSES, Margins, Operation, QuantileTable, Rule,
    Setup, Sleep, Stats, TASK_FROM_PID, Target, go::Layout,
};

use self::{btf::Btf, hooks::HookError, kfunc::Kfuncs};
use crate::{clock, sleeper::parent::Parent};

/// Bytes that may wait in the send ring before a record wakes the daemon: half
/// of its 16 MiB, so that it is woken while there is still room.
const WAKE_BYTES: u64 = 8 << 20;

/// How early sleepers are woken before anything has been learnt, in nanoseconds.
const FIRST_MARGIN_NS: u64 = 150_000;

/// The object that build.rs has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-kernel"));

/// Which hook to use for sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HookChoice {
    /// The best that loads: fentry, then kprobe, then tracepoint.
    #[default]
    Auto,
    /// fentry and fexit.
    Fentry,
    /// kprobe and kretprobe.
    Kprobe,
    /// Syscall tracepoints.
    Tracepoint,
}

impl HookChoice {
    /// The hooks to try, best first.
    pub fn candidates(self) -> &'static [Hook] {
        match self {
            Self::Auto => &[Hook::Fentry, Hook::Kprobe, Hook::Tracepoint],
            Self::Fentry => &[Hook::Fentry],
            Self::Kprobe => &[Hook::Kprobe],
            Self::Tracepoint => &[Hook::Tracepoint],
        }
    }
}

/// The loaded object with its maps.
pub struct Kernel {
    ebpf: Ebpf,
    btf: Btf,
    aya_btf: AyaBtf,
    parent: Option<Parent>,
    kfuncs: Kfuncs,
    control: Control,
    targets: HashMap<MapData, u32, Target>,
    rules: Array<MapData, Rule>,
    tables: Array<MapData, QuantileTable>,
    controls: Array<MapData, Control>,
    budgets: Array<MapData, Budget>,
    stats: PerCpuArray<MapData, Stats>,
    sleeps: Array<MapData, Sleep>,
    /// Kept open until the programs are loaded.
    _margins: Array<MapData, Margins>,
    in_flight: HashMap<MapData, u64, InFlight>,
    go_programs: HashMap<MapData, u32, Layout>,
}

impl Kernel {
    /// Creates the maps and relocates the programs; attaches nothing yet.
    pub fn load(max_targets: u32) -> Result<Self> {
        // aya reads the kernel's type information twice, for its loader and for
        // us, a tenth of a second each time; so in two threads.
        let aya_btf = std::thread::spawn(AyaBtf::from_sys_fs);
        let mut loader = EbpfLoader::new();
        let btf = Btf::from_kernel()?;
        let mut object = OBJECT.to_vec();
        let kfuncs = Kfuncs::put_into(&mut object, &btf)?;
        let setup = Setup {
            offsets: offsets::resolve(&btf)?,
            own_tgid: std::process::id(),
            holder_is_ancestor: kfuncs.missing(&[TASK_FROM_PID]).is_some().into(),
        };
        let mut ebpf = loader
            .override_global("SETUP", &setup, true)
            .map_max_entries("TARGETS", max_targets)
            .load(&object)
            .context(
                "cannot create the kernel maps (is there memory and room under RLIMIT_MEMLOCK?)",
            )?;
        let aya_btf = aya_btf
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that reads BTF has panicked"))?
            .context("cannot read the kernel's BTF")?;
        let mut margins: Array<_, Margins> = Array::try_from(take(&mut ebpf, "MARGINS")?)?;
        let ns = [FIRST_MARGIN_NS; MARGIN_CLASSES];
        margins.set(0, Margins { ns }, 0)?;
        Ok(Self {
            sleeps: Array::try_from(take(&mut ebpf, "SLEEPS")?)?,
            kfuncs,
            parent: None,
            _margins: margins,
            targets: HashMap::try_from(take(&mut ebpf, "TARGETS")?)?,
            rules: Array::try_from(take(&mut ebpf, "RULES")?)?,
            tables: Array::try_from(take(&mut ebpf, "QUANTILES")?)?,
            controls: Array::try_from(take(&mut ebpf, "CONTROL")?)?,
            budgets: Array::try_from(take(&mut ebpf, "BUDGET")?)?,
            stats: PerCpuArray::try_from(take(&mut ebpf, "STATS")?)?,
            in_flight: HashMap::try_from(take(&mut ebpf, "IN_FLIGHT")?)?,
            go_programs: HashMap::try_from(take(&mut ebpf, "GO_PROGRAMS")?)?,
            control: Control {
                wake_bytes: WAKE_BYTES,
                ..Control::default()
            },
            ebpf,
            btf,
            aya_btf,
        })
    }

    /// Attaches one hook, or nothing of it.
    pub fn attach(&mut self, hook: Hook) -> Result<(), HookError> {
        hooks::attach(&mut self.ebpf, &self.btf, &self.aya_btf, hook, false)
    }

    /// The same, with the programs that let threads sleep, if the hook has any.
    fn attach_sleepable(&mut self, hook: Hook) -> Result<(), HookError> {
        hooks::attach(&mut self.ebpf, &self.btf, &self.aya_btf, hook, true)
    }

    /// Attaches the LSM hook of one operation.
    pub fn attach_operation(
        &mut self,
        operation: Operation,
        sleeps: bool,
    ) -> Result<(), HookError> {
        hooks::attach_operation(&mut self.ebpf, &self.aya_btf, operation, sleeps)
    }

    /// Detaches one hook.
    pub fn detach(&mut self, hook: Hook) {
        hooks::detach(&mut self.ebpf, hook);
    }

    /// Follows processes.
    pub fn attach_lifecycle(&mut self) -> Result<(), HookError> {
        hooks::attach_lifecycle(&mut self.ebpf, &self.aya_btf)
    }

    /// Forwards messages of the kernel programs.
    pub fn forward_log(&mut self) -> Result<()> {
        log::forward(&mut self.ebpf)
    }

    /// The ring of send records; can be taken once.
    pub fn take_sends(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "SENDS")?)?)
    }

    /// The ring of stacks of goroutines that send; can be taken once.
    pub fn take_stacks(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "STACKS")?)?)
    }

    /// The ring of process events; can be taken once.
    pub fn take_lifecycle(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "LIFECYCLE")?)?)
    }

    /// Writes a rule with its delay table.
    pub fn set_rule(
        &mut self,
        index: u32,
        rule: &Rule,
        table: Option<&QuantileTable>,
    ) -> Result<()> {
        if let Some(table) = table {
            self.tables
                .set(rule.delay_table, table, 0)
                .context("cannot write the delay table to the kernel")?;
        }
        self.rules
            .set(index, rule, 0)
            .context("cannot write the rule to the kernel")
    }

    /// Changes mode and ceilings; the lease is kept.
    pub fn set_control(&mut self, change: impl FnOnce(&mut Control)) -> Result<()> {
        change(&mut self.control);
        self.controls
            .set(0, self.control, 0)
            .context("cannot write the control block to the kernel")
    }

    /// Lets hooks act until `length` from now.
    pub fn renew_lease(&mut self, length: Duration) -> Result<()> {
        let until = clock::monotonic_ns() + length.as_nanos() as u64;
        self.set_control(|control| control.lease_ns = until)
    }

    /// Makes a process a target.
    pub fn add_target(&mut self, pid: u32, target: Target) -> Result<(), MapError> {
        self.targets.insert(pid, target, 0)
    }

    /// Lets a process go; it may have gone by itself.
    pub fn remove_target(&mut self, pid: u32) {
        let _ = self.targets.remove(&pid);
    }

    /// Has the goroutine of each send of a Go program told, and its stack.
    pub fn know_goroutines(&mut self, layout: Layout) -> Result<()> {
        self.go_programs
            .insert(layout.tgid, layout, 0)
            .context("cannot write the layout of the Go program to the kernel")
    }

    /// The counters of each CPU.
    pub fn stats(&self) -> Result<Vec<Stats>> {
        let values = self.stats.get(&0, 0).context("cannot read the counters")?;
        Ok(values.iter().copied().collect())
    }

    /// Times that the kernel left out one of our programs because it was already
    /// running on that CPU. Kernels that preempt (`CONFIG_PREEMPT`) can stop a
    /// thread in the middle of a program and run another that comes to it, too.
    pub fn skipped(&self) -> u64 {
        let programs = self.ebpf.programs();
        programs
            .filter_map(|(_, program)| {
                let fd = program.fd().ok()?.as_fd().as_raw_fd();
                let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
                recursion_misses(&info)
            })
            .sum()
    }

    /// Sends that have been seen to begin and not to return.
    pub fn in_flight(&self) -> usize {
        self.in_flight.keys().flatten().count()
    }

    /// What acting has used of the ceilings.
    pub fn budget(&self) -> Result<Budget> {
        self.budgets.get(&0, 0).context("cannot read the budget")
    }
}

/// `bpf_prog_show_fdinfo` in `kernel/bpf/syscall.c`, since 5.12.
fn recursion_misses(fdinfo: &str) -> Option<u64> {
    let line = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the kernel object has no map {name}; this is a bug in injector"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read() {
        let fdinfo = "prog_type:\t26\nprog_jited:\t1\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(fdinfo), Some(17));
        assert_eq!(recursion_misses("pos:\t0\n"), None);
    }
}
