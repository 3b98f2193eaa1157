//! Exits of masters: counted by app and reason, and reported.

use crate::event::{ExitStatus, Pid};
use crate::fact::Pod;
use crate::lifecycle::exit_reason::ExitReason;
use crate::lifecycle::master_exit;
use crate::state::State;
use crate::state::app::App;
use std::collections::{BTreeMap, VecDeque};

/// Most apps whose counts are kept.
const MAX_APPS: usize = 256;

/// Counts of exits. They stay when the master is forgotten.
#[derive(Debug, Default)]
pub(crate) struct MasterExits {
    /// The app whose master exited last comes last.
    apps: VecDeque<AppExits>,
}

/// Exits of the masters of an app.
#[derive(Clone, Debug)]
pub(crate) struct AppExits {
    pub app: String,
    pub pod: Pod,
    counts: BTreeMap<ExitReason, u64>,
}

impl AppExits {
    fn new(app: &str, pod: &Pod) -> Self {
        Self {
            app: app.to_owned(),
            pod: pod.clone(),
            counts: BTreeMap::new(),
        }
    }

    fn is_of(&self, app: &str, pod: &Pod) -> bool {
        self.app == app && self.pod == *pod
    }

    /// The count of each reason.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let count = |reason| self.counts.get(&reason).copied().unwrap_or(0);
        let all = master_exit::REASONS.into_iter();
        all.map(|reason| (reason.as_str(), count(reason))).collect()
    }
}

impl MasterExits {
    fn count(&mut self, app: &str, pod: &Pod, reason: ExitReason) {
        let known = self.apps.iter().position(|it| it.is_of(app, pod));
        let known = known.and_then(|at| self.apps.remove(at));
        let mut exits = known.unwrap_or_else(|| AppExits::new(app, pod));
        *exits.counts.entry(reason).or_default() += 1;
        self.apps.push_back(exits);
        if self.apps.len() > MAX_APPS {
            self.apps.pop_front();
        }
    }

    /// Those of these apps, also without an exit, and of apps that are forgotten.
    pub fn with<'a>(&self, apps: impl Iterator<Item = &'a App>) -> Vec<AppExits> {
        let mut all: Vec<AppExits> = self.apps.iter().cloned().collect();
        for app in apps {
            let (app, pod) = (app.name(), &*app.master.pod);
            if !all.iter().any(|it| it.is_of(app, pod)) {
                all.push(AppExits::new(app, pod));
            }
        }
        all
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
        let all = exits.with(std::iter::empty());
        assert_eq!(all.len(), MAX_APPS);
        let often = all.last().unwrap();
        assert_eq!((&*often.app, often.counts()["crash"]), ("often", 1000));
        assert_eq!(all[0].app, (1000 - MAX_APPS + 1).to_string());
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
        let of = |exits: AppExits| {
            let counts = exits.counts();
            assert_eq!(counts.len(), master_exit::REASONS.len());
            (exits.app, exits.pod.name, (counts["oom"], counts["quit"]))
        };
        let of: Vec<_> = exits.with(live.iter()).into_iter().map(of).collect();
        let expected = [
            ("shop", "shop-0", (1, 0)),
            ("shop", "", (0, 1)),
            ("blog", "", (0, 0)),
        ];
        let expected = expected.map(|(app, pod, counts)| (app.to_owned(), pod.to_owned(), counts));
        assert_eq!(of, expected);
    }
}
