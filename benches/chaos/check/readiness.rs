//! Readiness follows the store within 2 s.

use std::time::Duration;

use super::{Breach, World};
use crate::history::Probe;

const LIMIT: Duration = Duration::from_secs(2);

/// The first probe of each row of wrong ones.
pub(crate) fn readiness(probes: &[Probe], world: &World<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let nodes = probes.iter().map(|probe| probe.node + 1).max().unwrap_or(0);
    for node in 0..nodes {
        let mut was_wrong = false;
        for probe in probes.iter().filter(|probe| probe.node == node) {
            let wrong = is_wrong(probe, world);
            if wrong && !was_wrong {
                let Probe { asked, ready, .. } = *probe;
                let text =
                    format!("n{node} says that it is {}ready", if ready { "" } else { "not " });
                breaches.push(Breach { at: asked, promise: "readiness within 2 s", text });
            }
            was_wrong = wrong;
        }
    }
    breaches
}

fn is_wrong(probe: &Probe, world: &World<'_>) -> bool {
    let late = LIMIT + world.slack;
    let earliest = probe.asked.saturating_sub(late);
    // One that was stopped until then has had no time to look.
    let stopped = |trouble: &crate::history::Trouble| {
        trouble.fault.stops(probe.node) && trouble.from <= probe.answered && earliest <= trouble.to
    };
    if world.troubles.iter().any(stopped) {
        return false;
    }
    let mut outages =
        world.troubles.iter().filter(|trouble| trouble.fault.is_outage_for(probe.node));
    match probe.ready {
        true => outages.any(|trouble| trouble.from <= earliest && probe.answered < trouble.to),
        false => !outages.any(|trouble| trouble.from <= probe.answered && earliest <= trouble.to),
    }
}
