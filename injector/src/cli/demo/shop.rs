//! The demonstration on a Go program, `tests/targets/go/demo`: a shop of which it is
//! known what has to be found, and so it is checked that it is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;

use super::super::{
    args::{Cli, Demo, ReportFiles},
    job,
    report_files::Files,
};
use crate::{
    explain::maps::{Claim, Finding, Trace},
    output::{Clean, units::Time},
    plan::duration,
    recording::replay::{Watcher, replay},
};

/// What is done to the shop.
const FLAGS: &str = "--maps --budget none --delay 0..30ms --probability 30% --seed 1";
/// Locks of its sharded map.
const SHARDS: u64 = 8;

/// Something that is true of the shop.
struct Truth {
    what: &'static str,
    /// How it was found, if it was.
    found: fn(&Trace) -> Option<String>,
}

const TRUTHS: [Truth; 4] = [
    Truth {
        what: "the lock of the price cache is held while its writer sends",
        found: sends_under_lock,
    },
    Truth {
        what: "the sync.Map of sessions changes while Range goes through it",
        found: range,
    },
    Truth {
        what: "the carts are one map in eight shards",
        found: shards,
    },
    Truth {
        what: "the limits are written without a lock while another goroutine reads",
        found: unlocked,
    },
];

/// Runs it. 1 if one of the truths was not found.
pub fn run(flags: &Demo, program: &Path) -> Result<u8> {
    let shop = Shop::start(program)?;
    let record = free_path(shop.child.id());
    let words = format!(
        "injector --pid {} {FLAGS} --duration {} --record {}{}",
        shop.child.id(),
        duration::compact(flags.duration),
        record.display(),
        if flags.tui { " --tui" } else { "" }
    );
    eprintln!(
        "injector: demo: a shop in Go, of which four things are known. This runs\n\n    {words}\n"
    );
    let cli = Cli::try_parse_from(words.split_whitespace())?;
    let code = job::run(cli.run)?;
    drop(shop);
    if code != 0 {
        return Ok(code);
    }
    let bytes = fs::read(&record).with_context(|| format!("cannot read {}", record.display()))?;
    let wanted = ReportFiles {
        html: Some(record.with_extension("html")),
        ..ReportFiles::default()
    };
    let mut files = Files::new(&wanted);
    let mut watchers: Vec<&mut dyn Watcher> = files.watchers().collect();
    let replayed = replay(&bytes, &mut watchers)
        .with_context(|| format!("cannot read {}", record.display()))?;
    drop(watchers);
    files.write(&replayed)?;
    let program = replayed.programs.first();
    let trace = &program.context("the recording has no Go program")?.trace;

    println!("\nWhat is true of the shop, and what was found:");
    let mut missing = 0;
    for truth in &TRUTHS {
        let how = (truth.found)(trace);
        missing += usize::from(how.is_none());
        let (word, how) = how.map_or(("MISSING", String::new()), |how| ("found", how));
        println!("  {word:<8} {}", truth.what);
        if !how.is_empty() {
            println!("           {}", Clean(how));
        }
    }
    println!(
        "\nAs a page for your browser: {}\nThe same again, any time: injector report {}",
        record.with_extension("html").display(),
        record.display()
    );
    if missing > 0 {
        eprintln!(
            "injector: demo: {missing} of {} were not found",
            TRUTHS.len()
        );
    }
    Ok(u8::from(missing > 0))
}

/// A path of a recording that does not exist yet.
fn free_path(pid: u32) -> PathBuf {
    let directory = std::env::temp_dir();
    let mut paths = (0..).map(|number| directory.join(format!("injector-demo-{pid}-{number}.rec")));
    paths.find(|path| !path.exists()).unwrap_or(directory)
}

/// Whether a function is on the stack of somebody who took part in this way.
fn takes_part(finding: &Finding, role: &str, function: &str) -> bool {
    let parties = finding.parties.iter();
    parties
        .filter(|party| party.role == role)
        .any(|party| party.stack.iter().any(|frame| frame.function == function))
}

fn finding(trace: &Trace, of: impl Fn(&Finding) -> bool) -> Option<Finding> {
    trace.findings().into_iter().find(of)
}

fn sends_under_lock(trace: &Trace) -> Option<String> {
    let found = finding(trace, |it| {
        it.claim == Claim::Contention && takes_part(it, "held", "main.(*Catalog).publish")
    })?;
    let injected = found.figure("injected_ns");
    (injected > 0).then(|| {
        format!(
            "{} waits, {} in all, {} of it for injected delays of main.(*Catalog).publish",
            found.figure("waits"),
            Time(found.figure("total_ns")),
            Time(injected)
        )
    })
}

fn range(trace: &Trace) -> Option<String> {
    let found = finding(trace, |it| {
        it.claim == Claim::RangeMissed && takes_part(it, "ranges", "main.expire")
    })?;
    Some(format!(
        "{} of {} Ranges of main.expire",
        found.figure("ranges_disturbed"),
        found.figure("ranges")
    ))
}

fn shards(trace: &Trace) -> Option<String> {
    let mut ways = trace.arrangements().into_iter();
    let shards = ways.find(|way| way.name == "shards of RWMutex + map")?;
    (shards.maps == SHARDS && shards.locks == SHARDS).then(|| {
        format!(
            "{} maps with a lock each, {} waits in {} operations",
            shards.maps, shards.waits.count, shards.ops
        )
    })
}

fn unlocked(trace: &Trace) -> Option<String> {
    let found = finding(trace, |it| {
        let claim = matches!(it.claim, Claim::Unordered | Claim::Overlap);
        claim && takes_part(it, "writes", "main.reload")
    })?;
    Some(format!(
        "{} confidence: main.reload writes {} times, and nothing was seen that keeps others out",
        found.confidence.name(),
        found.figure("writes")
    ))
}

/// The running shop; it is closed when this is dropped.
struct Shop {
    child: Child,
    _stdin: ChildStdin,
}

impl Shop {
    /// Opens it.
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("--start-on-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut ready = String::new();
        BufReader::new(stdout)
            .read_line(&mut ready)
            .context("cannot read from the Go program")?;
        ensure!(
            ready.starts_with("ready"),
            "{} does not start: it says {ready:?}",
            program.display()
        );
        writeln!(stdin, "go").context("cannot talk to the Go program")?;
        Ok(Self {
            child,
            _stdin: stdin,
        })
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It has ended, or nobody needs it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
