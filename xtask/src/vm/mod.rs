//! Runs a command under another kernel, in a virtual machine that sees the host's files.

mod child;
pub mod command;
mod cpio;
mod init;
mod initramfs;
mod qemu;
pub mod virtiofsd;
mod wire;

use std::{
    env, fmt,
    io::Write,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    kernels::{self, Freshness, Kernel},
    step::last_lines,
};
use qemu::{Configuration, Machine};
use wire::{Frame, Job};

/// How much of the console is shown when a kernel dies.
const CONSOLE_LINES: usize = 80;

/// Variables of ours that the command gets, too.
const PASSED_ON: &[&str] = &["PATH", "HOME"];

/// How to run a command in a machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// More arguments for the kernel.
    pub append: String,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// Processors of the machine.
    pub processors: u32,
    /// The guest's clock counts instructions, 8 ns each, instead of time: what
    /// the host does meanwhile is not seen in the guest's measurements.
    pub count_instructions: bool,
    /// When to give up.
    pub timeout: Duration,
    /// `NAME=VALUE` for the command, beside PATH and HOME.
    pub env: Vec<String>,
    /// Where to run it, if not in our working directory.
    pub cwd: Option<PathBuf>,
    /// Show the kernel's whole console at the end.
    pub show_console: bool,
    /// Whether a kernel from the cache will do.
    pub freshness: Freshness,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            append: String::new(),
            memory_mib: 1024,
            processors: 2,
            count_instructions: false,
            timeout: Duration::from_mins(10),
            env: Vec::new(),
            cwd: None,
            show_console: false,
            freshness: Freshness::Cached,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command ran and ended with this code (128 + N after signal N).
    Exited(i32),
    /// It did not end in time, and the machine was stopped.
    TimedOut,
    /// The kernel or our init failed; says how, with the end of the console.
    Died(String),
    /// There is no such kernel here; says why.
    Unavailable(String),
}

impl Outcome {
    /// The exit code that stands for this outcome, in the manner of timeout(1).
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited(code) => *code,
            Self::TimedOut => 124,
            Self::Died(_) => 125,
            // "Not supported on this kernel", as the injector itself has it.
            Self::Unavailable(_) => 3,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Died(_) => f.write_str("died"),
            Self::Unavailable(_) => f.write_str("unavailable"),
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The series that was asked for.
    pub series: String,
    /// The kernel, unless it was unavailable.
    pub kernel: Option<Kernel>,
    /// How the run ended.
    pub outcome: Outcome,
    /// From QEMU's start to the command's.
    pub boot: Duration,
    /// From the command's start to its end.
    pub run: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kernel {
            Some(kernel) => write!(f, "[vm] {kernel}")?,
            None => write!(f, "[vm] {}", self.series)?,
        }
        write!(f, ": {}", self.outcome)?;
        if self.kernel.is_some() {
            write!(
                f,
                ", boot {:.1} s, run {:.1} s",
                self.boot.as_secs_f64(),
                self.run.as_secs_f64()
            )?;
        }
        if let Outcome::Died(reason) | Outcome::Unavailable(reason) = &self.outcome {
            write!(f, "\n{reason}")?;
        }
        Ok(())
    }
}

/// Runs `argv` under the kernel of `series`. The command's output goes to `stdout` and `stderr`
/// while it runs. Errors are ours; all that a kernel or the command can
/// do wrong is in the report.
pub fn run(
    series: &str,
    argv: &[String],
    options: &Options,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Report> {
    let mut report = Report {
        series: series.to_owned(),
        kernel: None,
        outcome: Outcome::TimedOut,
        boot: Duration::ZERO,
        run: Duration::ZERO,
    };
    let kernel = match kernels::resolve(series, options.freshness) {
        Ok(kernel) => kernel,
        Err(unavailable) => {
            report.outcome = Outcome::Unavailable(unavailable.to_string());
            return Ok(report);
        }
    };
    let job = job(argv, options)?;
    let initramfs = initramfs::build(&init::build()?, &kernel.modules, &job)?;

    let started = Instant::now();
    let (mut machine, stream) = Machine::boot(&Configuration {
        image: &kernel.image,
        initramfs: &initramfs,
        append: &options.append,
        memory_mib: options.memory_mib,
        processors: options.processors,
        count_instructions: options.count_instructions,
    })?;
    report.kernel = Some(kernel);
    let frames = receive(stream);
    let deadline = started + options.timeout;
    let mut command_started = None;
    report.outcome = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match frames.recv_timeout(left) {
            Ok(Frame::Started) => {
                report.boot = started.elapsed();
                command_started = Some(Instant::now());
            }
            Ok(Frame::Stdout(bytes)) => {
                stdout.write_all(&bytes)?;
                stdout.flush()?;
            }
            Ok(Frame::Stderr(bytes)) => {
                stderr.write_all(&bytes)?;
                stderr.flush()?;
            }
            Ok(Frame::Warning(text)) => writeln!(stderr, "[vm] {text}")?,
            Ok(Frame::Exited(code)) => break Outcome::Exited(code),
            Ok(Frame::Failed(text)) => break Outcome::Died(text),
            Err(RecvTimeoutError::Timeout) => break Outcome::TimedOut,
            Err(RecvTimeoutError::Disconnected) => break Outcome::Died(last_words(&mut machine)),
        }
    };
    report.run = command_started.map_or(Duration::ZERO, |started| started.elapsed());
    if options.show_console || report.outcome == Outcome::TimedOut {
        let lines = if options.show_console {
            usize::MAX
        } else {
            CONSOLE_LINES
        };
        writeln!(
            stderr,
            "[vm] console:\n{}",
            last_lines(&machine.console(), lines)
        )?;
    }
    Ok(report)
}

fn job(argv: &[String], options: &Options) -> Result<Job> {
    let cwd = match &options.cwd {
        Some(cwd) => cwd.clone(),
        None => env::current_dir().context("cannot tell the working directory")?,
    };
    let passed_on = PASSED_ON
        .iter()
        .filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?)));
    Ok(Job {
        cwd: cwd
            .into_os_string()
            .into_string()
            .ok()
            .context("the working directory's name is not UTF-8")?,
        env: passed_on.chain(options.env.iter().cloned()).collect(),
        argv: argv.to_vec(),
    })
}

/// Reads frames in a thread of its own, because a blocking read knows no deadline. It ends with
/// the machine, which closes the stream.
fn receive(mut stream: UnixStream) -> mpsc::Receiver<Frame> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(frame) = Frame::read(&mut stream) {
            if sender.send(frame).is_err() {
                break;
            }
        }
    });
    receiver
}

fn last_words(machine: &mut Machine) -> String {
    // QEMU closes the stream a moment before it ends.
    thread::sleep(Duration::from_millis(200));
    let how = match machine.ended() {
        Some(status) if status.success() => "the guest stopped".to_owned(),
        Some(status) => format!("QEMU ended with {status}"),
        None => "QEMU closed the guest's port".to_owned(),
    };
    format!(
        "{how} before the command's end; the console ends:\n{}",
        last_lines(&machine.console(), CONSOLE_LINES)
    )
}
