//! The live screen of `streamctl top`: requests data, waits for keys, draws.
//!
//! Owns: the loop, the keyboard, the terminal's state. Does not own: state and selection
//! ([`model`]), appearance ([`view`]); both are pure.
//! Rule: one request is in flight at a time, and none of them blocks a key. However it ends (a key,
//! a signal, an error, a panic), the terminal is restored.

pub mod model;
pub mod view;

use crate::client::{Controller, jobs};
use crate::error::CliError;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::{Action, Fetched, Input, Key, Model};
use ratatui::Terminal;
use ratatui::backend::Backend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use streamctl_engine::clock::now_ms;
use streamctl_proto::v1::GetJobRequest;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Most keys that may wait; if the user types faster than the screen is drawn, keys are lost.
const KEYS_MAX: usize = 64;
/// How long the thread waits for a key before it checks whether it must end.
const LISTEN: Duration = Duration::from_millis(200);

/// Shows the screen until a key or `stop` ends it.
///
/// # Errors
/// The terminal returned an error.
pub async fn show<B>(
    terminal: &mut Terminal<B>,
    controller: &Controller,
    mut model: Model,
    interval: Duration,
    mut keys: mpsc::Receiver<Input>,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
{
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pending = FuturesUnordered::new();
    tokio::pin!(stop);
    loop {
        terminal
            .draw(|frame| view::draw(frame, &model))
            .map_err(std::io::Error::other)?;
        let action = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            key = keys.recv() => match key {
                Some(input) => model.take(input),
                None => return Ok(()),
            },
            Some(fetched) = pending.next() => model.take(Input::Arrived(Box::new(fetched))),
            _ = due.tick() => Some(Action::Refresh),
        };
        match action {
            Some(Action::Quit) => return Ok(()),
            Some(Action::Refresh) if pending.is_empty() => {
                pending.push(fetch(controller, model.job().map(str::to_owned)))
            }
            Some(Action::Refresh) | None => {}
        }
    }
}

/// Requests everything that the screen shows from the leader.
pub async fn fetch(controller: &Controller, job: Option<String>) -> Result<Fetched, CliError> {
    let all = controller.all_jobs().await?;
    let workers = controller.all_workers().await?;
    let one = match job.filter(|name| all.iter().any(|job| job.job == *name)) {
        Some(job) => {
            let request = GetJobRequest { job, brief: false };
            let call = |channel| {
                let request = request.clone();
                async move { jobs(channel).get_job(request).await }
            };
            Some(controller.call(call).await?)
        }
        None => None,
    };
    Ok(Fetched {
        at: tokio::time::Instant::now(),
        now_ms: now_ms(),
        jobs: all,
        workers,
        one,
    })
}

/// Reads the keyboard in a thread of its own until it is dropped.
pub struct Keyboard {
    wanted: Arc<AtomicBool>,
}

impl Keyboard {
    /// The keys typed from now on.
    pub fn listen() -> (Self, mpsc::Receiver<Input>) {
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let wanted = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&wanted);
        std::thread::spawn(move || {
            while still.load(Ordering::Relaxed) {
                match event::poll(LISTEN).and_then(|there| {
                    if there {
                        event::read().map(Some)
                    } else {
                        Ok(None)
                    }
                }) {
                    Ok(Some(event)) => {
                        // A screen that does not keep up loses keys, not memory.
                        let _full = input(&event).map(|input| sender.try_send(input));
                    }
                    Ok(None) => {}
                    // Without a keyboard, the user could not end it.
                    Err(_) => return,
                }
            }
        });
        (Self { wanted }, keys)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}

/// What an event of the terminal means.
fn input(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Resize(..) => return Some(Input::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(Input::Pressed(match key.code {
        KeyCode::Char('c' | 'd') if control => Key::Quit,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('j') | KeyCode::Down => Key::Down,
        KeyCode::Char('k') | KeyCode::Up => Key::Up,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::Home | KeyCode::Char('g') => Key::First,
        KeyCode::End | KeyCode::Char('G') => Key::Last,
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left | KeyCode::Char('h') => Key::Back,
        KeyCode::Char('s') => Key::Sort,
        KeyCode::Char('r') => Key::Refresh,
        KeyCode::Char('?') => Key::Help,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests;
