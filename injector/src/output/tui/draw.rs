//! A model, drawn.

use std::collections::VecDeque;

use injector_ebpf::{Counter, Mode};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Block, Clear, Paragraph, Sparkline, Widget},
};

use super::{Figures, Model, Program, Sends, Ui, ui::Pane};
use crate::{
    explain::Confidence,
    output::{
        line::Table,
        mode_name, nanoseconds, status,
        text::{Clean, wrap},
        units::{Time, percent},
    },
};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
/// Asked for, delivered.
const ASKED: Color = Color::Cyan;
const DELIVERED: Color = Color::Yellow;
/// Columns from which on sends have a place beside the delays.
const WIDE: u16 = 150;
/// Columns of what belongs to delays.
const DELAYS: u16 = 78;
/// Columns before a sparkline.
const LABEL: u16 = 22;

/// Columns that a send needs with all that is known of it.
const WHOLE_ROW: u16 = 100;
/// Columns of a cost, and of its name.
const WIDTH: usize = 80;
const NAME: usize = 25;

const KEYS: &[(&str, &str)] = &[
    ("tab 1-7", "turn to another page"),
    ("up down", "scroll; also j k, page up and down"),
    ("p", "let every send through, or no longer"),
    ("s", "shadow: decide but do nothing; or enforce"),
    ("+ -", "a higher or lower probability"),
    ("q", "stop and show the report"),
    ("?", "these keys"),
];

/// Draws it.
pub fn draw(model: &Model, ui: &mut Ui, area: Rect, buffer: &mut Buffer) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(if model.acting.is_some() { 2 } else { 1 }),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    let panes = Pane::all(model);
    ui.pane = ui.pane.min(panes.len() - 1);
    self::head(model, head, buffer);
    self::tabs(&panes, ui.pane, model, tabs, buffer);
    let lines = match (panes[ui.pane], &model.sends, &model.program) {
        (Pane::Live, Some(sends), _) => {
            live(sends, body, buffer);
            None
        }
        (Pane::Sends, Some(sends), _) => Some(rows(sends, true, body.width)),
        (Pane::Findings, _, Some(program)) => Some(findings(program)),
        (Pane::Maps, _, Some(program)) => Some(table(&program.maps, "no map was used yet")),
        (Pane::Locks, _, Some(program)) => {
            Some(table(&program.locks, "nobody has waited for a lock yet"))
        }
        (Pane::Cost, ..) => Some(cost(model)),
        _ => Some(
            model
                .news
                .iter()
                .rev()
                .map(|line| line.as_str().into())
                .collect(),
        ),
    };
    let lines = lines.unwrap_or_default();
    ui.page = usize::from(body.height).max(1);
    ui.last = lines.len().saturating_sub(ui.page);
    ui.scroll = ui.scroll.min(ui.last);
    let shown = lines.into_iter().skip(ui.scroll).take(ui.page);
    shown.collect::<Text<'_>>().render(body, buffer);
    self::foot(model, ui, foot, buffer);
    if ui.help {
        help(area, buffer);
    }
}

/// How the run goes: who, how long, and whether anything is done to them.
fn head(model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut time = Time(nanoseconds(model.elapsed)).to_string();
    if let Some(duration) = model.duration {
        time = format!("{time} of {}", Time(nanoseconds(duration)));
    }
    let (state, colour) = match &model.acting {
        None => (" OBSERVES ".to_owned(), Color::Green),
        Some(acting) if acting.paused => (" PAUSED ".to_owned(), Color::Yellow),
        Some(acting) => (
            format!(" {} ", mode_name(acting.mode).to_uppercase()),
            match acting.mode {
                Mode::Enforce => Color::Red,
                Mode::Shadow => Color::Blue,
            },
        ),
    };
    let state = Span::styled(state, BOLD.fg(Color::Black).bg(colour));
    let first = Line::from(vec![
        Span::styled("injector ", BOLD),
        state,
        format!(" {time}  {}", Clean(&model.targets)).into(),
    ]);
    let mut lines = vec![first];
    if let Some(acting) = &model.acting {
        lines.push(Line::from(format!("{}", Clean(&acting.rule))));
    }
    Text::from(lines).render(area, buffer);
}

fn tabs(panes: &[Pane], chosen: usize, model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut spans = Vec::new();
    for (index, pane) in panes.iter().enumerate() {
        let count = match (pane, &model.program) {
            (Pane::Findings, Some(program)) => format!(" ({})", program.findings.len()),
            _ => String::new(),
        };
        let style = if index == chosen {
            BOLD.add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        spans.push(Span::styled(
            format!(" {} {}{count} ", index + 1, pane.name()),
            style,
        ));
    }
    let line = Line::from(spans).style(Style::new().bg(Color::DarkGray).fg(Color::White));
    line.render(area, buffer);
}

fn foot(model: &Model, ui: &Ui, area: Rect, buffer: &mut Buffer) {
    let line = if ui.message.is_empty() {
        let keys = match model.acting {
            Some(_) => "p pause  s shadow  + - probability  q stop  tab pages  ? help",
            None => "q stop  tab pages  up down scroll  ? help",
        };
        let mut spans = vec![Span::styled(keys, FAINT)];
        if ui.last > 0 {
            let place = format!("  line {} of {}", ui.scroll + 1, ui.last + ui.page);
            spans.push(Span::styled(place, FAINT));
        }
        Line::from(spans)
    } else {
        Line::styled(Clean(&ui.message).to_string(), BOLD.fg(Color::Green))
    };
    line.render(area, buffer);
}

/// Rates, delays as asked and as delivered, and the latest sends in what room is
/// left.
fn live(sends: &Sends, area: Rect, buffer: &mut Buffer) {
    let [left, right] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Length(DELAYS), Constraint::Fill(1)])
            .spacing(2)
            .areas(area)
    } else {
        [area, Rect::ZERO]
    };
    let figures = figures(sends);
    let histogram: Vec<Line> = sends.histogram.lines().map(Line::from).collect();
    let height = |lines: &[Line]| lines.len() as u16;
    let [counts, seen, delayed, table, bars, rest] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(height(&figures)),
        Constraint::Length(height(&histogram)),
        Constraint::Fill(1),
    ])
    .areas(left);
    Line::from(status::counts(&sends.totals)).render(counts, buffer);
    rate("sends/s", &sends.seen, Color::Green, seen, buffer);
    rate("delayed/s", &sends.delayed, DELIVERED, delayed, buffer);
    Text::from(figures).render(table, buffer);
    Text::from(histogram).render(bars, buffer);
    let side = if right.is_empty() { rest } else { right };
    if side.height > 1 {
        let rows = rows(sends, false, side.width)
            .into_iter()
            .take(side.height.into());
        rows.collect::<Text<'_>>().render(side, buffer);
    }
}

/// How often something happened in each second, the latest at the right.
fn rate(name: &str, rates: &VecDeque<u64>, colour: Color, area: Rect, buffer: &mut Buffer) {
    let [label, line] =
        Layout::horizontal([Constraint::Length(LABEL), Constraint::Fill(1)]).areas(area);
    let now = rates.back().copied().unwrap_or(0);
    let most = rates.iter().copied().max().unwrap_or(0);
    Text::from(vec![
        Line::from(vec![
            format!("{name:<10}").into(),
            Span::styled(format!("{now:>9}"), BOLD.fg(colour)),
        ]),
        Line::styled(format!("{:<10}{most:>9}", "most"), FAINT),
    ])
    .render(label, buffer);
    let room = usize::from(line.width);
    let skip = rates.len().saturating_sub(room);
    // Not wider than the seconds that there were: nothing is no zero.
    let shown: Vec<u64> = rates.iter().skip(skip).copied().collect();
    Sparkline::default()
        .data(&shown)
        .style(Style::new().fg(colour))
        .render(line, buffer);
}

/// Distributions as rows of a table.
fn figures(sends: &Sends) -> Vec<Line<'static>> {
    let row = |cells: [String; 6]| {
        let [name, numbers @ ..] = cells;
        let numbers = numbers.iter().map(|number| format!("{number:>9}"));
        format!("{name:<12}{}", numbers.collect::<String>())
    };
    let heading = ["", "n", "p50", "p90", "p99", "max"].map(str::to_owned);
    let mut lines = vec![Line::styled(row(heading), FAINT)];
    for (name, figures) in &sends.figures {
        let Figures {
            count,
            p50,
            p90,
            p99,
            max,
        } = figures;
        let times = [p50, p90, p99, max].map(|ns| Time(*ns).to_string());
        let [p50, p90, p99, max] = times;
        let text = row([(*name).to_owned(), count.to_string(), p50, p90, p99, max]);
        let colour = match *name {
            "asked" => ASKED,
            "delivered" => DELIVERED,
            _ => Color::Reset,
        };
        lines.push(Line::styled(text, Style::new().fg(colour)));
    }
    if sends.figures.is_empty() {
        lines.push("no send yet".into());
    }
    lines
}

/// The latest sends that something was decided for, latest first.
fn rows(sends: &Sends, with_none: bool, width: u16) -> Vec<Line<'static>> {
    let mut table = if width < WHOLE_ROW {
        Table::narrow()
    } else {
        Table::new(false)
    };
    let mut lines = vec![Line::styled(table.header().trim_end().to_owned(), FAINT)];
    for record in sends.recent.iter().rev() {
        let row = table.row(record, sends.start_ns).trim_end().to_owned();
        lines.push(row.into());
    }
    match lines.len() {
        1 if with_none => vec!["nothing was done to any send yet".into()],
        _ => lines,
    }
}

fn table<'a>(text: &'a str, none: &'a str) -> Vec<Line<'a>> {
    let heading = |line: &str| {
        ["MAP ", "SYNC.MAP ", "LOCK "]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let line = |line: &'a str| {
        let style = if heading(line) { FAINT } else { Style::new() };
        Line::styled(line, style)
    };
    match text {
        "" => vec![none.into()],
        text => text.lines().map(line).collect(),
    }
}

fn findings(program: &Program) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for (confidence, page) in &program.findings {
        let colour = match confidence {
            Confidence::High => Color::Red,
            Confidence::Medium => Color::Yellow,
            Confidence::Low => Color::Blue,
        };
        let mut page = page.lines();
        let first = page.next().unwrap_or_default();
        lines.push(Line::styled(first, BOLD.fg(colour)));
        lines.extend(page.map(Line::from));
        lines.push(Line::default());
    }
    if lines.is_empty() {
        lines.push("nothing was found yet".into());
    }
    lines
}

/// What the tool takes, what guards kept back, what was lost.
fn cost(model: &Model) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut row = |name: &str, value: &str, style| {
        let mut text = format!("{:<NAME$}", Clean(name).to_string());
        wrap(&mut text, NAME, WIDTH, &Clean(value).to_string());
        lines.extend(
            text.lines()
                .map(|line| Line::styled(line.to_owned(), style)),
        );
    };
    for (name, value) in &model.cost {
        row(name, value, Style::new());
    }
    if let Some(sends) = &model.sends {
        let matched = sends.totals.get(Counter::Matched);
        for (name, meaning, value) in sends.totals.guards() {
            let share = percent(value, matched).unwrap_or_default();
            row(
                &format!("held back: {name}"),
                &format!("{value} ({share}) {meaning}"),
                Style::new(),
            );
        }
        let lost = Style::new().fg(Color::Red);
        let mut any = false;
        for (name, meaning, value) in sends.totals.losses() {
            any = true;
            row(
                &format!("lost: {name}"),
                &format!("{value} {meaning}"),
                lost,
            );
        }
        if !any {
            row("lost", "no send", Style::new());
        }
    }
    lines
}

fn help(area: Rect, buffer: &mut Buffer) {
    let height = KEYS.len() as u16 + 2;
    let width = 58.min(area.width);
    let area = area.centered(
        Constraint::Length(width),
        Constraint::Length(height.min(area.height)),
    );
    Clear.render(area, buffer);
    let lines = KEYS.iter().map(|(key, what)| {
        Line::from(vec![
            Span::styled(format!(" {key:<9}"), BOLD),
            Span::raw(*what),
        ])
    });
    Paragraph::new(lines.collect::<Text<'_>>())
        .block(Block::bordered().title(" Keys; any of them closes this "))
        .render(area, buffer);
}
