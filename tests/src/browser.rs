//! A real browser, driven by WebDriver.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{self, Request},
    observer::free_port,
    process, wait,
};

const DRIVER: &str = "/usr/bin/chromedriver";
const PROGRAM: &str = "/usr/bin/chromium";
/// Starts the browser so that it exits with its driver, should the driver be killed with us.
const BOUND: &str = "#!/bin/sh\nexec setpriv --pdeathsig TERM -- /usr/bin/chromium \"$@\"\n";
/// WebDriver's key for an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const GRACE: Duration = Duration::from_secs(5);

/// WebDriver's codes of keys without a letter.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

/// Writes a picture of this HTML to a PNG, with this width and the height of its contents.
pub fn picture_of(html: &str, width: u32, path: &Path) -> Result<()> {
    let browser = Browser::start(width, 100)?;
    browser.show(html)?;
    browser.screenshot_of_page(path)
}

/// A running browser without a window, with one page; stopped when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    /// The driver's id of the browser; empty before there is one.
    session: String,
    folder: TempDir,
}

impl Browser {
    /// Starts a browser with a page of this size, and waits until it is ready.
    pub fn start(width: u32, height: u32) -> Result<Self> {
        ensure!(
            Path::new(DRIVER).exists() && Path::new(PROGRAM).exists(),
            "{DRIVER} or {PROGRAM} does not exist: run `cargo xtask setup`"
        );
        let folder = TempDir::new().context("cannot make a folder for the browser")?;
        let port = free_port()?;
        let output = File::create(folder.path().join("output"))?;
        let driver = process::bound_to_us(DRIVER)
            .arg(format!("--port={port}"))
            // By which the browser's processes are known.
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start chromedriver")?;
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            folder,
        };
        browser.begin(width, height).with_context(|| {
            let said = fs::read_to_string(browser.folder.path().join("output"));
            format!("chromedriver said:\n{}", said.unwrap_or_default())
        })?;
        browser.resize(width, height)?;
        Ok(browser)
    }

    fn begin(&mut self, width: u32, height: u32) -> Result<()> {
        wait::until("chromedriver to be ready", || {
            if let Some(status) = self.driver.try_wait()? {
                bail!("chromedriver ended with {status}");
            }
            let status = client::fetch(self.port, &Request::get("/status"));
            Ok(status
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })?;
        let profile = self.folder.path().join("profile");
        let program = self.folder.path().join("chromium");
        fs::write(&program, BOUND)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-breakpad".to_owned(),
            "--disable-crash-reporter".to_owned(),
            "--disable-background-networking".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": program, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = self.send("POST", "/session", &wanted)?;
        session["sessionId"]
            .as_str()
            .context("chromedriver names no session")?
            .clone_into(&mut self.session);
        Ok(())
    }

    /// Opens a page, and waits until it has loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.ask("/url", &json!({"url": url})).map(drop)
    }

    /// Opens a page of this HTML.
    pub fn show(&self, html: &str) -> Result<()> {
        let file = self.folder.path().join("shown.html");
        fs::write(&file, html).with_context(|| format!("cannot write {}", file.display()))?;
        self.open(&format!("file://{}", file.display()))
    }

    /// Loads the page again.
    pub fn reload(&self) -> Result<()> {
        self.ask("/refresh", &json!({})).map(drop)
    }

    /// Runs the body of a function in the page, and returns its value, or that of its promise.
    pub fn script(&self, body: &str, arguments: &Value) -> Result<Value> {
        let wanted = json!({"script": body, "args": arguments});
        self.ask("/execute/sync", &wanted)
            .with_context(|| format!("script: {body}"))
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Result<Value> {
        self.script(&format!("return ({expression});"), &json!([]))
    }

    /// Waits until an expression is truthy in the page, and returns its value.
    pub fn wait_for(&self, condition: &str, what: &str) -> Result<Value> {
        let body = format!("const is = ({condition}); return is ? is : null;");
        let waited = wait::until(what, || {
            let value = self.script(&body, &json!([]))?;
            Ok(Some(value).filter(|value| !value.is_null()))
        });
        waited.with_context(|| {
            let text = self.value("document.body.innerText.slice(0, 3000)");
            format!("the page says:\n{}", text.unwrap_or_default())
        })
    }

    /// The visible text of the first element of a selector.
    pub fn text(&self, css: &str) -> Result<String> {
        let text = self.script(
            "return document.querySelector(arguments[0]).innerText;",
            &json!([css]),
        )?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks an element, which must be visible.
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.element(css)?;
        self.ask(&format!("/element/{element}/click"), &json!({}))
            .map(drop)
    }

    /// Presses these keys in the focused element.
    pub fn keys(&self, keys: &str) -> Result<()> {
        let presses: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
            })
            .collect();
        let wanted = json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]});
        self.ask("/actions", &wanted).map(drop)
    }

    fn element(&self, css: &str) -> Result<String> {
        let wanted = json!({"using": "css selector", "value": css});
        let found = self.ask("/element", &wanted)?;
        let name = found[ELEMENT].as_str();
        Ok(name.context("an element without a name")?.to_owned())
    }

    /// Writes the window's contents to a PNG.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        self.picture(path, &json!({"format": "png"}))
    }

    /// The same for the whole page, also below the window.
    pub fn screenshot_of_page(&self, path: &Path) -> Result<()> {
        let size = self.value(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]",
        )?;
        let (width, height) = (&size[0], &size[1]);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        self.picture(
            path,
            &json!({"format": "png", "captureBeyondViewport": true, "clip": clip}),
        )
    }

    fn picture(&self, path: &Path, how: &Value) -> Result<()> {
        let taken = self.cdp("Page.captureScreenshot", how)?;
        let encoded = taken["data"].as_str().context("no picture was taken")?;
        let png = BASE64_STANDARD
            .decode(encoded)
            .context("the picture is no base64")?;
        fs::write(path, png).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Resizes the page.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        )
        .map(drop)
    }

    /// Sets the preferred colour scheme.
    pub fn dark(&self, is_dark: bool) -> Result<()> {
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.cdp(
            "Emulation.setEmulatedMedia",
            &json!({"features": [feature]}),
        )
        .map(drop)
    }

    /// New messages of the page and the browser in the console.
    pub fn console(&self) -> Result<Vec<String>> {
        let entries = self.ask("/se/log", &json!({"type": "browser"}))?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        Ok(entries
            .iter()
            .map(|entry| format!("{} {}", text(entry, "level"), text(entry, "message")))
            .collect())
    }

    /// A command of the DevTools protocol.
    fn cdp(&self, command: &str, parameters: &Value) -> Result<Value> {
        let wanted = json!({"cmd": command, "params": parameters});
        self.ask("/goog/cdp/execute", &wanted)
            .with_context(|| command.to_owned())
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let request = Request::new(method, path)
            .header("Content-Type", "application/json")
            .body(body.to_string().into_bytes());
        let response = client::fetch(self.port, &request)?;
        let mut answer: Value = serde_json::from_slice(&response.body)
            .with_context(|| format!("chromedriver's answer to {path} is no JSON"))?;
        let value = answer["value"].take();
        ensure!(
            response.status == 200,
            "chromedriver answered {}: {}",
            value["error"],
            value["message"].as_str().unwrap_or_default()
        );
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = self.send("DELETE", &path, &json!({}));
        }
        process::end(&mut self.driver, GRACE);
        // A driver that was killed leaves its browser.
        for left in process::working_in(self.folder.path()) {
            let _ = process::signal(left, Signal::SIGKILL);
        }
    }
}
