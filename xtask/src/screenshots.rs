//! `cargo xtask screenshots`: pictures of the dashboard and of `top` for docs/images, of real Gunicorns
//! with problems.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use end_to_end::{
    browser::{self, Browser},
    client::{Client, Request},
    gunicorn::{Builder, GunicornServer},
    observer::Observer,
    terminal_page,
    venv::Venv,
};

use crate::{demo::Shops, parts, step::make_missing, tools, workspace::Workspace};

const FOLDER: &str = "docs/images";
/// Name, whether the theme is dark, width and height.
const PICTURES: [(&str, bool, u32, u32); 3] = [
    ("dashboard-dark", true, 1600, 1225),
    ("dashboard-light", false, 1600, 1225),
    ("dashboard-phone", true, 400, 850),
];
/// Columns and lines of the terminal, and the width of its picture.
const TERMINAL: (u16, u16) = (120, 30);
const TERMINAL_PIXELS: u32 = 1050;
/// The time that the second request hangs: long enough for a finding, shorter than Gunicorn's timeout.
const HANGS: Duration = Duration::from_secs(20);

/// Take the screenshots of docs/images
#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds of load before the first picture; from 40 on, a worker is killed in that time
    #[arg(long, default_value_t = 45)]
    seconds: u64,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "loading probes needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask screenshots`"
        );
    }
    let shown = &[tools::BROWSER, tools::TMUX];
    make_missing(parts::once(&[parts::BUILD, parts::RUN, shown]), workspace)?;
    let binary = workspace.build_observer()?;
    let venv = Venv::all_in(&workspace.venvs())?.remove(0);
    let shops = Shops::start(&venv)?;
    let reports = Builder::new(&venv, "hangs:app")
        .workers(2)
        .argument("--name")
        .argument("reports")
        .start()?;
    let [shop, threads] = shops.servers.each_ref().map(GunicornServer::pid);
    let observer = Observer::start(&binary, false, &[shop, threads, reports.pid()])?;
    let browser = Browser::start(1600, 1000)?;
    let start = Instant::now();
    let whole = Duration::from_secs(arguments.seconds);
    // Gunicorn kills the worker of the first after 30 seconds.
    let _first = hang(&reports)?;
    thread::sleep(whole.saturating_sub(HANGS));
    let _second = hang(&reports)?;
    thread::sleep(whole.saturating_sub(start.elapsed()));
    let folder = workspace.root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let daemon = format!("http://127.0.0.1:{}", observer.port);
    browser.open(&format!("{daemon}/#/{shop}"))?;
    dashboard(&folder, &browser)?;
    top(&folder, &binary, &daemon)?;
    observer.stop().map(drop)
}

/// A request that is not answered.
fn hang(server: &GunicornServer) -> Result<Client> {
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/sleep?s=600").bytes())?;
    Ok(client)
}

fn dashboard(folder: &Path, browser: &Browser) -> Result<()> {
    for (name, is_dark, width, height) in PICTURES {
        browser.resize(width, height)?;
        browser.dark(is_dark)?;
        // As if it had been opened like that.
        browser.reload()?;
        browser.wait_for(
            "document.querySelector('#connection[data-state=live]')
                && document.querySelector('figure[data-chart=heatmap] canvas')",
            "the page to be drawn",
        )?;
        let path = folder.join(format!("{name}.png"));
        browser.screenshot(&path)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The workers of the daemon's Gunicorns, as a terminal shows them.
fn top(folder: &Path, program: &Path, daemon: &str) -> Result<()> {
    let page = terminal_page::of_top(
        program,
        &format!("--connect {daemon}"),
        TERMINAL,
        &["3"],
        |screen| screen.contains("[3 Workers]") && screen.contains("shop-threads"),
    )?;
    let path: PathBuf = folder.join("top.png");
    browser::picture_of(&page, TERMINAL_PIXELS, &path)?;
    println!("{}", path.display());
    Ok(())
}
