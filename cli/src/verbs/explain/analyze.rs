//! `streamctl explain --analyze`: rows and time per operator of a running job.
//!
//! Owns: the tree as text. Does not own: the figures (the leader sums them over the tasks).
//! Rule: what is not measured is `-`, never 0.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, Paint, Tone, table};
use crate::views::{milliseconds, time};
use streamctl_proto::count;
use streamctl_proto::json::job_profile;
use streamctl_proto::v1::{GetJobProfileRequest, JobProfile, OperatorFigures, WindowProfile};

/// An operator with this share of the time, in percent, is coloured.
const BUSY_PERCENT: u64 = 25;

pub async fn run(job: &str, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let request = GetJobProfileRequest {
        job: job.to_owned(),
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job_profile(request).await }
    };
    let profile = out
        .during("asking for the operators", controller.call(call))
        .await?;
    let paint = out.paint();
    out.either(|| text(&profile, paint), || job_profile(&profile))
}

fn text(profile: &JobProfile, paint: Paint) -> String {
    let job = &profile.job;
    let (Some(last), Some(sum)) = (&profile.last, &profile.sum) else {
        return format!("job {job}: no window was committed under this leader yet");
    };
    let window = last.window.unwrap_or_default();
    let mut head = format!(
        "job {job}, version {}, epoch {}, window {} to {}: {} in {}",
        last.job_version,
        last.epoch,
        time(window.start_ms),
        time(window.end_ms),
        micros(Some(last.total_us)),
        count(last.tasks, "task"),
    );
    if last.tasks_omitted > 0 {
        let omitted = count(last.tasks_omitted, "task");
        head.push_str(&format!(" (without {omitted} of another plan)"));
    }
    let rows: Vec<_> = last
        .operators
        .iter()
        .enumerate()
        .map(|(at, operator)| row(last, operator, sum.operators.get(at), paint))
        .collect();
    let windows = count(profile.windows, "window");
    let of_all = format!("ROWS, {windows}").to_uppercase();
    let headings = [
        "OPERATOR", "ROWS", "TIME", "SHARE", &of_all, "TIME", "DETAIL",
    ];
    format!("{head}\n\n{}", table(headings, &rows))
}

fn row(
    window: &WindowProfile,
    operator: &OperatorFigures,
    sum: Option<&OperatorFigures>,
    paint: Paint,
) -> [String; 7] {
    let indent = "  ".repeat(operator.depth as usize);
    let name = format!("{indent}{}", operator.name);
    let percent = percent(operator.compute_us, window.total_us);
    let name = match percent {
        Some(percent) if percent >= BUSY_PERCENT => paint.text(Tone::Waiting, &name),
        _ => name,
    };
    let number = |rows: Option<u64>| rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
    [
        name,
        number(operator.rows),
        micros(operator.compute_us),
        percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
        number(sum.and_then(|sum| sum.rows)),
        micros(sum.and_then(|sum| sum.compute_us)),
        operator.detail.clone(),
    ]
}

/// Rounded; none if it is not measured.
fn percent(compute_us: Option<u64>, total_us: u64) -> Option<u64> {
    let share = u128::from(compute_us?) * 100 + u128::from(total_us / 2);
    u64::try_from(share / u128::from(total_us.max(1))).ok()
}

fn micros(time: Option<u64>) -> String {
    match time {
        None => "-".to_owned(),
        Some(us) if us < 1_000 => format!("{us} µs"),
        Some(us) => milliseconds(us / 1_000),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use streamctl_proto::v1::Window;

    /// A join of two windows.
    pub fn profile() -> JobProfile {
        let operator = |depth, name: &str, rows, compute_us| OperatorFigures {
            depth,
            name: name.into(),
            detail: String::new(),
            rows,
            compute_us,
        };
        let window = |factor: u64| WindowProfile {
            epoch: 17,
            window: Some(Window {
                start_ms: 1_795_481_100_000,
                end_ms: 1_795_481_160_000,
            }),
            job_version: 2,
            tasks: 2,
            tasks_omitted: 0,
            total_us: 4_000 * factor,
            operators: vec![
                operator(0, "stage", Some(9 * factor), Some(500 * factor)),
                operator(1, "HashJoinExec", Some(9 * factor), Some(3_000 * factor)),
                operator(2, "Source", Some(10 * factor), None),
            ],
        };
        JobProfile {
            job: "sales".into(),
            last: Some(window(1)),
            sum: Some(window(2)),
            windows: 2,
        }
    }

    #[test]
    fn the_tree_has_rows_time_and_share_of_each_operator() {
        let shown = text(&profile(), Paint::default());
        let expected = "\
job sales, version 2, epoch 17, window 2026-11-24T00:45:00Z to 2026-11-24T00:46:00Z: 4 ms in 2 tasks

OPERATOR        ROWS  TIME    SHARE  ROWS, 2 WINDOWS  TIME  DETAIL
stage           9     500 µs  13 %   18               1 ms
  HashJoinExec  9     3 ms    75 %   18               6 ms
    Source      10    -       -      20               -";
        let trimmed: Vec<_> = shown.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
    }

    #[test]
    fn a_job_without_a_window_has_no_tree() {
        let none = JobProfile {
            job: "sales".into(),
            ..JobProfile::default()
        };
        assert!(text(&none, Paint::default()).contains("no window was committed"));
        assert_eq!(percent(Some(0), 0), Some(0));
        assert_eq!(percent(Some(u64::MAX), u64::MAX), Some(100));
    }

    #[tokio::test]
    async fn programs_get_the_documented_names() {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(Format::Json);
        run("sales", &controller, &mut out).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        documented("explain --analyze", &json);
        assert_eq!(json["last"]["operators"][1]["compute_us"], 3_000);
    }
}
