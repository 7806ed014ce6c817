//! `streamctl epochs`: the committed epochs of a job.

use crate::args::EpochsArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::moment::Moment;
use crate::output::Output;
use crate::views::{epoch_json, epochs_text};
use streamctl_proto::v1::ListEpochsRequest;

pub async fn run(
    args: &EpochsArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = request(args)?;
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).list_epochs(request).await }
    };
    let response = out
        .during("asking for the epochs", controller.call(call))
        .await?;
    out.list(
        &response.epochs,
        "no such epochs are committed: `streamctl status` says how far the job is",
        epochs_text,
        |epochs| epochs.iter().map(epoch_json).collect(),
    )?;
    // More may follow only if a start was given; otherwise these are the newest ones.
    let full = response.epochs.len() as u64 >= u64::from(args.limit);
    let last = response.epochs.last().map_or(0, |epoch| epoch.epoch);
    let has_start = args.from.is_some() || args.since.is_some();
    let end = match (args.to, args.until) {
        (Some(to), _) => (last < to).then(|| format!(" --to {to}")),
        (None, Some(_)) => Some(String::new()),
        (None, None) => None,
    };
    if let Some(end) = end.filter(|_| has_start && full) {
        out.note(&format!(
            "there may be more: go on with --from {}{end}, or raise --limit",
            last + 1
        ));
    }
    Ok(())
}

fn request(args: &EpochsArgs) -> Result<ListEpochsRequest, CliError> {
    let from = args.from.unwrap_or(0);
    let to = args.to.unwrap_or(0);
    if to > 0 && from > to {
        return Err(CliError::Usage {
            message: format!("--to {to} is before --from {from}"),
            hint: "epochs are listed from the older to the newer one: --from names the older"
                .into(),
        });
    }
    let ms = |moment: Option<Moment>| moment.map_or(0, Moment::ms);
    let since_ms = ms(args.since);
    let until_ms = ms(args.until);
    if until_ms > 0 && since_ms >= until_ms {
        return Err(CliError::Usage {
            message: "--until is not after --since".into(),
            hint: "epochs are listed from the older to the newer one: --since is the older time"
                .into(),
        });
    }
    Ok(ListEpochsRequest {
        job: args.job.clone(),
        from,
        limit: args.limit,
        to,
        since_ms,
        until_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::captured;

    fn args(from: Option<u64>, to: Option<u64>) -> EpochsArgs {
        EpochsArgs {
            job: "sales".into(),
            from,
            to,
            since: None,
            until: None,
            limit: 20,
        }
    }

    #[test]
    fn windows_are_chosen_by_time_the_older_one_first() {
        let timed = |since, until| {
            request(&EpochsArgs {
                since: Some(Moment::At(since)),
                until: Some(Moment::At(until)),
                ..args(None, None)
            })
        };
        let good = timed(1_000, 2_000).unwrap();
        assert_eq!((good.since_ms, good.until_ms), (1_000, 2_000));
        let error = timed(2_000, 2_000).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(request(&args(None, None)).unwrap().since_ms, 0);
    }

    #[test]
    fn an_end_before_the_beginning_is_wrong_usage() {
        let error = request(&args(Some(3), Some(2))).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (2, "--to 2 is before --from 3")
        );
        let same = request(&args(Some(3), Some(3))).unwrap();
        assert_eq!((same.from, same.to), (3, 3));
        let newest = request(&args(None, Some(7))).unwrap();
        assert_eq!((newest.from, newest.to), (0, 7));
    }

    #[tokio::test]
    async fn an_empty_result_is_noted_on_standard_error_alone() {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, notes) = captured(Format::Table);
        run(&args(Some(100), None), &controller, &mut out)
            .await
            .unwrap();
        assert_eq!(data.text(), "");
        assert!(
            notes.text().starts_with("no such epochs are committed"),
            "{}",
            notes.text()
        );
        let (mut out, data, notes) = captured(Format::Json);
        run(&args(Some(100), None), &controller, &mut out)
            .await
            .unwrap();
        assert_eq!((data.text().as_str(), notes.text().as_str()), ("[]\n", ""));
    }
}
