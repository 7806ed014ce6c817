//! A headless Chromium that looks at the dashboard.
//!
//! Owns: its process, one order after the other. Does not own: what is looked for.
//! Rule: what is not seen in time fails the test with what was seen instead.

use crate::places::{inherited, server_program, servers_folder, support};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where Debian's package puts it.
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

    /// Has something done; gives what came of it.
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

    /// Waits until something that has this text is visible.
    #[track_caller]
    pub fn see(&mut self, selector: &str, text: &str) {
        self.order(&json!({"do": "see", "selector": selector, "text": text}));
    }

    /// Waits until an expression of the page is true.
    #[track_caller]
    pub fn until(&mut self, script: &str) {
        self.order(&json!({"do": "until", "script": script}));
    }

    /// What an expression of the page says.
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

    /// Another size of the window, light or dark.
    #[track_caller]
    pub fn shape(&mut self, width: u32, height: u32, dark: bool) {
        self.order(&json!({"do": "shape", "width": width, "height": height, "dark": dark}));
    }

    /// Looks at the page as it is on a narrow and a wide screen, light and dark: nothing is cut
    /// off, every text can be read. Keeps a screenshot of each.
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

    /// Asserts that nothing was asked of any place but this one, and that the browser has
    /// complained of nothing.
    #[track_caller]
    pub fn kept_to(&mut self, origin: &str) {
        let complaints = self.complaints(origin);
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    /// The same after the controller was away and came back: of that the browser may have
    /// complained.
    #[track_caller]
    pub fn kept_to_while_away(&mut self, origin: &str) {
        let mut complaints = self.complaints(origin);
        complaints.retain(|text| !is_of_the_line(text));
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    /// What the browser has complained of since this was asked last.
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

/// Whether it says that there was no answer (at any moment of a request the controller may have
/// gone), or that the controller is back and does not lead yet, which is answered with 503.
fn is_of_the_line(complaint: &str) -> bool {
    let failed = complaint.strip_prefix("Failed to load resource: ");
    failed.is_some_and(|why| why.starts_with("net::ERR_") || why.contains("status of 503"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes its browser with it.
        let _ended = self.driver.kill();
        let _gone = self.driver.wait();
    }
}
