//! Tests of the cache.

use super::*;

fn set(key: &str, value: Json, ttl_s: Option<f64>) -> CacheSet {
    CacheSet { key: key.to_owned(), value, ttl_s }
}

pub(crate) async fn a_stored_null_is_a_hit(rig: Rig) -> TestResult {
    let get = |key: &str| CacheGet { key: key.to_owned() };
    let miss = rig.store.cache_get(&ME, get("k")).await?;
    assert_eq!((miss.hit, miss.value), (false, Json::null()));
    rig.store.cache_set(&ME, set("k", Json::null(), None)).await?;
    let rig = rig.reopened();
    assert_eq!(rig.store.cache_get(&ME, get("k")).await?, CacheGot { hit: true, value: Json::null() });
    assert!(rig.store.cache_has(&ME, CacheHas { key: "k".to_owned() }).await?.hit);
    rig.store.cache_set(&ME, set("k", Json::from_text("v"), None)).await?;
    assert_eq!(rig.store.cache_get(&ME, get("k")).await?.value, Json::from_text("v"));
    assert!(rig.store.cache_delete(&ME, CacheDelete { key: "k".to_owned() }).await?.deleted);
    assert!(!rig.store.cache_delete(&ME, CacheDelete { key: "k".to_owned() }).await?.deleted);
    assert!(!rig.store.cache_has(&ME, CacheHas { key: "k".to_owned() }).await?.hit);
    Ok(())
}

pub(crate) async fn values_go_after_their_time_or_when_room_is_needed(rig: Rig) -> TestResult {
    let has =
        async |key: &str| Ok::<_, QueueError>(rig.store.cache_has(&ME, CacheHas { key: key.to_owned() }).await?.hit);
    rig.store.cache_set(&ME, set("short", Json::null(), Some(10.0))).await?;
    rig.store.cache_set(&ME, set("long", Json::null(), Some(0.0))).await?;
    rig.pass(9.0).await;
    assert!(has("short").await?);
    rig.pass(2.0).await;
    assert!(!has("short").await? && has("long").await?);
    let large = || Json::from_text(&"x".repeat(CACHE_BYTES / 4));
    for key in ["a", "b", "c"] {
        rig.store.cache_set(&ME, set(key, large(), None)).await?;
        rig.pass(61.0).await;
    }
    // This value is used again, so it is not the least recently used one. Any change is done after the note of this
    // use.
    assert!(has("a").await? && has("long").await?);
    rig.pass(1.0).await;
    let stored = rig.store.cache_set(&ME, set("d", large(), None)).await?;
    assert_eq!(stored.evicted, 1);
    assert!(has("a").await? && !has("b").await? && has("c").await? && has("d").await? && has("long").await?);
    Ok(())
}
