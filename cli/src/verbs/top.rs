//! `streamctl top`: jobs, their shards and the workers, live on the terminal.
//!
//! Owns: checks of the arguments, turning the screen on and off. Does not own: the screen
//! ([`crate::top`]).
//! Rule: if standard output is not a terminal, nothing is drawn; programs get the same data as
//! JSON, once.

use crate::client::Controller;
use crate::error::CliError;
use crate::output::{Format, Output};
use crate::top::model::{Fetched, Model};
use crate::top::{Keyboard, fetch, show};
use crate::views::{status_json, worker_json};
use clap::Args;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;
use streamctl_engine::process::stop_signal;
use streamctl_proto::spec::{duration_text, parse_duration};

/// The shortest interval between requests.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Refresh interval, at least 200ms
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)
        .ok_or_else(|| format!("{text:?} is no duration, write 500ms or 2s"))?;
    if duration < INTERVAL_MIN {
        return Err(format!("at least {}", duration_text(INTERVAL_MIN)));
    }
    Ok(duration)
}

/// Shows the screen until the user leaves it.
pub async fn run(
    args: &TopArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    if out.format() == Format::Json {
        let fetched = fetch(controller, None).await?;
        return out.text(&as_json(&fetched).to_string());
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CliError::Usage {
            message: "top draws on a terminal, and standard input or output is none".into(),
            hint: "for programs: streamctl top -o json, or streamctl status JOB --watch -o json"
                .into(),
        });
    }
    let model = Model::new(
        controller.names(),
        duration_text(args.interval),
        out.paint().is_on(),
    );
    // It also restores the terminal after a panic.
    let mut terminal = ratatui::try_init()?;
    let (keyboard, keys) = Keyboard::listen();
    let shown = show(
        &mut terminal,
        controller,
        model,
        args.interval,
        keys,
        stop_signal(),
    )
    .await;
    drop(keyboard);
    ratatui::restore();
    shown
}

fn as_json(fetched: &Fetched) -> Value {
    let jobs: Vec<_> = fetched.jobs.iter().map(status_json).collect();
    let workers: Vec<_> = fetched.workers.iter().map(worker_json).collect();
    json!({"jobs": jobs, "workers": workers})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::tests::{captured, documented};

    #[tokio::test]
    async fn programs_get_the_keys_that_are_documented() {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(Format::Json);
        run(
            &TopArgs {
                interval: INTERVAL_MIN,
            },
            &controller,
            &mut out,
        )
        .await
        .unwrap();
        documented("top", &serde_json::from_str(&data.text()).unwrap());
    }
}
