//! What every store and every bus must do, on one server and on a cluster.

use signaling_core::testing::{bus, store};
use signaling_redis::{
    Redis, RedisBus, RedisStore, Settings,
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
}
