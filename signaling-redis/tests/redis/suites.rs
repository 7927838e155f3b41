//! What every store and every bus must do, on one server and on a cluster.

use std::time::Duration;

use signaling_core::{
    id::UserId,
    session::SessionRecord,
    store::{Joined, SessionStore, Written},
    testing::{bus, store},
    time::{Clock, SystemClock},
};
use signaling_redis::{
    Redis, RedisBus, RedisStore, Settings,
    fred::interfaces::KeysInterface,
    testing::{Cluster, Server},
};

async fn connect(url: &str) -> Redis {
    Redis::connect(Settings::url(url).unwrap()).await.unwrap()
}

async fn store(redis: &Redis) -> RedisStore {
    (*redis.store()).clone()
}

async fn bus(redis: &Redis) -> RedisBus {
    (*redis.bus()).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn store_on_one_server() {
    let server = Server::start();
    let redis = connect(&server.url()).await;
    store::suite(async || store(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bus_on_one_server() {
    let server = Server::start();
    let redis = connect(&server.url()).await;
    bus::suite(async || bus(&redis).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn store_and_bus_on_a_cluster() {
    let cluster = Cluster::start(false);
    let redis = connect(&cluster.url()).await;
    store::suite(async || store(&redis).await).await;
    bus::suite(async || bus(&redis).await).await;
    a_lost_list_is_rebuilt(&redis).await;
}

/// From records on all primaries.
async fn a_lost_list_is_rebuilt(redis: &Redis) {
    let (store, now) = (redis.store(), SystemClock.now());
    let ann = UserId::new("ann-of-many").unwrap();
    for n in 0..20 {
        let (session, partner) = (format!("lost-{n}"), format!("partner-{n}"));
        let (session, partner) = (session.parse().unwrap(), partner.parse().unwrap());
        let joined = store.join(&ann, &session, 20).await.unwrap();
        assert_eq!(joined, Joined::Done(None));
        let until = now.after(Duration::from_secs(60));
        let record = SessionRecord::open(session, 1, ann.clone(), partner, until).unwrap();
        assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
    }
    let garbage = ("session:user:ann-of-many", "what");
    redis.client().set::<(), _, _>(garbage.0, garbage.1, None, None, false).await.unwrap();
    assert_eq!(store.user(&ann).await.unwrap().memberships.len(), 20);
}
