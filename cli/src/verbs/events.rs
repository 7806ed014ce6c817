//! `streamctl events`: what happened to jobs and the cluster, oldest first.
//!
//! Owns: the table, waiting for what is new. Does not own: what is kept (the controllers).
//! Rule: `--watch` continues after the last event that was shown, also with the next leader.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::moment::Moment;
use crate::output::{Format, Output, Paint, Tone, table};
use crate::views::time;
use clap::Args;
use std::time::Duration;
use streamctl_proto::json::event as event_json;
use streamctl_proto::v1::event::Severity;
use streamctl_proto::v1::{Event, ListEventsRequest, ListEventsResponse};

/// Printed if there are no events.
const NONE: &str = "no events: none happened, or they are older than what is kept (seven days)";
/// Time between two requests of a watch.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many times in a row to try again: a standby leads within 6 s.
const TRIES_MAX: u32 = 10;
/// The exit code of errors that a new leader fixes.
const UNREACHABLE: u8 = 4;

/// Of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Job name (default: all jobs and the cluster)
    pub job: Option<String>,
    /// Only events after this time: 2026-11-24T03:00:00Z, or 2h ago (default: all that are kept)
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Then print new events as they happen
    #[arg(short, long)]
    pub watch: bool,
}

pub async fn run(
    args: &EventsArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut request = ListEventsRequest {
        job: args.job.clone().unwrap_or_default(),
        since_ms: args.since.map_or(0, Moment::ms),
        ..Default::default()
    };
    let (events, problem) = out
        .during("reading the events", all(controller, &mut request))
        .await?;
    if !problem.is_empty() {
        out.note(&format!("note: the events may be incomplete: {problem}"));
    }
    if !args.watch {
        let paint = out.paint();
        return out.list(
            &events,
            NONE,
            |events| text(events, paint),
            |events| events.iter().map(event_json).collect(),
        );
    }
    print(&events, out)?;
    watch(&mut request, controller, out).await
}

/// All pages from here on; afterwards the request continues after them.
async fn all(
    controller: &Controller,
    request: &mut ListEventsRequest,
) -> Result<(Vec<Event>, String), CliError> {
    let mut events = vec![];
    loop {
        let call = |channel| {
            let request = request.clone();
            async move { jobs(channel).list_events(request).await }
        };
        let page: ListEventsResponse = controller.call(call).await?;
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if !page.more {
            return Ok((events, page.problem));
        }
    }
}

async fn watch(
    request: &mut ListEventsRequest,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut lost = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        match all(controller, request).await {
            Ok((events, _)) => {
                lost = 0;
                print(&events, out)?;
            }
            Err(error) if error.exit_code() == UNREACHABLE && lost < TRIES_MAX => {
                lost += 1;
                out.note(&format!("no controller answers ({error}); trying again"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// One line per event, or one document.
fn print(events: &[Event], out: &mut Output) -> Result<(), CliError> {
    let paint = out.paint();
    for event in events {
        match out.format() {
            Format::Json => out.text(&event_json(event).to_string())?,
            Format::Table => out.text(&row(event, paint).join("  "))?,
        }
    }
    Ok(())
}

fn text(events: &[Event], paint: Paint) -> String {
    let rows: Vec<_> = events.iter().map(|event| row(event, paint)).collect();
    table(["TIME", "EVENT", "JOB", "SUBJECT", "TIMES", "TEXT"], &rows)
}

fn row(event: &Event, paint: Paint) -> [String; 6] {
    let tone = match event.severity() {
        Severity::Error => Some(Tone::Bad),
        Severity::Warning => Some(Tone::Waiting),
        Severity::Info | Severity::Unspecified => None,
    };
    let kind = tone.map_or_else(|| event.kind.clone(), |tone| paint.text(tone, &event.kind));
    let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    let times = match event.count {
        1 => "1".to_owned(),
        count => format!("{count} since {}", time(event.first_ms)),
    };
    [
        time(event.last_ms),
        kind,
        or_dash(&event.job),
        or_dash(&event.subject),
        times,
        event.text.replace('\n', " "),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::tests::{captured, documented};

    fn lost() -> Event {
        Event {
            id: 7,
            kind: "worker_lost".into(),
            severity: Severity::Error.into(),
            subject: "w1".into(),
            text: "silent for 3 s".into(),
            term: 3,
            first_ms: 1_795_481_100_000,
            last_ms: 1_795_481_115_000,
            count: 2,
            ..Default::default()
        }
    }

    fn failed() -> Event {
        Event {
            id: 8,
            kind: "job_failed".into(),
            severity: Severity::Error.into(),
            job: "sales".into(),
            text: "the query failed".into(),
            term: 3,
            first_ms: 1_795_481_116_000,
            last_ms: 1_795_481_116_000,
            count: 1,
            ..Default::default()
        }
    }

    /// Two pages.
    pub fn page(token: &str) -> ListEventsResponse {
        let is_first = token.is_empty();
        ListEventsResponse {
            events: vec![if is_first { lost() } else { failed() }],
            next_page_token: if is_first { "1" } else { "2" }.into(),
            more: is_first,
            stored: true,
            problem: String::new(),
        }
    }

    async fn shown(job: Option<&str>, format: Format) -> (Result<(), CliError>, String) {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(format);
        let args = EventsArgs {
            job: job.map(str::to_owned),
            since: None,
            watch: false,
        };
        (run(&args, &controller, &mut out).await, data.text())
    }

    #[tokio::test]
    async fn every_page_is_shown_in_one_table() {
        let (_, text) = shown(None, Format::Table).await;
        let expected = "\
TIME                  EVENT        JOB    SUBJECT  TIMES                         TEXT
2026-11-24T00:45:15Z  worker_lost  -      w1       2 since 2026-11-24T00:45:00Z  silent for 3 s
2026-11-24T00:45:16Z  job_failed   sales  -        1                             the query failed";
        let trimmed: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
    }

    #[tokio::test]
    async fn programs_get_the_documented_names() {
        let (_, text) = shown(Some("sales"), Format::Json).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json[0]["count"], &json[0]["job"]),
            (&2.into(), &().into())
        );
        documented("events", &json[1]);
    }

    #[tokio::test]
    async fn a_job_that_never_was_ends_with_exit_code_3() {
        let (result, _) = shown(Some("other"), Format::Table).await;
        assert_eq!(result.unwrap_err().exit_code(), 3);
    }
}
