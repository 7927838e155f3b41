//! What was measured with so many users, and whether it stays in proportion.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// By how much more a user may cost among the most users than among the fewest. The work is the same,
/// but 10,000 users partly fit a processor's cache, and of 1,000,000 each is fetched from memory.
const DEARER: f64 = 2.0;
/// The same for memory, and for calls of the store that do not depend on users.
const LARGER: f64 = 1.25;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) users: usize,
    /// Microseconds of CPU for each user: its half of a session opened, connected and told of its
    /// match; the median among the first tenth of the users, and among the last.
    pub(crate) connect_us: [f64; 2],
    /// Memory of a user, its records in the store included.
    pub(crate) kib: f64,
    /// Microseconds of CPU for each heartbeat, with all that there is beside them: a ping for each,
    /// its answer, and batches for the store.
    pub(crate) heartbeat_us: f64,
    /// Milliseconds of CPU for a virtual second, the median.
    pub(crate) second_ms: f64,
    /// The same for the dearest tenth of a second, while users connect and after that.
    pub(crate) longest_ms: [f64; 2],
    /// Batches in a virtual second, heartbeats in one, and in the largest.
    pub(crate) batches: f64,
    pub(crate) batch: f64,
    pub(crate) largest: u64,
    /// Milliseconds of CPU of the dearest piece of a batch, during which nothing else is done.
    pub(crate) dearest_ms: f64,
    /// Other calls of the store in a virtual second.
    pub(crate) others: f64,
    /// Clients that fell silent, and when their partners were told, in seconds: without heartbeats,
    /// and without anything.
    pub(crate) stopped: usize,
    pub(crate) no_heartbeat: [f64; 2],
    pub(crate) no_sound: [f64; 2],
    /// Sessions that ended because somebody stayed away, and the most seconds by which one was late.
    pub(crate) abandoned: u64,
    pub(crate) overdue: f64,
}

pub(crate) fn table(all: &[Figures]) -> String {
    let mut table = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells = all.iter().map(|figures| format!(" {} |", cell(figures)));
        let _ = writeln!(table, "| {name} |{}", cells.collect::<String>());
    };
    let span = |[least, most]: [f64; 2]| format!("{least:.3} to {most:.3} s");
    row("users", &|f| f.users.to_string());
    row("---", &|_| "---".to_owned());
    row("CPU to connect a user, first and last tenth", &|f| {
        format!("{:.1} and {:.1} µs", f.connect_us[0], f.connect_us[1])
    });
    row("memory of a user", &|f| format!("{:.2} KiB", f.kib));
    row("CPU of a heartbeat, a ping and its answer", &|f| format!("{:.2} µs", f.heartbeat_us));
    row("CPU of a virtual second", &|f| format!("{:.1} ms", f.second_ms));
    row("CPU of its dearest tenth", &|f| format!("{:.1} ms", f.longest_ms[1]));
    row("the same while users connect", &|f| format!("{:.1} ms", f.longest_ms[0]));
    row("batches of heartbeats, a second", &|f| format!("{:.2}", f.batches));
    row("heartbeats in a batch", &|f| format!("{:.0}, at most {}", f.batch, f.largest));
    row("CPU of the dearest piece of a batch", &|f| format!("{:.1} ms", f.dearest_ms));
    row("other calls of the store, a second", &|f| format!("{:.2}", f.others));
    row("users who fell silent", &|f| f.stopped.to_string());
    row("partner told, no heartbeat", &|f| span(f.no_heartbeat));
    row("partner told, no sound", &|f| span(f.no_sound));
    row("sessions abandoned, the latest end", &|f| {
        format!("{}, {:.1} s late", f.abandoned, f.overdue)
    });
    table
}

/// What does not stay in proportion, from the fewest users to the most.
pub(crate) fn out_of_proportion(all: &[Figures]) -> Vec<String> {
    let [few, .., many] = all else { return Vec::new() };
    let grown = |what: &str, few: f64, many: f64, allowed: f64| {
        let ratio = many / few;
        (ratio > allowed).then(|| format!("{what}: {ratio:.2} times, {allowed} are allowed"))
    };
    let measures = [
        grown("CPU of a heartbeat", few.heartbeat_us, many.heartbeat_us, DEARER),
        grown("CPU to connect", few.connect_us[0], many.connect_us[0], DEARER),
        grown("CPU to connect the last", many.connect_us[0], many.connect_us[1], DEARER),
        grown("memory of a user", few.kib, many.kib, LARGER),
        grown("batches", few.batches, many.batches, LARGER),
        grown("other calls of the store", few.others, many.others, LARGER),
    ];
    measures.into_iter().flatten().collect()
}
