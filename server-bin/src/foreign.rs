//! Text that others wrote - results, errors, names, descriptions - made harmless for whoever reads it.
//!
//! A terminal obeys control characters: they move the cursor, clear what stands there, set the title, and controls of
//! direction show letters in another order than they have. So whatever is printed for a person shows them as `\x1b` or
//! `\u{202e}`. [`Output`](crate::output::Output) does so with everything that it prints; what has to stay in one line is
//! shown by [`Foreign`] as well, so that it cannot look like a line of the program's own.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// Text that stands within a line: line breaks are shown as `\n`, tabs as `\t`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreign<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { inner: f, keeps: |_| false }, "{}", self.0)
    }
}

/// Whether nothing in these lines is shown otherwise than it is.
pub(crate) fn is_plain(text: &str) -> bool {
    matches!(lines(text), Cow::Borrowed(_))
}

/// Lines for a person.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| char == '\n')
}

/// A result that stands alone on a terminal.
pub(crate) fn alone(text: &str) -> Cow<'_, str> {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Text of several lines under a heading of this width: no line of it begins where the program's own do.
pub(crate) fn indented(text: &str, width: usize) -> String {
    alone(text).replace('\n', &format!("\n{:width$}", ""))
}

/// A JSON text, the same value without what a terminal obeys.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // Between two parts a value may have white space; within its texts there is none of these.
            '\n' | '\t' => shown.push(char),
            // Else what follows could be written over what stands before.
            '\r' => shown.push(' '),
            // All of them have four digits.
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

/// Passes on what is written, with the characters that a terminal obeys in their written form.
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

/// Control characters (C0, DEL, C1), those of Unicode's property `Bidi_Control`, and its two line breaks.
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

    /// What is sent to a terminal to mislead its reader, and how it is shown.
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
