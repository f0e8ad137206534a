//! What the tracer was allowed to cost, what it has cost, and what it has seen for
//! that.

use std::fmt::Write as _;

use injector_ebpf::go::Event;
use serde::Serialize;

use super::units::Time;

/// Shares are numbers of CPUs: 0.03 is 3 % of one.
#[derive(Debug, Default, Serialize)]
pub struct Spent {
    /// What was asked for; none for no limit.
    pub budget: Option<f64>,
    /// What it was.
    pub cost: f64,
    /// The same, in all.
    pub cost_ns: u64,
    /// Measured price of a trap where the kernel emulates the probed instruction,
    /// and where it executes a copy.
    pub trap_ns: u64,
    /// The same for the other.
    pub trap_single_stepped_ns: u64,
    /// CPU time that injector itself has taken, beside the budget.
    pub own_ns: u64,
    /// How often probes were attached for a while.
    pub windows: u64,
    /// The longest that it took to put probes in.
    pub longest_attach_ns: u64,
    /// The longest that it took to take probes away while others stayed, such as at
    /// the end of a window; none if none were taken away.
    pub longest_detach_ns: Option<u64>,
    /// How long it took to take all away, at the end.
    pub end_detach_ns: u64,
    /// Operations that began while another goroutine was in one on the same map,
    /// one of both a write.
    pub overlaps: u64,
    /// How long each kind of event was seen.
    pub seen: Vec<Seen>,
    /// Functions that were hit too often for the shortest window.
    pub dropped: Vec<&'static str>,
}

/// A kind of event.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// Its name.
    pub operation: &'static str,
    /// In this share of the time, 0 to 1, all of them were seen.
    pub share: f64,
}

impl Seen {
    /// Of this kind.
    pub fn new(event: Event, share: f64) -> Self {
        Self {
            operation: event.name(),
            share,
        }
    }
}

/// Lines for people.
pub fn text(page: &mut String, spent: &Spent) {
    let budget = spent.budget.map_or_else(
        || "without a budget".to_owned(),
        |budget| format!("of {} % asked for", round(budget * 100.)),
    );
    let traps = match spent.trap_ns {
        0 => "without the traps, whose price is not known".to_owned(),
        price => format!("with {} a trap", Time(price)),
    };
    let _ = writeln!(
        page,
        "cost: {} % of one CPU {budget} ({} of hits {traps}); injector itself took {}; {} windows",
        round(spent.cost * 100.),
        Time(spent.cost_ns),
        Time(spent.own_ns),
        spent.windows
    );
    if spent.overlaps > 0 {
        let _ = writeln!(
            page,
            "overlaps: {} operations began while another goroutine was in one on the same map, one \
             of both a write: no lock orders them",
            spent.overlaps
        );
    }
    let in_part: Vec<&Seen> = spent.seen.iter().filter(|it| it.share < 0.99).collect();
    if in_part.is_empty() {
        page.push_str("every operation was seen\n");
    } else {
        page.push_str("seen in a part of the time only:");
        for (index, seen) in in_part.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(
                page,
                "{comma} {} {} %",
                seen.operation,
                round(seen.share * 100.)
            );
        }
        page.push('\n');
    }
    for function in &spent.dropped {
        let _ = writeln!(
            page,
            "not traced at the end, too hot for any window: {function}"
        );
    }
}

/// To three digits.
fn round(number: f64) -> f64 {
    if number == 0. || !number.is_finite() {
        return number;
    }
    let digits = 10f64.powi(2 - number.abs().log10().floor() as i32);
    (number * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_it_cost_and_what_was_missed() {
        let mut spent = Spent {
            budget: Some(0.03),
            cost: 0.0299,
            cost_ns: 59_800_000,
            trap_ns: 640,
            trap_single_stepped_ns: 11_000,
            own_ns: 12_000_000,
            windows: 4,
            overlaps: 2,
            longest_attach_ns: 9_000_000,
            longest_detach_ns: Some(50_000_000),
            end_detach_ns: 80_000_000,
            seen: vec![
                Seen::new(Event::Assign, 0.999),
                Seen::new(Event::Access, 0.0417),
            ],
            dropped: vec!["runtime.mapaccess1_fast64"],
        };
        let page = |spent: &Spent| {
            let mut page = String::new();
            text(&mut page, spent);
            page
        };
        assert_eq!(
            page(&spent),
            "\
cost: 2.99 % of one CPU of 3 % asked for (59.8ms of hits with 640ns a trap); injector itself took 12ms; 4 windows
overlaps: 2 operations began while another goroutine was in one on the same map, one of both a write: no lock orders them
seen in a part of the time only: access 4.17 %
not traced at the end, too hot for any window: runtime.mapaccess1_fast64
"
        );
        spent.budget = None;
        spent.seen.pop();
        assert!(page(&spent).contains("CPU without a budget ("));
        assert!(page(&spent).contains("every operation was seen\n"));
    }

    #[test]
    fn three_digits() {
        let rounded = [0., 0.012_345, 29.96, 1234.].map(|number| round(number).to_string());
        assert_eq!(rounded, ["0", "0.0123", "30", "1230"]);
    }
}
