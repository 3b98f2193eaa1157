//! How far durations are off, as a picture.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Compared;

const SIZE: (u32, u32) = (900, 420);
/// What is shown, in microseconds; what is further off is counted at the border.
const SHOWN_US: i32 = 60;
const COLORS: [RGBColor; 3] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 96, 20),
    RGBColor(44, 140, 60),
];

/// As SVG: of each class, how many requests are off by how many microseconds.
pub fn drawn(compared: &[Compared]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, compared).map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, compared: &[Compared]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let most = compared.iter().map(|of| of.requests).max().unwrap_or(1);
    let most = u32::try_from(most)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(-SHOWN_US..SHOWN_US, (0.5..f64::from(most)).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("observed duration less logged duration, µs")
        .y_desc("requests")
        .light_line_style(WHITE)
        .draw()?;
    for (of, color) in compared.iter().zip(COLORS) {
        let series = LineSeries::new(bins(&of.errors_us), color.stroke_width(2));
        chart
            .draw_series(series)?
            .label(of.class)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    drop(chart);
    Ok(())
}

/// How many lie within each microsecond.
fn bins(errors_us: &[f64]) -> Vec<(i32, f64)> {
    let mut counts = vec![0.0; usize::try_from(2 * SHOWN_US + 1).unwrap_or_default()];
    for error in errors_us {
        let shown = error.clamp(f64::from(-SHOWN_US), f64::from(SHOWN_US));
        #[expect(clippy::cast_possible_truncation, reason = "within what is shown")]
        let bin = (shown + f64::from(SHOWN_US)).round() as usize;
        if let Some(count) = counts.get_mut(bin) {
            *count += 1.0;
        }
    }
    (-SHOWN_US..).zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_US, bins};

    #[test]
    fn what_is_far_off_is_counted_at_the_border() {
        let bins = bins(&[0.2, -0.4, 1e6]);
        assert!(bins.contains(&(0, 2.0)));
        assert!(bins.contains(&(SHOWN_US, 1.0)));
        assert_eq!(bins.iter().map(|(_, count)| count).sum::<f64>(), 3.0);
    }
}
