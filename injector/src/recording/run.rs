//! What a recording says of a run, to and from what reports are made of.

use std::time::Duration;

use injector_ebpf::Mode;

use super::schema::{Counted, End, Run};
use crate::{
    clock::nanoseconds,
    explain::{RunInfo, Totals},
};

/// What a run is when it begins. The file is begun with it, so that one that is
/// cut off says what it is.
pub fn begun(info: &RunInfo, kernel: String, started_unix: Duration) -> Run {
    Run {
        injector: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        machine: std::env::consts::ARCH.to_owned(),
        started_unix_ns: nanoseconds(started_unix),
        start_ns: info.start_ns,
        targets: info.targets.clone(),
        rules: info.rules.clone(),
        enforced: info.mode == Mode::Enforce,
        seed: info.seed,
        hook: info.hook.clone(),
        engine: info.engine.clone(),
        end: None,
        cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get() as u32),
    }
}

/// How it ended.
pub fn ended(info: &RunInfo, totals: &Totals) -> End {
    let counted = totals.rows().map(|(name, _, value)| Counted {
        name: name.to_owned(),
        value,
    });
    End {
        why: info.ended.clone(),
        elapsed_ns: nanoseconds(info.elapsed),
        in_flight: info.in_flight,
        skipped: info.skipped,
        own_cpu_ns: info.own_cpu.map(nanoseconds),
        counters: counted.collect(),
    }
}

/// The run again. One without an end is said to have lasted until `last_ns`.
pub fn read(run: &Run, last_ns: u64) -> (RunInfo, Totals) {
    let unknown = End {
        why: "not known: the recording has no end".to_owned(),
        elapsed_ns: last_ns.saturating_sub(run.start_ns),
        ..End::default()
    };
    let end = run.end.as_ref().unwrap_or(&unknown);
    let info = RunInfo {
        targets: run.targets.clone(),
        rules: run.rules.clone(),
        mode: if run.enforced {
            Mode::Enforce
        } else {
            Mode::Shadow
        },
        seed: run.seed,
        hook: run.hook.clone(),
        engine: run.engine.clone(),
        ended: end.why.clone(),
        start_ns: run.start_ns,
        elapsed: Duration::from_nanos(end.elapsed_ns),
        in_flight: end.in_flight,
        skipped: end.skipped,
        own_cpu: end.own_cpu_ns.map(Duration::from_nanos),
    };
    let counters = end.counters.iter();
    let totals = counters
        .map(|counted| (counted.name.as_str(), counted.value))
        .collect();
    (info, totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{explain::fixture::summary, output::fixture};

    #[test]
    fn a_run_comes_back_as_it_was() {
        let records = fixture::records(Mode::Enforce);
        let (info, totals) = (
            fixture::info(Mode::Enforce),
            fixture::totals(&summary(&records)),
        );
        let mut run = begun(&info, "6.18.0".to_owned(), Duration::from_secs(1));
        run.end = Some(ended(&info, &totals));
        let (again, counters) = read(&run, 0);
        assert_eq!(format!("{again:?}"), format!("{info:?}"));
        assert_eq!(counters, totals);
    }

    #[test]
    fn a_run_without_an_end_says_so() {
        let info = fixture::info(Mode::Shadow);
        let run = begun(&info, String::new(), Duration::ZERO);
        let (again, _) = read(&run, info.start_ns + 7);
        assert_eq!(again.elapsed, Duration::from_nanos(7));
        assert!(again.ended.contains("no end"));
    }
}
