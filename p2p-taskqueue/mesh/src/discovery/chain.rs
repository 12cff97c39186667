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

/// How many peers one way tries at the same time.
const TRIED_AT_ONCE: usize = 8;

/// The head start of each way of finding one peer over the next one. Most answers arrive within it, and a caller does not
/// have to wait until each way gives up.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long a search for all peers listens to the local network, which never tells that there are no more.
const LISTEN_FOR: Duration = Duration::from_millis(1_500);

type Candidates<'a> = BoxStream<'a, Result<Found, String>>;

/// Looks for peers, and answers them with the result of each attempt. Ends when the one peer or enough peers are found,
/// when every way has ended, or when the time is over.
pub(crate) async fn discover(directory: &Directory, query: Discover) -> Result<Discovered, QueueError> {
    let timeout = Duration::try_from_secs_f64(query.timeout_s).unwrap_or_default();
    let hunt = Hunt { directory, trace: Trace::new(directory.runtime.now()), query, timeout };
    hunt.run().await;
    hunt.note_cut_off();
    let (reached, mut attempts) = hunt.trace.into_parts();
    let mut peers = directory.peers(true).await?;
    peers.retain(|peer| reached.contains(&peer.peer_id));
    // The address over which the peer was reached is its best one now.
    for attempt in attempts.iter_mut().filter(|attempt| attempt.ok) {
        let reached = peers.iter().find(|peer| Some(peer.peer_id) == attempt.peer_id);
        attempt.multiaddr =
            reached.and_then(|peer| peer.addresses.first().cloned()).or_else(|| attempt.multiaddr.take());
    }
    peers.sort_by_key(|peer| reached.iter().position(|reached| *reached == peer.peer_id));
    peers.truncate(hunt.query.limit.try_into().unwrap_or(usize::MAX));
    Ok(Discovered { peers, attempts })
}

/// Looks for one peer by the ways that ask others, and returns a session with it. If no such way is on, the error is
/// `missing`; if none has found the peer, the error names the ways as well.
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

    /// Whether enough peers are found.
    fn is_done(&self) -> bool {
        let enough = if self.query.peer_id.is_some() { 1 } else { self.query.limit.try_into().unwrap_or(usize::MAX) };
        self.trace.reached_count() >= enough
    }

    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.trace.elapsed(self.directory.runtime.now()))
    }

    /// Notes an attempt for each way that was still looking when the time was over.
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

    /// Dials a peer. Returns false if there is no reason to try.
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

    /// The ways that run in the node's loop.
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
