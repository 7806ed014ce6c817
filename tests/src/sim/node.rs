//! One process of the simulated system: its own runtime with its own clock, which can be frozen or
//! killed.
//!
//! Owns: starting, moving its clock, freezing, killing, stopping it. Does not own: when (`chaos`).
//! Rule: only its own runtime polls a process: a frozen one does nothing at all, and a killed one
//! sends no last message.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use streamctl_controller::node::Node;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The program of a process.
pub enum Body {
    Controller(Arc<Node>),
    Worker,
}

pub struct Process {
    runtime: Runtime,
    main: JoinHandle<()>,
    stop: watch::Sender<bool>,
    at_ms: i64,
    pub frozen_until_ms: Option<i64>,
    pub body: Body,
}

impl Process {
    /// Starts at `now_ms`; `main` gets the stop signal.
    pub fn start<F>(
        now_ms: i64,
        body: Body,
        main: impl FnOnce(watch::Receiver<bool>, Handle) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the machine");
        let (stop, stopped) = watch::channel(false);
        let main = runtime.spawn(main(stopped, runtime.handle().clone()));
        Self {
            runtime,
            main,
            stop,
            at_ms: now_ms,
            frozen_until_ms: None,
            body,
        }
    }

    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.main.is_finished()
    }

    /// Runs it until `now_ms`, unless it is frozen. Time that it slept through passes at once.
    pub fn live(&mut self, now_ms: i64, tick_ms: i64) {
        if self
            .frozen_until_ms
            .is_some_and(|until_ms| now_ms < until_ms)
        {
            return;
        }
        self.frozen_until_ms = None;
        let missed_ms = now_ms - self.at_ms - tick_ms;
        self.at_ms = now_ms;
        self.runtime.block_on(async {
            if missed_ms > 0 {
                tokio::time::advance(duration(missed_ms)).await;
            }
            tokio::time::sleep(duration(tick_ms)).await;
        });
    }
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}
