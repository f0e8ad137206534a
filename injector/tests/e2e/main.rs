//! End-to-end tests: the real injector against real programs on the kernel that
//! is running.
//!
//! `e2e --prepare` only compiles the programs that are traced; everything else
//! on the command line is libtest's. What this kernel cannot do is ignored, and
//! a `skip` line says why.

mod harness;
mod trials;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use harness::{Host, programs};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--prepare") {
        programs::prepare();
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Runs that act hold a lock of the whole host.
    arguments.test_threads = Some(1);
    programs::prepare();
    let host: &'static Host = if arguments.list {
        Host::unknown()
    } else {
        Host::probe()
    };
    libtest_mimic::run(&arguments, trials::all(host)).exit_code()
}
