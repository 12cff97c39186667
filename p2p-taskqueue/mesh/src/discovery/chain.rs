use std::time::Duration;

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream, FuturesUnordered},
};
use libp2p::PeerId;
use taskqueue_api::{Discover, Discovered, ErrorCode, Method, QueueError, peer_of};

use super::{
    Found,
    announce::announced,
    search::search,
    trace::{Trace, Trying},
};
use crate::{
    node::{Directory, Patience, limits::CONNECT_TIMEOUT},
    wire::Session,
};

/// Peers that one way tries at the same time.
const TRIED_AT_ONCE: usize = 8;

/// How long a way of finding one peer has to itself before the next one begins beside it: most answers are there by then,
/// and a caller who waits does not wait for each way to give up.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the local network is listened to when everybody on it is looked for: it never says that this was all.
const LISTEN_FOR: Duration = Duration::from_millis(1_500);

type Candidates<'a> = BoxStream<'a, Result<Found, String>>;

/// Looks for peers and says what each attempt came to. Ends with the first peer when one is wanted, when enough are found,
/// when every way has ended, or when the time is up.
pub(crate) async fn discover(directory: &Directory, query: Discover) -> Result<Discovered, QueueError> {
    let timeout = Duration::try_from_secs_f64(query.timeout_s).unwrap_or_default();
    let hunt = Hunt { directory, trace: Trace::new(directory.runtime.now()), query, timeout };
    hunt.run().await;
    hunt.note_cut_off();
    let (reached, mut attempts) = hunt.trace.into_parts();
    let mut peers = directory.peers(true).await?;
    peers.retain(|peer| reached.contains(&peer.peer_id));
    // The address over which it was reached is the peer's best one now.
    for attempt in attempts.iter_mut().filter(|attempt| attempt.ok) {
        let reached = peers.iter().find(|peer| Some(peer.peer_id) == attempt.peer_id);
        attempt.multiaddr =
            reached.and_then(|peer| peer.addresses.first().cloned()).or_else(|| attempt.multiaddr.take());
    }
    peers.sort_by_key(|peer| reached.iter().position(|reached| *reached == peer.peer_id));
    peers.truncate(hunt.query.limit.try_into().unwrap_or(usize::MAX));
    Ok(Discovered { peers, attempts })
}

/// Looks for one peer by the ways that look beyond what this node knows; a session with it, or `missing` when there is no
/// such way, or with what they came to when none has found it.
pub(crate) async fn find(
    directory: &Directory,
    peer: PeerId,
    missing: QueueError,
    timeout: Duration,
) -> Result<Session, QueueError> {
    let beyond = [Method::AnnounceFile, Method::Rendezvous, Method::Kademlia, Method::Mdns];
    let methods: Vec<_> = beyond.into_iter().filter(|method| directory.discovery.is_on(*method)).collect();
    if methods.is_empty() || timeout.is_zero() {
        return Err(missing);
    }
    let names: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    let query =
        Discover { peer_id: Some(peer), methods, timeout_s: timeout.as_secs_f64(), limit: 1, ..Discover::default() };
    if discover(directory, query).await?.peers.is_empty() {
        let looked = format!("{}; looked for it by {}, in vain", missing.message, names.join(", "));
        return Err(missing.with_message(looked));
    }
    directory.session_with(peer, &[], Patience::OneAttempt, CONNECT_TIMEOUT).await
}

/// One search.
struct Hunt<'a> {
    directory: &'a Directory,
    query: Discover,
    timeout: Duration,
    trace: Trace,
}

impl Hunt<'_> {
    async fn run(&self) {
        let runtime = &self.directory.runtime;
        let asked = &self.query.methods;
        let mut methods = Method::ALL.into_iter().filter(|method| asked.is_empty() || asked.contains(method));
        let head_start = if self.query.peer_id.is_some() { HEAD_START } else { Duration::ZERO };
        let mut running: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let deadline = runtime.now() + self.timeout;
        let mut time_up = runtime.sleep_until(deadline).fuse();
        while !self.is_done() {
            if let Some(method) = methods.next() {
                running.push(self.try_method(method).boxed());
            } else if running.is_empty() {
                return;
            }
            let is_last = methods.clone().next().is_none();
            let next = if is_last { deadline } else { runtime.now() + head_start };
            futures::select_biased! {
                () = time_up => return,
                _ended = running.next() => {}
                () = runtime.sleep_until(next).fuse() => {}
            }
        }
    }

    /// Whether enough is found.
    fn is_done(&self) -> bool {
        let enough = if self.query.peer_id.is_some() { 1 } else { self.query.limit.try_into().unwrap_or(usize::MAX) };
        self.trace.reached_count() >= enough
    }

    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.trace.elapsed(self.directory.runtime.now()))
    }

    /// Says of the ways that were still looking when the time was up that they were.
    fn note_cut_off(&self) {
        if self.is_done() {
            return;
        }
        let error = QueueError::new(ErrorCode::Timeout, "it was still looking when the time was up");
        for (method, since) in self.trace.cut_off() {
            let trying = Trying { method, peer: self.query.peer_id, address: None, since };
            self.trace.ended(trying, self.directory.runtime.now(), Err(&error));
        }
    }

    async fn try_method(&self, method: Method) {
        self.trace.began(method, self.directory.runtime.now());
        self.look_by(method).await;
        self.trace.finished(method);
    }

    async fn look_by(&self, method: Method) {
        let since = self.directory.runtime.now();
        let fruitless = |error: &QueueError| {
            let trying = Trying { method, peer: self.query.peer_id, address: None, since };
            self.trace.ended(trying, self.directory.runtime.now(), Err(error));
        };
        if !self.directory.discovery.is_on(method) {
            let message = format!("{} is switched off", method.as_str());
            return fruitless(&QueueError::new(ErrorCode::Unsupported, message));
        }
        let candidates = match self.candidates(method).await {
            Ok(candidates) => candidates,
            Err(error) => return fruitless(&error),
        };
        let tried = candidates.map(|candidate| async {
            match candidate {
                Ok(found) => self.try_peer(method, found).await,
                Err(reason) => {
                    fruitless(&QueueError::new(ErrorCode::NotFound, reason));
                    true
                }
            }
        });
        let tried = tried.buffer_unordered(TRIED_AT_ONCE).take_while(|_| future::ready(!self.is_done()));
        let heard_of = tried.fold(false, |any, tried| future::ready(any | tried)).await;
        if !heard_of && !self.is_done() && method != Method::Explicit {
            fruitless(&QueueError::new(ErrorCode::NotFound, "it knows of no such peer"));
        }
    }

    /// Dials a peer; false when it is not worth an attempt.
    async fn try_peer(&self, method: Method, found: Found) -> bool {
        let Found { peer, addresses } = found;
        let is_wanted = self.query.peer_id.is_none_or(|wanted| wanted == peer);
        if !is_wanted || peer == self.directory.peer_id {
            return false;
        }
        if self.trace.has_reached(peer) || self.is_done() {
            return true;
        }
        let runtime = &self.directory.runtime;
        let trying = Trying { method, peer: Some(peer), address: addresses.first().cloned(), since: runtime.now() };
        let patience = Patience::OneAttempt;
        let reached = self.directory.session_with(peer, &addresses, patience, self.left().min(CONNECT_TIMEOUT)).await;
        self.trace.ended(trying, runtime.now(), reached.as_ref().map(|_| ()));
        true
    }

    async fn candidates(&self, method: Method) -> Result<Candidates<'static>, QueueError> {
        let found = match method {
            Method::Explicit => self.explicit(),
            Method::AddressBook => self.known().await?,
            Method::AnnounceFile => self.announced(),
            Method::Bootstrap => self.directory.discovery.bootstrap.iter().filter_map(found_at).map(Ok).collect(),
            Method::Rendezvous | Method::Kademlia | Method::Mdns => return self.sought(method).await,
        };
        Ok(stream::iter(found).boxed())
    }

    fn explicit(&self) -> Vec<Result<Found, String>> {
        self.query.multiaddr.iter().filter_map(found_at).map(Ok).collect()
    }

    async fn known(&self) -> Result<Vec<Result<Found, String>>, QueueError> {
        let known = self.directory.peers(false).await?.into_iter();
        let known = known.filter(|peer| self.query.peer_id.is_none_or(|wanted| wanted == peer.peer_id));
        Ok(known.map(|peer| Ok(Found { peer: peer.peer_id, addresses: peer.addresses })).collect())
    }

    fn announced(&self) -> Vec<Result<Found, String>> {
        let read = self.directory.files.announcements().into_iter().map(|(place, text)| match announced(&text) {
            Ok((peer, address)) => Ok(Found { peer, addresses: vec![address] }),
            Err(reason) => Err(format!("{place}: {reason}")),
        });
        read.collect()
    }

    /// What the node's loop finds.
    async fn sought(&self, method: Method) -> Result<Candidates<'static>, QueueError> {
        let (search, findings) = search(self.query.peer_id);
        self.directory.search(method, search).await?;
        let findings = stream::unfold(findings, |mut findings| async move {
            let found = findings.recv().await?;
            Some((found, findings))
        });
        if method == Method::Mdns && self.query.peer_id.is_none() {
            let runtime = &self.directory.runtime;
            let enough = runtime.sleep_until(runtime.now() + LISTEN_FOR);
            return Ok(findings.take_until(enough).boxed());
        }
        Ok(findings.boxed())
    }
}

fn found_at(address: &libp2p::Multiaddr) -> Option<Found> {
    peer_of(address).map(|peer| Found { peer, addresses: vec![address.clone()] })
}
