//! A small run that does not change, for tests of what sinks write.

use std::{
    io::{self, Write},
    time::Duration,
};

use injector_ebpf::{Counter, Guard, Mode, Protocol, SendRecord, Verdict, flags};

use crate::explain::{RunInfo, Summary, Totals, fixture};

/// A pipe that nobody reads any more.
pub struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A monotonic time.
const START: u64 = 5_000_000_000_000;

/// The caller's part.
pub fn info(mode: Mode) -> RunInfo {
    RunInfo {
        targets: "comm order-api, env=gray: 2 processes".to_owned(),
        rules: vec![
            "delay 0..1200ms with probability 15%, threshold 800ms, on timeout signal SIGUSR2"
                .to_owned(),
        ],
        mode,
        seed: 42,
        hook: "kprobe".to_owned(),
        engine: "spin, at most 10ms for one call".to_owned(),
        ended: "the duration of 10s was over".to_owned(),
        start_ns: START,
        elapsed: Duration::from_secs(10),
        in_flight: 1,
        skipped: 3,
        own_cpu: Some(Duration::from_millis(48)),
    }
}

/// 400 sends: every seventh is chosen and most of those are cut short by the
/// engine; one is failed, one suppressed, some meet a full socket.
pub fn records(mode: Mode) -> Vec<SendRecord> {
    (0..400).map(|n| record(n, mode)).collect()
}

fn record(n: u64, mode: Mode) -> SendRecord {
    let mut record = SendRecord {
        start_ns: START + n * 25_000_000,
        natural_ns: 4_000 + (n * 7_919) % 9_000,
        call_index: n + 1,
        ..fixture::send()
    };
    if n.is_multiple_of(5) {
        record.tid = 4330;
        record.thread_ordinal = 1;
        record.goroutine = 18;
        record.comm = *b"io-1\0\0\0\0\0\0\0\0\0\0\0\0";
    }
    if n % 8 == 3 {
        record.tgid = 999;
        record.tid = 999;
        record.comm = *b"order-api-2\0\0\0\0\0";
        record.protocol = Protocol::UnixStream as u8;
        record.peer = fixture::endpoint(b"/run/db.sock", 12);
        record.local = fixture::endpoint(b"", 0);
        record.place = 3;
    }
    if n % 50 == 49 {
        record.result = -11;
    }
    if n % 100 == 98 {
        record.flags |= flags::NO_START;
    } else if n.is_multiple_of(7) {
        chosen(&mut record, n, mode);
    }
    record
}

fn chosen(record: &mut SendRecord, n: u64, mode: Mode) {
    record.asked_ns = (n * 104_729_000) % 1_200_000_000 + 1_000;
    if record.asked_ns > 800_000_000 {
        record.flags |= flags::FLAGGED | flags::SIGNALLED;
    }
    if mode == Mode::Shadow {
        record.verdict = Verdict::Shadowed as u8;
        if record.flags & flags::SIGNALLED != 0 {
            record.flags ^= flags::SIGNALLED | flags::WOULD_SIGNAL;
        }
        if n == 77 {
            record.guard = Guard::DelayRate as u8;
            record.flags &= !flags::WOULD_SIGNAL;
        }
    } else if n == 77 {
        record.verdict = Verdict::Suppressed as u8;
        record.guard = Guard::DelayRate as u8;
        record.flags &= !flags::SIGNALLED;
    } else {
        record.verdict = Verdict::Delivered as u8;
        record.delivered_ns = record.asked_ns + 1_500;
        if record.asked_ns > 10_000_000 {
            record.flags |= flags::CAPPED;
            record.delivered_ns = 10_000_900;
        }
        if n == 175 {
            record.flags |= flags::FAILED;
            record.result = -104;
            record.natural_ns = 0;
        }
    }
}

/// The counters that the kernel side would have kept; two records were lost.
pub fn totals(summary: &Summary) -> Totals {
    let total = &summary.total;
    fixture::totals(&[
        (Counter::Seen, total.sends + 2),
        (Counter::Matched, total.matched + 2),
        (Counter::Chosen, total.chosen),
        (Counter::Delayed, total.delayed),
        (Counter::Capped, total.capped),
        (Counter::Flagged, total.flagged),
        (Counter::Failed, total.failed),
        (Counter::Signalled, total.signalled),
        (Counter::Shadowed, total.shadowed),
        (Counter::SpinNs, total.delivered_ns),
        (Counter::AskedNs, total.asked_ns),
        (Counter::DeliveredNs, total.delivered_ns),
        (Counter::RecordsDropped, 2),
        (Counter::ReturnsMissed, 1),
        (
            Counter::GuardDelayRate,
            total.suppressed + total.would_suppress,
        ),
    ])
}

/// The summary and the counters of that run.
pub fn run(mode: Mode) -> (Summary, Totals) {
    let summary = fixture::summary(&records(mode));
    let totals = totals(&summary);
    (summary, totals)
}
