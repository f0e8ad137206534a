use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use injector_ebpf::flags;
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::{super::maps_fixture, *};
use crate::explain::fixture;

/// Terminals: usual, tiny, large.
const SIZES: [(u16, u16); 3] = [(80, 24), (40, 12), (200, 60)];

fn record() -> SendRecord {
    SendRecord {
        flags: flags::FLAGGED,
        ..fixture::delayed(1_200_000, 1_250_000, 60_000)
    }
}

fn model() -> Model {
    let records = [record(), fixture::send()];
    let mut sends = Sends::new(0);
    for record in &records {
        sends.record(record);
    }
    let totals = fixture::totals(&[
        (Counter::Seen, 2),
        (Counter::Matched, 2),
        (Counter::Delayed, 1),
        (Counter::GuardLease, 7),
        (Counter::RecordsDropped, 3),
    ]);
    sends.second(totals, &fixture::summary(&records));
    let finding = maps_fixture::finding();
    let mut program = Program {
        findings: vec![(finding.confidence, maps_finding::page(&finding))],
        ..Program::default()
    };
    maps_table::maps(&mut program.maps, &[maps_fixture::map()]);
    maps_table::locks(&mut program.locks, &[maps_fixture::lock()]);
    let mut model = Model {
        targets: "pid 4321: 1 processes".to_owned(),
        elapsed: Duration::from_secs(12),
        duration: Some(Duration::from_mins(1)),
        acting: Some(Acting {
            rule: "delay 0..30ms, probability 30%".to_owned(),
            mode: Mode::Enforce,
            paused: false,
        }),
        sends: Some(sends),
        program: Some(program),
        cost: vec![("injector itself".to_owned(), "48ms".to_owned())],
        ..Model::default()
    };
    model.tell("injector: target + 4321 order-api\n");
    model
}

/// What a terminal of this size shows.
fn show(model: &Model, ui: &mut Ui, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(model, ui, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal.backend().buffer().clone()
}

/// The same as lines of text.
fn text(model: &Model, ui: &mut Ui, size: (u16, u16)) -> String {
    let buffer = show(model, ui, size);
    let rows = buffer.content.chunks(usize::from(size.0));
    let row = |cells: &[ratatui::buffer::Cell]| {
        let row: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        row.trim_end().to_owned() + "\n"
    };
    rows.map(row).collect()
}

fn press(ui: &mut Ui, model: &Model, code: KeyCode) -> Option<Action> {
    ui.key(KeyEvent::new(code, KeyModifiers::NONE), model)
}

#[test]
fn every_page_shows_what_it_is_for() {
    let model = model();
    let mut ui = Ui::default();
    for (page, words) in [
        ("1", &["delayed/s", "1.2ms", "1.25ms", "delivered"][..]),
        ("2", &["order-api", "127.0.0.1:80", "flagged"]),
        ("3", &["contention: RWMutex", "31", "remedy"]),
        ("4", &["items", "120k"]),
        ("5", &["(*Cache).mu", "88ms"]),
        (
            "6",
            &[
                "injector itself",
                "48ms",
                "held back: lease",
                "lost: records_dropped",
            ],
        ),
        ("7", &["target + 4321"]),
    ] {
        let key = KeyCode::Char(page.parse().unwrap());
        assert_eq!(press(&mut ui, &model, key), None);
        for size in [SIZES[0], SIZES[2]] {
            let text = text(&model, &mut ui, size);
            let head = text.lines().next().unwrap_or_default();
            assert!(head.contains("ENFORCE  12s of 1m00s"), "{text}");
            for word in words {
                assert!(text.contains(word), "{word} on page {page} in\n{text}");
            }
        }
    }
}

#[test]
fn a_tiny_terminal_has_what_matters_most() {
    let model = model();
    let text = text(&model, &mut Ui::default(), SIZES[1]);
    for words in ["ENFORCE", "probability", "1 Live", "sends/s", "p pause"] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn nothing_is_lost_by_scrolling() {
    let model = model();
    let mut ui = Ui::default();
    press(&mut ui, &model, KeyCode::Char('3'));
    let first = text(&model, &mut ui, SIZES[1]);
    assert!(!first.contains("remedy"), "{first}");
    press(&mut ui, &model, KeyCode::End);
    let last = text(&model, &mut ui, SIZES[1]);
    assert!(last.contains("remedy"), "{last}");
    press(&mut ui, &model, KeyCode::Home);
    assert_eq!(text(&model, &mut ui, SIZES[1]), first);
    // A larger terminal has less to scroll.
    press(&mut ui, &model, KeyCode::End);
    let all = text(&model, &mut ui, SIZES[2]);
    assert!(
        all.contains("contention") && all.contains("remedy"),
        "{all}"
    );
}

#[test]
fn keys_ask_for_changes() {
    let model = model();
    let mut ui = Ui::default();
    for (key, action) in [
        ('p', Action::Pause),
        ('s', Action::Mode),
        ('+', Action::More),
        ('-', Action::Less),
        ('q', Action::Stop),
    ] {
        assert_eq!(press(&mut ui, &model, KeyCode::Char(key)), Some(action));
    }
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(ui.key(interrupt, &model), Some(Action::Stop));
    assert_eq!(press(&mut ui, &model, KeyCode::Char('c')), None);
}

#[test]
fn help_is_over_everything_until_a_key() {
    let model = model();
    let mut ui = Ui::default();
    press(&mut ui, &model, KeyCode::Char('?'));
    for size in SIZES {
        assert!(text(&model, &mut ui, size).contains("stop and show the report"));
    }
    // It only closes the help.
    assert_eq!(press(&mut ui, &model, KeyCode::Char('p')), None);
    assert!(!text(&model, &mut ui, SIZES[0]).contains("stop and show the report"));
}

#[test]
fn a_pause_is_seen() {
    let mut model = model();
    if let Some(acting) = &mut model.acting {
        acting.paused = true;
    }
    let mut ui = Ui::default();
    ui.answer("paused: every send is let through".to_owned());
    let text = text(&model, &mut ui, SIZES[0]);
    assert!(
        text.contains("PAUSED") && !text.contains("ENFORCE"),
        "{text}"
    );
    assert!(text.contains("every send is let through"), "{text}");
}

#[test]
fn maps_alone_have_no_page_of_sends() {
    let model = Model {
        sends: None,
        acting: None,
        ..model()
    };
    let text = text(&model, &mut Ui::default(), SIZES[0]);
    assert!(
        text.contains("OBSERVES") && text.contains("1 Findings (1)"),
        "{text}"
    );
    assert!(!text.contains("Live") && !text.contains("pause"), "{text}");
}

#[test]
fn hostile_names_draw_nothing_of_their_own() {
    let evil = "a\u{1b}[2J\u{1b}]0;b\u{7}\u{202e}\n";
    let mut model = model();
    model.targets = evil.to_owned();
    model.cost = vec![(evil.to_owned(), evil.to_owned())];
    model.tell(evil);
    if let Some(acting) = &mut model.acting {
        acting.rule = evil.to_owned();
    }
    let mut named = record();
    named.comm = *b"\x1b[31m\x1b]0;x\x07\xff\0\0\0\0";
    if let Some(sends) = &mut model.sends {
        sends.record(&named);
    }
    let mut ui = Ui::default();
    ui.answer(evil.to_owned());
    for page in '1'..='7' {
        for size in SIZES {
            press(&mut ui, &model, KeyCode::Char(page));
            let text = text(&model, &mut ui, size);
            let harmless = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
            assert!(text.chars().all(harmless), "{text:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_size_and_any_keys(
        width in 1..250_u16,
        height in 1..80_u16,
        keys in prop::collection::vec(0..12_usize, 0..20),
    ) {
        let codes = [
            KeyCode::Tab, KeyCode::BackTab, KeyCode::Down, KeyCode::Up, KeyCode::PageDown,
            KeyCode::PageUp, KeyCode::Home, KeyCode::End, KeyCode::Char('?'), KeyCode::Char('3'),
            KeyCode::Char('9'), KeyCode::Esc,
        ];
        let model = model();
        let mut ui = Ui::default();
        for key in keys {
            show(&model, &mut ui, (width, height));
            prop_assert_eq!(press(&mut ui, &model, codes[key]), None);
        }
        show(&model, &mut ui, (width, height));
    }
}
