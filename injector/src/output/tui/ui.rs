//! Which part is looked at, and what a key means.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Model;

/// What a key asks of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To end.
    Stop,
    /// To let every send through, or no longer.
    Pause,
    /// To carry decisions out, or only to record them.
    Mode,
    /// A higher probability.
    More,
    /// A lower one.
    Less,
}

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Live,
    Sends,
    Findings,
    Maps,
    Locks,
    Cost,
    News,
}

impl Pane {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Live => "Live",
            Self::Sends => "Sends",
            Self::Findings => "Findings",
            Self::Maps => "Maps",
            Self::Locks => "Locks",
            Self::Cost => "Cost",
            Self::News => "News",
        }
    }

    /// Those that there is something to show in.
    pub(super) fn all(model: &Model) -> Vec<Self> {
        let mut all = Vec::new();
        if model.sends.is_some() {
            all.extend([Self::Live, Self::Sends]);
        }
        if model.program.is_some() {
            all.extend([Self::Findings, Self::Maps, Self::Locks]);
        }
        all.extend([Self::Cost, Self::News]);
        all
    }
}

/// What is looked at.
#[derive(Debug, Default)]
pub struct Ui {
    /// Index among the panes that there are.
    pub(super) pane: usize,
    /// The first line that is shown.
    pub(super) scroll: usize,
    /// How far that can go, and lines in a page; as last drawn.
    pub(super) last: usize,
    pub(super) page: usize,
    /// The list of keys is over everything.
    pub(super) help: bool,
    /// What became of the last change that was asked for.
    pub(super) message: String,
}

impl Ui {
    /// Shows what became of a change.
    pub fn answer(&mut self, text: String) {
        self.message = text;
    }

    /// A key was pressed: it changes what is looked at, or it asks for something.
    pub fn key(&mut self, key: KeyEvent, model: &Model) -> Option<Action> {
        let panes = Pane::all(model).len();
        self.message.clear();
        if std::mem::take(&mut self.help) && key.code != KeyCode::Char('q') {
            return None;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Some(Action::Stop);
            }
            KeyCode::Char('q') => return Some(Action::Stop),
            KeyCode::Char('p' | ' ') => return Some(Action::Pause),
            KeyCode::Char('s') => return Some(Action::Mode),
            KeyCode::Char('+' | '=') => return Some(Action::More),
            KeyCode::Char('-') => return Some(Action::Less),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Tab | KeyCode::Right => self.turn_to((self.pane + 1) % panes),
            KeyCode::BackTab | KeyCode::Left => self.turn_to((self.pane + panes - 1) % panes),
            KeyCode::Char(digit @ '1'..='9') => {
                let pane = digit as usize - '1' as usize;
                if pane < panes {
                    self.turn_to(pane);
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll_to(self.scroll + 1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_to(self.scroll.saturating_sub(1)),
            KeyCode::PageDown => self.scroll_to(self.scroll + self.page),
            KeyCode::PageUp => self.scroll_to(self.scroll.saturating_sub(self.page)),
            KeyCode::Home | KeyCode::Char('g') => self.scroll_to(0),
            KeyCode::End | KeyCode::Char('G') => self.scroll_to(self.last),
            _ => {}
        }
        None
    }

    fn turn_to(&mut self, pane: usize) {
        self.pane = pane;
        self.scroll = 0;
    }

    fn scroll_to(&mut self, line: usize) {
        self.scroll = line.min(self.last);
    }
}
