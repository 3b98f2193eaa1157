//! Four charts: time and memory against sizes, and memory over a day.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Point, value};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A line: its name, its colour, and the points of it.
type Curve<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

const BLUE: RGBColor = RGBColor(0x1f, 0x5f, 0xbf);
const ORANGE: RGBColor = RGBColor(0xd9, 0x6b, 0x0b);
const GREEN: RGBColor = RGBColor(0x1f, 0x8a, 0x4c);
const PURPLE: RGBColor = RGBColor(0x7b, 0x3f, 0xa0);
const GREY: RGBColor = RGBColor(0x99, 0x99, 0x99);

pub fn draw(file: &Path, apps: &[Point], workers: &[Point], day: &[Point]) -> Result<()> {
    let root = SVGBackend::new(file, (1000, 760)).into_drawing_area();
    let failed = |error: DrawingAreaErrorKind<_>| anyhow!("the picture cannot be drawn: {error}");
    root.fill(&WHITE).map_err(failed)?;
    let charts = root.split_evenly((2, 2));
    let [first, second, third, fourth] = charts.as_slice() else {
        return Err(anyhow!("four charts were to be drawn"));
    };
    let times = |points: &[Point]| {
        let of = |name, scale: f64| curve(points, name, scale);
        vec![
            ("text of a scrape", BLUE, of("encode_us", 1e3)),
            ("snapshot", ORANGE, of("snapshot_us", 1e3)),
            ("view of the page", GREEN, of("view_us", 1e3)),
            ("look", PURPLE, of("look_us", 1e3)),
        ]
    };
    let title = "milliseconds, by apps (10 workers, 200 routes each)";
    against_sizes(first, title, times(apps)).map_err(failed)?;
    let title = "milliseconds, by workers (10 apps, 20 routes each)";
    against_sizes(second, title, times(workers)).map_err(failed)?;
    let mebibyte = f64::from(1 << 20);
    let bytes = vec![
        ("memory, MiB", BLUE, curve(apps, "memory_bytes", mebibyte)),
        (
            "text of a scrape, MB",
            ORANGE,
            curve(apps, "scrape_bytes", 1e6),
        ),
        ("µs for a record", GREEN, curve(apps, "record_ns", 1e3)),
    ];
    against_sizes(third, "size, and time for a record, by apps", bytes).map_err(failed)?;
    over_a_day(fourth, &curve(day, "memory_bytes", mebibyte)).map_err(failed)?;
    root.present().map_err(failed)
}

fn curve(points: &[Point], name: &str, scale: f64) -> Vec<(f64, f64)> {
    let of = |point| (value(point, "x"), value(point, name) / scale);
    points.iter().map(of).collect()
}

fn range(values: impl Iterator<Item = f64> + Clone) -> std::ops::Range<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(0.0, f64::max);
    least / 1.5..most * 1.5
}

/// Both axes are logarithmic: what is linear is as steep as the grey line.
fn against_sizes<'a>(
    area: &Area<'a>,
    title: &str,
    curves: Vec<Curve<'_>>,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let all = || curves.iter().flat_map(|(_, _, points)| points);
    let (x, y) = (range(all().map(|p| p.0)), range(all().map(|p| p.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    let linear = [x.start, x.end].map(|at| (at, y.start * 4.0 * at / x.start));
    chart.draw_series(DashedLineSeries::new(linear, 4, 4, GREY.into()))?;
    for (name, colour, points) in curves {
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
}

fn over_a_day<'a>(
    area: &Area<'a>,
    points: &[(f64, f64)],
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(
            "MiB of memory, by hours of a simulated day",
            ("sans-serif", 15),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..24.0, 0.0..most * 1.2)?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    let line = LineSeries::new(points.iter().copied(), BLUE.stroke_width(2));
    chart.draw_series(line)?;
    Ok(())
}
