//! Progress of work that takes longer than a second.
//!
//! Owns: the line at the bottom of the terminal. Does not own: other output (`output`).
//! Rule: on a terminal, on standard error, after a second, and removed when the work is done;
//! elsewhere there is no progress. Every verb has a decision (`decisions`): it shows progress, or
//! it never takes a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Shorter work shows nothing.
pub const SHOWN_AFTER: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Running work; dropping it removes its line.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    shows: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    pub fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            shows: None,
        }
    }

    /// Shown on standard error after [`SHOWN_AFTER`]. Inside of a tokio runtime only.
    pub fn on_terminal(message: &str) -> Self {
        let bar =
            ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(spinner());
        bar.set_message(message.to_owned());
        let later = bar.clone();
        let shows = tokio::spawn(async move {
            tokio::time::sleep(SHOWN_AFTER).await;
            later.set_draw_target(ProgressDrawTarget::stderr());
            later.enable_steady_tick(TICK);
        });
        Self {
            bar,
            shows: Some(shows),
        }
    }

    /// The line, for code that prints beside it.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Sets the current activity.
    pub fn show(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Sets how much is done, once the total is known; 0 of 0: not known.
    pub fn at(&self, done: u64, of: u64) {
        if of == 0 {
            return;
        }
        if self.bar.length() != Some(of) {
            self.bar.set_style(bar());
            self.bar.set_length(of);
        }
        self.bar.set_position(done.min(of));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(shows) = self.shows.take() {
            shows.abort();
        }
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    styled("{spinner} {wide_msg} {elapsed}")
}

fn bar() -> ProgressStyle {
    styled("{spinner} [{bar:24}] {pos}/{len} {wide_msg} {elapsed}")
}

/// Plain characters, which a terminal without colours also has.
fn styled(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.tick_chars("|/-\\ ").progress_chars("=> ")
}

#[cfg(test)]
mod decisions;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_over_within_a_second_shows_nothing() {
        let progress = Progress::on_terminal("asking");
        let bar = progress.bar();
        tokio::time::sleep(SHOWN_AFTER / 2).await;
        drop(progress);
        tokio::time::sleep(SHOWN_AFTER * 2).await;
        assert!(bar.is_finished() && bar.is_hidden());
    }

    #[test]
    fn a_bar_knows_how_much_is_done() {
        let progress = Progress::hidden();
        progress.at(0, 0);
        assert_eq!(progress.bar().length(), None);
        progress.at(3, 7);
        progress.at(9, 7);
        assert_eq!(
            (progress.bar().position(), progress.bar().length()),
            (7, Some(7))
        );
    }
}
