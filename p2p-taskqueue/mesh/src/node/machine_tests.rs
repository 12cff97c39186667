//! Helpers for the tests of the machines, which have no swarm, no runtime and no clock.

use std::{sync::Arc, time::Instant};

use libp2p::Multiaddr;
use runtime_bridge::{Runtime, Sleep, SpawnedFuture};

use super::Moment;
use crate::wire::{Agreed, Driver, FrameReader, Session, Terms, pipe};

/// A runtime that runs nothing, and whose clock does not move.
#[derive(Debug)]
struct Still(Instant);

impl Runtime for Still {
    fn spawn_future(&self, job: SpawnedFuture) {
        drop(job);
    }

    fn sleep_until(&self, _: Instant) -> Sleep {
        Sleep::new(futures::future::pending())
    }

    fn now(&self) -> Instant {
        self.0
    }
}

/// Creates a session that is open until it is drained or closed. Its driver never runs.
pub(super) fn session() -> Session {
    let terms = Terms { frame_bytes: 1_024, in_flight: 1, waits: None, may_repeat: false };
    let agreed = Agreed { reader: FrameReader::new(1_024), terms };
    let (session, driver) = Driver::new(pipe(1).0, agreed, None, Arc::new(Still(Instant::now())));
    // Dropping the driver would end the session.
    std::mem::forget(driver);
    session
}

pub(super) fn address(port: u16) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
}

/// Returns a moment with this wall time, in Unix seconds.
pub(super) fn moment(unix_s: f64) -> Moment {
    Moment { instant: Instant::now(), unix_s }
}
