//! The plots, as SVG.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    Done,
    contender::{Contender, Kind},
    figures::Figure,
    results::{Case, Results},
    scenario::{Demand, Scenario},
};

/// Pixels: the width, what is above and below the rows, and the height of one.
const WIDTH: u32 = 640;
const FRAME: u32 = 90;
const ROW: u32 = 24;
const LABELS: u32 = 130;

pub(super) struct Plot {
    pub(super) title: String,
    pub(super) file: String,
    pub(super) svg: String,
}

/// A contender's ascending values: a median between the least and the most, or three percentiles.
type Row = (Contender, [f64; 3]);

/// CPU and memory, if several are compared, and latency measured from the moment that something was meant to happen.
pub(super) fn all(results: &Results) -> Done<Vec<Plot>> {
    let mut plots = Vec::new();
    for (case, _) in results.cases() {
        let (scenario, pairs) = *case;
        let spread = |figure| {
            rows(results, *case, |contender| {
                let spread = results.spread(*case, contender, figure)?;
                Some([spread.least, spread.median, spread.most])
            })
        };
        let percentiles = |contender| {
            let at = |figure| results.median(*case, contender, figure);
            Some([at(Figure::P50Us)?, at(Figure::P99Us)?, at(Figure::P999Us)?])
        };
        let is_paced = scenario.demand() == Demand::Paced || scenario == Scenario::Storm;
        let latency = if is_paced { rows(results, *case, percentiles) } else { Vec::new() };
        for (kind, what, rows) in [
            ("cpu", "CPU for each, µs", spread(Figure::CpuUs)),
            ("latency", "p50, p99 and p99.9", latency),
            ("memory", "Memory of a connection, KiB", spread(Figure::KibEach)),
        ] {
            if rows.len() < 2 {
                continue;
            }
            let title = format!("{what}: {scenario}, {pairs} pairs");
            let svg = draw(&title, &rows, kind == "latency")?;
            plots.push(Plot { title, file: format!("{kind}-{scenario}-{pairs}.svg"), svg });
        }
    }
    Ok(plots)
}

/// The least first.
fn rows(results: &Results, case: Case, values: impl Fn(Contender) -> Option<[f64; 3]>) -> Vec<Row> {
    let row = |contender| Some((contender, values(contender)?));
    let mut rows = results.contenders(case).filter_map(row).collect::<Vec<_>>();
    rows.sort_by(|(_, one), (_, other)| one[1].total_cmp(&other[1]));
    rows
}

/// Bars as long as the medians with the least and the most as a line, or three dots on a logarithmic scale.
fn draw(title: &str, rows: &[Row], is_latency: bool) -> Done<String> {
    let mut svg = String::new();
    let scaled = |value: f64| if is_latency { value.max(1.0).log10() } else { value };
    let values = || rows.iter().flat_map(|(_, values)| *values).map(scaled);
    let first = if is_latency { values().fold(f64::INFINITY, f64::min).floor() } else { 0.0 };
    let last = values().fold(first + f64::EPSILON, f64::max);
    let last = if is_latency { last.ceil() } else { last * 1.05 };

    let page = SVGBackend::with_string(&mut svg, (WIDTH, FRAME + ROW * rows.len() as u32));
    let page = page.into_drawing_area();
    page.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&page)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .margin_right(32)
        .set_label_area_size(LabelAreaPosition::Left, LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, 28)
        .build_cartesian_2d(first..last, rows.len() as f64..0.0)?;
    let value = |at: &f64| if is_latency { time(*at) } else { format!("{at}") };
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().disable_y_axis().y_labels(0).max_light_lines(0).x_label_formatter(&value);
    if is_latency {
        mesh.x_labels((last - first) as usize + 1);
    }
    mesh.draw()?;
    let label = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Right, VPos::Center));

    for (row, (contender, [low, middle, high])) in rows.iter().enumerate() {
        let colour = match contender.kind() {
            Kind::Ours => RGBColor(217, 72, 15),
            Kind::Floor => RGBColor(134, 142, 150),
            Kind::Peer => RGBColor(76, 110, 245),
        };
        let [low, middle, high] = [*low, *middle, *high].map(scaled);
        let at = |value: f64| (value, row as f64 + 0.5);
        let name = Text::new(contender.to_string(), (-8, 0), label.clone());
        chart.draw_series([EmptyElement::at(at(first)) + name])?;
        if is_latency {
            chart.draw_series([PathElement::new(vec![at(low), at(high)], colour)])?;
            let dots = [(low, 5), (middle, 4), (high, 3)];
            chart.draw_series(
                dots.map(|(value, size)| Circle::new(at(value), size, colour.filled())),
            )?;
        } else {
            let ends = [(first, row as f64 + 0.2), (middle, row as f64 + 0.8)];
            chart.draw_series([Rectangle::new(ends, colour.filled())])?;
            chart.draw_series([PathElement::new(vec![at(low), at(high)], BLACK)])?;
        }
    }
    page.present()?;
    drop(chart);
    drop(page);
    Ok(svg)
}

/// So many powers of ten of µs.
fn time(power: f64) -> String {
    match power {
        ..3.0 => format!("{:.0} µs", 10_f64.powf(power)),
        ..6.0 => format!("{:.0} ms", 10_f64.powf(power - 3.0)),
        _ => format!("{:.0} s", 10_f64.powf(power - 6.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::line;

    #[test]
    fn there_is_a_row_for_each_contender() {
        let figures = [("cpu_us", 9.0), ("p50_us", 10.0), ("p99_us", 200.0), ("p999_us", 3000.0)];
        let lines = ["signaling", "axum"].map(|who| line("paced", who, 64, &figures));
        let plots = all(&Results::parse(&lines.concat()).unwrap()).unwrap();
        let files = plots.iter().map(|plot| plot.file.as_str()).collect::<Vec<_>>();
        assert_eq!(files, ["cpu-paced-64.svg", "latency-paced-64.svg"]);
        for Plot { title, svg, .. } in &plots {
            for text in [title, "signaling", "axum"] {
                assert!(svg.contains(text), "{text}: {svg}");
            }
        }
        assert_eq!(plots[1].svg.matches("<circle").count(), 6);
        // One alone is not compared.
        assert!(all(&Results::parse(&lines[0]).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn times_are_told_in_units_that_fit() {
        let told = [0.0, 2.0, 3.0, 5.0, 6.0, 8.0].map(time);
        assert_eq!(told, ["1 µs", "100 µs", "1 ms", "100 ms", "1 s", "100 s"]);
    }
}
