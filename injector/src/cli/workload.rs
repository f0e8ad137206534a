//! The built-in client and server of `demo` and `doctor`: a process that sends
//! small messages over TCP on loopback to a thread of its own that only reads.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

use super::args::Workload;

/// Bytes per send.
const MESSAGE: [u8; 64] = [b'x'; 64];

/// Waits for a line on stdin, sends, and prints `SENDS NANOSECONDS CPU`: the
/// time of the sends alone, and the CPU time of the thread meanwhile.
pub fn run(flags: &Workload) -> Result<u8> {
    // What it was started as, `exe`, would say nothing in a table.
    rustix::thread::set_name(c"injector-client")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept()?;
    thread::spawn(move || {
        let mut buffer = [0; 1 << 12];
        while server.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;

    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        // The end of stdin is the end of whoever started us.
        let _ = std::io::stdin().read_line(&mut String::new());
        stopped.store(true, Ordering::Relaxed);
    });
    let cpu = thread_cpu_ns()?;
    let mut sends = 0;
    let mut busy = std::time::Duration::ZERO;
    while !stop.load(Ordering::Relaxed) && (flags.sends == 0 || sends < flags.sends) {
        let start = Instant::now();
        client.write_all(&MESSAGE).context("cannot send")?;
        busy += start.elapsed();
        sends += 1;
        if !flags.gap.is_zero() {
            thread::sleep(flags.gap);
        }
    }
    let cpu = thread_cpu_ns()? - cpu;
    println!("{sends} {} {cpu}", busy.as_nanos());
    Ok(0)
}

fn thread_cpu_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("cannot read CPU time")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
