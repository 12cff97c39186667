use std::fmt;

/// One figure with the bound that it has to meet.
#[derive(Debug)]
pub(crate) struct Goal {
    what: &'static str,
    unit: &'static str,
    measured: f64,
    must: Must,
}

#[derive(Debug)]
enum Must {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) const fn at_least(what: &'static str, must: f64, unit: &'static str, measured: f64) -> Self {
        Self { what, unit, measured, must: Must::AtLeast(must) }
    }

    pub(crate) const fn at_most(what: &'static str, must: f64, unit: &'static str, measured: f64) -> Self {
        Self { what, unit, measured, must: Must::AtMost(must) }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, measured, must } = self;
        let digits = if measured.abs() < 100.0 { 2 } else { 0 };
        let (sign, must, reached) = match must {
            Must::AtLeast(must) => (">=", must, measured >= must),
            Must::AtMost(must) => ("<=", must, measured <= must),
        };
        let verdict = if reached { "" } else { "  MISSED" };
        write!(
            f,
            "{what:<52} {:>12} {:>12}{verdict}",
            format!("{measured:.digits$}{unit}"),
            format!("{sign} {must}{unit}")
        )
    }
}
