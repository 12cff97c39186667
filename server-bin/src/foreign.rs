//! Text that others wrote (results, errors, names, descriptions), made harmless for its reader.
//!
//! A terminal obeys control characters: they move the cursor, clear the screen and set the title. Characters that
//! control the direction of writing show letters in another order than they have. So everything that is printed for a
//! person shows such characters as `\x1b` or `\u{202e}`. [`Output`](crate::output::Output) does so with everything that
//! it prints. [`Foreign`] also shows a text that has to stay in one line, so that it cannot look like a line of this
//! program.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// A text that is shown within a line: line breaks are shown as `\n`, tabs as `\t`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreign<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { inner: f, keeps: |_| false }, "{}", self.0)
    }
}

/// Whether [`lines`] would show the text unchanged.
pub(crate) fn is_plain(text: &str) -> bool {
    matches!(lines(text), Cow::Borrowed(_))
}

/// Escapes a text of several lines for a person. Line breaks stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| char == '\n')
}

/// Escapes a result that is shown alone on a terminal. Line breaks and tabs stay.
pub(crate) fn alone(text: &str) -> Cow<'_, str> {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Escapes a text of several lines and indents all but the first by `width`, so that none of them begins where lines of
/// this program begin.
pub(crate) fn indented(text: &str, width: usize) -> String {
    alone(text).replace('\n', &format!("\n{:width$}", ""))
}

/// Escapes a JSON text for a terminal. The text still has the same value.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // These are white space between two parts of a value: inside a JSON string they are always escaped.
            '\n' | '\t' => shown.push(char),
            // A carriage return would let the following text overwrite the text before it.
            '\r' => shown.push(' '),
            // All these characters have four hexadecimal digits.
            _ if is_obeyed(char) => shown += &format!("\\u{:04x}", u32::from(char)),
            _ => shown.push(char),
        }
    }
    Cow::Owned(shown)
}

fn escaped(text: &str, keeps: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(|char| is_obeyed(char) && !keeps(char)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let written = Escaping { inner: &mut shown, keeps }.write_str(text);
    debug_assert!(written.is_ok(), "a string takes everything");
    Cow::Owned(shown)
}

/// A writer that passes text on, with the characters that a terminal obeys escaped, unless `keeps` accepts them.
struct Escaping<'a, W: ?Sized> {
    inner: &'a mut W,
    keeps: fn(char) -> bool,
}

impl<W: fmt::Write + ?Sized> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                _ if !is_obeyed(char) || (self.keeps)(char) => self.inner.write_char(char)?,
                '\n' => self.inner.write_str("\\n")?,
                '\r' => self.inner.write_str("\\r")?,
                '\t' => self.inner.write_str("\\t")?,
                '\0'..='\u{ff}' => write!(self.inner, "\\x{:02x}", u32::from(char))?,
                _ => write!(self.inner, "{}", char.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// Whether a terminal obeys the character: the control characters (C0, DEL, C1), those with Unicode's property
/// `Bidi_Control`, and Unicode's two line breaks.
const fn is_obeyed(char: char) -> bool {
    matches!(
        char,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Texts that mislead the reader of a terminal, and the form in which they are shown.
    pub(crate) const HOSTILE: [(&str, &str); 12] = [
        ("\u{1b}]0;owned\u{7}", "\\x1b]0;owned\\x07"),
        ("\u{1b}[2J", "\\x1b[2J"),
        ("\u{9b}31m", "\\x9b31m"),
        ("\u{9d}0;t\u{9c}", "\\x9d0;t\\x9c"),
        ("a\rb", "a\\rb"),
        ("a\u{8}\u{7f}\0", "a\\x08\\x7f\\x00"),
        ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
        ("\u{2066}a\u{2069}", "\\u{2066}a\\u{2069}"),
        ("\u{200f}\u{61c}", "\\u{200f}\\u{61c}"),
        ("\u{202a}\u{2028}", "\\u{202a}\\u{2028}"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("naïve 日本語 👩‍👩‍👧 שלום \\x1b", "naïve 日本語 👩‍👩‍👧 שלום \\x1b"),
    ];

    #[test]
    fn what_a_terminal_obeys_is_shown_in_its_written_form() {
        for (hostile, shown) in HOSTILE {
            assert_eq!(Foreign(hostile).to_string(), shown);
            assert_eq!(lines(hostile), shown.replace("\\n", "\n"));
            assert_eq!(alone(hostile), shown.replace("\\n", "\n").replace("\\t", "\t"));
        }
    }

    #[test]
    fn no_line_of_an_indented_text_begins_at_the_margin() {
        assert_eq!(indented("a\nstatus   completed\n", 9), "a\n         status   completed\n         ");
        assert_eq!(indented("a\rb", 9), "a\\rb");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_value() {
        for (hostile, _) in HOSTILE {
            let text = serde_json::json!({ hostile: [hostile, 1.5] }).to_string();
            let shown = json(&text);
            assert!(!shown.contains(is_obeyed), "{shown:?}");
            let (before, after): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&text).unwrap(), serde_json::from_str(&shown).unwrap());
            assert_eq!(before, after);
        }
        assert_eq!(json("{\n\t\"a\": 1\r\n}"), "{\n\t\"a\": 1 \n}");
        assert_eq!(json("{\n\"\u{202e}\": 1}"), "{\n\"\\u202e\": 1}");
    }

    #[test]
    fn the_characters_are_those_of_unicodes_property() {
        let all = ('\0'..=char::MAX).filter(|char| is_obeyed(*char)).collect::<Vec<_>>();
        // 65 control characters, 12 of Bidi_Control, 2 line breaks.
        assert_eq!(all.len(), 65 + 12 + 2);
        assert!(all.iter().filter(|char| char.is_control()).count() == 65);
    }
}
