//! A headless Chromium that tests the dashboard.
//!
//! Owns: its process, running commands one by one. Does not own: the expectations.
//! Rule: if something does not appear in time, the test fails and shows what was visible instead.

use crate::places::{inherited, server_program, servers_folder, support};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The path of Debian's package.
const CHROMIUM: &str = "/usr/bin/chromium";

/// One browser with one page.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    shots: PathBuf,
}

impl Browser {
    /// Starts it; its screenshots go into `shots`.
    #[track_caller]
    pub fn start(shots: &Path) -> Self {
        assert!(
            Path::new(CHROMIUM).exists(),
            "{CHROMIUM} is missing: `tests/support/servers.sh tests` installs it with apt-get (as root, or with sudo)"
        );
        std::fs::create_dir_all(shots).expect("a folder for screenshots can be made");
        let folder = servers_folder().join("browser");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(server_program("node"));
        command
            .arg(support("browser/drive.mjs"))
            .arg(folder)
            .arg(CHROMIUM);
        command
            .env_clear()
            .envs(inherited())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut driver = command.spawn().expect("node starts");
        let orders = driver.stdin.take().expect("it is piped");
        let answers = BufReader::new(driver.stdout.take().expect("it is piped"));
        let mut browser = Self {
            driver,
            orders,
            answers,
            shots: shots.to_owned(),
        };
        browser.answer("the browser's start");
        browser
    }

    /// Runs a command; returns its result.
    #[track_caller]
    pub fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").expect("the driver takes orders");
        self.answer(&order.to_string())
    }

    #[track_caller]
    fn answer(&mut self, what: &str) -> Value {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the driver answers");
        let mut answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{what}: the driver ended: {line}"));
        if let Some(error) = answer["error"].as_str() {
            let seen = answer["seen"].as_str().unwrap_or_default();
            self.take_shot("failed");
            panic!("{what}: {error}\n---- the page says:\n{seen}");
        }
        answer["ok"].take()
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.order(&json!({"do": "open", "url": url}));
    }

    /// Waits until an element with this text is visible.
    #[track_caller]
    pub fn see(&mut self, selector: &str, text: &str) {
        self.order(&json!({"do": "see", "selector": selector, "text": text}));
    }

    /// Waits until an expression of the page is true.
    #[track_caller]
    pub fn until(&mut self, script: &str) {
        self.order(&json!({"do": "until", "script": script}));
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn evaluate(&mut self, script: &str) -> Value {
        self.order(&json!({"do": "evaluate", "script": script}))
    }

    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        self.order(&json!({"do": "text", "selector": selector}))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        self.order(&json!({"do": "click", "selector": selector}));
    }

    /// Changes the window's size and the colour scheme.
    #[track_caller]
    pub fn shape(&mut self, width: u32, height: u32, dark: bool) {
        self.order(&json!({"do": "shape", "width": width, "height": height, "dark": dark}));
    }

    /// Checks the page on a narrow and a wide screen, light and dark: nothing is cut off, no
    /// short name is broken, every text is readable. Keeps a screenshot of each.
    #[track_caller]
    pub fn looks_good(&mut self, name: &str) {
        for (screen, width, height) in [("wide", 1280, 900), ("narrow", 390, 844)] {
            for dark in [false, true] {
                let light = if dark { "dark" } else { "light" };
                self.shape(width, height, dark);
                self.take_shot(&format!("{name}-{screen}-{light}"));
                let overflow = self.order(&json!({"do": "overflow"}));
                assert_eq!(
                    overflow, 0,
                    "{name} on a {screen} screen is wider than the screen"
                );
                let broken = self.order(&json!({"do": "broken"}));
                assert_eq!(
                    broken,
                    json!([]),
                    "{name} {screen}: names over several lines"
                );
                let pale = self.order(&json!({"do": "pale"}));
                assert_eq!(
                    pale,
                    json!([]),
                    "{name} {screen} {light}: text without contrast"
                );
            }
        }
        self.shape(1280, 900, false);
    }

    fn take_shot(&mut self, name: &str) {
        let path = self.shots.join(format!("{name}.png"));
        if writeln!(self.orders, "{}", json!({"do": "shot", "path": path})).is_ok() {
            let _seen = self.answers.read_line(&mut String::new());
        }
    }

    /// Asserts that all requests went to this origin, and that the browser reported no error.
    #[track_caller]
    pub fn kept_to(&mut self, origin: &str) {
        let complaints = self.complaints(origin);
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    /// The same after an outage of the controller: the browser may have reported errors about that.
    #[track_caller]
    pub fn kept_to_while_away(&mut self, origin: &str) {
        let mut complaints = self.complaints(origin);
        complaints.retain(|text| !is_of_the_line(text));
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    /// The errors that the browser reported since the last call.
    #[track_caller]
    fn complaints(&mut self, origin: &str) -> Vec<String> {
        let mut heard = self.order(&json!({"do": "heard"}));
        assert_eq!(
            heard["origins"],
            json!([origin]),
            "the page asks only where it came from"
        );
        serde_json::from_value(heard["complaints"].take()).expect("complaints are texts")
    }
}

/// Whether the error is a missing response (the controller may disappear at any moment of a
/// request), or a 503 from a controller that is back but does not lead yet.
fn is_of_the_line(complaint: &str) -> bool {
    let failed = complaint.strip_prefix("Failed to load resource: ");
    failed.is_some_and(|why| why.starts_with("net::ERR_") || why.contains("status of 503"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Killing it also ends its browser.
        let _ended = self.driver.kill();
        let _gone = self.driver.wait();
    }
}
