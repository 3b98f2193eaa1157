//! The dashboard in a real browser.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    browser::{self, Browser},
    client::{self, Client, Request},
    gunicorn::{Builder, GunicornServer},
    load::Background,
    observer::{self, Observer},
    skip,
    venv::Venv,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const CHARTS: [&str; 5] = ["rate", "latency", "utilisation", "queue", "heatmap"];
/// Pixels of a chart that are neither background nor a grey line.
const COLOURED: &str = "
    const canvas = document.querySelector(`figure[data-chart=${arguments[0]}] canvas`);
    if (canvas === null) return 0;
    const {width, height} = canvas;
    // Of a copy: reading what is drawn to again and again is something the browser warns of.
    const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const {data} = copy.getImageData(0, 0, width, height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
        const [r, g, b, a] = data.slice(at, at + 4);
        if (a > 60 && Math.max(r, g, b) - Math.min(r, g, b) > 40) found += 1;
    }
    return found;";
/// The longest time between two frames, in milliseconds, while five snapshots come.
const LONGEST_GAP: &str = "
    return new Promise((resolve) => {
        let snapshots = 0, last = performance.now(), longest = 0;
        const source = new EventSource('/api/v1/events');
        source.addEventListener('snapshot', () => snapshots += 1);
        const frame = () => {
            const now = performance.now();
            longest = Math.max(longest, now - last);
            last = now;
            if (snapshots < 5) return requestAnimationFrame(frame);
            source.close();
            resolve(longest);
        };
        requestAnimationFrame(frame);
    });";

/// Between two requests of one client.
const THINKING: Duration = Duration::from_millis(20);
/// The page is there in time, and goes on in time: far above what is measured.
const OPENS: Duration = Duration::from_secs(10);
const GAP_MS: f64 = 1000.0;

fn shop() -> Result<Builder> {
    Ok(Builder::new(&Venv::debian()?, "shop:app"))
}

/// The page, at an app.
fn opened(observer: &Observer, master: u32, width: u32) -> Result<Browser> {
    let browser = Browser::start(width, 900)?;
    browser.open(&format!("http://127.0.0.1:{}/#/{master}", observer.port))?;
    wait_for_state(&browser, "live")?;
    shows(&browser, master)?;
    Ok(browser)
}

fn wait_for_state(browser: &Browser, state: &str) -> Result<()> {
    let condition = format!("document.querySelector('#connection[data-state={state}]')");
    browser.wait_for(&condition, state).map(drop)
}

/// Waits until the app of this master is the chosen one.
fn shows(browser: &Browser, master: u32) -> Result<()> {
    let condition = format!("document.querySelector('section#app[data-master=\"{master}\"]')");
    browser
        .wait_for(&condition, &format!("master {master} to be chosen"))
        .map(drop)
}

/// Waits until there is more in a chart than its grid.
fn is_drawn(browser: &Browser, chart: &str) -> Result<()> {
    let condition = format!("(function() {{ {COLOURED} }})('{chart}') > 0");
    browser
        .wait_for(&condition, &format!("the chart {chart}"))
        .map(drop)
}

fn snapshot(observer: &Observer) -> Result<Value> {
    let response = client::fetch(observer.port, &Request::get("/api/v1/snapshot"))?;
    Ok(serde_json::from_slice(&response.body)?)
}

/// The app of this server, as the API has it.
fn app(observer: &Observer, server: &GunicornServer) -> Result<Value> {
    let view = snapshot(observer)?;
    let apps = view["apps"].as_array().context("no apps")?;
    let app = apps.iter().find(|app| app["master_pid"] == server.pid());
    app.cloned().context("the API has no such app")
}

/// Every text of these elements, with its whitespace as it is.
fn texts(browser: &Browser, css: &str) -> Result<Vec<String>> {
    let found = browser.script(
        "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent);",
        &json!([css]),
    )?;
    Ok(serde_json::from_value(found)?)
}

/// A whole number, whatever separates its thousands.
fn number(text: Option<&str>) -> Option<usize> {
    let digits = text?.chars().filter(char::is_ascii_digit);
    digits.collect::<String>().parse().ok()
}

/// How many elements a selector finds.
fn count(browser: &Browser, css: &str) -> Result<usize> {
    Ok(texts(browser, css)?.len())
}

fn is_true(browser: &Browser, expression: &str) -> Result<bool> {
    Ok(browser.value(expression)? == true)
}

/// Nothing went wrong in the page, nor did the browser refuse anything.
fn console_is_clean(browser: &Browser) -> Result<()> {
    let said = browser.console()?;
    let wrong: Vec<_> = said
        .iter()
        .filter(|line| line.starts_with("SEVERE") || line.starts_with("WARNING"))
        .collect();
    ensure!(wrong.is_empty(), "the console says {wrong:#?}");
    Ok(())
}

/// Nothing is wider than the page.
fn fits(browser: &Browser) -> Result<()> {
    let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]")?;
    ensure!(
        widths[0].as_u64() <= widths[1].as_u64(),
        "the page is {} wide, of which {} are seen",
        widths[0],
        widths[1]
    );
    Ok(())
}

#[test]
fn the_page_shows_what_the_api_has_and_takes_nothing_from_elsewhere() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = shop()?.workers(2).start()?;
    server.wait_for_workers(2)?;
    let observer = Observer::run_for(&[server.pid()])?;
    let browser = opened(&observer, server.pid(), 1600)?;
    let routes = ["/", "/products/7", "/checkout"].map(Request::get).to_vec();
    let load = Background::start(server.port, 2, routes, || thread::sleep(THINKING));
    for name in CHARTS {
        is_drawn(&browser, name)?;
    }
    let tally = load.stop();
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    let sent = tally.answered();
    observer.wait_for_requests(server.pid(), sent)?;
    let total = "document.querySelector('#app [data-value=requests_total]').dataset.raw";
    browser.wait_for(&format!("{total} === '{sent}'"), "all requests in the page")?;
    let app = app(&observer, &server)?;
    let failed = tally
        .answers
        .iter()
        .filter(|((status, _), _)| *status == 500);
    let failed: usize = failed.map(|(_, count)| count).sum();
    ensure!(failed > 0 && app["errors_total"] == failed, "{app}");
    let errors =
        browser.value("document.querySelector('[data-value=errors_total]').dataset.raw")?;
    ensure!(
        number(errors.as_str()) == Some(failed),
        "{errors}, not {failed}"
    );
    for name in ["gunicorn_version", "python_version", "worker_class"] {
        let shown = browser.text(&format!("#app [data-value={name}]"))?;
        ensure!(!shown.is_empty() && app[name] == shown, "{name}: {shown}");
    }
    let workers = app["workers"].as_array().context("no workers")?;
    ensure!(workers.len() == 2, "{workers:?}");
    ensure!(count(&browser, "#workers tr[data-worker]")? == 2);
    for worker in workers {
        let row = format!("#workers tr[data-worker='{}']", worker["pid"]);
        let cell = |name: &str| browser.text(&format!("{row} td[data-column={name}]"));
        ensure!(worker["state"] == cell("state")?, "{worker}");
        ensure!(worker["class"] == cell("class")?, "{worker}");
        let requests = number(Some(&cell("requests")?));
        ensure!(
            requests.is_some_and(|requests| worker["requests_total"] == requests),
            "{worker}"
        );
    }
    ensure!(count(&browser, "#routes tr[data-route]")? == 3);
    let elsewhere = browser.value(
        "performance.getEntriesByType('resource').map((entry) => entry.name)
            .filter((name) => new URL(name).origin !== location.origin)",
    )?;
    ensure!(elsewhere == json!([]), "{elsewhere}");
    let policy = browser
        .value("fetch('/').then((answer) => answer.headers.get('content-security-policy'))")?;
    let policy = policy.as_str().context("no policy")?;
    ensure!(policy.contains("default-src 'none'"), "{policy}");
    ensure!(!policy.contains("unsafe"), "{policy}");
    console_is_clean(&browser)?;
    observer.stop().map(drop)
}

#[test]
fn names_and_paths_that_are_markup_are_shown_as_text_and_break_no_layout() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let name = "<img src=x onerror=document.title=1>\"\u{202e}\u{1f600}";
    let server = Builder::new(&Venv::debian()?, "hangs:app")
        .argument("--name")
        .argument(name)
        .argument("--limit-request-line")
        .argument("8190")
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let long = format!("/ok/{}", "w".repeat(4096));
    for path in [&long, "/<script>alert(1)</script>", "/ok/<b>bold</b>"] {
        server.fetch(&Request::get(path))?;
    }
    observer.wait_for_requests(server.pid(), 3)?;
    let browser = opened(&observer, server.pid(), 400)?;
    let title = browser.value("document.title")?;
    browser.wait_for(
        "document.querySelectorAll('#slowest tbody tr').length === 3",
        "three requests",
    )?;
    let app = app(&observer, &server)?;
    let link = texts(&browser, "#apps tr[data-master] a")?;
    ensure!(link.len() == 1 && app["app"] == link[0], "{link:?}");
    ensure!(link[0].starts_with("<img src=x onerror="), "{link:?}");
    let slowest = texts(&browser, "#slowest")?.concat();
    for request in app["slowest"].as_array().context("no requests")? {
        let path = request["path"].as_str().unwrap_or_default();
        ensure!(slowest.contains(path), "{path} is not in {slowest}");
    }
    ensure!(slowest.contains("/<script>alert(1)</script>"), "{slowest}");
    let routes = texts(&browser, "#routes")?.concat();
    for route in app["routes"].as_array().context("no routes")? {
        let route = route["route"].as_str().unwrap_or_default();
        ensure!(routes.contains(route), "{route} is not in {routes}");
    }
    for made in ["img[src=x]", "main script", "td b"] {
        ensure!(count(&browser, made)? == 0, "{made} was made");
    }
    ensure!(browser.value("document.title")? == title);
    fits(&browser)?;
    console_is_clean(&browser)
}

#[test]
fn a_reload_keeps_the_app_and_its_history_and_the_page_outlives_the_daemon() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let servers = [shop()?.start()?, shop()?.start()?];
    let pids = servers.each_ref().map(GunicornServer::pid);
    let observer = Observer::run_for(&pids)?;
    for server in &servers {
        server.fetch(&Request::get("/"))?;
    }
    let browser = Browser::start(1600, 900)?;
    browser.open(&format!("http://127.0.0.1:{}/", observer.port))?;
    wait_for_state(&browser, "live")?;
    // Of the two, the one that is not chosen by itself.
    let first = browser.wait_for("document.querySelector('#app').dataset.master", "an app")?;
    let first = first.as_str().map(str::parse).transpose()?;
    let other = pids.into_iter().find(|pid| first != Some(*pid));
    let other = other.context("one app only")?;
    browser.click(&format!("#apps a[href='#/{other}']"))?;
    shows(&browser, other)?;
    let points = browser.wait_for(
        "Number(document.body.dataset.points) >= 2 && Number(document.body.dataset.points)",
        "two points",
    )?;
    // One request makes one point, between none and none.
    is_drawn(&browser, "latency")?;
    browser.reload()?;
    wait_for_state(&browser, "live")?;
    shows(&browser, other)?;
    is_drawn(&browser, "latency")?;
    let after = browser.wait_for("Number(document.body.dataset.points)", "points")?;
    ensure!(after.as_u64() >= points.as_u64(), "{points}, then {after}");
    console_is_clean(&browser)?;
    let port = observer.port;
    observer.stop()?;
    wait_for_state(&browser, "lost")?;
    let again = Observer::run_at(port, &pids)?;
    wait_for_state(&browser, "live")?;
    shows(&browser, other)?;
    again.stop()?;
    Ok(())
}

#[test]
fn all_can_be_done_with_the_keyboard() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let servers = [shop()?.start()?, shop()?.start()?];
    let pids = servers.each_ref().map(GunicornServer::pid);
    let observer = Observer::run_for(&pids)?;
    let browser = opened(&observer, pids[0], 1600)?;
    tab_to(&browser, "button#theme")?;
    let theme = browser.value("document.documentElement.dataset.theme")?;
    browser.keys(browser::ENTER)?;
    browser.wait_for(
        &format!("document.documentElement.dataset.theme !== {theme}"),
        "another theme",
    )?;
    browser.click("button#theme")?;
    ensure!(browser.value("document.documentElement.dataset.theme")? == theme);
    tab_to(&browser, &format!("#apps a[href='#/{}']", pids[1]))?;
    browser.keys(browser::ENTER)?;
    shows(&browser, pids[1])?;
    ensure!(browser.value("location.hash")? == format!("#/{}", pids[1]));
    console_is_clean(&browser)
}

/// Presses Tab until this element has the focus, and sees that it is shown.
fn tab_to(browser: &Browser, css: &str) -> Result<()> {
    for _ in 0..12 {
        browser.keys(browser::TAB)?;
        if browser.script(
            "return document.activeElement.matches(arguments[0]);",
            &json!([css]),
        )? == true
        {
            let style = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
            ensure!(is_true(browser, style)?, "the focus on {css} is not seen");
            return Ok(());
        }
    }
    anyhow::bail!("Tab does not reach {css}")
}

#[test]
fn a_request_that_hangs_is_a_finding_in_both_themes_on_a_desk_and_a_phone() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "hangs:app")
        .workers(2)
        .start()?;
    let pid = format!("--pid={}", server.pid());
    let observer = Observer::start_with(
        &observer::binary()?,
        false,
        [pid.as_str(), "--finding", "stuck=1s"],
    )?;
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/sleep?s=60").bytes())?;
    let browser = opened(&observer, server.pid(), 1600)?;
    browser.wait_for(
        "document.querySelector('#findings li[data-finding=worker_stuck]')",
        "the finding",
    )?;
    browser.wait_for(
        "document.querySelector('#stuck').textContent.includes('/sleep')",
        "the request",
    )?;
    let seen = is_true(
        &browser,
        "document.querySelector('#findings li').checkVisibility()",
    )?;
    ensure!(seen, "the finding is hidden");
    let folder = pictures()?;
    for (width, height) in [(1600, 1200), (400, 800)] {
        browser.resize(width, height)?;
        for (is_dark, theme) in [(true, "dark"), (false, "light")] {
            browser.dark(is_dark)?;
            let condition = format!("document.documentElement.dataset.theme === '{theme}'");
            browser.wait_for(&condition, theme)?;
            fits(&browser)?;
            let picture = folder.join(format!("stuck-{theme}-{width}.png"));
            browser.screenshot(&picture)?;
            let size = fs::metadata(&picture)?.len();
            ensure!(size > 10_000, "{} has {size} bytes", picture.display());
        }
    }
    console_is_clean(&browser)
}

/// Where pictures of the page are left to be looked at: beside the program under test.
fn pictures() -> Result<PathBuf> {
    let binary = observer::binary()?;
    let target = binary.parent().and_then(Path::parent);
    let folder = target.context("no target folder")?.join("screenshots");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[test]
fn a_large_fleet_opens_in_time_and_the_page_goes_on_to_answer() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let recording = folder.path().join("fleet.rec");
    observer::fleet(&recording, 50, 20, 200)?;
    let observer = Observer::show(&recording)?;
    let master = snapshot(&observer)?["apps"][0]["master_pid"]
        .as_u64()
        .context("no app")?;
    let browser = Browser::start(1600, 900)?;
    let start = Instant::now();
    browser.open(&format!("http://127.0.0.1:{}/#/{master}", observer.port))?;
    browser.wait_for(
        "document.querySelectorAll('#apps tr[data-master]').length === 50
            && document.querySelectorAll('#workers tr[data-worker]').length === 20",
        "50 apps and 20 workers",
    )?;
    let opened = start.elapsed();
    for name in CHARTS {
        let coloured = browser.script(COLOURED, &json!([name]))?;
        ensure!(coloured.as_u64() > Some(0), "the chart {name} is empty");
    }
    let gap = browser.script(LONGEST_GAP, &json!([]))?;
    let gap = gap.as_f64().context("no gap")?;
    // Also when it is well: `println!` is shown of failed tests only.
    writeln!(
        io::stdout(),
        "the page of 50 apps is there after {opened:?}; at the most {gap:.0} ms between two frames"
    )?;
    ensure!(opened < OPENS, "it took {opened:?}");
    ensure!(gap < GAP_MS, "{gap} ms between two frames");
    for (width, height) in [(1600, 1200), (400, 800)] {
        browser.resize(width, height)?;
        fits(&browser)?;
        browser.screenshot(&pictures()?.join(format!("fleet-{width}.png")))?;
    }
    console_is_clean(&browser)
}
