//! The history of each app: what a stream began with, and the points that came since.

use observer_model::event::Pid;
use observer_model::views::live_view::history::History;
use observer_model::views::live_view::{Point, View};
use std::collections::HashMap;

/// Points of an app that are kept, whatever a daemon says: more than any has.
const MAX_POINTS: usize = 1000;

/// The points of each master, the oldest first.
#[derive(Clone, Debug)]
pub struct Past {
    point_seconds: f64,
    kept_seconds: f64,
    apps: HashMap<Pid, Vec<Point>>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            point_seconds: 5.0,
            kept_seconds: 900.0,
            apps: HashMap::new(),
        }
    }
}

impl Past {
    /// Takes what a stream begins with.
    pub fn history(&mut self, history: &History) {
        self.point_seconds = f64::from(history.point_seconds.max(1));
        self.kept_seconds = f64::from(history.kept_seconds);
        for app in &history.apps {
            for point in &app.points {
                self.point(app.master_pid, point);
            }
        }
    }

    /// Takes the last points of each app, and forgets those that are gone.
    pub fn view(&mut self, view: &View) {
        for app in &view.apps {
            for point in &app.points {
                self.point(app.master_pid, point);
            }
        }
        let oldest = view.time_seconds - self.kept_seconds;
        self.apps.retain(|pid, points| {
            points.retain(|point| point.time_seconds >= oldest);
            view.apps.iter().any(|app| app.master_pid == *pid)
        });
    }

    fn point(&mut self, master: Pid, point: &Point) {
        let points = self.apps.entry(master).or_default();
        // Another daemon may tell the same time a little differently.
        let begin = point.time_seconds - self.point_seconds / 2.0;
        let at = points.partition_point(|it| it.time_seconds < begin);
        match points.get_mut(at) {
            Some(same) if same.time_seconds < begin + self.point_seconds => {
                same.clone_from(point);
            }
            _ => points.insert(at, point.clone()),
        }
        if points.len() > MAX_POINTS {
            points.remove(0);
        }
    }

    /// Of the last `count` times that were over at `now`, what `of` says, the oldest first; `None`
    /// where nothing is known.
    pub fn series(
        &self,
        master: Pid,
        now: f64,
        count: usize,
        of: impl Fn(&Point, f64) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut series = vec![None; count];
        let points = self.apps.get(&master).map_or(&[][..], Vec::as_slice);
        let is_over = |point: &&Point| point.time_seconds + self.point_seconds <= now;
        let Some(last) = points.iter().rfind(is_over) else {
            return series;
        };
        // Nothing is known of what came after the last one, if it is old.
        let late = ((now - last.time_seconds) / self.point_seconds).floor() - 1.0;
        for point in points.iter().filter(is_over) {
            let before = (last.time_seconds - point.time_seconds) / self.point_seconds;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "what is too much for a place saturates, and has none"
            )]
            let back = (before + late).round().max(0.0) as usize;
            if back < count {
                series[count - 1 - back] = of(point, self.point_seconds);
            }
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_model::views::live_view::App;
    use observer_model::views::live_view::history::AppHistory;

    fn point(time_seconds: f64, requests: u64) -> Point {
        Point {
            time_seconds,
            requests,
            ..Point::default()
        }
    }

    fn view(time_seconds: f64, points: Vec<Point>) -> View {
        View {
            time_seconds,
            apps: vec![App {
                master_pid: 10,
                points,
                ..App::default()
            }],
            ..View::default()
        }
    }

    fn history(points: Vec<Point>) -> History {
        History {
            point_seconds: 5,
            kept_seconds: 900,
            limits_seconds: Vec::new(),
            apps: vec![AppHistory {
                master_pid: 10,
                points,
            }],
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn requests(past: &Past, now: f64, count: usize) -> Vec<Option<f64>> {
        past.series(10, now, count, |point, _| Some(point.requests as f64))
    }

    #[test]
    fn points_are_merged_by_their_time_and_what_goes_on_is_not_shown_yet() {
        let mut past = Past::default();
        past.history(&history(vec![point(100.0, 1), point(105.0, 2)]));
        // The same time, told by another daemon; and one that goes on.
        past.view(&view(111.0, vec![point(105.0001, 3), point(110.0, 4)]));
        let expected = [None, Some(1.0), Some(3.0)];
        assert_eq!(requests(&past, 111.0, 3), expected);
        past.view(&view(116.0, vec![point(110.0, 5), point(115.0, 1)]));
        assert_eq!(requests(&past, 116.0, 2), [Some(3.0), Some(5.0)]);
    }

    #[test]
    fn a_gap_stays_one_and_the_old_and_gone_are_forgotten() {
        let mut past = Past::default();
        past.history(&history(vec![point(100.0, 1), point(115.0, 2)]));
        let expected = [Some(1.0), None, None, Some(2.0)];
        assert_eq!(requests(&past, 120.0, 4), expected);
        assert_eq!(requests(&past, 130.0, 4), [None, Some(2.0), None, None]);
        past.view(&view(1005.0, vec![]));
        assert_eq!(past.apps[&10].len(), 1);
        past.view(&View::default());
        assert!(past.apps.is_empty());
        assert_eq!(requests(&past, 120.0, 2), [None, None]);
    }

    #[test]
    fn whatever_a_daemon_says_is_no_reason_to_fail() {
        let mut past = Past::default();
        for time in [f64::MAX, f64::MIN, 0.0, -0.0, 1e300] {
            past.history(&history(vec![point(time, 1)]));
            past.view(&view(time, vec![point(-time, 1)]));
            requests(&past, time, 10);
        }
        past.history(&History::default());
        requests(&past, 5.0, 0);
    }
}
