//! Which probes are attached when, so that they cost no more than was asked for.
//! Pure: it is told the time and what each probe has cost so far, and says what
//! it wants attached.
//!
//! The budget fills a bucket; what the probes cost is taken out of it. Probes
//! that fit into the budget for good stay attached. The others take turns with
//! nothing: a window is opened when the bucket holds what it will cost, by what
//! they have cost before. If they cost more than that, the window is closed early,
//! and the next one waits until the debt is paid. So the budget holds over time
//! whatever the program does, but for what hits between the moment when the
//! bucket is empty and the moment when the probes are gone.

/// How much unused budget is saved up, and how much there is at the start, in
/// seconds of it.
const SAVED_S: f64 = 10.;
const INITIAL_S: f64 = 2.;
/// How long hits go on after it was decided to take probes away, in
/// nanoseconds: the kernel takes away the breakpoints first, in some
/// milliseconds, then waits for a grace period.
const TAIL_NS: f64 = 20e6;
/// Length of a window in nanoseconds: the first one, in which nothing is known
/// yet, the shortest and the longest. A window costs the daemon some 10 ms to
/// open and 50 ms to close.
const FIRST_NS: f64 = 100e6;
const SHORTEST_NS: f64 = 50e6;
const LONGEST_NS: f64 = 1e9;
/// A window takes about this much budget, in nanoseconds of time: so often there
/// is one, unless the shortest takes more.
const PERIOD_NS: f64 = 1e9;
/// Time between two windows, in nanoseconds.
const PAUSE_NS: u64 = 100_000_000;
/// The share of the budget that probes which stay attached can have: the rest
/// is for windows and surprises.
const STEADY: f64 = 0.8;
/// A probe that is attached for good is counted as this much of itself when it
/// is decided anew, so that it does not come and go.
const LOYALTY: f64 = 0.9;
/// Over this long the use of probes that stay attached is averaged, in
/// nanoseconds: to see that they have become too many, and to see who it is
/// when the bucket is empty.
const SLOW_NS: f64 = 2e9;
const FAST_NS: f64 = 100e6;
/// Probes that are too hot even for the shortest window are thought to be half
/// as hot after this long, in nanoseconds, until they are tried again.
const FORGET_NS: f64 = 30e9;
/// What the kernel side may spend at least until the next look, in nanoseconds
/// of budget: a debt must not silence probes that fit.
const LEAST_ALLOWANCE_NS: f64 = 100e6;

/// What is given up last comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Growth, garbage collection: rare by nature.
    Rare,
    /// Where goroutines wait for locks.
    Locks,
    /// Writes of maps: whoever is in the way of another in a map has written it.
    Writes,
    /// Everything else but reads.
    Others,
    /// Reads and iterations.
    Reads,
}

/// What is wanted of some probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Not attached.
    Off,
    /// Attached until the window is closed.
    Window,
    /// Attached for good.
    Steady,
}

/// Use of some probes, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// What they have cost, in nanoseconds of one core.
    pub cost_ns: f64,
    /// How long they were attached, in nanoseconds.
    pub attached_ns: u64,
}

/// Probes that are attached and taken away together.
#[derive(Debug)]
struct Unit {
    rank: Rank,
    wanted: Wanted,
    /// Cores that it costs while it is attached; none before its first window.
    rate: Option<f64>,
    /// The same over the last moments.
    fast: f64,
    /// At the last look.
    last: Use,
    /// When its window was opened.
    opened: Use,
    /// Too hot for any window.
    dropped: bool,
}

/// The decisions.
#[derive(Debug)]
pub struct Governor {
    /// Cores that all may cost; none for any number.
    budget: Option<f64>,
    units: Vec<Unit>,
    /// In nanoseconds of one core; below zero for a debt.
    bucket: f64,
    now_ns: u64,
    /// When the window is to be closed, if one is open.
    window_until_ns: Option<u64>,
    next_window_ns: u64,
    windows: u64,
}

impl Governor {
    /// For units of these ranks. The budget is a number of cores, 0.03 for 3 % of
    /// one; none: everything stays attached.
    pub fn new(budget: Option<f64>, ranks: impl IntoIterator<Item = Rank>, now_ns: u64) -> Self {
        let units = ranks.into_iter().map(|rank| {
            let trusted = budget.is_none() || rank <= Rank::Locks;
            Unit {
                rank,
                wanted: if trusted { Wanted::Steady } else { Wanted::Off },
                rate: trusted.then_some(0.),
                fast: 0.,
                last: Use::default(),
                opened: Use::default(),
                dropped: false,
            }
        });
        Self {
            budget,
            units: units.collect(),
            bucket: budget.unwrap_or(0.) * INITIAL_S * 1e9,
            now_ns,
            window_until_ns: None,
            next_window_ns: now_ns,
            windows: 0,
        }
    }

    /// What is wanted of each unit.
    pub fn wanted(&self) -> impl ExactSizeIterator<Item = Wanted> + '_ {
        self.units.iter().map(|unit| unit.wanted)
    }

    /// Whether a unit is too hot for any window.
    pub fn is_dropped(&self, unit: usize) -> bool {
        self.units[unit].dropped
    }

    /// Windows that were opened.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// What hits may cost from now to the next look, in nanoseconds of one core.
    pub fn allowance_ns(&self) -> f64 {
        self.budget.map_or(f64::INFINITY, |budget| {
            self.bucket.max(budget * LEAST_ALLOWANCE_NS)
        })
    }

    /// Looks at what each unit has cost. `gated`: the allowance was used up.
    /// `busy`: probes are still being taken away, so none can be attached.
    pub fn look(&mut self, now_ns: u64, used: &[Use], gated: bool, busy: bool) {
        let Some(budget) = self.budget else {
            return;
        };
        let elapsed = now_ns.saturating_sub(self.now_ns) as f64;
        self.now_ns = now_ns;
        let mut cost = 0.;
        for (unit, used) in self.units.iter_mut().zip(used) {
            cost += unit.measure(*used, elapsed);
        }
        self.bucket = (self.bucket + budget * elapsed - cost).min(budget * SAVED_S * 1e9);
        let overdrawn = gated || self.bucket <= 0.;
        if let Some(until) = self.window_until_ns {
            if overdrawn || now_ns >= until {
                self.close_window(budget);
            }
        } else if overdrawn {
            for unit in &mut self.units {
                if unit.wanted == Wanted::Steady {
                    unit.rate = unit.rate.map(|rate| rate.max(unit.fast));
                }
            }
            self.settle(budget);
        } else if self.steady() > budget {
            self.settle(budget);
        }
        if !busy && self.window_until_ns.is_none() && now_ns >= self.next_window_ns {
            self.open_window(budget);
        }
    }

    /// What all cost that are attached for good, in cores.
    fn steady(&self) -> f64 {
        let steady = self.units.iter().filter(|it| it.wanted == Wanted::Steady);
        steady.filter_map(|unit| unit.rate).sum()
    }

    /// Decides anew what fits for good.
    fn settle(&mut self, budget: f64) {
        let mut left = budget * STEADY;
        for index in self.order(|_| true) {
            let unit = &mut self.units[index];
            let Some(mut rate) = unit.rate else {
                continue;
            };
            if unit.wanted == Wanted::Steady {
                rate *= LOYALTY;
            }
            let fits = rate <= left;
            if fits {
                left -= rate;
            }
            unit.wanted = if fits { Wanted::Steady } else { Wanted::Off };
        }
    }

    /// Units by rank, the cheapest of a rank first.
    fn order(&self, which: impl Fn(&Unit) -> bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.units.len())
            .filter(|index| which(&self.units[*index]))
            .collect();
        order.sort_by(|one, other| {
            let (one, other) = (&self.units[*one], &self.units[*other]);
            let rates = (one.rate.unwrap_or(0.), other.rate.unwrap_or(0.));
            one.rank.cmp(&other.rank).then(rates.0.total_cmp(&rates.1))
        });
        order
    }

    fn open_window(&mut self, budget: f64) {
        let most = budget * SAVED_S * 1e9;
        let (mut rate, mut all_known) = (0., true);
        let mut chosen = Vec::new();
        for index in self.order(|unit| unit.wanted == Wanted::Off) {
            let unit = &mut self.units[index];
            let own = unit.rate.unwrap_or(0.);
            unit.dropped = (rate + own) * (SHORTEST_NS + TAIL_NS) > most;
            if !unit.dropped {
                rate += own;
                all_known &= unit.rate.is_some();
                chosen.push(index);
            }
        }
        if chosen.is_empty() {
            return;
        }
        let spare = (budget - self.steady()).max(budget * (1. - STEADY));
        let length = if all_known {
            (spare * PERIOD_NS / rate).clamp(SHORTEST_NS, LONGEST_NS)
        } else {
            FIRST_NS
        };
        if self.bucket < (rate * (length + TAIL_NS)).min(most) || self.bucket <= 0. {
            return;
        }
        for index in chosen {
            let unit = &mut self.units[index];
            unit.wanted = Wanted::Window;
            unit.opened = unit.last;
        }
        self.window_until_ns = Some(self.now_ns + length as u64);
        self.windows += 1;
    }

    fn close_window(&mut self, budget: f64) {
        self.window_until_ns = None;
        self.next_window_ns = self.now_ns + PAUSE_NS;
        for unit in &mut self.units {
            if unit.wanted == Wanted::Window {
                unit.wanted = Wanted::Off;
                let attached = unit.last.attached_ns - unit.opened.attached_ns;
                if attached > 0 {
                    let cost = unit.last.cost_ns - unit.opened.cost_ns;
                    let seen = cost / attached as f64;
                    // What it was before counts as much as what it is now.
                    unit.rate = Some(unit.rate.map_or(seen, |rate| f64::midpoint(rate, seen)));
                }
            }
        }
        self.settle(budget);
    }
}

impl Unit {
    /// Takes in its use; what it has cost since the last look.
    fn measure(&mut self, used: Use, elapsed: f64) -> f64 {
        let cost = used.cost_ns - self.last.cost_ns;
        let attached = used.attached_ns.saturating_sub(self.last.attached_ns) as f64;
        self.last = used;
        if self.wanted == Wanted::Steady && attached > 0. {
            let now = cost / attached;
            let toward =
                |average: f64, over: f64| average + (now - average) * (attached / over).min(1.);
            self.fast = toward(self.fast, FAST_NS);
            self.rate = self.rate.map(|rate| toward(rate, SLOW_NS));
        }
        if self.dropped {
            self.rate = self
                .rate
                .map(|rate| rate * 0.5f64.powf(elapsed / FORGET_NS));
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP_NS: u64 = 1_000_000;
    const LOOK_NS: u64 = 30_000_000;
    /// Attaching, until the breakpoints are gone, and until all is over.
    const ATTACH_NS: u64 = 10_000_000;
    const GONE_NS: u64 = 10_000_000;
    const DETACH_NS: u64 = 50_000_000;
    /// What one hit costs.
    const HIT_NS: f64 = 2000.;
    /// A program has no more than this to give.
    const CORES: f64 = 2.;
    /// What can hit between an empty bucket and the last breakpoint's end.
    const OVERSHOOT_NS: f64 = CORES * (LOOK_NS + GONE_NS + ATTACH_NS) as f64;

    #[derive(Clone, Copy, Default)]
    struct Probe {
        is_attached: bool,
        used: Use,
        attached_at: u64,
        gone_at: u64,
    }

    /// A program whose units are hit so many times a second, a governor, and a
    /// kernel that takes its time.
    struct World<F> {
        governor: Governor,
        hits: F,
        probes: Vec<Probe>,
        now: u64,
        busy_until: u64,
        allowance: f64,
        next_look: u64,
    }

    impl<F: Fn(usize, f64) -> f64> World<F> {
        fn new(budget: f64, ranks: &[Rank], hits: F) -> Self {
            Self {
                governor: Governor::new(Some(budget), ranks.iter().copied(), 0),
                hits,
                probes: vec![Probe::default(); ranks.len()],
                now: 0,
                busy_until: 0,
                allowance: 0.,
                next_look: 0,
            }
        }

        fn cost(&self) -> f64 {
            self.probes.iter().map(|probe| probe.used.cost_ns).sum()
        }

        fn run(&mut self, seconds: f64, mut each: impl FnMut(&Self)) {
            let end = self.now + (seconds * 1e9) as u64;
            while self.now < end {
                self.now += STEP_NS;
                self.step();
                if self.now >= self.next_look || self.allowance <= 0. {
                    self.look();
                    self.next_look = self.now + LOOK_NS;
                }
                each(self);
            }
        }

        fn step(&mut self) {
            let time = self.now as f64 / 1e9;
            let live = |probe: &Probe, now| {
                (probe.is_attached && now > probe.attached_at) || now < probe.gone_at
            };
            let wish = |index: usize| (self.hits)(index, time) * HIT_NS * STEP_NS as f64 / 1e9;
            let alive: Vec<usize> = (0..self.probes.len())
                .filter(|index| live(&self.probes[*index], self.now))
                .collect();
            let total: f64 = alive.iter().map(|index| wish(*index)).sum();
            let most = CORES * STEP_NS as f64;
            let scale = if total > most { most / total } else { 1. };
            let costs: Vec<(usize, f64)> = alive
                .iter()
                .map(|index| (*index, wish(*index) * scale))
                .collect();
            for (index, cost) in costs {
                let probe = &mut self.probes[index];
                probe.used.cost_ns += cost;
                self.allowance -= cost;
                if probe.is_attached {
                    probe.used.attached_ns += STEP_NS;
                }
            }
        }

        fn look(&mut self) {
            let used: Vec<Use> = self.probes.iter().map(|probe| probe.used).collect();
            let busy = self.now < self.busy_until;
            let gated = self.allowance <= 0.;
            self.governor.look(self.now, &used, gated, busy);
            self.allowance = self.governor.allowance_ns();
            for (probe, wanted) in self.probes.iter_mut().zip(self.governor.wanted()) {
                let wanted = wanted != Wanted::Off;
                if probe.is_attached && !wanted {
                    probe.is_attached = false;
                    probe.gone_at = self.now + GONE_NS;
                    self.busy_until = self.now + DETACH_NS;
                } else if !probe.is_attached && wanted && self.now >= self.busy_until {
                    probe.is_attached = true;
                    probe.attached_at = self.now + ATTACH_NS;
                }
            }
        }

        fn seen(&self, unit: usize) -> f64 {
            self.probes[unit].used.attached_ns as f64 / self.now as f64
        }
    }

    const RANKS: [Rank; 6] = [
        Rank::Rare,
        Rank::Locks,
        Rank::Writes,
        Rank::Others,
        Rank::Reads,
        Rank::Reads,
    ];

    #[test]
    fn what_is_cheap_stays_attached() {
        // 0.8 % of a core in all.
        let mut world = World::new(0.03, &RANKS, |_, _| 600.);
        world.run(20., |_| ());
        assert!(world.governor.wanted().all(|it| it == Wanted::Steady));
        assert_eq!(world.governor.windows(), 1);
        assert!((0..RANKS.len()).all(|unit| world.seen(unit) > 0.95));
    }

    #[test]
    fn without_a_budget_everything_stays() {
        let mut governor = Governor::new(None, RANKS, 0);
        governor.look(
            1,
            &[Use {
                cost_ns: 1e12,
                attached_ns: 1,
            }; RANKS.len()],
            false,
            false,
        );
        assert!(governor.wanted().all(|it| it == Wanted::Steady));
        assert!(governor.allowance_ns().is_infinite());
    }

    #[test]
    fn the_hottest_goes_first_and_writes_go_last() {
        // Writes and either kind of reads would fit, but not all three.
        let hits = |unit, _| [10., 100., 8000., 0., 3000., 60_000.][unit];
        let mut world = World::new(0.03, &RANKS, hits);
        world.run(30., |_| ());
        let wanted: Vec<Wanted> = world.governor.wanted().collect();
        assert_eq!(wanted[..3], [Wanted::Steady; 3]);
        assert!(world.seen(2) > 0.9, "{}", world.seen(2));
        assert!(world.seen(4) > 0.9, "{}", world.seen(4));
        let hot = world.seen(5);
        assert!(hot > 0.02 && hot < 0.2, "{hot}");
    }

    #[test]
    fn saturated_locks_are_governed_too() {
        let hits = |unit, _| if unit == 1 { 2e6 } else { 10. };
        let mut world = World::new(0.03, &RANKS, hits);
        world.run(60., |_| ());
        let limit = 0.03 * 62e9 + OVERSHOOT_NS;
        assert!(world.cost() <= limit, "{} > {limit}", world.cost());
        assert!(
            world.seen(1) > 0.003 && world.seen(1) < 0.05,
            "{}",
            world.seen(1)
        );
        assert!(world.seen(2) > 0.9);
    }

    #[test]
    fn a_program_that_calms_down_is_seen_in_full_again() {
        let hits = |_, time| if time < 30. { 1e6 } else { 100. };
        let mut world = World::new(0.03, &RANKS, hits);
        world.run(200., |_| ());
        assert!(world.governor.wanted().all(|it| it == Wanted::Steady));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever the program does: steady, bursty, or turning round when it
        /// is looked at.
        #[test]
        fn the_budget_holds(
            budget in 0.005f64..0.3,
            rates in prop::collection::vec(0f64..6.3, 6),
            period in 0.05f64..20.,
            duty in 0.02f64..1.,
        ) {
            let hits = |unit: usize, time: f64| {
                let bursts = unit.is_multiple_of(2) || (time / period).fract() < duty;
                if bursts { 10f64.powf(rates[unit]) } else { 0. }
            };
            let mut world = World::new(budget, &RANKS, hits);
            let mut worst = f64::MIN;
            world.run(60., |world| {
                let limit = budget * (world.now as f64 + INITIAL_S * 1e9) + OVERSHOOT_NS;
                worst = worst.max(world.cost() - limit);
            });
            prop_assert!(worst <= 0., "over by {} ms", worst / 1e6);
        }
    }
}
