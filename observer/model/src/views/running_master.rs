//! The processes of running masters, for outputs that read more of these processes themselves.

use crate::event::Pid;
use crate::fact::Pod;
use crate::state::State;

/// A running master and its live workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningMaster {
    pub app: String,
    pub pod: Pod,
    pub pid: Pid,
    pub workers: Vec<Pid>,
}

impl State {
    /// The running masters.
    #[must_use]
    pub fn running_masters(&self) -> Vec<RunningMaster> {
        let running = self.apps.values().filter(|app| app.ended_ns.is_none());
        running
            .map(|app| RunningMaster {
                app: app.name().to_owned(),
                pod: (*app.master.pod).clone(),
                pid: app.master.pid,
                workers: app.live.keys().copied().collect(),
            })
            .collect()
    }
}
