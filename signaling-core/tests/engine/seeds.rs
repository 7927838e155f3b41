//! Whole deployments in trouble, one for each seed. `SIMULATION_SEEDS=5000` runs that many,
//! `SIMULATION_SEED=17` that one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use signaling_core::{
    memory::{MemoryBus, MemoryStore},
    relay::SecondConnection,
    testing::{
        fault::Trouble,
        simulation::{Loss, Simulation, Summary},
    },
};

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Each on a runtime of its own, with its time paused.
fn run(simulation: Simulation) -> Summary {
    run_on(Arc::new(MemoryStore::new()), simulation)
}

/// With a store that now and then loses everything.
fn run_with_losses(mut simulation: Simulation) -> Summary {
    let store = Arc::new(MemoryStore::new());
    let losing = store.clone();
    simulation.loss = Some(Loss::by(move || {
        losing.lose_everything();
        std::future::ready(())
    }));
    run_on(store, simulation)
}

fn run_on(store: Arc<MemoryStore>, simulation: Simulation) -> Summary {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(simulation.run(store, Arc::new(MemoryBus::new())))
}

fn run_all(seeds: u64, simulation: fn(u64) -> Simulation) {
    run_each(seeds, &|seed| run(simulation(seed)));
}

fn run_each(seeds: u64, run: &dyn Fn(u64) -> Summary) {
    if let Some(seed) = setting("SIMULATION_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut all = Summary::default();
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(seeds);
    let mut failing = Vec::new();
    for seed in 0..seeds {
        let Ok(one) = catch_unwind(AssertUnwindSafe(|| run(seed))) else {
            failing.push(seed);
            continue;
        };
        all.sessions += one.sessions;
        all.connections += one.connections;
        all.sent += one.sent;
        all.delivered += one.delivered;
        all.losses += one.losses;
        all.continued += one.continued;
    }
    println!("{seeds} seeds: {all:?}");
    assert!(failing.is_empty(), "{} of {seeds} seeds fail: {failing:?}", failing.len());
    let seeds = usize::try_from(seeds).expect("few seeds");
    assert!(all.delivered > 10 * seeds, "hardly anything happened: {all:?}");
    assert!(all.losses > seeds, "hardly anybody was lost: {all:?}");
}

#[test]
fn promises_hold_on_two_nodes_in_heavy_trouble() {
    run_all(150, Simulation::new);
}

#[test]
fn promises_hold_on_three_nodes_without_trouble() {
    run_all(50, |seed| {
        let mut simulation = Simulation::new(seed);
        (simulation.nodes, simulation.trouble) = (3, Trouble::NONE);
        simulation
    });
}

#[test]
fn promises_hold_on_one_node() {
    run_all(50, |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.nodes = 1;
        simulation
    });
}

/// Clients that send more at once than the queues hold.
fn bursting(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    let config = &mut simulation.config;
    // The queues refuse, and not the limits of a user.
    (config.max_signals_per_second, config.max_signal_bytes_per_second) = (0, 0);
    // No fewer than the frames that are read at once, each of which may have an answer.
    config.max_queued_messages = 32 + (seed % 3) as usize * 8;
    config.max_node_queue = 16 + (seed % 7) as usize * 8;
    simulation.bursts = true;
    simulation
}

#[test]
fn promises_hold_when_queues_are_full() {
    run_all(40, bursting);
    run_all(20, |seed| {
        let mut simulation = bursting(seed);
        (simulation.nodes, simulation.trouble) = (1, Trouble::NONE);
        simulation
    });
}

fn refusing(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    simulation.second_connection = SecondConnection::Refuse;
    simulation
}

#[test]
fn promises_hold_where_second_connections_are_refused() {
    run_all(75, refusing);
    run_each(50, &|seed| run_with_losses(refusing(seed)));
}

#[test]
fn promises_hold_when_the_store_loses_everything() {
    run_each(100, &|seed| run_with_losses(Simulation::new(seed)));
}

#[test]
fn negotiations_continue_in_heavy_trouble() {
    run_all(100, Simulation::continuing);
}

#[test]
fn negotiations_continue_without_trouble() {
    run_all(50, |seed| {
        let mut simulation = Simulation::continuing(seed);
        (simulation.nodes, simulation.trouble) = (3, Trouble::NONE);
        simulation
    });
}

#[test]
fn negotiations_continue_where_second_connections_are_refused() {
    run_all(50, |seed| {
        let mut simulation = Simulation::continuing(seed);
        simulation.second_connection = SecondConnection::Refuse;
        simulation
    });
}

#[test]
fn negotiations_continue_when_the_store_loses_everything() {
    run_each(100, &|seed| run_with_losses(Simulation::continuing(seed)));
}

/// Each of these once found what nothing else had.
#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    for seed in [1, 203, 239, 4651, 21_172] {
        run(Simulation::new(seed));
    }
    for (seed, nodes) in [(277, 1), (410, 1)] {
        let mut simulation = Simulation::new(seed);
        simulation.nodes = nodes;
        run(simulation);
    }
    let mut simulation = Simulation::new(13_988);
    (simulation.nodes, simulation.trouble) = (3, Trouble::NONE);
    run(simulation);
    for seed in [
        5, 65, 278, 348, 522, 637, 1268, 1650, 1679, 1888, 2192, 2559, 2978, 3003, 3376, 5266,
        5973, 6052, 8872, 8879, 9276, 13_371, 13_685, 14_531, 15_982, 16_280, 16_459, 16_675,
        17_782, 21_899, 25_453, 25_995, 27_170, 28_069, 39_703,
    ] {
        run_with_losses(Simulation::new(seed));
    }
    for seed in [6115, 7333, 11_638] {
        run(refusing(seed));
    }
    for seed in [3869, 5212, 11_629, 16_440, 23_145, 28_091, 31_083] {
        run_with_losses(refusing(seed));
    }
}
