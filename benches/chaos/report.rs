//! What is printed at the end of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use crate::{
    check::{Breach, Checked, Pair, World, check, readiness},
    history::{End, Entry, Probe, Trouble, What},
};

/// How much of a pair's history before a breach is its story.
const BEFORE: Duration = Duration::from_secs(45);
const AFTER: Duration = Duration::from_secs(3);

pub(crate) struct Report {
    /// Where whole histories go.
    folder: PathBuf,
    troubles: Vec<Trouble>,
    slack: Duration,
    told: Duration,
    /// What belongs to no pair.
    odd: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    breaches: BTreeMap<&'static str, usize>,
    /// By the promise that was broken first.
    stories: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn new(
        folder: PathBuf,
        probes: &[Probe],
        world: &World<'_>,
        odd: Vec<String>,
    ) -> Self {
        let mut report = Self {
            folder,
            troubles: world.troubles.to_vec(),
            slack: world.slack,
            told: Duration::ZERO,
            odd,
            counts: BTreeMap::new(),
            breaches: BTreeMap::new(),
            stories: Vec::new(),
        };
        for breach in readiness(probes, world) {
            *report.breaches.entry(breach.promise).or_default() += 1;
            let at = breach.at.as_secs_f64();
            let story = format!("{at:9.3} {}: {}", breach.promise, breach.text);
            report.stories.push((breach.promise, story));
        }
        report
    }

    pub(crate) fn add(
        &mut self,
        number: usize,
        pair: Pair,
        entries: Vec<Entry>,
        world: &World<'_>,
    ) {
        for entry in &entries {
            *self.counts.entry(kind(&entry.what)).or_default() += 1;
        }
        let Checked { breaches, lost, told, .. } = check(pair, &entries, world);
        *self.counts.entry("signals not delivered").or_default() += lost;
        self.told = self.told.max(told);
        if let Some(first) = breaches.first() {
            let story = story(number, pair, &entries, world, first, &breaches);
            // All of it, for who needs more than the story.
            let whole = entries.iter().map(|entry| format!("{entry}\n"));
            let whole = format!("{story}\n\nAll of it:\n{}", whole.collect::<String>());
            self.stories.push((first.promise, story));
            let file = self.folder.join(format!("pair-{number}.txt"));
            if let Err(error) = fs::write(&file, whole) {
                eprintln!("chaos: {} was not written: {error}", file.display());
            }
        }
        for breach in breaches {
            *self.breaches.entry(breach.promise).or_default() += 1;
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.breaches.is_empty() && self.odd.is_empty()
    }

    pub(crate) fn print(&self, stories: usize) {
        println!("\nFaults:");
        self.troubles.iter().for_each(|trouble| println!("{trouble}"));
        println!("\nWhat the clients did and saw:");
        self.counts.iter().for_each(|(kind, count)| println!("{count:9} {kind}"));
        println!("{:9.3} s at most until a partner's end was told", self.told.as_secs_f64());
        println!("{:9.3} s of slack for what this machine was late", self.slack.as_secs_f64());
        if self.is_good() {
            println!("\nno promise was broken");
            return;
        }
        println!("\nBroken promises:");
        self.odd.iter().for_each(|odd| println!("          {odd}"));
        self.breaches.iter().for_each(|(promise, count)| println!("{count:9} {promise}"));
        // One of each kind first.
        let mut seen = BTreeSet::new();
        let (one, more): (Vec<_>, Vec<_>) =
            self.stories.iter().partition(|(promise, _)| seen.insert(*promise));
        let shown = one.into_iter().chain(more).take(stories);
        shown.for_each(|(_, story)| println!("\n{story}"));
        if self.stories.len() > stories {
            println!("\n{} more stories: --stories", self.stories.len() - stories);
        }
    }
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Opening { .. } => "sessions asked for",
        What::Opened { .. } => "sessions opened",
        What::Unanswered { .. } => "sessions not opened yet",
        What::Dialed { .. } => "connections dialed",
        What::Open => "connections made",
        What::MatchFound { .. } => "match-found",
        What::PartnerGone { .. } => "partner-disconnected",
        What::Sent { .. } => "signals sent",
        What::Got { .. } => "signals delivered",
        What::Refused { code, .. } => match &**code {
            "unavailable" => "errors: unavailable",
            "partner-absent" => "errors: partner-absent",
            "unknown-session" => "errors: unknown-session",
            _ => "errors: other",
        },
        What::Beat { .. } => "heartbeats for a session",
        What::Left { .. } => "leaves",
        What::Odd(_) => "odd",
        What::Ended(end) => match end {
            End::Closed => "ends: closed by the client",
            End::Reset => "ends: reset by the client",
            End::HalfOpen => "ends: left half-open",
            End::Silent => "ends: the server was silent",
            End::Lost => "ends: lost",
            End::Unreachable => "ends: not connected",
            End::StillOpen => "ends: never closed",
            End::Code(1001) => "ends: 1001",
            End::Code(4408) => "ends: 4408",
            End::Code(4409) => "ends: 4409",
            End::Code(4503) => "ends: 4503",
            End::Code(_) => "ends: other codes",
        },
    }
}

/// The last events of both clients before a breach, and the faults among them; signals in a row in one
/// line.
fn story(
    number: usize,
    pair: Pair,
    entries: &[Entry],
    world: &World<'_>,
    first: &Breach,
    all: &[Breach],
) -> String {
    let versions = pair.v1.map(|v1| if v1 { "v1" } else { "base" });
    let mut story = format!("pair {number} (ann {}, bob {}):", versions[0], versions[1]);
    for Breach { at, promise, text } in all.iter().take(5) {
        story.push_str(&format!("\n  {:9.3} {promise}: {text}", at.as_secs_f64()));
    }
    if all.len() > 5 {
        story.push_str(&format!("\n  and {} more", all.len() - 5));
    }
    story.push_str("\n  its story:");
    let (from, to) = (first.at.saturating_sub(BEFORE), first.at + AFTER);
    let mut lines = Vec::new();
    for trouble in world.troubles {
        if trouble.from <= to && trouble.to >= from {
            lines.push((trouble.from, format!("{trouble}"), None));
        }
    }
    for entry in entries.iter().filter(|entry| from <= entry.at && entry.at <= to) {
        let row = match entry.what {
            What::Sent { session, .. } => Some((entry.who, entry.connection, session, 0)),
            What::Got { session, from, .. } => Some((entry.who, entry.connection, session, from)),
            _ => None,
        };
        let row = row.map(|(who, connection, session, from)| {
            format!("{who:?}{connection}/{session}/{from}")
        });
        lines.push((entry.at, entry.to_string(), row));
    }
    lines.sort_by_key(|(at, ..)| *at);
    // Of signals in a row the first and the last, by sender and receiver.
    let mut kept: Vec<(String, Option<String>)> = Vec::new();
    let mut rows: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (_, line, row) in lines {
        let Some(row) = row else {
            rows.clear();
            kept.push((line, None));
            continue;
        };
        let (count, last) = rows.entry(row).or_insert((0, 0));
        *count += 1;
        if *count <= 2 {
            *last = kept.len();
            kept.push((line, None));
        } else {
            kept[*last] = (line, Some(format!(" (and {} between)", *count - 2)));
        }
    }
    for (line, more) in kept {
        story.push_str(&format!("\n    {line}{}", more.unwrap_or_default()));
    }
    story
}
