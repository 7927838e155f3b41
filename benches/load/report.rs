//! What the README shows: whether the bars are held, plots, and tables of everything.

mod bars;
mod plots;
mod tables;

use std::{
    fmt::{self, Write},
    fs,
    path::Path,
};

use self::bars::{BARS, Rule};
use crate::{Done, contender::Kind, results::Results};

/// Between these the README's results are put.
const BEGIN: &str = "<!-- results: written by `load report` -->\n";
const END: &str = "<!-- end of results -->\n";

/// Everything in Markdown, for the lines of a file. With a README, it is put into that, and the plots into
/// `plots` beside it.
pub(crate) fn report(lines: &Path, readme: Option<&Path>) -> Done<String> {
    let results = Results::parse(&fs::read_to_string(lines)?)?;
    let plots = plots::all(&results)?;
    let text = format!("{}\n{}\n{}", held(&results)?, images(&plots)?, all_figures(&results)?);
    if let Some(readme) = readme {
        let folder = readme.with_file_name("plots");
        fs::create_dir_all(&folder)?;
        for plot in &plots {
            fs::write(folder.join(&plot.file), &plot.svg)?;
        }
        fs::write(readme, put_into(&fs::read_to_string(readme)?, &text)?)?;
    }
    Ok(text)
}

/// A row for each bar, and where one of ours failed.
fn held(results: &Results) -> Result<String, fmt::Error> {
    let mut text =
        String::from("| what | measured | in | bar | |\n| --- | --- | --- | --- | --- |\n");
    let (mut held, mut missed, mut missing) = (0, 0, Vec::new());
    for bar in BARS {
        let Some(measured) = bar.measured(results) else {
            let peers = if matches!(bar.rule, Rule::Peers(_)) { ", against peers" } else { "" };
            missing.push(format!("{}{peers}", bar.what));
            continue;
        };
        *if measured.is_held() { &mut held } else { &mut missed } += 1;
        writeln!(text, "| {} | {measured} |", bar.what)?;
    }
    writeln!(text, "\n{held} held, {missed} missed, {} not measured.", missing.len())?;
    if !missing.is_empty() {
        writeln!(text, "Not measured: {}.", missing.join("; "))?;
    }
    for ((scenario, pairs), runs) in results.cases() {
        for (contender, runs) in runs.iter().filter(|(who, _)| who.kind() == Kind::Ours) {
            for why in &runs.failures {
                writeln!(text, "\n**{contender} failed** in {scenario}, {pairs} pairs: {why}")?;
            }
        }
    }
    Ok(text)
}

fn images(plots: &[plots::Plot]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for plots::Plot { title, file, .. } in plots {
        writeln!(text, r#"<img src="plots/{file}" alt="{title}" width="49%">"#)?;
    }
    Ok(text)
}

fn all_figures(results: &Results) -> Result<String, fmt::Error> {
    let mut text = String::from("<details><summary>All figures</summary>\n");
    for (case, runs) in results.cases() {
        let (scenario, pairs) = case;
        writeln!(text, "\n#### {scenario}, {pairs} pairs\n")?;
        text.push_str(&tables::case(results, *case, runs.iter())?);
    }
    text.push_str("\n</details>\n");
    Ok(text)
}

/// The README with other results.
fn put_into(readme: &str, results: &str) -> Result<String, &'static str> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or("the README has no place for results")?;
    Ok(format!("{before}{BEGIN}\n{results}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::line;

    fn lines() -> String {
        [
            line("pingpong", "signaling", 64, &[("cpu_us", 9.0), ("p50_us", 100.0)]),
            line("pingpong", "axum", 64, &[("cpu_us", 6.0), ("p50_us", 50.0)]),
            r#"{"scenario":"pingpong","contender":"tcp","round":1,"pairs":64,"failed":"it broke"}"#
                .to_owned(),
        ]
        .concat()
    }

    #[test]
    fn a_missed_bar_is_a_row_and_a_missing_one_is_named() {
        let text = held(&Results::parse(&lines()).unwrap()).unwrap();
        let row = "| CPU of a candidate, 64 pairs, one at a time | 1.50 | × axum floor | at most 1.15 | **missed** |";
        assert!(text.lines().any(|line| line == row), "{text}");
        let count = BARS.len() - 1;
        assert!(text.contains(&format!("0 held, 1 missed, {count} not measured.")), "{text}");
        assert!(
            text.contains(": CPU of a candidate, 64 pairs, one at a time, against peers; "),
            "{text}"
        );
        assert!(!text.contains("failed"), "{text}");
        let ours = lines().replace(r#""tcp""#, r#""signaling""#);
        let text = held(&Results::parse(&ours).unwrap()).unwrap();
        assert!(text.contains("**signaling failed** in pingpong, 64 pairs: it broke"), "{text}");
    }

    #[test]
    fn a_table_has_figures_ratios_and_failures() {
        let text = all_figures(&Results::parse(&lines()).unwrap()).unwrap();
        for expected in [
            "| signaling | 9.00 | 99.0 | 80.0 | 1 | 100 | 0 | 1.50 | – | – |",
            "| axum | 6.00 | 99.0 | 80.0 | 1 | 50 | 0 | 1.00 | 1.50 | 2.00 |",
            "| tcp | – | – | – | – | – | – | – | – | – |",
            "tcp failed in 1 of 1 rounds: it broke",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn results_take_the_place_of_older_ones() {
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        let with = |readme: &str| put_into(readme, "new");
        let first = with(&readme).unwrap();
        assert_eq!(first, format!("before\n{BEGIN}\nnew\n{END}after\n"));
        assert_eq!(with(&first).unwrap(), first);
        assert!(with("no place").is_err());
        with(include_str!("../README.md")).unwrap();
    }
}
