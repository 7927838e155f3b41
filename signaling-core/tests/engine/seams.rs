//! The embedded store and bus keep their contracts.

use signaling_core::{
    memory::{MemoryBus, MemoryStore},
    testing,
};

#[tokio::test(start_paused = true)]
async fn the_memory_store_keeps_the_contract() {
    testing::store::suite(async || MemoryStore::new()).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_bus_keeps_the_contract() {
    testing::bus::suite(async || MemoryBus::new()).await;
}
