//! The status line: how the run is going.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use injector_ebpf::Counter;

use super::nanoseconds;
use super::units::{Time, percent};
use crate::explain::Totals;

/// Writes one line: sends, matched, delayed, flagged and failed always; what was
/// shadowed, what each guard suppressed, what was lost and the CPU time of the
/// spin engine where there is any.
pub fn write(out: &mut dyn Write, totals: &Totals, elapsed: Duration) -> io::Result<()> {
    out.write_all(line(totals, elapsed).as_bytes())
}

fn line(totals: &Totals, elapsed: Duration) -> String {
    format!("{}  {}\n", Time(nanoseconds(elapsed)), counts(totals))
}

/// The line without the time.
pub(super) fn counts(totals: &Totals) -> String {
    let mut line = String::new();
    let mut part = |text: std::fmt::Arguments<'_>| {
        let gap = if line.is_empty() { "" } else { "  " };
        // Writing to a string does not fail.
        let _ = write!(line, "{gap}{text}");
    };
    let matched = totals.get(Counter::Matched);
    part(format_args!("sends {}", totals.get(Counter::Seen)));
    part(format_args!("matched {matched}"));
    for (name, counter, always) in [
        ("delayed", Counter::Delayed, true),
        ("shadowed", Counter::Shadowed, false),
        ("flagged", Counter::Flagged, true),
        ("failed", Counter::Failed, true),
        ("signalled", Counter::Signalled, false),
    ] {
        let value = totals.get(counter);
        match percent(value, matched) {
            Some(share) if value > 0 => part(format_args!("{name} {value} ({share})")),
            _ if value > 0 || always => part(format_args!("{name} {value}")),
            _ => {}
        }
    }
    for (name, list) in [
        ("suppressed:", list(totals.guards())),
        ("lost:", list(totals.losses())),
    ] {
        if !list.is_empty() {
            part(format_args!("{name}{list}"));
        }
    }
    let spin = totals.get(Counter::SpinNs);
    if spin > 0 {
        part(format_args!("spin CPU {}", Time(spin)));
    }
    line
}

fn list(rows: impl Iterator<Item = (&'static str, &'static str, u64)>) -> String {
    let mut list = String::new();
    for (name, _, value) in rows {
        let comma = if list.is_empty() { "" } else { "," };
        let _ = write!(list, "{comma} {name} {value}");
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::explain::fixture;

    #[test]
    fn a_quiet_run_has_a_short_line() {
        let totals = fixture::totals(&[(Counter::Seen, 12), (Counter::Matched, 12)]);
        assert_eq!(
            line(&totals, Duration::from_secs(3)),
            "3s  sends 12  matched 12  delayed 0  flagged 0  failed 0\n"
        );
    }

    #[test]
    fn what_went_wrong_is_named() {
        let totals = fixture::totals(&[
            (Counter::Seen, 200),
            (Counter::Matched, 100),
            (Counter::Delayed, 15),
            (Counter::Flagged, 5),
            (Counter::Failed, 1),
            (Counter::Signalled, 5),
            (Counter::SpinNs, 150_000_000),
            (Counter::RecordsDropped, 3),
            (Counter::ReturnsMissed, 4),
            (Counter::GuardLease, 2),
            (Counter::GuardDelayRate, 7),
        ]);
        assert_eq!(
            line(&totals, Duration::from_millis(61_500)),
            "1m01s  sends 200  matched 100  delayed 15 (15.0%)  flagged 5 (5.0%)  failed 1 (1.0%)  \
             signalled 5 (5.0%)  suppressed: lease 2, delay_rate 7  \
             lost: records_dropped 3, returns_missed 4  spin CPU 150ms\n"
        );
    }

    proptest! {
        #[test]
        fn any_counters_are_one_line(
            values in prop::collection::vec(any::<u64>(), injector_ebpf::COUNTERS.len()),
            ms in any::<u64>(),
        ) {
            let pairs: Vec<_> = injector_ebpf::COUNTERS
                .iter()
                .zip(values)
                .map(|((counter, ..), value)| (*counter, value))
                .collect();
            let text = line(&fixture::totals(&pairs), Duration::from_millis(ms));
            prop_assert_eq!(text.matches('\n').count(), 1);
        }
    }
}
