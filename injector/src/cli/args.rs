//! Flags and subcommands: the one place where each is declared. Help, man page
//! and completions derive from it.

#![allow(
    clippy::doc_markdown,
    reason = "these comments are help texts, where backticks would be shown"
)]

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use nix::errno::Errno;

use crate::{
    daemon::{Format, maps::Kind},
    go::Pattern,
    kernel::{HookChoice, engine::EngineChoice},
    plan::{self, Bytes, CpuShare, Delay, Malformed, Over, Peer, Probability, Protocols, When},
    target::selector::{CommPattern, EnvCondition},
};
use injector_ebpf::Operation;

const EXAMPLES: &str = "\
EXAMPLES:
  Watch the sends of a process; nothing is changed:
      injector --pid 4242 --all
  Delay 15 % of the sends of a canary by 0 to 1.2 s, signal those over 0.8 s:
      injector --comm order-api --env env=gray --probability 15% \\
          --delay 0..1200ms --threshold 800ms --on-timeout signal:SIGUSR2
  What would happen, without doing it:
      injector --comm order-api --delay 0..1200ms --probability 15% --shadow
  Fail 1 % of the sends to a database (needs BPF LSM):
      injector --pid 4242 --to 10.0.0.0/8:5432 --error ECONNRESET --probability 1%
  An exhausted pool: 30 % of new connections are refused (needs BPF LSM):
      injector --pid 4242 --on connect --error ECONNREFUSED --probability 30%
  Every second send of each thread from the third to the hundredth:
      injector --pid 4242 --delay 5ms --when 3..100+2
  Run a command under delay:
      injector --delay exp(2ms) -- curl -s http://127.0.0.1:8080/
  What can this host do, and what does it cost?
      injector doctor";

const OVERHEAD: &str = "\
OVERHEAD:
  A process that is no target pays one hash look-up per send, beside the price
  of the hook itself: fentry is cheapest, kprobe costs more, and tracepoints
  make every process's write, writev, sendto, sendmsg, sendmmsg, sendfile and
  splice slower, and every system call a little. A target pays for its record
  on top (about a microsecond per send). `injector doctor` measures it on
  this host; docs/performance.md has more, beside strace and bpftrace.
  A thread delayed by the sleep engine sleeps; waking it in time costs up to
  0.25 ms of CPU, whatever the delay. The spin engine delays by burning the CPU
  that the thread runs on: a delay of 10 ms is 10 ms of CPU time, and it is
  charged to the target. --max-spin keeps it short. A delayed thread of an event
  loop (Node, asyncio, nginx, Redis) holds up every connection of that loop.";

const EXIT: &str = "\
EXIT STATUS:
  0 clean end · 1 the sleep engine failed · 2 wrong use or an error ·
  3 this kernel cannot do it · 4 stopped by a guard ·
  with -- CMD: the exit status of CMD";

const MAPS_OVERHEAD: &str = "\
OVERHEAD:
  An operation that is traced costs the program 2 to 3 us more: 10,000 a second
  cost 2 or 3 % of a CPU. --budget is what all may cost. What fits is traced all
  the time: locks that are waited for, then writes, then the rest, the cheapest
  functions first. What does not fit is traced in windows of 50 ms to 1 s, as often
  as the budget allows; a function so hot that one window would use up ten seconds
  of budget is not traced. The cost is measured: hits by the price of a trap, which
  is measured at the start, and the time in the kernel programs. At the start two
  seconds of the budget can be spent at once; beyond that, a burst can cost about
  100 ms of CPU more than it should, which is saved again afterwards. The summary
  says what it was, and in which share of the time each operation was seen.
  Fatal errors are always seen. --budget none (or 100% and more) traces everything
  all the time: a program that does nothing else than map operations gets many
  times slower.
  injector's own CPU time is not part of the budget. Other programs pay nothing.
  Probes go away when injector ends or dies.";

/// Delays, fails or flags the network sends of chosen processes, and shows what
/// it did.
///
/// Without a fault (--delay, --error) sends are only observed. A run that acts
/// ends by itself after --duration. Stop it any time with Ctrl-C: if injector
/// ends or dies, its targets run free at once.
#[derive(Debug, Parser)]
#[command(
    name = "injector",
    version,
    after_long_help = format!("{EXAMPLES}\n\n{OVERHEAD}\n\n{EXIT}"),
    after_help = "injector --help has examples, overhead and exit status.",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do instead of a run.
    #[command(subcommand)]
    pub subcommand: Option<Sub>,
    /// The run.
    #[command(flatten)]
    pub run: Run,
}

/// Everything but a run.
#[derive(Debug, Subcommand)]
pub enum Sub {
    /// Show which hooks and engines this host has, why not, and their price.
    Doctor(Doctor),
    /// Trace the maps of a running Go program, and name both goroutines when
    /// they run into each other in one.
    #[command(after_long_help = MAPS_OVERHEAD)]
    Maps(Maps),
    /// A ten-second run against a small built-in client and server on loopback,
    /// with an explanation of each number.
    Demo(Demo),
    /// Report once more what a run was that was recorded with --record.
    Report(Report),
    /// Send a line to a running injector started with --control.
    Control {
        /// Its control socket.
        socket: PathBuf,
        /// The request: probability P, delay DELAY, mode shadow|enforce, pause,
        /// resume, status or stop.
        #[arg(required = true, trailing_var_arg = true)]
        request: Vec<String>,
    },
    /// Print shell completions.
    Completions {
        /// For this shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page (roff).
    Man,
    /// The program that demo and doctor measure: a client that sends to its own
    /// server on loopback.
    #[command(hide = true)]
    Workload(Workload),
    /// The process that wakes the sleep engine's threads.
    #[command(hide = true)]
    SleepServer(SleepServer),
    /// The process that lets a stopped target go on.
    #[command(hide = true)]
    HoldWatchdog(HoldWatchdog),
    /// The process whose memory the sleep engine's threads wait for.
    #[command(hide = true)]
    SleepHolder {
        /// Process id of the server that starts it.
        server: u32,
    },
}

/// Flags of `maps`.
#[derive(Debug, Args)]
pub struct Maps {
    /// The process: a Go program, built with Go 1.19 to 1.27.
    #[arg(long, short)]
    pub pid: u32,
    /// End after this time.
    #[arg(long, value_parser = plan::duration::parse, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// What is traced, and shown.
    #[command(flatten)]
    pub tracing: Tracing,
    /// Record everything in this file, which must not exist yet, for `injector
    /// report`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
    /// Show all of it in the terminal, live; the report comes at the end.
    #[arg(long, conflicts_with = "output")]
    pub tui: bool,
}

/// How the maps of a Go program are traced.
#[derive(Debug, Args)]
pub struct Tracing {
    /// What tracing may cost the program, as a share of one CPU; none: whatever it
    /// costs.
    #[arg(long, value_name = "PERCENT", default_value = "3%")]
    pub budget: CpuShare,
    /// Show only maps and locks that functions of these packages use: main,
    /// example.com/shop/..., std for the standard library, ... for all
    /// (repeatable) [default: all but std]. Everything is probed all the same.
    #[arg(long, value_name = "PACKAGE")]
    pub include: Vec<Pattern>,
    /// Show none that only functions of these packages use (repeatable).
    #[arg(long, value_name = "PACKAGE")]
    pub exclude: Vec<Pattern>,
    /// Write a file here for each fatal error, too.
    #[arg(long, value_name = "DIR")]
    pub fatal_dir: Option<PathBuf>,
    /// Stop the process for this time at its first fatal error, so that a debugger
    /// can look into it; at most 1m. A watchdog lets it go on if injector dies.
    #[arg(long, value_parser = plan::duration::parse, value_name = "TIME")]
    pub hold_on_fatal: Option<Duration>,
    /// Probe operations of these kinds only: write, read, iterate. Growth and
    /// fatal errors are always probed. Both parties of an accident can be named
    /// when only writes are.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub only: Vec<Kind>,
    /// Have hardware watch this map, whatever the budget: the exact time that each
    /// write takes, who is inside, and who is so at once. EXPR is an address
    /// (0xc000012340), a package variable (main.cache) or a type
    /// (map[string]*main.Order: its busiest maps). Up to 4 maps; each write costs
    /// two hits of some 10 us.
    #[arg(long, value_name = "EXPR")]
    pub watch_map: Vec<String>,
}

impl Tracing {
    /// Whether one of them was given that has no default.
    pub fn is_given(&self) -> bool {
        self.fatal_dir.is_some()
            || self.hold_on_fatal.is_some()
            || !self.include.is_empty()
            || !self.exclude.is_empty()
            || !self.only.is_empty()
            || !self.watch_map.is_empty()
    }
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The recording.
    pub file: PathBuf,
    /// Show all the evidence of this finding, by its number in the report.
    #[arg(long, value_name = "N")]
    pub finding: Option<usize>,
    #[command(flatten)]
    pub files: ReportFiles,
    /// How to write it; as JSON, every send is written, too.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// Files that `report` makes for other tools; those that are there are replaced.
#[derive(Debug, Default, Args)]
pub struct ReportFiles {
    /// Write the report as one HTML page, which needs no network, to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write a trace for ui.perfetto.dev: sends, waits, holds and map events on one
    /// time line.
    #[arg(long, value_name = "FILE")]
    pub perfetto: Option<PathBuf>,
    /// Write profiles for `go tool pprof` into this directory: injected delay,
    /// waiting, operations on maps.
    #[arg(long, value_name = "DIR")]
    pub pprof: Option<PathBuf>,
    /// Write the same as folded stacks.
    #[arg(long, value_name = "DIR")]
    pub folded: Option<PathBuf>,
    /// Draw the same as flame graphs (SVG).
    #[arg(long, value_name = "DIR")]
    pub flamegraph: Option<PathBuf>,
}

/// Flags of the watchdog of `--hold-on-fatal`.
#[derive(Debug, Args)]
pub struct HoldWatchdog {
    /// The process that is stopped.
    #[arg(long)]
    pub pid: u32,
    /// For how many nanoseconds.
    #[arg(long)]
    pub hold_ns: u64,
    /// Its index in the kernel's tables.
    #[arg(long)]
    pub target: u32,
    /// Id of the map that says whether it is to be stopped.
    #[arg(long)]
    pub armed: u32,
    /// Id of the map that says since when it is.
    #[arg(long)]
    pub holds: u32,
    /// Id of the ring that is written to when it is.
    #[arg(long)]
    pub bell: u32,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Take longer to measure what a send costs with each hook and how exact
    /// the delays of each engine are, and be more exact.
    #[arg(long)]
    pub measure: bool,
    /// Show instead what the Go program of this process is: its version, where
    /// its maps and locks can be probed, and what a hit there costs.
    #[arg(long, conflicts_with = "measure")]
    pub pid: Option<u32>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How long it runs.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = plan::duration::parse)]
    pub duration: Duration,
    /// Which hook sees the sends.
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookChoice,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
    /// Watch it in the terminal UI.
    #[arg(long, conflicts_with = "output")]
    pub tui: bool,
    /// The Go program that `cargo xtask demo` builds: its maps are traced, too, and
    /// what is known of it has to be found.
    #[arg(long, value_name = "PATH", hide = true, conflicts_with_all = ["hook", "output"])]
    pub program: Option<PathBuf>,
}

/// Flags of the built-in client.
#[derive(Debug, Args)]
pub struct Workload {
    /// Sends, then it ends; 0: until its stdin is closed.
    #[arg(long, default_value_t = 0)]
    pub sends: u64,
    /// Pause between sends.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = plan::duration::parse)]
    pub gap: Duration,
}

/// Flags of the sleep engine's server.
#[derive(Debug, Args)]
pub struct SleepServer {
    /// Id of the map of sleeping threads.
    #[arg(long)]
    pub sleeps: u32,
    /// Id of the control map.
    #[arg(long)]
    pub control: u32,
}

/// Flags of a run.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Run {
    /// Process to target, all its threads (repeatable).
    #[arg(long, short, value_name = "PID", help_heading = TARGETS)]
    pub pid: Vec<u32>,
    /// Also target the children of targets, present and future.
    #[arg(long, help_heading = TARGETS)]
    pub children: bool,
    /// Processes of this name, or a glob such as 'order-*' (repeatable: any).
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    pub comm: Vec<CommPattern>,
    /// Processes in this cgroup (v2) or below.
    #[arg(long, value_name = "PATH", help_heading = TARGETS)]
    pub cgroup: Option<PathBuf>,
    /// Processes started with this in their environment (repeatable: all).
    #[arg(long, value_name = "KEY=VALUE", help_heading = TARGETS)]
    pub env: Vec<EnvCondition>,
    /// Processes that run this program file.
    #[arg(long, value_name = "PATH", help_heading = TARGETS)]
    pub exe: Option<PathBuf>,
    /// Let a selector match more than a quarter of the host's processes.
    #[arg(long, help_heading = TARGETS)]
    pub allow_broad: bool,

    /// Only sends of these protocols: tcp, udp, unix, unix_stream, unix_dgram.
    #[arg(long, value_name = "PROTO", help_heading = SENDS)]
    pub proto: Vec<Protocols>,
    /// Only sends to this network: 10.0.0.0/8, 10.1.2.3:443, [2001:db8::/32]:443.
    #[arg(long, value_name = "CIDR[:PORT]", help_heading = SENDS)]
    pub to: Option<Peer>,
    /// Only sends to this port.
    #[arg(long, help_heading = SENDS)]
    pub port: Option<NonZeroU16>,
    /// Only sends of at least this many bytes (k, M, G for 1024s).
    #[arg(long, value_name = "N", default_value_t = Bytes(0), help_heading = SENDS)]
    pub min_bytes: Bytes,
    /// Leave sends alone that may not block (O_NONBLOCK, MSG_DONTWAIT): Go,
    /// Node and asyncio use nothing else.
    #[arg(long, help_heading = SENDS)]
    pub blocking_only: bool,

    /// How long to delay: 50ms, 0..1200ms (uniform), normal(80ms,20ms),
    /// exp(30ms), pareto(10ms,1.5), histogram:FILE.
    #[arg(long, help_heading = FAULT)]
    pub delay: Option<Delay>,
    /// What is delayed or failed: send, connect, accept, recv; other than send
    /// needs BPF LSM.
    #[arg(long, value_name = "OPERATION", value_delimiter = ',', default_value = "send", value_parser = plan::names::operation, help_heading = FAULT)]
    pub on: Vec<Operation>,
    /// Ceiling of one delay [default: 10s; 2s with --engine spin].
    #[arg(long, value_name = "TIME", value_parser = plan::duration::parse, help_heading = FAULT)]
    pub max_delay: Option<Duration>,
    /// Fail chosen sends with this errno, such as ECONNRESET (needs BPF LSM).
    #[arg(long, value_name = "ERRNO", value_parser = errno, help_heading = FAULT)]
    pub error: Option<Errno>,
    /// Chance of a matching send to be chosen: 15%, 0.15.
    #[arg(long, value_name = "P", default_value_t = Probability::ALWAYS, help_heading = FAULT)]
    pub probability: Probability,
    /// Which sends of each thread can be chosen, counted from 1, as in strace:
    /// FIRST[..LAST][+STEP].
    #[arg(long, value_name = "EXPR", default_value_t = When::ALWAYS, help_heading = FAULT)]
    pub when: When,
    /// Flag sends whose asked delay or whole time is longer.
    #[arg(long, value_name = "TIME", value_parser = plan::duration::parse, help_heading = FAULT)]
    pub threshold: Option<Duration>,
    /// What else happens to those: flag, signal:NAME, error:ERRNO, kill.
    #[arg(long, value_name = "ACTION", default_value_t, help_heading = FAULT)]
    pub on_timeout: Over,
    /// Seed of all decisions: the same calls get the same decisions again.
    #[arg(long, value_name = "N", help_heading = FAULT)]
    pub seed: Option<u64>,
    /// Decide and record everything, do nothing.
    #[arg(long, help_heading = FAULT)]
    pub shadow: bool,

    /// When the run ends by itself; 0: only when stopped. Runs that do not act
    /// have no end of their own.
    #[arg(long, value_name = "TIME", value_parser = plan::duration::parse, help_heading = GUARDS)]
    pub duration: Option<Duration>,
    /// Ceiling on all injected delay; reaching it ends the run.
    #[arg(long, value_name = "TIME", value_parser = plan::duration::parse, help_heading = GUARDS)]
    pub max_total_delay: Option<Duration>,
    /// Ceiling on the delay injected in one second, all threads together.
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = plan::duration::parse, help_heading = GUARDS)]
    pub max_delay_per_second: Duration,
    /// Ceiling on sends acted on in one second.
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = GUARDS)]
    pub max_sends_per_second: u64,
    /// Ceiling on the number of target processes.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = GUARDS)]
    pub max_targets: u32,
    /// Longest time that the spin engine burns a CPU for one send, at most
    /// 400ms; longer delays are cut short to it.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = plan::duration::parse, help_heading = GUARDS)]
    pub max_spin: Duration,
    /// Time after which the kernel side lets every send through when injector
    /// itself hangs.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = plan::duration::parse, help_heading = GUARDS)]
    pub lease: Duration,

    /// Which hook sees the sends.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub hook: HookChoice,
    /// Which engine makes delayed threads wait.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub engine: EngineChoice,
    /// How to write: a table for people, or one JSON object per line.
    #[arg(long, short, value_enum, default_value_t, help_heading = OUTPUT)]
    pub output: Format,
    /// Write every send, not only flagged, failed and signalled ones.
    #[arg(long, help_heading = OUTPUT)]
    pub all: bool,
    /// Show all of it in the terminal, live, with keys to pause, to switch shadow
    /// and enforce, to change the probability and to stop; the report comes at the
    /// end.
    #[arg(long, conflicts_with_all = ["output", "all", "quiet", "command"], help_heading = OUTPUT)]
    pub tui: bool,
    /// Record everything in this file, which must not exist yet, for `injector
    /// report`.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub record: Option<PathBuf>,
    /// Trace the maps and locks of the target, too, which must be one Go program,
    /// and say which waits its sends, delayed or not, have caused.
    #[arg(long, requires = "pid", conflicts_with_all = ["command", "children"], help_heading = MAPS)]
    pub maps: bool,
    /// How they are traced.
    #[command(flatten, next_help_heading = MAPS)]
    pub tracing: Tracing,
    /// No status line and no news of targets.
    #[arg(long, short, action = ArgAction::SetTrue, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Listen here for lines that change the run; see `injector control`.
    #[arg(long, value_name = "SOCKET", help_heading = OUTPUT)]
    pub control: Option<PathBuf>,

    /// A command to start and follow; injector ends with it and with its exit
    /// status.
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["pid", "comm", "cgroup", "env", "exe"])]
    pub command: Vec<OsString>,
}

const TARGETS: &str = "Targets (all that are given must hold)";
const SENDS: &str = "Sends";
const FAULT: &str = "Fault";
const GUARDS: &str = "Guards";
const OUTPUT: &str = "Output and control";
const MAPS: &str = "Maps of a Go program (all but the first need it)";

fn errno(text: &str) -> Result<Errno, Malformed> {
    plan::names::errno(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_seed_case_parses() {
        let cli = Cli::try_parse_from([
            "injector",
            "--comm",
            "order-api",
            "--env",
            "env=gray",
            "--probability",
            "15%",
            "--delay",
            "0..1200ms",
            "--threshold",
            "800ms",
            "--on-timeout",
            "signal:SIGUSR2",
        ])
        .unwrap();
        assert_eq!(cli.run.delay, Some("0..1200ms".parse().unwrap()));
        assert_eq!(cli.run.threshold, Some(Duration::from_millis(800)));
    }

    #[test]
    fn wrong_words_show_what_is_accepted() {
        for (flag, value, hint) in [
            ("--delay", "soon", "normal("),
            ("--probability", "150%", "100%"),
            ("--on-timeout", "signal:NOPE", "signal:SIGUSR2"),
            ("--error", "ENOPE", "ECONNRESET"),
            ("--to", "10.0.0.0/99", "ADDRESS[/BITS][:PORT]"),
            ("--when", "9..3", "FIRST"),
            ("--max-delay", "5", "unit"),
        ] {
            let error = Cli::try_parse_from(["injector", "--pid", "1", flag, value]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(hint), "{flag} {value}: {text}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn a_command_has_no_other_selector() {
        assert!(Cli::try_parse_from(["injector", "--pid", "5", "--", "true"]).is_err());
        let cli = Cli::try_parse_from(["injector", "--delay", "1ms", "--", "true", "-x"]).unwrap();
        assert_eq!(cli.run.command, ["true", "-x"]);
    }
}
