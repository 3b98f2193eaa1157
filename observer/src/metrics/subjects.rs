//! What series are about: workers, masters and the observer, with their labels.

use super::family::{Family, Read};
use super::labels::{Labels, NONE};
use super::series::Series;
use observer_model::counters::worker_counters::Counters;
use observer_model::fact::Pod;
use observer_model::findings::finding::Finding;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::{
    AppView, ErrorView, MasterExitsView, MetricsView, ObserverView, WorkerView,
};

mod now;

pub use now::Now;

/// The subjects of a view.
pub struct Subjects<'a> {
    workers: Vec<Worker<'a>>,
    masters: Vec<Master<'a>>,
    master_exits: Vec<MasterExits<'a>>,
    observer: &'a ObserverView,
}

/// Exits of the masters of an app.
struct MasterExits<'a> {
    view: &'a MasterExitsView,
    app: Labels,
    pod: Labels,
}

/// A worker, a slot or a worker class.
struct Worker<'a> {
    labels: Labels,
    /// `None` if its requests are not observed.
    counts: Option<Counts<'a>>,
    /// `None` if it has exited.
    now: Option<Now>,
}

/// Counts of a worker, a slot or a worker class.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a> {
    pub counters: &'a Counters,
    pub failed: &'a [ErrorView],
    pub handled: &'a [ErrorView],
}

/// A master.
pub struct Master<'a> {
    pub view: &'a AppView,
    worker_label: WorkerLabel,
    findings: &'a [Finding],
    /// The label `app`.
    app: Labels,
    /// `app` and `master_pid`.
    labels: Labels,
    /// The labels of its pod, which come last; none outside of Kubernetes.
    pod: Labels,
}

impl<'a> Master<'a> {
    /// The workers that `gunicorn_worker_info` names. With [`WorkerLabel::Slot`] these are the live
    /// ones: their number is bounded.
    pub fn named_workers(&self) -> impl Iterator<Item = &'a WorkerView> {
        let label = self.worker_label;
        self.view.workers.iter().filter(move |worker| match label {
            WorkerLabel::Pid => true,
            WorkerLabel::Slot => !worker.ended,
            WorkerLabel::None => false,
        })
    }

    /// Its active findings.
    pub fn findings(&self) -> impl Iterator<Item = &'a Finding> {
        let master_pid = self.view.master_pid;
        self.findings
            .iter()
            .filter(move |finding| finding.master_pid == master_pid)
    }
}

impl<'a> Subjects<'a> {
    #[must_use]
    pub fn of(view: &'a MetricsView, worker_label: WorkerLabel) -> Self {
        let mut subjects = Self {
            workers: Vec::new(),
            masters: Vec::new(),
            master_exits: Vec::new(),
            observer: &view.observer,
        };
        for app in &view.apps {
            let pid = app.master_pid.to_string();
            let master = [("app", &*app.app), ("master_pid", &pid)];
            let pod: Vec<_> = pod(&app.pod).collect();
            let labels = |own: &[(&'static str, &str)]| Labels::of(&[&master, own, &pod].concat());
            match worker_label {
                WorkerLabel::Pid => subjects.workers.extend(by_pid(app, labels)),
                WorkerLabel::Slot => subjects.workers.extend(by_slot(app, labels)),
                WorkerLabel::None => subjects.workers.extend(by_class(app, labels)),
            }
            subjects.masters.push(Master {
                view: app,
                worker_label,
                findings: &view.findings,
                app: Labels::of(&master[..1]),
                labels: Labels::of(&master),
                pod: Labels::of(&pod),
            });
        }
        let exits = view.master_exits.iter().map(|view| MasterExits {
            view,
            app: Labels::of(&[("app", &view.app)]),
            pod: Labels::of(&pod(&view.pod).collect::<Vec<_>>()),
        });
        subjects.master_exits = exits.collect();
        // Series are then almost in order when they are read.
        subjects.workers.sort_by(|a, b| a.labels.order(&b.labels));
        subjects.masters.sort_by(|a, b| a.labels.order(&b.labels));
        subjects
    }

    /// The series of a family.
    #[must_use]
    pub fn read<'b>(&'b self, family: &'b Family) -> Series<'b> {
        let mut series = Series::new(family);
        let observed = self.masters.iter().filter(|master| master.view.observed);
        match family.read {
            Read::Counts(read) => {
                for worker in &self.workers {
                    series.of(&worker.labels, &NONE);
                    worker.counts.iter().for_each(|of| read(of, &mut series));
                }
            }
            Read::Now(read) => {
                for worker in &self.workers {
                    series.of(&worker.labels, &NONE);
                    worker.now.iter().for_each(|of| read(of, &mut series));
                }
            }
            Read::App(read) => {
                for master in observed {
                    series.of(&master.app, &master.pod);
                    read(master.view, &mut series);
                }
            }
            Read::ObservedMaster(read) => {
                for master in observed {
                    series.of(&master.labels, &master.pod);
                    read(master, &mut series);
                }
            }
            Read::Master(read) => {
                for master in &self.masters {
                    series.of(&master.labels, &master.pod);
                    read(master, &mut series);
                }
            }
            Read::MasterExits(read) => {
                for exits in &self.master_exits {
                    series.of(&exits.app, &exits.pod);
                    read(exits.view, &mut series);
                }
            }
            Read::Observer(read) => read(self.observer, &mut series),
            Read::Process(read) => {
                self.observer
                    .usage
                    .iter()
                    .for_each(|of| read(of, &mut series));
            }
        }
        series.sorted()
    }
}

/// The labels of a master's pod. A name that is not known is no label.
pub fn pod(pod: &Pod) -> impl Iterator<Item = (&'static str, &str)> {
    let names = [
        ("namespace", &*pod.namespace),
        ("pod", &pod.name),
        ("container", &pod.container),
        ("node", &pod.node),
    ];
    names.into_iter().filter(|(_, name)| !name.is_empty())
}

fn by_pid<'a>(
    view: &'a AppView,
    labels: impl Fn(&[(&'static str, &str)]) -> Labels,
) -> impl Iterator<Item = Worker<'a>> {
    view.workers.iter().map(move |worker| Worker {
        labels: labels(&[
            ("worker_pid", &worker.pid.to_string()),
            ("worker_id", &worker.id),
            ("worker_class", &worker.class),
        ]),
        counts: view.observed.then_some(Counts {
            counters: &worker.counters,
            failed: &worker.failed,
            handled: &worker.handled,
        }),
        now: (!worker.ended).then(|| Now::of(worker, view.observed)),
    })
}

fn by_slot<'a>(
    view: &'a AppView,
    labels: impl Fn(&[(&'static str, &str)]) -> Labels,
) -> impl Iterator<Item = Worker<'a>> {
    let labels = move |slot: u32, class: &str| {
        labels(&[("worker_slot", &slot.to_string()), ("worker_class", class)])
    };
    let slots = view.slots.iter().filter(|_| view.observed);
    let live = view.workers.iter().filter(|worker| !worker.ended);
    let counts = slots.map(|slot| {
        let counts = Counts {
            counters: &slot.counters,
            failed: &slot.failed,
            handled: &slot.handled,
        };
        (slot.slot, &slot.class, Some(counts), None)
    });
    let now = live.map(|worker| {
        let now = Now::of(worker, view.observed);
        (worker.slot, &worker.class, None, Some(now))
    });
    let all = counts.chain(now);
    all.map(move |(slot, class, counts, now)| Worker {
        labels: labels(slot, class),
        counts,
        now,
    })
}

fn by_class<'a>(
    view: &'a AppView,
    labels: impl Fn(&[(&'static str, &str)]) -> Labels,
) -> impl Iterator<Item = Worker<'a>> {
    // Classes of a master whose requests are not observed would all be zero.
    let classes = view.classes.iter().filter(|_| view.observed);
    classes.map(move |class| {
        let live = view.workers.iter().filter(|worker| !worker.ended);
        let of_class = live.filter(|worker| worker.class == class.class);
        Worker {
            labels: labels(&[("worker_class", &class.class)]),
            counts: Some(Counts {
                counters: &class.counters,
                failed: &class.failed,
                handled: &class.handled,
            }),
            now: Some(Now::all(of_class.map(|worker| Now::of(worker, true)))),
        }
    })
}
