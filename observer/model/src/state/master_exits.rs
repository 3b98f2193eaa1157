//! Exits of masters: counted by app and reason, and reported.

use crate::event::{ExitStatus, Pid};
use crate::fact::Pod;
use crate::lifecycle::exit_reason::ExitReason;
use crate::lifecycle::master_exit;
use crate::state::State;
use crate::state::app::App;
use crate::views::metrics_view::MasterExitsView;
use std::collections::{BTreeMap, VecDeque};

/// Most apps whose counts are kept.
const MAX_APPS: usize = 256;

/// Counts of exits. They stay when the master is forgotten.
#[derive(Debug, Default)]
pub(crate) struct MasterExits {
    /// The app whose master exited last comes last.
    apps: VecDeque<AppExits>,
}

#[derive(Debug)]
struct AppExits {
    app: String,
    pod: Pod,
    counts: BTreeMap<ExitReason, u64>,
}

impl MasterExits {
    fn count(&mut self, app: &str, pod: &Pod, reason: ExitReason) {
        let is_it = |it: &AppExits| it.app == app && it.pod == *pod;
        let known = self.apps.iter().position(is_it);
        let known = known.and_then(|at| self.apps.remove(at));
        let mut exits = known.unwrap_or_else(|| AppExits {
            app: app.to_owned(),
            pod: pod.clone(),
            counts: BTreeMap::new(),
        });
        *exits.counts.entry(reason).or_default() += 1;
        self.apps.push_back(exits);
        if self.apps.len() > MAX_APPS {
            self.apps.pop_front();
        }
    }

    /// The counts of these apps, and of those that are forgotten.
    pub fn view<'a>(&self, apps: impl Iterator<Item = &'a App>) -> Vec<MasterExitsView> {
        let mut views: Vec<MasterExitsView> = Vec::new();
        for app in apps {
            let (app, pod) = (app.name(), &*app.master.pod);
            if !views.iter().any(|it| it.app == app && it.pod == *pod) {
                views.push(view(app, pod, None));
            }
        }
        for AppExits { app, pod, counts } in &self.apps {
            views.retain(|it| it.app != *app || it.pod != *pod);
            views.push(view(app, pod, Some(counts)));
        }
        views
    }
}

fn view(app: &str, pod: &Pod, counts: Option<&BTreeMap<ExitReason, u64>>) -> MasterExitsView {
    let count = |reason| counts.and_then(|of| of.get(&reason).copied()).unwrap_or(0);
    MasterExitsView {
        app: app.to_owned(),
        pod: pod.clone(),
        counts: master_exit::REASONS
            .into_iter()
            .map(|reason| (reason.as_str(), count(reason)))
            .collect(),
    }
}

impl State {
    /// A master exited, if this process is a running one: counts and reports that.
    pub(crate) fn master_exited(&mut self, time_ns: u64, pid: Pid, status: Option<ExitStatus>) {
        let Some(app) = self.apps.get_mut(&pid) else {
            return;
        };
        if app.ended_ns.is_some() {
            return;
        }
        app.ended_ns = Some(time_ns);
        let exit = master_exit::of(&app.state, status);
        self.master_exits.count(app.name(), &app.master.pod, exit.0);
        self.report_master_exit(time_ns, pid, status, exit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Master;

    fn app(name: &str) -> App {
        App::new(Master {
            app: name.to_owned(),
            ..Master::default()
        })
    }

    #[test]
    fn the_apps_whose_masters_exited_last_are_kept() {
        let mut exits = MasterExits::default();
        for number in 0..1000 {
            exits.count(&number.to_string(), &Pod::default(), ExitReason::Crash);
            exits.count("often", &Pod::default(), ExitReason::Crash);
        }
        let views = exits.view(std::iter::empty());
        assert_eq!(views.len(), MAX_APPS);
        let often = views.last().unwrap();
        assert_eq!((&*often.app, often.counts["crash"]), ("often", 1000));
        assert_eq!(views[0].app, (1000 - MAX_APPS + 1).to_string());
    }

    #[test]
    fn each_app_and_pod_has_each_reason() {
        let mut exits = MasterExits::default();
        let pod = Pod {
            name: "shop-0".to_owned(),
            ..Pod::default()
        };
        exits.count("shop", &pod, ExitReason::Oom);
        exits.count("shop", &Pod::default(), ExitReason::Quit);
        let live = [app("shop"), app("shop"), app("blog")];
        let views = exits.view(live.iter());
        let of = |view: &MasterExitsView| {
            assert_eq!(view.counts.len(), master_exit::REASONS.len());
            let counts = (view.counts["oom"], view.counts["quit"]);
            (view.app.clone(), view.pod.name.clone(), counts)
        };
        let of: Vec<_> = views.iter().map(of).collect();
        let expected = [
            ("blog", "", (0, 0)),
            ("shop", "shop-0", (1, 0)),
            ("shop", "", (0, 1)),
        ];
        let expected = expected.map(|(app, pod, counts)| (app.to_owned(), pod.to_owned(), counts));
        assert_eq!(of, expected);
    }
}
