//! What a terminal shows, as a page.

use std::fmt::Write as _;

use vt100::{Cell, Color, Parser};

/// What xterm shows for the first sixteen colours (`charproc.c`, `XTerm-col.ad`).
const PALETTE: [&str; 16] = [
    "#000000", "#cd0000", "#00cd00", "#cdcd00", "#5c5cff", "#cd00cd", "#00cdcd", "#e5e5e5",
    "#7f7f7f", "#ff0000", "#00ff00", "#ffff00", "#5c5cff", "#ff00ff", "#00ffff", "#ffffff",
];
const BACKGROUND: &str = "#101418";
const FOREGROUND: &str = "#d8dde2";

/// The page of what a terminal of this size showed last before its program gave
/// the screen back (`\x1b[?1049l`); `written` is all that the program wrote.
pub fn page(written: &[u8], rows: u16, columns: u16) -> Option<String> {
    const BACK: &[u8] = b"\x1b[?1049l";
    let end = written.windows(BACK.len()).rposition(|at| at == BACK)?;
    let mut parser = Parser::new(rows.try_into().ok()?, columns.try_into().ok()?, 0);
    parser.process(&written[..end]);
    let mut page = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><style>body {{ margin: 0; padding: \
         12px 16px; background: {BACKGROUND}; color: {FOREGROUND} }} pre {{ margin: 0; \
         font: 16px/20px 'DejaVu Sans Mono', monospace }}</style></head><body><pre>"
    );
    for row in 0..rows {
        for column in 0..columns {
            if let Some(cell) = parser.screen().cell(row, column) {
                write_cell(&mut page, cell);
            }
        }
        page.push('\n');
    }
    page.push_str("</pre></body></html>");
    Some(page)
}

fn write_cell(page: &mut String, cell: &Cell) {
    let text = match cell.contents() {
        "" => " ",
        "<" => "&lt;",
        "&" => "&amp;",
        text => text,
    };
    let (mut fore, mut back) = (
        colour(cell.fgcolor(), FOREGROUND),
        colour(cell.bgcolor(), BACKGROUND),
    );
    if cell.inverse() {
        std::mem::swap(&mut fore, &mut back);
    }
    if fore == FOREGROUND && back == BACKGROUND && !cell.bold() {
        page.push_str(text);
        return;
    }
    let weight = if cell.bold() { ";font-weight:bold" } else { "" };
    let _ = write!(
        page,
        "<span style=\"color:{fore};background:{back}{weight}\">{text}</span>"
    );
}

fn colour(colour: Color, default: &str) -> String {
    match colour {
        Color::Default => default.to_owned(),
        Color::Idx(number) => PALETTE
            .get(usize::from(number))
            .map_or_else(|| default.to_owned(), |&colour| colour.to_owned()),
        Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn the_last_screen_is_shown_in_its_colours() {
        let written =
            b"$ run\r\n\x1b[?1049h\x1b[1;1Hold\x1b[1;1H\x1b[31ma<b\x1b[m c\x1b[?1049lover";
        let page = page(written, 2, 6).expect("a page");
        assert!(page.contains("color:#cd0000"), "{page}");
        let text: String = page
            .split('<')
            .filter_map(|part| part.split_once('>'))
            .map(|(_, text)| text)
            .collect();
        assert!(text.ends_with("a&lt;b c \n      \n"), "{text:?}");
        assert!(super::page(b"no other screen", 2, 6).is_none());
    }
}
