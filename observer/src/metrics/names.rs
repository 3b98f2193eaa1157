//! By what labels an app is known.

use super::family::Label;
use observer_model::views::metrics_view::AppView;

/// The labels that every series of a master has.
pub struct Names<'a> {
    app: &'a str,
    master_pid: String,
    pod: Vec<Label<'a>>,
}

impl<'a> Names<'a> {
    #[must_use]
    pub fn of(view: &'a AppView) -> Self {
        let pod = [
            ("namespace", view.pod.namespace.as_str()),
            ("pod", &view.pod.name),
            ("container", &view.pod.container),
            ("node", &view.pod.node),
        ];
        Self {
            app: &view.app,
            master_pid: view.master_pid.to_string(),
            // Outside of Kubernetes there are none: an empty label is no label.
            pod: pod
                .into_iter()
                .filter(|(_, name)| !name.is_empty())
                .collect(),
        }
    }

    /// Of a series of the app, which may have more than one master.
    pub fn app<'b>(&'b self, rest: &[Label<'b>]) -> Vec<Label<'b>> {
        [&[("app", self.app)], rest, &self.pod].concat()
    }

    /// Of a series of one master.
    pub fn master<'b>(&'b self, rest: &[Label<'b>]) -> Vec<Label<'b>> {
        let master = [("app", self.app), ("master_pid", self.master_pid.as_str())];
        [&master, rest, &self.pod].concat()
    }
}
