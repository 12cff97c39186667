//! Searches an error and its causes.

use std::{error::Error, io, iter};

/// Returns the first error of this type among an error and its causes.
pub(super) fn source_of<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    iter::successors(Some(error), |error| cause_of(*error)).find_map(|error| error.downcast_ref())
}

/// Returns the text of the innermost cause. The errors above it only name the layers through which it came.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = cause_of(error) {
        error = inner;
    }
    error.to_string()
}

/// Returns the direct cause of an error.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An `io::Error` displays the error that it wraps, but its `source` is the source of that error.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_at_the_bottom_is_shown() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let wrapped = io::Error::other(io::Error::other(refused));
        assert_eq!(root_cause(&wrapped), io::Error::from(io::ErrorKind::ConnectionRefused).to_string());
    }
}
