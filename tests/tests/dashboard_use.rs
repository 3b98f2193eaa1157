//! The dashboard in a real browser, as an operator uses it to find a problem.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    browser::{self, Browser},
    client::{Client, Request},
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    skip,
    venv::Venv,
    wait,
};
use serde_json::{Value, json};

/// Texts that are too faint for their background: a contrast below 4.5, WCAG 2.1, 1.4.3.
const FAINT: &str = "
    const context = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const rgb = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const part = (value) => value <= 10 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
    const found = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (texts.currentNode.data.trim() === '' || element.closest('.unseen, noscript')) continue;
        if (!element.checkVisibility()) continue;
        let behind = element;
        while (rgb(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
        const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        const [low, high] = both.map((color) => light(rgb(color))).sort((a, b) => a - b);
        const contrast = (high + .05) / (low + .05);
        if (contrast < 4.5) found.add(`${contrast.toFixed(2)}: ${texts.currentNode.data}`);
    }
    return [...found];";

/// Tables, regions and pictures without an accessible name.
const NAMELESS: &str = "
    const found = [];
    for (const table of document.querySelectorAll('table')) {
        // The name of a picture covers its contents.
        if (table.firstChild === null || table.closest('[role=img]')) continue;
        if (!table.caption?.textContent) found.push(`${table.id} has no caption`);
        if (table.querySelector('thead th:not([scope=col])')) found.push(`${table.id}: a head`);
        for (const row of table.tBodies[0].rows) {
            if (row.dataset.key !== 'empty' && row.cells[0].scope !== 'row') found.push(`${table.id}: a row`);
        }
    }
    for (const image of document.querySelectorAll('[role=img]')) {
        if (!image.getAttribute('aria-label')) found.push(image.outerHTML);
    }
    for (const named of document.querySelectorAll('[aria-labelledby]')) {
        if (document.getElementById(named.getAttribute('aria-labelledby')) === null) found.push(named.outerHTML);
    }
    return found;";

fn hangs() -> Result<Builder> {
    Ok(Builder::new(&Venv::debian()?, "hangs:app"))
}

/// A request that goes on as long as this is held, or until its worker is killed.
fn hang(server: &GunicornServer) -> Result<Client> {
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/sleep?s=60").bytes())?;
    Ok(client)
}

/// Finds a request that hangs after a second.
fn observe(servers: &[&GunicornServer]) -> Result<Observer> {
    let masters = servers
        .iter()
        .map(|server| format!("--pid={}", server.pid()));
    let options = ["--finding".to_owned(), "stuck=1s".to_owned()];
    Observer::start_with(&observer::binary()?, false, masters.chain(options))
}

/// The page, at this address in it.
fn opened(observer: &Observer, hash: &str) -> Result<Browser> {
    let browser = Browser::start(1600, 900)?;
    browser.open(&format!("http://127.0.0.1:{}/{hash}", observer.port))?;
    browser.wait_for(
        "document.querySelector('#connection[data-state=live]')",
        "a word of the daemon",
    )?;
    Ok(browser)
}

fn run(browser: &Browser, script: &str) -> Result<Value> {
    browser.script(script, &json!([]))
}

fn console_is_clean(browser: &Browser) -> Result<()> {
    let said = browser.console()?;
    ensure!(said.is_empty(), "the console says {said:#?}");
    Ok(())
}

/// Polls the dashboard's view until the second one after now.
fn two_views_later(browser: &Browser) -> Result<()> {
    for _ in 0..2 {
        let now = browser.text("#about")?;
        wait::until("another view", || {
            Ok((browser.text("#about")? != now).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_there_first_and_leads_to_its_worker() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (calm, troubled) = (hangs()?.start()?, hangs()?.workers(2).start()?);
    let observer = observe(&[&calm, &troubled])?;
    let _client = hang(&troubled)?;
    observer.wait_until("the finding", |metrics| {
        metrics.sum("gunicorn_finding", &[("finding", "worker_stuck")]) > 0.0
    })?;
    let browser = opened(&observer, "")?;
    let shown = browser.value("Number(document.querySelector('#app').dataset.master)")?;
    ensure!(shown == troubled.pid(), "{shown} is shown first");
    let link = browser.wait_for(
        "document.querySelector('#findings li[data-finding=worker_stuck] a')?.getAttribute('href')",
        "the finding",
    )?;
    let link = link.as_str().context("no link")?;
    let worker = link.rsplit('/').next().unwrap_or_default();
    ensure!(
        troubled
            .workers()
            .iter()
            .any(|pid| pid.to_string() == worker),
        "{link} leads to no worker"
    );
    let said = browser.text("#findings")?;
    ensure!(
        said.contains(&format!("gunicorn-observer stack {worker}")),
        "{said}"
    );
    ensure!(said.contains("serves nobody else"), "{said}");
    let aloud = browser.value("document.querySelector('#news').textContent")?;
    ensure!(
        aloud.as_str().is_some_and(|text| text.contains(worker)),
        "{aloud}"
    );
    browser.click("#findings li a")?;
    browser.wait_for(
        &format!(
            "document.activeElement.matches('#workers tr[data-worker=\"{worker}\"][aria-current=true]')"
        ),
        "the worker to be looked at",
    )?;
    console_is_clean(&browser)
}

#[test]
fn a_killed_worker_is_shown_with_its_reason_its_place_and_its_stack() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = hangs()?.timeout(2).start()?;
    let observer = observe(&[&server])?;
    let _client = hang(&server)?;
    let browser = opened(&observer, &format!("#/{}", server.pid()))?;
    browser.wait_for(
        "document.querySelector('#ends tr[data-reason=timeout]')",
        "the worker to be killed",
    )?;
    let reasons = browser.text("#ends tbody")?;
    ensure!(
        reasons.contains("no heartbeat for the timeout: its master killed it"),
        "{reasons}"
    );
    let places = browser.text("#timeouts tbody")?;
    ensure!(places.contains("hangs.py:nap"), "{places}");
    let row = browser.text("#workers tr.ended td[data-column=state]")?;
    ensure!(row.starts_with("exited: timeout"), "{row}");
    browser.click("#events summary")?;
    let stack = browser.text("#events details[open] pre")?;
    ensure!(
        stack.contains("hangs.py") && stack.contains("nap"),
        "{stack}"
    );
    two_views_later(&browser)?;
    ensure!(
        browser.value("document.querySelectorAll('#events details[open]').length")? == 1,
        "what was opened is closed again"
    );
    console_is_clean(&browser)
}

#[test]
fn views_that_come_keep_focus_selection_and_scrolling() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = hangs()?.workers(2).start()?;
    let observer = observe(&[&server])?;
    server.fetch(&Request::get("/ok/1"))?;
    observer.wait_for_requests(server.pid(), 1)?;
    let browser = opened(&observer, &format!("#/{}", server.pid()))?;
    browser.wait_for(
        "document.querySelector('#routes tr[data-route]')",
        "a route",
    )?;
    run(
        &browser,
        "document.querySelector('#apps a').focus();
         getSelection().selectAllChildren(document.querySelector('#routes tr[data-route] td'));
         scrollTo(0, 200);
         window.rows = [...document.querySelectorAll('tbody tr')];",
    )?;
    let selected = browser.value("getSelection().toString()")?;
    ensure!(selected != "", "nothing could be selected");
    two_views_later(&browser)?;
    ensure!(browser.value("getSelection().toString()")? == selected);
    ensure!(browser.value("document.activeElement.matches('#apps a')")? == true);
    ensure!(browser.value("scrollY")? == 200);
    ensure!(
        browser.value("window.rows.every((row) => row.isConnected)")? == true,
        "rows were replaced"
    );
    Ok(())
}

#[test]
fn the_dashboard_is_usable_with_a_screen_reader_and_with_low_vision() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = hangs()?.workers(2).timeout(4).start()?;
    let observer = observe(&[&server])?;
    server.fetch(&Request::get("/ok/1"))?;
    let _client = hang(&server)?;
    let browser = opened(&observer, &format!("#/{}", server.pid()))?;
    browser.wait_for("document.querySelector('#ends tr[data-reason]')", "an end")?;
    browser.wait_for(
        "document.querySelectorAll('figure canvas').length === 5",
        "the charts",
    )?;
    for is_dark in [true, false] {
        browser.dark(is_dark)?;
        browser.wait_for(
            &format!("(document.documentElement.dataset.theme === 'dark') === {is_dark}"),
            "the theme",
        )?;
        let faint = run(&browser, FAINT)?;
        ensure!(faint == json!([]), "{faint:#}");
        // The charts are replaced.
        browser.wait_for(
            "document.querySelectorAll('figure [role=img]').length === 5",
            "them",
        )?;
        let nameless = run(&browser, NAMELESS)?;
        ensure!(nameless == json!([]), "{nameless:#}");
    }
    for landmark in ["header", "main", "footer"] {
        ensure!(browser.value(&format!("document.querySelectorAll('{landmark}').length"))? == 1);
    }
    console_is_clean(&browser)
}

#[test]
fn the_skip_link_keeps_the_app_and_the_chosen_theme_outlives_a_reload() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = hangs()?.start()?;
    let observer = observe(&[&server])?;
    let hash = format!("#/{}", server.pid());
    let browser = opened(&observer, &hash)?;
    browser.keys(browser::TAB)?;
    ensure!(browser.value("document.activeElement.matches('.skip')")? == true);
    browser.keys(browser::ENTER)?;
    ensure!(browser.value("document.activeElement.id")? == "apps-title");
    ensure!(browser.value("location.hash")? == hash);
    browser.click("button#theme")?;
    let theme = browser.value("document.documentElement.dataset.theme")?;
    browser.reload()?;
    let condition = format!("document.documentElement.dataset.theme === {theme}");
    browser.wait_for(&condition, "the theme that was chosen")?;
    console_is_clean(&browser)
}

#[test]
fn without_a_gunicorn_the_dashboard_says_what_to_check_and_a_master_that_exited_is_shown()
-> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = hangs()?.start()?;
    // It may be forgotten at once.
    let observer = Observer::start_with(
        &observer::binary()?,
        false,
        [format!("--pid={}", server.pid()), "--keep-ended=1s".into()],
    )?;
    let browser = opened(&observer, &format!("#/{}", server.pid()))?;
    browser.wait_for("!document.querySelector('#app').hidden", "the app")?;
    server.kill()?;
    browser.wait_for(
        "!document.querySelector('#no-apps').hidden",
        "the app to go",
    )?;
    let said = browser.text("main")?;
    ensure!(said.contains("gunicorn-observer doctor"), "{said}");
    ensure!(said.contains(" is gone."), "{said}");
    console_is_clean(&browser)
}
