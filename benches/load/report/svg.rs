//! Charts as SVG: one row for each contender, legible on a light page and on a dark one.

use std::fmt::{Error, Write};

use crate::contender::Kind;

/// All lengths in pixels.
const WIDTH: f64 = 640.0;
const TOP: f64 = 44.0;
const ROW: f64 = 24.0;
const BOTTOM: f64 = 14.0;
/// The same, with a scale in it.
const SCALE: f64 = 30.0;
/// Where the rows' labels end and the values begin.
const LEFT: f64 = 150.0;
/// What is left for the number behind the longest bar.
const RIGHT: f64 = 110.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}\
.title{font-weight:600;font-size:15px}.page{fill:#fff}.grid{stroke:#d0d7de}.soft{fill:#59636e}\
.ours{fill:#d9480f;stroke:#d9480f}.floor{fill:#868e96;stroke:#868e96}.peer{fill:#4c6ef5;stroke:#4c6ef5}\
.range{stroke:#1f2328}.light{opacity:.45}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.grid{stroke:#3d444d}\
.soft{fill:#9198a1}.range{stroke:#e6edf3}}";

/// What a row shows: ascending values.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) kind: Kind,
    /// The median, for bars between the least and the most; percentiles, for dots.
    pub(super) values: [f64; 3],
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "ours",
        Kind::Floor => "floor",
        Kind::Peer => "peer",
    }
}

/// Bars as long as the medians, with the least and the most as a line.
pub(super) fn bars(title: &str, unit: &str, rows: &[Row]) -> Result<String, Error> {
    let most = rows.iter().map(|row| row.values[2]).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    let mut text = page(title, rows.len(), BOTTOM)?;
    for (Row { label, kind, values: [least, median, most] }, y) in rows.iter().zip(middles()) {
        labelled(&mut text, label, y)?;
        let (class, length, top) = (class(*kind), x(*median) - LEFT, y - 8.0);
        writeln!(
            text,
            r#"<rect class="{class}" x="{LEFT}" y="{top}" width="{length:.1}" height="16" rx="2"/>"#
        )?;
        let (from, to) = (x(*least), x(*most));
        writeln!(text, r#"<path class="range" d="M{from:.1} {y}H{to:.1}"/>"#)?;
        let (end, value) = (to + 6.0, short(*median));
        writeln!(text, r#"<text x="{end:.1}" y="{:.1}">{value} {unit}</text>"#, y + 4.5)?;
    }
    text.push_str("</svg>\n");
    Ok(text)
}

/// Three dots for each row, of times in µs, on a scale where ten times more is as far everywhere.
pub(super) fn dots(title: &str, rows: &[Row]) -> Result<String, Error> {
    let values = || rows.iter().flat_map(|row| row.values).map(|value| value.max(1.0).log10());
    let first = values().fold(f64::INFINITY, f64::min).floor();
    let last = values().fold(first + 1.0, f64::max).ceil();
    let scale = |power: f64| LEFT + (power - first) / (last - first) * (WIDTH - LEFT - 40.0);
    let x = |value: f64| scale(value.max(1.0).log10());
    let mut text = page(title, rows.len(), SCALE)?;
    let foot = TOP + ROW * rows.len() as f64;
    for power in first as i32..=last as i32 {
        let (at, value) = (scale(power.into()), time(power));
        writeln!(text, r#"<path class="grid" d="M{at:.1} {TOP}V{foot}"/>"#)?;
        let under = foot + 16.0;
        writeln!(
            text,
            r#"<text class="soft" x="{at:.1}" y="{under}" text-anchor="middle">{value}</text>"#
        )?;
    }
    for (Row { label, kind, values: [low, middle, high] }, y) in rows.iter().zip(middles()) {
        labelled(&mut text, label, y)?;
        let (class, [low, middle, high]) = (class(*kind), [x(*low), x(*middle), x(*high)]);
        writeln!(text, r#"<path class="{class}" stroke-width="2" d="M{low:.1} {y}H{high:.1}"/>"#)?;
        for (at, size, tone) in [(low, 5, ""), (middle, 4, ""), (high, 3, " light")] {
            writeln!(text, r#"<circle class="{class}{tone}" cx="{at:.1}" cy="{y}" r="{size}"/>"#)?;
        }
    }
    text.push_str("</svg>\n");
    Ok(text)
}

fn page(title: &str, rows: usize, bottom: f64) -> Result<String, Error> {
    let mut text = String::new();
    let height = TOP + ROW * rows as f64 + bottom;
    writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">"#
    )?;
    writeln!(text, "<title>{title}</title><style>{STYLE}</style>")?;
    writeln!(text, r#"<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>"#)?;
    writeln!(text, r#"<text class="title" x="16" y="26">{title}</text>"#)?;
    Ok(text)
}

fn middles() -> impl Iterator<Item = f64> {
    (0_u32..).map(|row| TOP + ROW * (f64::from(row) + 0.5))
}

fn labelled(text: &mut String, label: &str, y: f64) -> Result<(), Error> {
    let (end, y) = (LEFT - 10.0, y + 4.5);
    writeln!(text, r#"<text x="{end}" y="{y:.1}" text-anchor="end">{label}</text>"#)
}

/// So many powers of ten of µs.
fn time(power: i32) -> String {
    let unit = ["µs", "ms", "s"][usize::try_from(power / 3).unwrap_or(0).min(2)];
    let ones = 10_f64.powi(power - 3 * (power / 3).min(2));
    format!("{ones} {unit}")
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: [f64; 3]) -> Row {
        Row { label: "it".to_owned(), kind: Kind::Ours, values }
    }

    /// The values of an attribute, in their order.
    fn numbers(svg: &str, after: &str) -> Vec<f64> {
        let ends = svg.split(after).skip(1).filter_map(|rest| rest.split(['"', ' ']).next());
        ends.filter_map(|number| number.parse().ok()).collect()
    }

    #[test]
    fn a_bar_is_as_long_as_its_median() {
        let svg = bars("title", "µs", &[row([5.0, 10.0, 20.0]), row([20.0, 20.0, 40.0])]).unwrap();
        let lengths = numbers(&svg, r#"height="16""#);
        assert!(lengths.is_empty());
        let lengths = numbers(&svg, r#"width=""#);
        // The page, then the bars: half and a quarter of what there is for the most.
        let whole = WIDTH - LEFT - RIGHT;
        assert_eq!(lengths, [WIDTH, whole / 4.0, whole / 2.0]);
    }

    #[test]
    fn times_are_told_in_units_that_fit() {
        let told = [0, 2, 3, 5, 6, 8, 9].map(time);
        assert_eq!(told, ["1 µs", "100 µs", "1 ms", "100 ms", "1 s", "100 s", "1000 s"]);
    }

    #[test]
    fn ten_times_more_is_as_far_everywhere() {
        let svg = dots("title", &[row([10.0, 100.0, 1000.0])]).unwrap();
        let at = numbers(&svg, r#"cx=""#);
        assert_eq!(at.len(), 3);
        assert!((at[1] - at[0] - (at[2] - at[1])).abs() < 0.2, "{at:?}");
        assert_eq!(at[0], LEFT);
        // Less than the unit is shown as one, and no row at all as an empty page.
        dots("title", &[row([0.0, 0.0, 0.0])]).unwrap();
        dots("title", &[]).unwrap();
    }
}
