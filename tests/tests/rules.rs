//! The rules and dashboards of `deploy`: promtool accepts them; real Gunicorns with each problem fire
//! each alert, and every panel of every dashboard has data.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use end_to_end::{
    boot::Boot,
    cgroup::MemoryGroup,
    client::{Client, Request},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::{self, Background},
    observer::{self, Observer},
    operated, process,
    prometheus::{self, Alert, Prometheus},
    shipped, skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

/// Nothing is wrong yet for so long.
const CALM: Duration = Duration::from_secs(4);
/// All that is provoked has fired within this; a request has to hang for 30 seconds.
const FIRED_WITHIN: Duration = Duration::from_secs(50);
const MEMORY: u64 = 256 << 20;
/// With one error that is more frequent than the others: an alert names it.
const SYNC_PATHS: [&str; 5] = ["/ok", "/raises", "/raises", "/refuses", "/collects"];

/// `promtool` in the folder of the rules.
fn promtool(command: &[&str], folder: &Path) -> Result<()> {
    let files = shipped::files(folder, "yml")?;
    let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    let arguments: Vec<_> = command
        .iter()
        .copied()
        .chain(files.iter().map(AsRef::as_ref))
        .collect();
    let output = prometheus::promtool(folder, &arguments)?;
    ensure!(
        output.status.success(),
        "promtool {} ended with {} and said:\n{}{}",
        command.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn promtool_accepts_the_rules_and_finds_their_tests_passed() -> Result<()> {
    if let Err(missing) = prometheus::promtool_is_there() {
        return skip::unless_ci(&format!("{missing:#}"));
    }
    let rules = shipped::rules();
    promtool(&["check", "rules", "--lint-fatal"], &rules)?;
    promtool(&["test", "rules"], &rules.join("tests"))
}

/// The Gunicorns, by what is wrong with each.
struct Fleet {
    sync: GunicornServer,
    threaded: GunicornServer,
    /// One worker, and a short backlog.
    busy: GunicornServer,
    /// Two threads; requests that hang do not stop its heartbeat.
    stuck: GunicornServer,
    boot: Boot,
    /// Its workers boot as `boot` says.
    dying: GunicornServer,
    /// Not much memory.
    starved: GunicornServer,
    /// Workers of a class that handles requests itself.
    other: GunicornServer,
    /// Removed after the processes in it have been ended.
    _group: MemoryGroup,
}

impl Fleet {
    fn start() -> Result<Self> {
        let venv = Venv::debian()?;
        // What hangs is not waited for in the end.
        let of = |app| Builder::new(&venv, app).graceful_timeout(1);
        let (operated, hangs, raw) = (of("operated:app"), of("hangs:app"), of("raw:app"));
        let (boot, group) = (Boot::new()?, MemoryGroup::new(MEMORY)?);
        Ok(Self {
            sync: operated.clone().workers(2).timeout(2).start()?,
            threaded: operated.class("gthread").threads(4).start()?,
            busy: raw.clone().argument("--backlog=4").start()?,
            stuck: hangs.clone().class("gthread").threads(2).start()?,
            dying: boot.prepare(hangs.clone()).start()?,
            // Late for more than a second before it is given up.
            starved: hangs.within(&group).timeout(6).start()?,
            other: raw.class("own_worker.OwnWorker").start()?,
            boot,
            _group: group,
        })
    }

    fn observe(&self) -> Result<Observer> {
        let masters = [
            &self.sync,
            &self.threaded,
            &self.busy,
            &self.stuck,
            &self.dying,
            &self.starved,
            &self.other,
        ];
        let masters = masters.map(|server| format!("--pid={}", server.pid()));
        let settings = ["--gil", "--finding=restarts=1"].map(str::to_owned);
        Observer::start_with(
            &observer::binary()?,
            false,
            masters.into_iter().chain(settings),
        )
    }
}

/// A request that was in progress when the observer came, so that its end is lost.
struct Unseen(Client);

const BODY: &[u8] = b"0123456789";

impl Unseen {
    fn begin(server: &GunicornServer) -> Result<Self> {
        let mut client = Client::connect(server.port)?;
        let bytes = Request::new("POST", "/upload").body(BODY.to_vec()).bytes();
        client.send(&bytes[..bytes.len() - BODY.len()])?;
        // Served after it, so that one has a thread.
        ensure!(server.fetch(&Request::get("/ok"))?.status == 200);
        Ok(Self(client))
    }

    fn end(mut self) -> Result<()> {
        self.0.send(BODY)?;
        ensure!(self.0.response("POST")?.status == 200);
        Ok(())
    }
}

/// What has fired so far, by its labels, each as it did last.
#[derive(Default)]
struct Fired(BTreeMap<BTreeMap<String, String>, Alert>);

impl Fired {
    fn look(&mut self, prometheus: &Prometheus) -> Result<()> {
        for alert in prometheus.firing()? {
            self.0.insert(alert.labels.clone(), alert);
        }
        Ok(())
    }

    fn wait_for(&mut self, prometheus: &Prometheus, name: &str) -> Result<()> {
        wait::until(name, || {
            self.look(prometheus)?;
            Ok(self.names().contains(name).then_some(()))
        })
    }

    fn names(&self) -> BTreeSet<&str> {
        self.0.values().map(Alert::name).collect()
    }

    /// What an operator reads in one of them.
    fn says(&self, name: &str, text: &str) -> Result<()> {
        let mut alerts = self.0.values().filter(|alert| alert.name() == name);
        let says = |alert: &Alert| alert.annotations.values().any(|said| said.contains(text));
        ensure!(alerts.any(says), "no `{text}` in any {name}: {:?}", self.0);
        Ok(())
    }
}

#[test]
fn every_alert_fires_when_its_trouble_is_real_and_every_panel_has_data() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut fleet = Fleet::start()?;
    let hung = fleet.stuck.workers();
    let unseen = Unseen::begin(&fleet.threaded)?;
    let observer = fleet.observe()?;
    // It takes half a minute until that is anything to worry about.
    load::send_unanswered(&fleet.stuck, "/sleep?s=600");
    let prometheus = Prometheus::start_with(observer.port, "", &shipped::hastened_rules()?)?;
    let alerts = alerts(&prometheus)?;
    nothing_fires_in_a_calm_fleet(&prometheus, &fleet)?;

    let mut fired = Fired::default();
    let loads = [
        operated::load(&fleet.sync, &SYNC_PATHS),
        operated::load(&fleet.threaded, &operated::THREADED_PATHS),
    ];
    let slow = vec![Request::get("/slow?seconds=0.2")];
    let too_much = Background::start(fleet.busy.port, 12, slow, || ());
    let provoked = provoke(&mut fleet, unseen, &prometheus, &mut fired);
    // Who was turned away tries again after ever more seconds: waiting for these takes as long.
    let too_much = thread::spawn(|| too_much.stop());
    let checked = provoked.and_then(|()| {
        all_at_once(&prometheus, &mut fired, &alerts)?;
        compare::all([
            fired.says("GunicornRequestStuck", &format!("stack {}`", hung[0])),
            fired.says("GunicornWorkerTimeouts", "hung in operated.py:hangs"),
            fired.says("GunicornErrorBudgetBurnFast", "operated.py:raises"),
            readable(&fired),
            evaluated(&prometheus),
        ])
    });
    let tallies = loads.map(Background::stop);
    ensure!(too_much.join().is_ok(), "a client panicked");
    checked.with_context(|| format!("observer:\n{}", observer.stderr().unwrap_or_default()))?;
    let answered = tallies.iter().map(load::Tally::answered);
    ensure!(answered.min() > Some(20), "{tallies:?}");
    observer.stop()?;
    fired.wait_for(&prometheus, DOWN)?;
    let never: Vec<_> = alerts
        .iter()
        .filter(|name| !fired.names().contains(name.as_str()))
        .collect();
    ensure!(never.is_empty(), "never fired: {never:?}");
    Ok(())
}

/// It fires last.
const DOWN: &str = "GunicornObserverDown";

/// Names of all alerts that Prometheus has loaded.
fn alerts(prometheus: &Prometheus) -> Result<BTreeSet<String>> {
    let rules = prometheus.rules()?.into_iter().map(|rule| rule.name);
    // Names of recorded series have colons.
    let alerts: BTreeSet<_> = rules.filter(|name| !name.contains(':')).collect();
    ensure!(alerts.contains(DOWN), "{alerts:?}");
    Ok(alerts)
}

/// But for the level of one of them, which is as it is.
fn nothing_fires_in_a_calm_fleet(prometheus: &Prometheus, fleet: &Fleet) -> Result<()> {
    let expected = BTreeSet::from(["GunicornObserverLevelNotFull"]);
    // Before the first scrape there is no observer.
    wait::until("the first scrapes to be evaluated", || {
        let mut fired = Fired::default();
        fired.look(prometheus)?;
        let known = prometheus.query("count(gunicorn_app_info) == 7")?;
        Ok((fired.names() == expected && !known.is_empty()).then_some(()))
    })?;
    let begin = Instant::now();
    let mut fired = Fired::default();
    while begin.elapsed() < CALM {
        for server in [&fleet.sync, &fleet.threaded, &fleet.stuck] {
            ensure!(server.fetch(&Request::get("/ok"))?.status == 200);
        }
        fired.look(prometheus)?;
    }
    let fired = fired.names();
    ensure!(fired == expected, "without any trouble: {fired:?}");
    Ok(())
}

/// All that goes wrong besides errors and the request that hangs; load has had its effect then.
fn provoke(
    fleet: &mut Fleet,
    unseen: Unseen,
    prometheus: &Prometheus,
    fired: &mut Fired,
) -> Result<()> {
    unseen.end()?;
    fleet.boot.say("exits 7")?;
    let first = fleet.dying.workers();
    process::signal(*first.first().context("no worker")?, Signal::SIGKILL)?;
    fired.wait_for(prometheus, "GunicornRestartLoop")?;
    fleet.boot.say("raises")?;
    fleet.dying.ends_with(3)?;
    load::send_unanswered(&fleet.starved, "/eat");
    operated::trouble(&mut fleet.sync, &mut fleet.threaded)?;
    fired.wait_for(prometheus, "GunicornWorkerOOMKilled")?;
    fleet.starved.wait_for_workers(1)?;
    load::send_unanswered(&fleet.starved, "/sleep?s=600");
    let of_load = [
        "GunicornQueueWaitHigh",
        "GunicornBacklogNearLimit",
        "GunicornConnectionsDropped",
        "GunicornWorkersSaturated",
    ];
    of_load
        .iter()
        .try_for_each(|name| fired.wait_for(prometheus, name))
}

/// Waits until all alerts but the last have fired, and all queries of dashboards were answered.
fn all_at_once(
    prometheus: &Prometheus,
    fired: &mut Fired,
    alerts: &BTreeSet<String>,
) -> Result<()> {
    let mut open = shipped::dashboard_queries()?;
    ensure!(open.len() > 80, "the dashboards have only {open:?}");
    let start = Instant::now();
    loop {
        fired.look(prometheus)?;
        let mut unanswered = Vec::new();
        for query in open {
            let answer = prometheus.query(&query.query);
            let answer = answer.with_context(|| query.of.clone())?;
            if answer.iter().all(|series| series.number().is_none()) {
                unanswered.push(query);
            }
        }
        open = unanswered;
        let names = fired.names();
        let missing = alerts
            .iter()
            .filter(|name| *name != DOWN && !names.contains(name.as_str()));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() && open.is_empty() {
            return Ok(());
        }
        if start.elapsed() > FIRED_WITHIN {
            bail!("did not fire: {missing:?}; have no data: {open:#?}");
        }
    }
}

/// Templates are filled, and labels are those that stay few.
fn readable(fired: &Fired) -> Result<()> {
    for alert in fired.0.values() {
        for (name, text) in &alert.annotations {
            let is_broken = ["error expanding", "no value", "{{", "  "];
            let is_broken = is_broken.iter().any(|part| text.contains(part));
            ensure!(!is_broken, "{}: {name} is `{text}`", alert.name());
        }
        for label in ["master_pid", "worker_pid", "worker_id", "pid", "reason"] {
            ensure!(!alert.labels.contains_key(label), "{alert:?}");
        }
    }
    Ok(())
}

/// Prometheus could evaluate each rule.
fn evaluated(prometheus: &Prometheus) -> Result<()> {
    let rules = prometheus.rules()?;
    let failed: Vec<_> = rules.iter().filter(|rule| rule.health != "ok").collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    Ok(())
}
