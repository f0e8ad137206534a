//! How exact the delays of each engine are here, and what they cost: tried on
//! a client of our own, attached as a run would be.

use anyhow::Result;
use injector_ebpf::{Hook, Operation};

use super::bench::{Bench, Delayed};
use crate::kernel::{
    Kernel,
    engine::{self, NoSleep, Way},
};

/// Delays that an engine delivered. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct EngineDelays {
    /// The engine.
    pub engine: &'static str,
    /// Where sends were seen.
    pub hook: Hook,
    /// What was asked for.
    pub asked_ns: u64,
    /// Delayed sends.
    pub count: u64,
    /// How far from that the delivered delay was, either way: median.
    pub off_p50_ns: u64,
    /// 99th percentile.
    pub off_p99_ns: u64,
    /// Furthest.
    pub off_max_ns: u64,
    /// CPU time of the thread for one send, its delay included.
    pub cpu_ns: u64,
}

/// What came of trying the engines.
pub struct Tried {
    /// How threads sleep here, or why they do not.
    pub sleep: Result<Way, NoSleep>,
    /// Each engine that delivered delays, best first.
    pub delays: Vec<EngineDelays>,
}

/// Tries both engines beside a hook that works. What is attached stays until
/// `kernel` is dropped.
pub fn try_engines(kernel: &mut Kernel, hook: Hook, bench: &mut Bench) -> Result<Tried> {
    let way = kernel.attach_to_sleep(hook)?;
    bench.set_delay(kernel)?;
    // As long as there is no server, the same programs spin.
    let spin = summarize(engine::SPIN, hook, bench.asked_ns(), &bench.delay(kernel)?);

    let server = way.and_then(|way| {
        if way == Way::Lsm {
            kernel.attach_operation(Operation::Send, true)?;
        }
        Ok((way, kernel.start_sleeper()?))
    });
    let (sleep, slept) = match server {
        Ok((way, server)) => {
            let slept = bench.delay(kernel)?;
            drop(server);
            let slept = summarize(engine::SLEEP, hook, bench.asked_ns(), &slept);
            (Ok(way), slept)
        }
        Err(why) => (Err(why), None),
    };
    Ok(Tried {
        sleep,
        delays: slept.into_iter().chain(spin).collect(),
    })
}

/// Nothing, if nothing was delayed.
fn summarize(
    engine: &'static str,
    hook: Hook,
    asked_ns: u64,
    delayed: &Delayed,
) -> Option<EngineDelays> {
    let off = &delayed.off_ns;
    let quantile = |percent: usize| off.get(off.len() * percent / 100).copied();
    Some(EngineDelays {
        engine,
        hook,
        asked_ns,
        count: off.len() as u64,
        off_p50_ns: quantile(50)?,
        off_p99_ns: quantile(99)?,
        off_max_ns: off.last().copied()?,
        cpu_ns: delayed.cpu_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_made_of_nothing() {
        let delays = |off_ns: Vec<u64>| {
            let delayed = Delayed { off_ns, cpu_ns: 7 };
            summarize(engine::SLEEP, Hook::Kprobe, 1_000_000, &delayed)
        };
        assert!(delays(vec![]).is_none());
        let one = delays(vec![12]).unwrap();
        assert_eq!(
            (one.off_p50_ns, one.off_p99_ns, one.off_max_ns),
            (12, 12, 12)
        );
        let many = delays((0..200).collect()).unwrap();
        assert_eq!(
            (
                many.off_p50_ns,
                many.off_p99_ns,
                many.off_max_ns,
                many.count
            ),
            (100, 198, 199, 200)
        );
    }
}
