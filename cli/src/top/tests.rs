//! Screens as text, keys as a user presses them, and a whole session against a controller.

use super::model::Sort;
use super::*;
use crate::client::tests::{FakeJobs, serve};
use crate::views::tests::status;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use streamctl_proto::v1::{self, JobState, JobStatus, ShardStatus, WorkerStatus};
use tokio::time::Instant;

fn job(name: &str, lag_ms: u64, rows: u64) -> JobStatus {
    let counts = v1::Counts {
        rows_in: rows,
        bytes_in: rows * 1_024,
        ..v1::Counts::default()
    };
    let window = Some(v1::Window {
        start_ms: 0,
        end_ms: 10_000,
    });
    let last_epoch = Some(v1::EpochSummary {
        window,
        counts: Some(counts),
        ..Default::default()
    });
    JobStatus {
        job: name.into(),
        state: JobState::Running.into(),
        lag_ms,
        last_epoch,
        ..Default::default()
    }
}

fn fetched(jobs: Vec<JobStatus>) -> Fetched {
    let worker = |n| WorkerStatus {
        worker: format!("w-{n}"),
        tasks: n,
        memory_bytes: 1 << 28,
        busy_permille: Some(350),
        clock_skew_ms: None,
        ..Default::default()
    };
    Fetched {
        at: Instant::now(),
        now_ms: status().last_epoch.expect("there is one").committed_ms,
        jobs,
        workers: vec![worker(1), worker(2)],
        one: None,
    }
}

fn model(colors: bool) -> Model {
    Model::new("http://127.0.0.1:7070".into(), "1s".into(), colors)
}

fn reported(fetched: Fetched) -> Input {
    Input::Arrived(Box::new(Ok(fetched)))
}

fn three() -> Model {
    let mut model = model(false);
    model.take(reported(fetched(vec![
        job("clicks", 50, 9_000),
        job("orders", 9_000, 100),
        job("sales", 10, 500),
    ])));
    model
}

/// The content of a screen of this size, line by line.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    (0..height).map(line).collect()
}

fn names(model: &Model) -> Vec<&str> {
    model.jobs().iter().map(|job| job.job.as_str()).collect()
}

#[test]
fn jobs_workers_and_keys_have_their_place_on_80_by_24() {
    let lines = screen(&three(), 80, 24);
    assert_eq!(
        lines[0],
        "streamctl top  3 jobs, 2 workers, every 1s  http://127.0.0.1:7070"
    );
    assert_eq!(
        lines[1],
        "JOB                     STATE     EPOCH   LAG     ROWS/S  READ/S   DEAD   SHARDS"
    );
    assert_eq!(
        lines[2],
        "> clicks                running   0       50 ms   900     900 KiB  0      0"
    );
    assert_eq!(
        lines[3],
        "  orders                running   0       9.0 s   10      10 KiB   0      0"
    );
    assert!(
        lines[20].starts_with("WORKER") && lines[21].starts_with("  w-1"),
        "{lines:#?}"
    );
    assert!(
        lines[20].contains("BUSY") && lines[21].contains("35 %"),
        "{lines:#?}"
    );
    assert!(
        lines[23].starts_with("q leave  j/k move  enter shards  s order: name"),
        "{lines:#?}"
    );
}

#[test]
fn a_narrow_screen_leaves_out_columns_and_cuts_no_word() {
    let lines = screen(&three(), 60, 24);
    assert_eq!(lines[0], "streamctl top  3 jobs, 2 workers, every 1s");
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>(),
        ["JOB", "STATE", "EPOCH", "LAG", "ROWS/S", "DEAD"]
    );
    assert_eq!(
        lines[2].split_whitespace().collect::<Vec<_>>(),
        [">", "clicks", "running", "0", "50", "ms", "900", "0"]
    );
    let headings: Vec<_> = lines[20].split_whitespace().collect();
    assert_eq!(headings, ["WORKER", "STATE", "TASKS", "BUSY", "MEMORY"]);
    assert_eq!(
        lines[23],
        "q leave  j/k move  enter shards  s order: name  ? keys"
    );
    // The name of a job is more important than the figures of others.
    let mut model = model(false);
    let name = "orders-of-the-northern-warehouses";
    model.take(reported(fetched(vec![job(name, 50, 9_000)])));
    for width in [60, 80] {
        let lines = screen(&model, width, 24);
        assert!(
            lines[2].contains(name) && lines[1].contains("LAG"),
            "{lines:#?}"
        );
    }
    model.take(Input::Pressed(Key::Enter));
    let one = JobStatus {
        job: name.into(),
        ..status()
    };
    model.take(reported(Fetched {
        one: Some(one),
        ..fetched(vec![job(name, 50, 9_000)])
    }));
    let lines = screen(&model, 60, 24);
    assert!(
        lines[2].ends_with(", 2 dead,") && lines[3] == "3 unmatched",
        "{lines:#?}"
    );
    let headings = lines.iter().find(|line| line.starts_with("SHARD")).unwrap();
    assert_eq!(
        headings.split_whitespace().collect::<Vec<_>>(),
        ["SHARD", "WORKER", "LAG", "ROWS/S"]
    );
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    let mut model = three();
    for inside in [false, true] {
        if inside {
            model.take(Input::Pressed(Key::Enter));
            model.take(reported(Fetched {
                one: Some(status()),
                ..fetched(vec![status()])
            }));
        }
        for help in [false, true] {
            model.help = help;
            for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 24), (300, 90)] {
                assert_eq!(screen(&model, width, height).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn keys_choose_a_row_and_it_stays_chosen_by_its_name() {
    let mut model = three();
    let press = |model: &mut Model, key| model.take(Input::Pressed(key));
    press(&mut model, Key::Down);
    press(&mut model, Key::Down);
    press(&mut model, Key::Down);
    assert_eq!(model.row(), Some(2), "there are three");
    press(&mut model, Key::Up);
    assert_eq!(model.row(), Some(1));
    press(&mut model, Key::Sort);
    assert_eq!(
        (model.sort, names(&model), model.row()),
        (Sort::Lag, vec!["orders", "clicks", "sales"], Some(0))
    );
    press(&mut model, Key::Sort);
    assert_eq!(
        (model.sort, names(&model), model.row()),
        (Sort::Rate, vec!["clicks", "sales", "orders"], Some(2))
    );
    press(&mut model, Key::First);
    press(&mut model, Key::Last);
    model.take(reported(fetched(vec![
        job("clicks", 0, 0),
        job("sales", 0, 0),
    ])));
    assert_eq!(model.row(), Some(0), "the chosen one is gone");
    assert_eq!(press(&mut model, Key::Quit), Some(Action::Quit));
    assert_eq!(press(&mut model, Key::Refresh), Some(Action::Refresh));
}

#[test]
fn a_job_is_looked_into_and_its_shards_have_rates() {
    let mut model = model(false);
    model.take(reported(fetched(vec![status()])));
    assert_eq!(
        model.take(Input::Pressed(Key::Enter)),
        Some(Action::Refresh)
    );
    assert_eq!(model.job(), Some("sales"));
    assert_eq!(screen(&model, 80, 24)[1], "asking for sales ...");
    let at = Instant::now();
    let with = |records: u64, bytes: u64, after: Duration| {
        let shard = ShardStatus {
            records: Some(records),
            bytes: Some(bytes),
            ..status().shards[0].clone()
        };
        let one = Some(JobStatus {
            shards: vec![shard],
            job_version: 3,
            ..status()
        });
        Fetched {
            at: at + after,
            one,
            ..fetched(vec![status()])
        }
    };
    model.take(reported(with(100, 1_000, Duration::ZERO)));
    model.take(reported(with(400, 205_800, Duration::from_secs(2))));
    let lines = screen(&model, 80, 24);
    assert!(
        lines[1].starts_with("sales  waiting  version 3  lag 1.2 s"),
        "{lines:#?}"
    );
    let shard = lines
        .iter()
        .find(|line| line.contains("shardId-0"))
        .unwrap();
    assert!(
        shard.contains("w-1") && shard.contains(" 150 ") && shard.contains("100 KiB"),
        "{shard}"
    );
    // A new task counts from zero: that is no rate.
    let mut moved = with(5, 50, Duration::from_secs(4));
    moved.one.as_mut().unwrap().shards[0].task = Some(v1::TaskId {
        term: 9,
        counter: 9,
    });
    model.take(reported(moved));
    assert_eq!(model.shards()[0].1, model::Rate::default());
    model.take(Input::Pressed(Key::Back));
    assert_eq!(model.job(), None);
}

#[test]
fn a_controller_that_does_not_answer_is_named_and_known_figures_stay() {
    let mut model = three();
    model.take(Input::Arrived(Box::new(Err(CliError::Unreachable(
        "http://a: refused".into(),
    )))));
    let lines = screen(&model, 80, 24);
    assert_eq!(
        lines[0],
        "streamctl top  no controller answers: http://a: refused"
    );
    assert!(lines[2].contains("clicks"));
    model.take(reported(fetched(vec![])));
    assert!(screen(&model, 80, 24)[2].starts_with("there is no job: start one with"));
}

#[test]
fn help_is_shown_over_it_and_any_key_takes_it_away() {
    let mut model = three();
    model.take(Input::Pressed(Key::Help));
    assert!(
        screen(&model, 80, 24)
            .iter()
            .any(|line| line.contains("another order: name, lag, rate"))
    );
    model.take(Input::Pressed(Key::Down));
    assert_eq!((model.help, model.row()), (false, Some(0)));
}

#[test]
fn without_colours_there_are_none() {
    for (colors, expected) in [(false, false), (true, true)] {
        let mut model = model(colors);
        model.take(reported(fetched(vec![JobStatus {
            state: JobState::Failed.into(),
            ..job("sales", 0, 0)
        }])));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| view::draw(frame, &model)).unwrap();
        let colored = terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .any(|cell| cell.fg != Color::Reset);
        assert_eq!(colored, expected);
    }
}

#[test]
fn keys_of_a_keyboard_mean_what_the_help_says() {
    let key = |code, modifiers| input(&Event::Key(event::KeyEvent::new(code, modifiers)));
    let is = |code, expected: Key| {
        let found = key(code, KeyModifiers::NONE);
        assert!(
            matches!(found, Some(Input::Pressed(key)) if key == expected),
            "{code:?}: {found:?}"
        );
    };
    is(KeyCode::Char('q'), Key::Quit);
    is(KeyCode::Char('j'), Key::Down);
    is(KeyCode::Up, Key::Up);
    is(KeyCode::Enter, Key::Enter);
    is(KeyCode::Esc, Key::Back);
    is(KeyCode::Char('s'), Key::Sort);
    is(KeyCode::Char('?'), Key::Help);
    assert!(matches!(
        key(KeyCode::Char('c'), KeyModifiers::CONTROL),
        Some(Input::Pressed(Key::Quit))
    ));
    assert!(key(KeyCode::Char('x'), KeyModifiers::NONE).is_none());
}

#[tokio::test]
async fn a_session_polls_draws_and_ends_with_a_key_or_a_signal() {
    let jobs = FakeJobs::default();
    let controller = Controller::new(&serve(jobs.clone()).await).unwrap();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    let requests = jobs.requests.clone();
    let types = async move {
        // Two answers: the second one is only requested when the first was handled.
        while requests.load(Ordering::SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
        sender.send(Input::Pressed(Key::Quit)).await.unwrap();
    };
    let never = std::future::pending();
    let shown = show(
        &mut terminal,
        &controller,
        model(false),
        Duration::from_millis(1),
        keys,
        never,
    );
    let (shown, ()) = tokio::join!(shown, types);
    shown.unwrap();
    let buffer = terminal.backend().buffer();
    let text: String = buffer.content().iter().map(|cell| cell.symbol()).collect();
    assert!(text.contains("> sales") && text.contains("w-1"), "{text}");

    let (_sender, keys) = mpsc::channel(KEYS_MAX);
    show(
        &mut terminal,
        &controller,
        model(false),
        Duration::from_secs(1),
        keys,
        std::future::ready(()),
    )
    .await
    .unwrap();
}

#[test]
fn a_rate_is_zero_when_the_next_window_is_missing() {
    let mut model = model(false);
    let answer = fetched(vec![status()]);
    let later = Fetched {
        now_ms: answer.now_ms + 3_600_000,
        ..fetched(vec![status()])
    };
    model.take(reported(answer));
    assert!(model.rate(&status()).records > 0.0);
    model.take(reported(later));
    assert!(model.rate(&status()).records == 0.0);
}
