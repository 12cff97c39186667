//! Numbers that a person writes: on the command line, in the environment, in the configuration file.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

/// Returns a parser for seconds in this range.
pub(crate) fn seconds(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| parse(text, &range, SECONDS).map(unsigned_zero)
}

/// Returns a parser for a length of time: seconds, or a number with `s`, `m`, `h` or `d` behind it.
pub(crate) fn duration(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let (number, unit_s) = match text.char_indices().next_back() {
            Some((at, 's')) => (text.get(..at), 1.0),
            Some((at, 'm')) => (text.get(..at), 60.0),
            Some((at, 'h')) => (text.get(..at), 3_600.0),
            Some((at, 'd')) => (text.get(..at), 86_400.0),
            _ => (Some(text), 1.0),
        };
        let number: Option<f64> = number.and_then(|number| number.parse().ok());
        let seconds = number.map(|number| number * unit_s).filter(|seconds| range.contains(seconds));
        seconds.map(unsigned_zero).ok_or_else(|| refusal(&range, DURATION))
    }
}

/// How a person writes a length of time.
const DURATION: Form<'_> = ("seconds, or a number with s, m, h or d behind it,", "90m");

/// Returns a parser for a fraction, from 0 to 1.
pub(crate) fn fraction() -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    |text: &str| parse(text, &(0.0..=1.0), ("a number", "0.5")).map(unsigned_zero)
}

/// Returns a parser for a whole number in this range.
pub(crate) fn count<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| parse(text, &range, ("a whole number", &range.start().to_string()))
}

/// Checks seconds that were parsed elsewhere, such as in a TOML file.
pub(crate) fn check_seconds(seconds: f64, range: &RangeInclusive<f64>) -> Result<f64, String> {
    // No range contains NaN.
    if range.contains(&seconds) { Ok(unsigned_zero(seconds)) } else { Err(refusal(range, SECONDS)) }
}

/// The form of a value in words, and an example.
type Form<'a> = (&'a str, &'a str);

const SECONDS: Form<'static> = ("seconds", "30 or 1.5");

fn parse<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: &RangeInclusive<T>,
    form: Form<'_>,
) -> Result<T, String> {
    // A number too large for its type is read as infinity, which is in no range either.
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| refusal(range, form))
}

fn refusal<T: Display>(range: &RangeInclusive<T>, (what, example): Form<'_>) -> String {
    format!("write {what} from {} to {}, such as {example}", range.start(), range.end())
}

/// Turns a negative zero into zero.
fn unsigned_zero(number: f64) -> f64 {
    number + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_to_its_last_digit() {
        let read = seconds(0.0..=1e9);
        for text in ["0.1", "0.30000000000000004", "123456789.12345679", "5e-324", "1e9", "+2", ".5"] {
            assert_eq!(read(text).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        let read = duration(1.0..=31_622_400.0);
        for (text, seconds) in [("90", 90.0), ("1.5s", 1.5), ("90m", 5_400.0), ("1h", 3_600.0), ("7d", 604_800.0)] {
            assert_eq!(read(text), Ok(seconds), "{text}");
        }
        for text in ["", "h", "1w", "1 h", "nan", "-1h", "0", "367d"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zero_has_no_sign() {
        for text in ["-0", "-0.0", "0"] {
            assert_eq!(seconds(0.0..=1.0)(text).unwrap().to_bits(), 0, "{text}");
            assert_eq!(fraction()(text).unwrap().to_bits(), 0, "{text}");
        }
        assert_eq!(check_seconds(-0.0, &(0.0..=1.0)).unwrap().to_bits(), 0);
    }

    #[test]
    fn a_refusal_names_the_range_and_what_to_write() {
        for text in
            ["NaN", "-nan", "inf", "-inf", "infinity", "1e400", "-1e400", "-1", "1.0000001", "", " 1", "1s", "1,5"]
        {
            let problem = fraction()(text).unwrap_err();
            assert!(problem.contains("from 0 to 1") && problem.contains("0.5"), "{text:?}: {problem}");
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 3_600.1] {
            let problem = check_seconds(number, &(0.001..=3_600.0)).unwrap_err();
            assert!(problem.contains("from 0.001 to 3600"), "{number}: {problem}");
        }
        assert!(count(1..=10_u8)("11").unwrap_err().contains("from 1 to 10"));
    }
}
