use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use libp2p::PeerId;
use taskqueue_api::{ErrorCode, Operation as _, QueueError, TellWorkers, WorkerOffer, WorkersTold};

use crate::{
    node::{Directory, Moment, limits::TELL_TIMEOUT},
    wire::Session,
};

/// What a peer was told of the own workers, and over which session.
struct Told {
    session: Session,
    workers: BTreeMap<String, (Arc<WorkerOffer>, u32)>,
}

/// Tells every peer what the own workers take: at once when it comes or when that changes, and a moment later when only
/// the number of running tasks has changed. Saves what peers tell. Ends with the node's loop.
pub(crate) async fn keep_telling(directory: Weak<Directory>) {
    let Some(node) = directory.upgrade() else { return };
    let runtime = Arc::clone(&node.runtime);
    let (mut serving, mut offers, mut busy) = (node.serving.clone(), node.workers.offers(), node.workers.busy());
    let mut told = HashMap::new();
    let mut last = runtime.now();
    let mut is_busy_news = false;
    let mut saved = (node.workers.others(), last);
    drop(node);
    loop {
        let due = if is_busy_news { last + BUSY_PAUSE } else { last + LOOK_AGAIN };
        let changed = tokio::select! {
            changed = serving.changed() => changed,
            changed = offers.changed() => changed,
            changed = busy.changed(), if !is_busy_news => {
                is_busy_news = changed.is_ok();
                if is_busy_news {
                    continue;
                }
                changed
            }
            () = runtime.sleep_until(due) => Ok(()),
        };
        let (Ok(()), Some(node)) = (changed, directory.upgrade()) else { return };
        busy.mark_unchanged();
        is_busy_news = false;
        node.workers.expire(Moment::now(&*runtime));
        tell_all(&node, &mut told).await;
        last = runtime.now();
        if node.workers.others() != saved.0 && last >= saved.1 + LOOK_AGAIN {
            saved = (node.workers.others(), last);
            save(&node);
        }
    }
}

fn save(node: &Directory) {
    let text = node.workers.to_text(Moment::now(&*node.runtime));
    if let Err(error) = node.files.save_workers(&text) {
        tracing::warn!(%error, "what the workers of other machines take could not be saved");
    }
}

/// Tells all peers that have not been told the present state.
async fn tell_all(node: &Directory, told: &mut HashMap<PeerId, Told>) {
    let workers = node.workers.own_workers();
    let serving = node.serving.borrow().clone();
    told.retain(|peer, _| serving.contains(peer));
    let telling = serving.into_iter().filter_map(|peer| {
        let session = node.standing(peer)?;
        let before = told.remove(&peer).filter(|before| before.session.is_same(&session));
        let news = news(before.as_ref().map(|before| &before.workers), &workers);
        let now = Told { session, workers: workers.clone() };
        Some(async move {
            match news {
                Some(news) => tell(&now.session, news, &now.workers).await.then_some((peer, now)),
                None => Some((peer, now)),
            }
        })
    });
    let telling: Vec<_> = telling.collect();
    let telling = stream::iter(telling).buffer_unordered(TOLD_AT_ONCE).filter_map(ready);
    told.extend(telling.collect::<Vec<_>>().await);
}

/// Returns what a peer has to be told; `None` when it knows all of it.
fn news(
    before: Option<&BTreeMap<String, (Arc<WorkerOffer>, u32)>>,
    workers: &BTreeMap<String, (Arc<WorkerOffer>, u32)>,
) -> Option<TellWorkers> {
    let Some(before) = before else {
        // A peer of an earlier session may know of workers that have stopped since.
        return Some(TellWorkers { workers: whole(workers), all: true, ..TellWorkers::default() });
    };
    let mut news = TellWorkers::default();
    for (instance, (offer, busy)) in workers {
        match before.get(instance) {
            Some((known, _)) if !Arc::ptr_eq(known, offer) => news.workers.push(told_of(offer, *busy)),
            None => news.workers.push(told_of(offer, *busy)),
            Some((_, known)) if known != busy => drop(news.busy.insert(instance.clone(), *busy)),
            Some(_) => {}
        }
    }
    news.stopped = before.keys().filter(|instance| !workers.contains_key(*instance)).cloned().collect();
    (news != TellWorkers::default()).then_some(news)
}

fn whole(workers: &BTreeMap<String, (Arc<WorkerOffer>, u32)>) -> Vec<WorkerOffer> {
    workers.values().map(|(offer, busy)| told_of(offer, *busy)).collect()
}

fn told_of(offer: &WorkerOffer, busy: u32) -> WorkerOffer {
    WorkerOffer { busy, ..offer.clone() }
}

/// Tells one peer. Returns whether it knows everything then.
async fn tell(session: &Session, news: TellWorkers, workers: &BTreeMap<String, (Arc<WorkerOffer>, u32)>) -> bool {
    let mut news = Some(news);
    while let Some(telling) = news.take() {
        let is_whole = telling.all;
        match call(session, telling).await {
            Ok(WorkersTold { unknown }) if unknown.is_empty() => return true,
            // It has lost what it was told before.
            Ok(_) if !is_whole => {
                news = Some(TellWorkers { workers: whole(workers), all: true, ..TellWorkers::default() });
            }
            Ok(_) => {}
            // A foreign implementation may do without.
            Err(error) if error.code == ErrorCode::Unsupported => return true,
            Err(error) => tracing::debug!(%error, "a peer could not be told what the workers of this machine take"),
        }
    }
    false
}

async fn call(session: &Session, telling: TellWorkers) -> Result<WorkersTold, QueueError> {
    session.call(&telling.into_request(), TELL_TIMEOUT).await.and_then(TellWorkers::answer)
}

/// The pause between two messages that say only how busy the workers are. People and agents do not read faster.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked for workers that have stopped without a word, and for peers that could not be told.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// How many peers are told at the same time.
const TOLD_AT_ONCE: usize = 16;
