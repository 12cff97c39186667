//! The runtimes that come with this crate, one file each.

use std::{fmt, str::FromStr};

use crate::{
    error::{StartError, UnknownBackend},
    factory::RuntimeFactory,
    lifecycle::Main,
};

#[cfg(feature = "runtime-async-std")]
pub(crate) mod async_std;
#[cfg(feature = "runtime-smol")]
pub(crate) mod smol;
pub(crate) mod tokio;

pub use tokio::TokioRuntime;

/// The runtimes that come with this crate, by name: the [`RuntimeFactory`] of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A current-thread tokio runtime.
    #[cfg(feature = "runtime-tokio")]
    Tokio,
    /// The executor of async-std, confined to one thread, beside a helper tokio runtime.
    #[cfg(feature = "runtime-async-std")]
    AsyncStd,
    /// The executor of smol on a thread that drives a current-thread tokio runtime too.
    #[cfg(feature = "runtime-smol")]
    Smol,
}

impl Backend {
    /// The backends of this build.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "runtime-tokio")]
        Self::Tokio,
        #[cfg(feature = "runtime-async-std")]
        Self::AsyncStd,
        #[cfg(feature = "runtime-smol")]
        Self::Smol,
    ];

    /// The name, as in configuration: `tokio`, `async-std` or `smol`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "runtime-tokio")]
            Self::Tokio => "tokio",
            #[cfg(feature = "runtime-async-std")]
            Self::AsyncStd => "async-std",
            #[cfg(feature = "runtime-smol")]
            Self::Smol => "smol",
        }
    }
}

impl RuntimeFactory for Backend {
    fn run(self, main: Main) -> Result<(), StartError> {
        match self {
            #[cfg(feature = "runtime-tokio")]
            Self::Tokio => {
                let mut tokio = ::tokio::runtime::Builder::new_current_thread();
                tokio.enable_all();
                tokio.run(main)
            }
            #[cfg(feature = "runtime-async-std")]
            Self::AsyncStd => async_std::run(main),
            #[cfg(feature = "runtime-smol")]
            Self::Smol => smol::run(main),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        Self::ALL.iter().copied().find(|backend| backend.name() == name).ok_or_else(|| UnknownBackend {
            name: name.to_owned(),
            available: Self::ALL.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", "),
        })
    }
}
