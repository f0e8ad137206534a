//! PID 1 of the guests that `cargo xtask vm` boots: makes the host's files the root, runs one
//! command, and tells the host how it went.

mod command;
mod modules;
mod mounts;
mod port;
mod sys;
#[path = "../../vm/wire.rs"]
mod wire;

use std::{fs, thread, time::Duration};

use port::Port;
use wire::{Frame, JOB_PATH, Job};

fn main() {
    if let Err(reason) = boot() {
        // Standard error is the console, of which the host shows the end.
        eprintln!("vm-init: {reason}");
    }
    // The host ends the machine as soon as it has read the last frame. This is for a host that
    // does not: switching off at once could lose that frame in QEMU.
    thread::sleep(Duration::from_secs(3));
    sys::power_off();
}

fn boot() -> Result<(), String> {
    mounts::early()?;
    let not_loaded = modules::load();
    let port = port::open()?;
    for warning in not_loaded {
        port.send(&Frame::Warning(warning));
    }
    if let Err(reason) = run(&port) {
        port.send(&Frame::Failed(reason));
    }
    Ok(())
}

fn run(port: &Port) -> Result<(), String> {
    let job = fs::read(format!("/{JOB_PATH}"))
        .map_err(|error| format!("cannot read the job: {error}"))?;
    let job = Job::decode(&job).ok_or("the job is in no format that this init knows")?;
    for warning in mounts::host_root()? {
        port.send(&Frame::Warning(warning));
    }
    sys::prepare().map_err(|error| format!("cannot prepare the guest: {error}"))?;
    port.send(&Frame::Started);
    let code = command::run(&job, port)?;
    port.send(&Frame::Exited(code));
    Ok(())
}
