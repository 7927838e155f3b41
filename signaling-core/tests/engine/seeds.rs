//! Whole deployments in trouble, one for each seed. `SIMULATION_SEEDS=5000` runs that many,
//! `SIMULATION_SEED=17` that one.

use std::sync::Arc;

use signaling_core::{
    memory::{MemoryBus, MemoryStore},
    testing::{
        fault::Trouble,
        simulation::{Simulation, Summary},
    },
};

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Each on a runtime of its own, with its time paused.
fn run(simulation: Simulation) -> Summary {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(simulation.run(Arc::new(MemoryStore::new()), Arc::new(MemoryBus::new())))
}

fn run_all(seeds: u64, simulation: fn(u64) -> Simulation) {
    if let Some(seed) = setting("SIMULATION_SEED") {
        println!("{:?}", run(simulation(seed)));
        return;
    }
    let mut all = Summary::default();
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(seeds);
    for seed in 0..seeds {
        let one = run(simulation(seed));
        all.sessions += one.sessions;
        all.connections += one.connections;
        all.sent += one.sent;
        all.delivered += one.delivered;
        all.losses += one.losses;
    }
    println!("{seeds} seeds: {all:?}");
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
}
