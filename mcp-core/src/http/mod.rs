//! The HTTP side before rmcp: the checks that may refuse a request, the texts that go around rmcp, and the paths for
//! health and metrics.

mod accept;
mod body;
mod clients;
mod gate;
mod health;
mod mirror;
mod params;
mod record;
mod scrape;
mod site;
mod splice;
mod underway;
mod user;

pub(crate) use body::RawArguments;
pub(crate) use gate::{Door, Gate, admit};
pub(crate) use health::{Probes, healthz, no_connection, readyz};
pub(crate) use mirror::Mirrors;
pub(crate) use record::named;
pub(crate) use scrape::{Scrapes, metrics};
pub(crate) use site::{is_host, is_origin};
pub(crate) use splice::Splice;
pub use user::CallingUser;
