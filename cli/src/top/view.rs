//! The appearance of the live screen: pure, from the state to the drawing.
//!
//! Rule: everything fits on 80 columns and 24 lines. A larger screen shows more rows; a narrower
//! one omits whole columns and cuts no word. Without colours, no information is lost.

use super::model::{Model, Rate};
use crate::output::Tone;
use crate::views::{busy, bytes, end_of, milliseconds, position, state, time, tone};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table};
use streamctl_proto::count;
use streamctl_proto::v1::{JobStatus, WorkerStatus};

/// Most rows of workers below the jobs, with their heading.
const WORKER_ROWS_MAX: u16 = 7;

const NAME_COLUMN_MAX: usize = 40;
/// Most lines for a text of a job.
const LINES_OF_A_TEXT_MAX: usize = 4;

const KEYS: [(&str, &str); 8] = [
    ("q, Ctrl-C", "leave"),
    ("up, down, j, k", "another row"),
    ("PgUp, PgDn, g, G", "farther"),
    ("enter", "the shards of a job"),
    ("esc", "back"),
    ("s", "another order: name, lag, rate"),
    ("r", "ask now"),
    ("?", "these keys"),
];

pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [title, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(model, title.width), title);
    match model.job() {
        Some(name) => draw_job(frame, model, name, body),
        None => draw_jobs(frame, model, body),
    }
    frame.render_widget(foot_line(model, foot.width), foot);
    if model.help {
        draw_help(frame, frame.area());
    }
}

fn dim(model: &Model) -> Style {
    style(model, Tone::Dim)
}

fn style(model: &Model, tone: Tone) -> Style {
    let plain = Style::default();
    match tone {
        Tone::Bad if model.colors => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Bad => plain.add_modifier(Modifier::BOLD),
        Tone::Good if model.colors => plain.fg(Color::Green),
        Tone::Waiting if model.colors => plain.fg(Color::Yellow),
        Tone::Dim if model.colors => plain.fg(Color::DarkGray),
        Tone::Good | Tone::Waiting | Tone::Dim => plain,
    }
}

fn title_line(model: &Model, width: u16) -> Line<'static> {
    const NAME: &str = "streamctl top";
    let room = width.saturating_sub(NAME.len() as u16 + 2);
    let (text, style) = match (&model.problem, &model.last) {
        (Some(problem), _) => (cut(problem, room), style(model, Tone::Bad)),
        (None, Some(fetched)) => {
            let jobs = count(fetched.jobs.len(), "job");
            let workers = count(fetched.workers.len(), "worker");
            let parts = [
                (format!("{jobs}, {workers}, every {}", model.interval), 0),
                (model.controllers.clone(), 1),
            ];
            (fitting(&parts, room), dim(model))
        }
        (None, None) => (
            cut(&format!("asking {} ...", model.controllers), room),
            dim(model),
        ),
    };
    Line::from(vec![
        Span::styled(NAME, Style::default().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(text, style),
    ])
}

fn foot_line(model: &Model, width: u16) -> Line<'static> {
    let what = if model.job().is_some() {
        "esc back"
    } else {
        "enter shards"
    };
    let order = format!("s order: {}", model.sort.label());
    let parts = [
        ("q leave", 0),
        ("j/k move", 2),
        (what, 0),
        (&order, 1),
        ("r now", 3),
        ("? keys", 0),
    ];
    let parts = parts.map(|(text, spare)| (text.to_owned(), spare));
    Line::from(Span::styled(fitting(&parts, width), dim(model)))
}

/// As many of the parts as fit, those with the highest number omitted first; 0: never.
fn fitting(parts: &[(String, u8)], width: u16) -> String {
    let widths: Vec<_> = parts
        .iter()
        .map(|(text, spare)| (text.chars().count(), *spare))
        .collect();
    let shown = with_room(&widths, 2, width)
        .into_iter()
        .map(|index| parts[index].0.as_str());
    shown.collect::<Vec<_>>().join("  ")
}

/// Which of these fit together, each with its width and its priority for omission.
fn with_room(parts: &[(usize, u8)], between: usize, width: u16) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..parts.len()).collect();
    loop {
        let taken = shown
            .iter()
            .map(|index| parts[*index].0 + between)
            .sum::<usize>()
            .saturating_sub(between);
        // If two have the same priority, the last one is omitted first.
        let least = shown
            .iter()
            .copied()
            .max_by_key(|index| (parts[*index].1, *index))
            .filter(|index| parts[*index].1 > 0);
        match least {
            Some(least) if taken > usize::from(width) => shown.retain(|index| *index != least),
            _ => return shown,
        }
    }
}

struct Column {
    heading: &'static str,
    /// The first column has at least this width and takes the remaining space.
    width: u16,
    /// Omitted if there is not enough space, the highest first; 0: never.
    spare: u8,
}

const fn column(heading: &'static str, width: u16, spare: u8) -> Column {
    Column {
        heading,
        width,
        spare,
    }
}

const JOB_COLUMNS: [Column; 8] = [
    column("JOB", 18, 0),
    column("STATE", 9, 0),
    column("EPOCH", 7, 2),
    column("LAG", 7, 0),
    column("ROWS/S", 7, 1),
    column("READ/S", 8, 3),
    column("DEAD", 6, 1),
    column("SHARDS", 6, 4),
];
const WORKER_COLUMNS: [Column; 6] = [
    column("WORKER", 24, 0),
    column("STATE", 8, 0),
    column("TASKS", 6, 2),
    column("BUSY", 6, 0),
    column("MEMORY", 9, 1),
    column("FLIGHT", 22, 3),
];
const SHARD_COLUMNS: [Column; 6] = [
    column("SHARD", 22, 0),
    column("WORKER", 14, 1),
    column("LAG", 8, 0),
    column("ROWS/S", 9, 0),
    column("READ/S", 10, 2),
    column("COMMITTED", 12, 3),
];

/// Draws the columns that fit; names, in the first column, take precedence.
fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[Column],
    rows: Vec<(Vec<String>, Style)>,
) {
    let longest = rows
        .iter()
        .filter_map(|(cells, _)| cells.first())
        .map(|name| name.chars().count())
        .max();
    let first = longest
        .unwrap_or(0)
        .clamp(usize::from(columns[0].width), NAME_COLUMN_MAX);
    let mut widths: Vec<_> = columns
        .iter()
        .map(|column| (usize::from(column.width), column.spare))
        .collect();
    widths[0].0 = first;
    let shown = with_room(&widths, 1, area.width);
    let constraint = |index: &usize| match *index {
        0 => Constraint::Min(first as u16),
        index => Constraint::Length(columns[index].width),
    };
    let constraints: Vec<_> = shown.iter().map(constraint).collect();
    let headings = heading(shown.iter().map(|index| columns[*index].heading).collect());
    let row = |(cells, style): (Vec<String>, Style)| {
        Row::new(
            shown
                .iter()
                .map(|index| cells[*index].clone())
                .collect::<Vec<_>>(),
        )
        .style(style)
    };
    frame.render_widget(
        Table::new(rows.into_iter().map(row), constraints).header(headings),
        area,
    );
}

fn heading(cells: Vec<&'static str>) -> Row<'static> {
    Row::new(cells).style(Style::default().add_modifier(Modifier::BOLD | Modifier::REVERSED))
}

fn draw_jobs(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let workers = model
        .last
        .as_ref()
        .map_or(&[][..], |fetched| &fetched.workers);
    let rows = u16::try_from(workers.len())
        .unwrap_or(u16::MAX)
        .saturating_add(1)
        .min(WORKER_ROWS_MAX);
    let [above, between, below] = Layout::vertical([
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(rows),
    ])
    .areas(area);
    let jobs = model.jobs();
    let selected = model.row();
    // Below the heading, the selected row is always visible.
    let room = usize::from(above.height.saturating_sub(1)).max(1);
    let first = selected.unwrap_or(0).saturating_sub(room - 1);
    let row = |(index, job): (usize, &&JobStatus)| job_row(model, job, selected == Some(index));
    let shown = jobs.iter().enumerate().skip(first).take(room).map(row);
    draw_table(frame, above, &JOB_COLUMNS, shown.collect());
    if jobs.is_empty() && model.last.is_some() {
        let [_, line] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(above);
        frame.render_widget(
            "there is no job: start one with streamctl submit job.toml",
            line,
        );
    }
    let remark = cut(&remark(model, &jobs), between.width);
    frame.render_widget(
        Line::from(Span::styled(remark, style(model, Tone::Waiting))),
        between,
    );
    draw_workers(frame, workers, below);
}

/// The message about the selected job.
fn remark(model: &Model, jobs: &[&JobStatus]) -> String {
    let job = model.row().and_then(|row| jobs.get(row));
    job.map_or_else(String::new, |job| match job.error.is_empty() {
        true => job
            .waiting_on
            .first()
            .map(|what| format!("{} waits on {what}", job.job))
            .unwrap_or_default(),
        false => format!("{}: {}", job.job, job.error),
    })
}

fn job_row(model: &Model, job: &JobStatus, selected: bool) -> (Vec<String>, Style) {
    let (
        Rate {
            records,
            bytes: read,
        },
        totals,
    ) = (model.rate(job), job.totals.unwrap_or_default());
    let cells = vec![
        format!("{}{}", if selected { "> " } else { "  " }, job.job),
        state(job).to_owned(),
        job.published.to_string(),
        milliseconds(job.lag_ms),
        per_second(records),
        bytes(read as u64),
        totals.rows_dead.to_string(),
        job.shards_open.to_string(),
    ];
    let toned = style(model, tone(job));
    (
        cells,
        if selected {
            toned.add_modifier(Modifier::REVERSED)
        } else {
            toned
        },
    )
}

fn per_second(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn draw_workers(frame: &mut Frame<'_>, workers: &[WorkerStatus], area: Rect) {
    let row = |worker: &WorkerStatus| {
        let state = if worker.leaving { "leaving" } else { "ready" };
        let tasks = worker.tasks.to_string();
        let memory = bytes(worker.memory_bytes);
        let name = format!("  {}", worker.worker);
        let address = worker.flight_address.clone();
        (
            vec![name, state.to_owned(), tasks, busy(worker), memory, address],
            Style::default(),
        )
    };
    draw_table(
        frame,
        area,
        &WORKER_COLUMNS,
        workers.iter().map(row).collect(),
    );
}

fn draw_job(frame: &mut Frame<'_>, model: &Model, name: &str, area: Rect) {
    let Some(job) = model.inside() else {
        return frame.render_widget(format!("asking for {name} ..."), area);
    };
    let lines = job_lines(model, job, area.width);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [above, below] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(2)]).areas(area);
    frame.render_widget(Paragraph::new(lines), above);
    let room = usize::from(below.height.saturating_sub(1));
    let row = |(shard, rate): &(&streamctl_proto::v1::ShardStatus, Rate)| {
        let cells = vec![
            format!("  {}", shard.shard),
            if shard.ended {
                "ended".to_owned()
            } else {
                shard.worker.clone()
            },
            milliseconds(shard.lag_ms),
            per_second(rate.records),
            bytes(rate.bytes as u64),
            end_of(&position(shard.committed.as_ref()), 12),
        ];
        (cells, Style::default())
    };
    let shards = model.shards();
    draw_table(
        frame,
        below,
        &SHARD_COLUMNS,
        shards
            .iter()
            .skip(model.scroll)
            .take(room)
            .map(row)
            .collect(),
    );
}

fn job_lines(model: &Model, job: &JobStatus, width: u16) -> Vec<Line<'static>> {
    let totals = job.totals.unwrap_or_default();
    let mut lines = vec![Line::from(vec![
        Span::styled(
            job.job.clone(),
            Style::default().add_modifier(Modifier::BOLD),
        ),
        Span::raw("  "),
        Span::styled(state(job), style(model, tone(job))),
        Span::raw(format!(
            "  version {}  lag {}",
            job.job_version.max(1),
            milliseconds(job.lag_ms)
        )),
    ])];
    let mut push = |text: &str, style: Style| {
        let wrapped = wrapped(text, width).into_iter().take(LINES_OF_A_TEXT_MAX);
        lines.extend(wrapped.map(|line| Line::from(Span::styled(line, style))));
    };
    let Rate {
        records,
        bytes: read,
    } = model.rate(job);
    let text = format!(
        "epoch {} committed, {} published; {} in, {} out, {} dead, {} unmatched",
        job.epoch,
        job.published,
        count(totals.rows_in, "row"),
        totals.rows_out,
        totals.rows_dead,
        totals.rows_unmatched
    );
    push(&text, Style::default());
    if let Some(window) = job.last_epoch.as_ref().and_then(|epoch| epoch.window) {
        let start = time(window.start_ms);
        let rate = per_second(records);
        push(
            &format!(
                "last window {start}: {rate} rows/s, {}/s",
                bytes(read as u64)
            ),
            Style::default(),
        );
    }
    let tones = [
        (Tone::Bad, "error", &job.error),
        (Tone::Waiting, "hint", &job.hint),
    ];
    for (tone, what, text) in tones.into_iter().filter(|(.., text)| !text.is_empty()) {
        push(&format!("{what}: {text}"), style(model, tone));
    }
    for what in job.waiting_on.iter().take(3) {
        push(&format!("waits on {what}"), style(model, Tone::Waiting));
    }
    lines
}

/// A text on as many lines as needed, wrapped between words.
fn wrapped(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    let mut lines: Vec<String> = vec![];
    for label in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + label.chars().count() <= width => {
                line.push(' ');
                line.push_str(label);
            }
            _ => lines.push(label.to_owned()),
        }
    }
    lines
}

/// The beginning of a text, with a mark if it was cut.
fn cut(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| Line::from(format!(" {key:<18}{what}")))
        .collect();
    let width = 54.min(area.width);
    let height = (KEYS.len() as u16 + 2).min(area.height);
    let x = (area.width - width) / 2;
    let y = (area.height - height) / 2;
    let place = Rect {
        x: area.x + x,
        y: area.y + y,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" Keys ")),
        place,
    );
}
