//! Tries every stand, several at a time, under one observer.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{
    case::{CASES, Case, Client as Behaviour, FENCE, Fate, STARTS_CAPTURE},
    error_counts::ErrorCounts,
    framework::Stand,
};
use crate::{
    client::{self, Client, Request},
    gunicorn::GunicornServer,
    matrix::place::Place,
    metrics::Metrics,
    observer::Observer,
    skip, wait,
};

/// Requests of each case: also one that follows another of its kind.
const TIMES: usize = 2;
/// Starting a framework takes most of the time on two cores.
const AT_A_TIME: usize = 4;
/// A bound on the time between the last request and the last count.
const LATE: Duration = Duration::from_secs(5);

/// Held while requests are sent whose exceptions only deep capture finds: others would use up the
/// exceptions that it may see. Django alone raises a thousand to mail about a 500.
static ALONE: RwLock<()> = RwLock::new(());

/// The result of a stand.
pub struct Row {
    pub stand: Stand,
    pub cases: Vec<Tried>,
    /// Mistakes beside those of the cases.
    pub wrong: Vec<String>,
}

/// The result of a case.
pub struct Tried {
    pub case: Case,
    pub fate: Fate,
    /// Every mistake.
    pub wrong: Vec<String>,
}

impl Row {
    /// Every mistake, with its case.
    fn wrong(&self) -> impl Iterator<Item = String> {
        let of_cases = self.cases.iter().flat_map(|tried| {
            let line = |wrong: &String| format!("{}: {wrong}", tried.case.path);
            tried.wrong.iter().map(line)
        });
        self.wrong.iter().cloned().chain(of_cases)
    }
}

/// The numbers of cases that were tried, and that are wrong.
#[must_use]
pub fn counts(rows: &[Row]) -> (usize, usize) {
    let cases = || rows.iter().flat_map(|row| &row.cases);
    let wrong = cases().filter(|tried| !tried.wrong.is_empty()).count();
    (cases().count(), wrong)
}

/// Every mistake once, with its stands.
#[must_use]
pub fn wrong(rows: &[Row]) -> Vec<String> {
    let mut stands: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        for wrong in row.wrong() {
            let of_wrong = stands.entry(wrong).or_default();
            of_wrong.push(row.stand.to_string());
        }
    }
    let line = |(wrong, stands): (String, Vec<String>)| {
        format!("{wrong}\n    in {}: {}", stands.len(), stands.join(", "))
    };
    stands.into_iter().map(line).collect()
}

/// The result of all stands.
pub struct Outcome {
    pub rows: Vec<Row>,
    /// 5xx with a known exception during deep capture; and how many of them deep capture agreed on.
    pub checked: f64,
    pub agreed: f64,
}

/// Tries stands. One whose interpreter is not on this machine is skipped, and fails under CI.
pub fn run(place: &Place, binary: &Path, stands: &[Stand]) -> Result<Outcome> {
    let mut found = Vec::new();
    for stand in stands {
        if place.has(stand.cell()?.interpreter) {
            found.push(*stand);
        } else {
            skip::unless_ci(&format!("no interpreter {}", stand.interpreter))?;
        }
    }
    // Series of exited masters go at once, so that scrapes stay small.
    let observer = Observer::start_with(binary, false, ["--keep-ended", "1s"])?;
    let installed = TempDir::new().context("cannot make a folder for packages")?;
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(stand) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = try_one(place, installed.path(), *stand, &observer).unwrap_or_else(
                        |error| Row {
                            stand: *stand,
                            cases: Vec::new(),
                            wrong: vec![first_lines(&format!("{error:#}"))],
                        },
                    );
                    rows.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(row);
                }
            });
        }
    });
    let metrics = observer.scrape()?;
    observer.stop()?;
    let checks = |labels| metrics.sum("gunicorn_observer_deep_capture_checks_total", labels);
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    let place_in_list = |row: &Row| found.iter().position(|of| of.name() == row.stand.name());
    rows.sort_by_key(place_in_list);
    Ok(Outcome {
        rows,
        checked: checks(&[]),
        agreed: checks(&[("agrees", "yes")]),
    })
}

fn try_one(place: &Place, installed: &Path, stand: Stand, observer: &Observer) -> Result<Row> {
    let server = stand.server(place, installed)?.start()?;
    let mut row = Row {
        stand,
        cases: Vec::new(),
        wrong: Vec::new(),
    };
    wait_until_observed(observer, &server)?;
    for case in CASES.iter().filter(|case| case.is_for(&stand)) {
        let fate = case.fate(&stand);
        row.cases.push(Tried {
            case: *case,
            fate: fate.context("a case has no fate")?,
            wrong: Vec::new(),
        });
    }
    let alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = prepare(observer, &stand, &server) {
        row.wrong.push(first_lines(&format!("{error:#}")));
    }
    ask_all(&server, &mut row, true);
    drop(alone);
    let together = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    ask_all(&server, &mut row, false);
    drop(together);
    fence(observer, &stand.name(), &server)?;
    judge(observer, &server, &mut row)?;
    Ok(row)
}

fn ask_all(server: &GunicornServer, row: &mut Row, is_silent: bool) {
    for _ in 0..TIMES {
        let asked = |tried: &&mut Tried| tried.case.is_silent() == is_silent;
        for tried in row.cases.iter_mut().filter(asked) {
            if let Err(error) = ask(server.port, tried) {
                tried.wrong.push(first_lines(&format!("{error:#}")));
            }
        }
    }
}

/// Waits until every probe of this master's kind is attached.
pub fn wait_until_observed(observer: &Observer, server: &GunicornServer) -> Result<()> {
    let pid = server.pid().to_string();
    let labels = [("master_pid", pid.as_str()), ("level", "full")];
    observer.wait_until("the master to be observed in full", |metrics| {
        metrics.sum("gunicorn_observer_target_level", &labels) > 0.0
    })?;
    Ok(())
}

/// Sends a request that fails without an exception, and waits for deep capture. Event loops have none.
pub fn prepare(observer: &Observer, stand: &Stand, server: &GunicornServer) -> Result<()> {
    if stand.framework.is_asgi() {
        return fail_without_exception(server);
    }
    start_capture(observer, &stand.name(), server)
}

fn fail_without_exception(server: &GunicornServer) -> Result<()> {
    let answer = client::fetch(server.port, &Request::get(STARTS_CAPTURE))?;
    ensure!(
        answer.status == 500,
        "{STARTS_CAPTURE} is {}",
        answer.status
    );
    Ok(())
}

/// Sends a request that fails without an exception, and waits for deep capture.
pub fn start_capture(observer: &Observer, name: &str, server: &GunicornServer) -> Result<()> {
    fail_without_exception(server)?;
    let looking = [("app", name), ("state", "looking")];
    observer.wait_until("deep capture", |metrics| {
        metrics.sum("gunicorn_observer_deep_capture", &looking) > 0.0
    })?;
    Ok(())
}

/// Sends the request once, and checks the answer.
fn ask(port: u16, tried: &Tried) -> Result<()> {
    let request = Request::get(tried.case.path).header("Connection", "close");
    let mut client = Client::connect(port)?;
    client.send(&request.bytes())?;
    let expected = match tried.fate {
        Fate::LeavesUnanswered(..) => return client.wait_for_close(),
        Fate::Well(status)
        | Fate::Plain(status)
        | Fate::Unseen(status)
        | Fate::Answered(status, ..) => status,
        Fate::Breaks(..) => 200,
        Fate::Leaves(..) | Fate::Uncaught(..) | Fate::RaisedAgain(..) => 500,
    };
    if tried.case.client == Behaviour::Leaves {
        client.head_bytes()?;
        return Ok(());
    }
    let response = client.response("GET")?;
    ensure!(
        response.status == expected,
        "answered {}, not {expected}",
        response.status
    );
    let breaks = matches!(tried.fate, Fate::Breaks(..));
    ensure!(
        response.complete != breaks,
        "complete: {}",
        response.complete
    );
    Ok(())
}

/// A last request, after which all others are counted.
pub fn fence(observer: &Observer, name: &str, server: &GunicornServer) -> Result<()> {
    client::fetch(
        server.port,
        &Request::get(FENCE).header("Connection", "close"),
    )?;
    let labels = [("app", name), ("http_route", FENCE)];
    observer.wait_until("the last request to be counted", |metrics| {
        metrics.sum("http_server_request_duration_seconds_count", &labels) > 0.0
    })?;
    Ok(())
}

/// Compares the observer's counts with those expected.
fn judge(observer: &Observer, server: &GunicornServer, row: &mut Row) -> Result<()> {
    let minor = row.stand.minor()?;
    let times: f64 = [1.0; TIMES].iter().sum();
    let framework = row.stand.framework;
    let expected =
        |tried: &Tried| ErrorCounts::expected(tried.fate, framework, tried.case.path, minor, times);
    let name = row.stand.name();
    let counted = |metrics: &Metrics| ErrorCounts::by_path(metrics, &name, server.pid());
    let is_right = |metrics: &Metrics| {
        let mut counted = counted(metrics);
        row.cases
            .iter()
            .all(|tried| counted.remove(tried.case.path).unwrap_or_default() == expected(tried))
    };
    // Right or not: mistakes are listed below.
    let _ = wait::until_within(LATE, "all errors to be counted", || {
        Ok(is_right(&observer.scrape()?).then_some(()))
    });
    let mut counted = counted(&observer.scrape()?);
    for tried in &mut row.cases {
        let (is, should) = (
            counted.remove(tried.case.path).unwrap_or_default(),
            expected(tried),
        );
        if is != should {
            tried
                .wrong
                .push(format!("counted: {is}\n    Python: {should}"));
        }
    }
    let first = counted.remove(STARTS_CAPTURE).unwrap_or_default();
    if !is_unknown_once(&first) {
        row.wrong.push(format!("{STARTS_CAPTURE} counted: {first}"));
    }
    let of_others = counted
        .iter()
        .map(|(path, counts)| format!("{path} counted: {counts}"));
    row.wrong.extend(of_others);
    Ok(())
}

/// Whether these are the counts of one request that failed without an exception.
fn is_unknown_once(counts: &ErrorCounts) -> bool {
    let of_http = counts.http.iter().all(|(values, count)| {
        let class = values.get(1).map_or("", String::as_str);
        class == "unknown" && count.to_string() == "1"
    });
    of_http && counts.http.len() == 1 && counts.failed.is_empty() && counts.handled.is_empty()
}

/// The first lines of an error that may contain a whole scrape.
fn first_lines(text: &str) -> String {
    const LINES: usize = 3;
    let lines: Vec<_> = text.lines().take(LINES).collect();
    lines.join("\n")
}
