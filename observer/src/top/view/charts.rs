//! The last fifteen minutes of the app that is selected, as charts of one or more lines.

use super::format::cut;
use super::format::{rate, seconds};
use super::theme::Theme;
use crate::top::rows::text;
use crate::top::state::State;
use observer_model::views::live_view::{App, Point};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Sparkline, SparklineBar};

/// What is charted.
struct Chart {
    title: &'static str,
    /// Of a point, which is of so many seconds.
    of: fn(&Point, f64) -> Option<f64>,
    shown: fn(f64) -> String,
}

#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
const CHARTS: [Chart; 4] = [
    Chart {
        title: "requests/s",
        of: |point, seconds| Some(point.requests as f64 / seconds),
        shown: rate,
    },
    Chart {
        title: "p95",
        of: |point, _| point.p95_seconds,
        shown: seconds,
    },
    Chart {
        title: "errors/s",
        of: |point, seconds| Some(point.errors as f64 / seconds),
        shown: rate,
    },
    Chart {
        title: "busy",
        of: |point, _| point.utilisation,
        shown: |share| format!("{:.0}%", share * 100.0),
    },
];

/// Columns before a chart.
const LABEL_COLUMNS: u16 = 36;
/// Steps of the highest bar.
const STEPS: f64 = 10_000.0;

/// Lines that the charts have on a terminal so high.
#[must_use]
pub fn height(height: u16) -> u16 {
    match height {
        0..16 => 0,
        16..30 => 2,
        30..45 => 4,
        45..70 => 8,
        _ => 16,
    }
}

/// Draws as many charts as have room.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some((app, now)) = app(state) else {
        return;
    };
    if area.height == 0 {
        return;
    }
    let count = area.height.min(4);
    let parts = Layout::vertical(vec![Constraint::Fill(1); count.into()]).split(area);
    for (chart, area) in CHARTS.iter().zip(parts.iter()) {
        one(frame, *area, chart, app, state, now, theme);
    }
}

/// The app of the selected row, else the first there is; and the time of the view.
fn app(state: &State) -> Option<(&App, f64)> {
    let view = state.view()?;
    let wanted = state.selected().map(|row| row.master).or(state.only());
    let is_it = |app: &&App| Some(app.master_pid) == wanted;
    let app = view.apps.iter().find(is_it).or(view.apps.first())?;
    Some((app, view.time_seconds))
}

fn one(
    frame: &mut Frame<'_>,
    area: Rect,
    chart: &Chart,
    app: &App,
    state: &State,
    now: f64,
    theme: Theme,
) {
    let [label, _, bars] = Layout::horizontal([
        Constraint::Length(LABEL_COLUMNS),
        Constraint::Length(1),
        Constraint::Min(1),
    ])
    .areas(area);
    let series = state
        .past()
        .series(app.master_pid, now, bars.width.into(), chart.of);
    let known = || series.iter().flatten().copied();
    let most = known().fold(0.0, f64::max);
    let told = known().next_back().map_or("-".to_owned(), |last| {
        let (last, most) = ((chart.shown)(last), (chart.shown)(most));
        format!("{last}, most {most}")
    });
    let name = cut(&text(&app.app), 8);
    let told = format!("{name} {} {told}", chart.title);
    frame.render_widget(Line::styled(told, theme.dim()), label);
    let bar = |value: &Option<f64>| SparklineBar::from(value.map(|value| step(value, most)));
    let bars_of = Sparkline::default()
        .data(series.iter().map(bar))
        .max(step(most, most).max(1))
        .absent_value_symbol(" ")
        .style(theme.chart());
    frame.render_widget(bars_of, bars);
}

/// Of the steps that the highest bar has.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to the number of steps"
)]
fn step(value: f64, most: f64) -> u64 {
    if most > 0.0 {
        (value / most * STEPS) as u64
    } else {
        0
    }
}
