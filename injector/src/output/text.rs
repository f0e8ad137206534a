//! Text for terminals.

use std::fmt::{self, Display, Formatter, Write};

/// Shows a value without what would move the cursor, change colours or turn the
/// direction of text: names of threads and sockets are chosen by strangers.
#[derive(Clone, Copy, Debug)]
pub struct Clean<T>(pub T);

impl<T: Display> Display for Clean<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Filter(f), "{}", self.0)
    }
}

struct Filter<'a, 'f>(&'a mut Formatter<'f>);

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(unsafe_to_show) {
            match part
                .chars()
                .next_back()
                .filter(|last| unsafe_to_show(*last))
            {
                Some(last) => {
                    self.0.write_str(&part[..part.len() - last.len_utf8()])?;
                    self.0.write_char('?')?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Appends `words` to `text`, which is `indent` columns into its line, and
/// breaks lines so that they stay within `width` columns.
pub fn wrap(text: &mut String, indent: usize, width: usize, words: &str) {
    let mut at = indent;
    let mut first = true;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if !first && at + 1 + length > width {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        } else if !first {
            text.push(' ');
            at += 1;
        }
        text.push_str(word);
        at += length;
        first = false;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        let evil = "a\u{1b}[2Jb\u{202e}c\n\u{7}";
        assert_eq!(Clean(evil).to_string(), "a?[2Jb?c??");
        assert_eq!(Clean("größe 日本").to_string(), "größe 日本");
    }

    #[test]
    fn lines_break_between_words_and_never_inside() {
        let mut text = String::from("  ");
        wrap(&mut text, 2, 12, "one two three fourteen-letters x");
        assert_eq!(text, "  one two\n  three\n  fourteen-letters\n  x\n");
    }

    proptest! {
        #[test]
        fn any_text_is_clean_and_as_long(text in any::<String>()) {
            let clean = Clean(&text).to_string();
            prop_assert!(!clean.chars().any(unsafe_to_show));
            prop_assert_eq!(clean.chars().count(), text.chars().count());
        }

        #[test]
        fn wrapping_keeps_words_and_width(words in "[a-z ]{0,200}", indent in 0..20_usize) {
            let mut text = " ".repeat(indent);
            wrap(&mut text, indent, 60, &words);
            prop_assert!(text.split_whitespace().eq(words.split_whitespace()));
            let long = words.split_whitespace().any(|word| word.len() + indent > 60);
            prop_assert!(long || text.lines().all(|line| line.len() <= 60));
        }
    }
}
