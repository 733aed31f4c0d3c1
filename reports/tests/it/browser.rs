//! The page in a real browser: no console error, no request, sorting and filtering by keyboard, and checks of accessibility.
//!
//! ```text
//! chromium --headless --remote-debugging-pipe      JSON messages, each ended by a zero byte, over file descriptors 3 and 4
//! ```
//! The descriptors are named pipes that a shell opens, so no driver program and no port is needed. Scripts evaluated through the
//! protocol are not bound by the page's content-security policy. Skipped, with the reason printed, where there is no Chromium.
//!
//! Source: Chrome DevTools Protocol (Page, Runtime, Log, Network, Input, Emulation domains).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reports::{ReportOptions, build_report};
use serde_json::{Value, json};

use crate::synthetic::{rows, sweep_rows};

/// Checks that run inside the page; each returns a list of what is wrong.
const CHECKS: &str = include_str!("page_checks.js");

/// Seconds after which the browser is ended, so that a hang is a failure.
const LIMIT_S: &str = "180";

fn chromium() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// A browser with one open page.
struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    last_id: u64,
    events: Vec<Value>,
}

impl Browser {
    /// Starts the browser and opens an empty page.
    fn start(program: &Path, folder: &Path) -> Self {
        let (to, from) = (folder.join("to"), folder.join("from"));
        for pipe in [&to, &from] {
            assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs").success());
        }
        let profile = folder.join("profile");
        let child = Command::new("sh")
            .arg("-c")
            .arg("to=$1; from=$2; shift 2; exec timeout -k 5 \"$@\" 3<\"$to\" 4>\"$from\"")
            .arg("sh")
            .args([to.as_os_str(), from.as_os_str(), LIMIT_S.as_ref(), program.as_os_str()])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let to = OpenOptions::new().write(true).open(to).expect("the shell opens its end");
        let from = BufReader::new(File::open(from).expect("the shell opens its end"));
        let mut browser = Self { child, to, from, session: None, last_id: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let session = browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).expect("the pipe is readable");
        assert_eq!(bytes.pop(), Some(0), "the browser ended before it answered");
        serde_json::from_slice(&bytes).expect("the browser speaks JSON")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).expect("the pipe is writable");
        self.to.write_all(&[0]).expect("the pipe is writable");
        loop {
            let answer = self.read();
            if answer["id"] == json!(self.last_id) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn navigate(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// The JSON value of an expression evaluated in the page.
    fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn key(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let params = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": if kind == "keyDown" { text } else { "" } });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// What the page complained about, and what it asked for beside itself.
    fn complaints(&self, own_url: &str) -> Vec<String> {
        let mut found = Vec::new();
        for event in &self.events {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => found.push(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => found.push(format!("console: {}", params["args"])),
                "Log.entryAdded" => found.push(format!("log: {}", params["entry"])),
                "Network.requestWillBeSent" if params["request"]["url"] != json!(own_url) => {
                    found.push(format!("request: {}", params["request"]["url"]));
                }
                _ => {}
            }
        }
        found
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser at a report of everything, or the reason there is none.
fn open() -> Option<(tempfile::TempDir, Browser, String)> {
    let Some(program) = chromium() else {
        eprintln!("skipped: no Chromium on this machine (looked for chromium, chromium-browser, google-chrome in PATH)");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut all = rows();
    all.extend(sweep_rows());
    build_report(&reports::Study::new(all), folder.path(), &ReportOptions::default()).unwrap();
    let url = format!("file://{}", folder.path().join("index.html").display());
    let mut browser = Browser::start(&program, folder.path());
    browser.navigate(&url);
    Some((folder, browser, url))
}

#[test]
fn the_page_sorts_filters_and_asks_for_nothing() {
    let Some((_folder, mut browser, url)) = open() else { return };
    // Sort by keyboard: the second column of the first long table, ascending, descending, and back.
    browser.evaluate(
        "window.t = [...document.querySelectorAll('table.data')].find(t => t.tBodies[0].rows.length >= 8 && !t.closest('details')); \
         window.column = () => [...t.tBodies[0].rows].filter(r => !r.classList.contains('group')).map(r => r.cells[1].textContent); \
         window.before = column(); t.tHead.rows[t.tHead.rows.length - 1].cells[1].querySelector('button').focus()",
    );
    let mut states = Vec::new();
    for _ in 0..3 {
        browser.key("Enter", 13, "\r");
        states.push(browser.evaluate(
            "(() => { const head = t.tHead.rows[t.tHead.rows.length - 1].cells[1]; const now = column(); \
               const sorted = [...now].sort((a, b) => a.localeCompare(b)); \
               return [head.getAttribute('aria-sort'), now.join() === sorted.join(), now.join() === [...sorted].reverse().join(), \
                       now.join() === before.join()] })()",
        ));
    }
    assert_eq!(states[0][0], json!("ascending"), "{states:?}");
    assert_eq!(states[0][1], json!(true), "ascending order: {states:?}");
    assert_eq!((&states[1][0], &states[1][2]), (&json!("descending"), &json!(true)), "{states:?}");
    assert_eq!((&states[2][0], &states[2][3]), (&Value::Null, &json!(true)), "the third press restores the order: {states:?}");
    // Filter by typing.
    browser.evaluate("window.input = t.parentElement.previousElementSibling.querySelector('input'); input.focus()");
    let word = browser.evaluate("t.tBodies[0].querySelectorAll('tr:not(.group)')[0].cells[0].textContent.trim()");
    browser.call("Input.insertText", json!({ "text": word }));
    let shown = browser.evaluate(
        "[...t.tBodies[0].rows].filter(r => !r.classList.contains('group') && r.getClientRects().length > 0) \
           .map(r => r.textContent.toLowerCase().includes(input.value.toLowerCase()))",
    );
    let (shown, all) = (shown.as_array().unwrap().clone(), browser.evaluate("column().length").as_u64().unwrap());
    assert!(!shown.is_empty() && (shown.len() as u64) < all, "{} of {all} rows", shown.len());
    assert!(shown.iter().all(|matches| *matches == json!(true)), "{shown:?}");
    assert_eq!(browser.complaints(&url), Vec::<String>::new());
}

#[test]
fn the_page_passes_accessibility_checks_in_light_and_dark() {
    let Some((_folder, mut browser, url)) = open() else { return };
    browser.evaluate(CHECKS);
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        let found = browser.evaluate("page_checks.all()");
        assert_eq!(found, json!([]), "{scheme}");
    }
    // Tab reaches the skip link, then the contents, and whatever has focus shows it.
    browser.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)");
    let mut reached = Vec::new();
    for _ in 0..4 {
        browser.key("Tab", 9, "");
        reached.push(browser.evaluate("page_checks.focused()"));
    }
    assert_eq!(reached[0]["text"], json!("Skip to content"), "{reached:?}");
    assert!(reached.iter().all(|at| at["visible"] == json!(true)), "{reached:?}");
    // Complete without scripts: the same words are there.
    let with_scripts = browser.evaluate("document.querySelectorAll('main td').length");
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.events.clear();
    browser.navigate(&url);
    assert_eq!(browser.evaluate("document.querySelectorAll('main td').length"), with_scripts);
}

#[test]
fn the_checks_find_what_is_wrong() {
    let Some((folder, mut browser, _)) = open() else { return };
    let bad = folder.path().join("bad.html");
    let html = "<!DOCTYPE html><html><head><title></title></head><body><h3>skipped</h3><div id=\"a\"></div><div id=\"a\"></div>\
                <p style=\"color:#bbb;background:#fff\">faint</p><input><button></button><svg role=\"img\"></svg><a href=\"#nowhere\"></a>\
                <table class=\"data\"><tr><td>x</td></tr></table></body></html>";
    std::fs::write(&bad, html).unwrap();
    browser.events.clear();
    browser.navigate(&format!("file://{}", bad.display()));
    browser.evaluate(CHECKS);
    let found = browser.evaluate("page_checks.all()").to_string();
    for what in ["language", "title", "heading", "id a", "contrast", "input", "button", "img", "link", "table", "main"] {
        assert!(found.contains(what), "`{what}` is not among {found}");
    }
}
