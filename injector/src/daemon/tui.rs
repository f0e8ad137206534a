//! The terminal UI of a run: its model, its screen, and what keys ask for.

use std::{io, time::Duration};

use anyhow::Result;
use crossterm::event::{Event, KeyEventKind};
use injector_ebpf::{Counter, Mode};

use super::{control::Request, screen::Screen};
use crate::{
    explain::Totals,
    output::{
        budget::{Seen, Spent},
        tui::{self, Action, Model, Ui},
        units::Time,
    },
    plan::{Plan, Probability},
};

/// Probabilities that `+` and `-` go through, in percent.
const STEPS: [&str; 19] = [
    "0%", "0.1%", "0.2%", "0.5%", "1%", "2%", "5%", "10%", "15%", "20%", "25%", "30%", "40%",
    "50%", "60%", "70%", "80%", "90%", "100%",
];

/// The UI.
pub struct Tui {
    /// What it shows.
    pub model: Model,
    ui: Ui,
    screen: Screen,
}

impl Tui {
    /// Takes the terminal.
    pub fn start(model: Model) -> Result<Self> {
        Ok(Self {
            model,
            ui: Ui::default(),
            screen: Screen::enter()?,
        })
    }

    /// Shows the model as it is now.
    pub fn draw(&mut self) -> io::Result<()> {
        let Self { model, ui, screen } = self;
        model.tell(&screen.news()?);
        screen.draw(|area, buffer| tui::draw(model, ui, area, buffer))
    }

    /// Waits until a key asks something of the run.
    pub async fn action(&mut self) -> io::Result<Action> {
        loop {
            let event = self.screen.event().await?;
            if let Event::Key(key) = event
                && key.kind != KeyEventKind::Release
                && let Some(action) = self.ui.key(key, &self.model)
            {
                return Ok(action);
            }
            self.draw()?;
        }
    }

    /// Shows what became of what a key asked for.
    pub fn answer(&mut self, text: String) -> io::Result<()> {
        self.ui.answer(text);
        self.draw()
    }
}

/// Waits until a key asks something of the run; for ever without a UI.
pub async fn action(tui: &mut Option<Tui>) -> io::Result<Action> {
    match tui {
        Some(tui) => tui.action().await,
        None => std::future::pending().await,
    }
}

/// What a key asks for, of a run with this plan.
pub fn request(action: Action, plan: &Plan, paused: bool) -> Request {
    match action {
        Action::Stop => Request::Stop,
        Action::Pause if paused => Request::Resume,
        Action::Pause => Request::Pause,
        Action::Mode => Request::Mode(match plan.mode {
            Mode::Shadow => Mode::Enforce,
            Mode::Enforce => Mode::Shadow,
        }),
        Action::More | Action::Less => {
            let now = plan.rules[0].probability;
            Request::Probability(step(now, action == Action::More))
        }
    }
}

/// The next probability of the ladder, or the last one again.
fn step(now: Probability, up: bool) -> Probability {
    let mut steps = STEPS.iter().filter_map(|step| step.parse().ok());
    let next = if up {
        steps.find(|step| *step > now)
    } else {
        steps.rfind(|step| *step < now)
    };
    next.unwrap_or(now)
}

/// What injector itself takes.
pub fn own_cost(
    own: Option<Duration>,
    elapsed: Duration,
    totals: &Totals,
) -> Vec<(String, String)> {
    let share = |ns: u64| {
        let percent = ns as f64 / elapsed.as_nanos().max(1) as f64 * 100.0;
        format!("{} of CPU time, {percent:.1}% of one CPU", Time(ns))
    };
    let mut rows = Vec::new();
    if let Some(own) = own {
        rows.push(("injector itself", share(own.as_nanos() as u64)));
    }
    rows.push(("spun to delay sends", share(totals.get(Counter::SpinNs))));
    named(rows)
}

/// What probes on maps and locks cost.
pub fn probe_cost(spent: &Spent) -> Vec<(String, String)> {
    let budget = match spent.budget {
        Some(budget) => format!("of {:.1}% that they may", budget * 100.0),
        None => "and may cost anything".to_owned(),
    };
    let mut rows = vec![
        (
            "probes cost the program",
            format!("{:.2}% of one CPU {budget}", spent.cost * 100.0),
        ),
        ("price of a trap", Time(spent.trap_ns).to_string()),
        ("windows", spent.windows.to_string()),
    ];
    // From the most to the least, those that were seen alike together.
    let mut seen: Vec<_> = spent.seen.iter().collect();
    seen.sort_by(|a, b| b.share.total_cmp(&a.share));
    let share = |seen: &&Seen| format!("{:.1}% of the time", seen.share * 100.0);
    for alike in seen.chunk_by(|a, b| share(a) == share(b)) {
        let names: Vec<_> = alike.iter().map(|seen| seen.operation).collect();
        let names = names.join(", ");
        rows.push(("seen", format!("in {}: {names}", share(&alike[0]))));
    }
    for function in &spent.dropped {
        rows.push(("too hot to be seen", (*function).to_owned()));
    }
    named(rows)
}

fn named(rows: Vec<(&str, String)>) -> Vec<(String, String)> {
    let rows = rows.into_iter();
    rows.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probability(text: &str) -> Probability {
        text.parse().unwrap()
    }

    #[test]
    fn every_step_is_a_probability() {
        let parsed: Vec<Probability> = STEPS.iter().map(|step| probability(step)).collect();
        assert!(parsed.is_sorted());
    }

    #[test]
    fn steps_go_up_and_down_and_stay_within() {
        assert_eq!(step(probability("30%"), true), probability("40%"));
        assert_eq!(step(probability("30%"), false), probability("25%"));
        assert_eq!(step(probability("33%"), false), probability("30%"));
        assert_eq!(step(probability("100%"), true), probability("100%"));
        assert_eq!(step(probability("0%"), false), probability("0%"));
    }
}
