//! What is printed at the end of a run.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use crate::{
    check::{Breach, Pair, World, check, readiness},
    history::{Entry, Probe, What},
};

/// Breaches of one pair that are printed; its file has all.
const SHOWN: usize = 5;

/// Checks and prints everything. The whole history of a pair for which a promise was broken goes into a file of
/// `folder`. False if there is such a pair, or something `odd` that belongs to no pair.
pub(crate) fn report(
    histories: &[(Pair, Vec<Entry>)],
    probes: &[Probe],
    world: &World<'_>,
    odd: &[String],
    folder: &Path,
) -> bool {
    let mut counts = BTreeMap::<String, usize>::new();
    let (mut lost, mut told) = (0, Duration::ZERO);
    let mut broken = vec![("nodes".to_owned(), readiness(probes, world))];
    for (number, (pair, entries)) in histories.iter().enumerate() {
        for entry in entries {
            *counts.entry(kind(&entry.what)).or_default() += 1;
        }
        let checked = check(*pair, entries, world);
        lost += checked.lost;
        told = told.max(checked.told);
        let versions = pair.v1.map(|v1| if v1 { "v1" } else { "base" });
        let name = format!("pair {number} (ann {}, bob {})", versions[0], versions[1]);
        if !checked.breaches.is_empty() {
            let file = folder.join(format!("pair-{number}.txt"));
            if let Err(error) = fs::write(&file, history(&checked.breaches, entries, world)) {
                eprintln!("chaos: {} was not written: {error}", file.display());
            }
        }
        broken.push((name, checked.breaches));
    }
    broken.retain(|(_, breaches)| !breaches.is_empty());

    println!("\nFaults:");
    world.troubles.iter().for_each(|trouble| println!("{trouble}"));
    println!("\nWhat the clients did and saw:");
    counts.iter().for_each(|(kind, count)| println!("{count:9} {kind}"));
    println!("{lost:9} signals were not delivered");
    println!("{:9.3} s at most until a partner's end was told", told.as_secs_f64());
    println!("{:9.3} s of slack for what this machine was late", world.slack.as_secs_f64());
    if broken.is_empty() && odd.is_empty() {
        println!("\nno promise was broken");
        return true;
    }
    println!("\nBroken promises, with histories in {}:", folder.display());
    odd.iter().for_each(|odd| println!("{odd}"));
    for (name, breaches) in &broken {
        println!("{name}, {} in all:", breaches.len());
        breaches.iter().take(SHOWN).for_each(|breach| println!("{breach}"));
    }
    false
}

fn kind(what: &What) -> String {
    match what {
        What::Refused { code, .. } => format!("Refused: {code}"),
        What::Ended(end) => format!("Ended: {end:?}"),
        what => {
            let name = format!("{what:?}");
            name.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

/// The breaches, then what both clients did and saw, and the faults among it.
fn history(breaches: &[Breach], entries: &[Entry], world: &World<'_>) -> String {
    let faults = world.troubles.iter().map(|trouble| (trouble.from, trouble.to_string()));
    let mut lines = faults.collect::<Vec<_>>();
    lines.extend(entries.iter().map(|entry| (entry.at, entry.to_string())));
    lines.sort_by_key(|(at, _)| *at);
    let breaches = breaches.iter().map(|breach| format!("{breach}\n"));
    let lines = lines.iter().map(|(_, line)| format!("{line}\n"));
    breaches.chain(["\n".to_owned()]).chain(lines).collect()
}
