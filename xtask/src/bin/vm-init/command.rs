//! Runs the command.

use std::{
    io::{ErrorKind, Read},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    port::Port,
    sys,
    wire::{Frame, Job},
};

/// As shells have it: the command cannot be run, and it is not there.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// How long output may take to arrive after everybody who could write has been killed. A process
/// in an uninterruptible sleep would hold its pipes for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the command of `job`, sends its output, and returns its exit code.
pub fn run(job: &Job, port: &Port) -> Result<i32, String> {
    let (program, arguments) = job.argv.split_first().ok_or("the job has no command")?;
    let env = job.env.iter().filter_map(|entry| entry.split_once('='));
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env)
        .current_dir(&job.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let text = format!("cannot run {program} in {}: {error}\n", job.cwd);
            port.send(&Frame::Stderr(text.into_bytes()));
            return Ok(match error.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                _ => CANNOT_RUN,
            });
        }
    };

    let (ended, streams_ended) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        relay(stdout, Frame::Stdout, port.clone(), ended.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        relay(stderr, Frame::Stderr, port.clone(), ended);
    }
    let code = sys::wait(&child).map_err(|error| format!("cannot wait for {program}: {error}"))?;
    // A run ends with its command: what it left behind must not hold the pipes open.
    sys::kill_all();
    for _ in 0..2 {
        if streams_ended.recv_timeout(DRAIN_TIMEOUT).is_err() {
            port.send(&Frame::Warning(
                "a process cannot be killed; output may be missing".to_owned(),
            ));
            break;
        }
    }
    Ok(code)
}

fn relay(
    mut from: impl Read + Send + 'static,
    frame: fn(Vec<u8>) -> Frame,
    port: Port,
    ended: mpsc::Sender<()>,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            port.send(&frame(buffer[..length].to_vec()));
        }
        // Nobody waits for it any more when the drain has timed out.
        let _ = ended.send(());
    });
}
