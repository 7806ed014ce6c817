//! What the live screen looks like: pure, from what is known to what is drawn.
//!
//! Rule: everything has its place on 80 columns and 24 lines; a larger screen shows more of the same. Without colours nothing
//! is said by colour alone.

use super::model::{Model, Rate, job_rate};
use crate::output::Tone;
use crate::views::{busy, bytes, milliseconds, position, state, time, tone};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table};
use streamctl_proto::v1::{JobStatus, WorkerStatus};

/// Rows of workers below the jobs, at most, with their heading.
const WORKER_ROWS_MAX: u16 = 7;

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

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [title, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(title_line(model), title);
    match model.job() {
        Some(name) => draw_job(frame, model, name, body),
        None => draw_jobs(frame, model, body),
    }
    frame.render_widget(foot_line(model), foot);
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

fn title_line(model: &Model) -> Line<'static> {
    let mut spans = vec![Span::styled("streamctl top", Style::default().add_modifier(Modifier::BOLD))];
    match (&model.problem, &model.last) {
        (Some(problem), _) => spans.push(Span::styled(format!("  {problem}"), style(model, Tone::Bad))),
        (None, Some(answer)) => {
            let (jobs, workers) = (answer.jobs.len(), answer.workers.len());
            let text = format!("  {jobs} jobs, {workers} workers, every {}  {}", model.interval, model.controllers);
            spans.push(Span::styled(text, dim(model)));
        }
        (None, None) => spans.push(Span::styled(format!("  asking {} ...", model.controllers), dim(model))),
    }
    Line::from(spans)
}

fn foot_line(model: &Model) -> Line<'static> {
    let what = if model.job().is_some() { "esc back" } else { "enter shards" };
    let text = format!("q leave  j/k move  {what}  s order: {}  r now  ? keys", model.sort.word());
    Line::from(Span::styled(text, dim(model)))
}

fn heading(cells: Vec<&'static str>) -> Row<'static> {
    Row::new(cells).style(Style::default().add_modifier(Modifier::BOLD | Modifier::REVERSED))
}

fn draw_jobs(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let workers = model.last.as_ref().map_or(&[][..], |answer| &answer.workers);
    let rows = u16::try_from(workers.len()).unwrap_or(u16::MAX).saturating_add(1).min(WORKER_ROWS_MAX);
    let [above, between, below] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1), Constraint::Length(rows)]).areas(area);
    let widths = [
        Constraint::Min(20),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
    ];
    let cells = vec!["JOB", "STATE", "EPOCH", "LAG", "ROWS/S", "READ/S", "DEAD", "SHARDS"];
    let jobs = model.jobs();
    let selected = model.row();
    // Heading apart, the selected row is always in sight.
    let room = usize::from(above.height.saturating_sub(1)).max(1);
    let first = selected.unwrap_or(0).saturating_sub(room - 1);
    let row = |(index, job): (usize, &&JobStatus)| job_row(model, job, selected == Some(index));
    let shown = jobs.iter().enumerate().skip(first).take(room).map(row);
    frame.render_widget(Table::new(shown, widths).header(heading(cells)), above);
    if jobs.is_empty() && model.last.is_some() {
        let [_, line] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(above);
        frame.render_widget("there is no job: start one with streamctl submit job.toml", line);
    }
    frame.render_widget(Line::from(Span::styled(remark(model, &jobs), style(model, Tone::Waiting))), between);
    draw_workers(frame, workers, below);
}

/// What is to be said of the selected job.
fn remark(model: &Model, jobs: &[&JobStatus]) -> String {
    let job = model.row().and_then(|row| jobs.get(row));
    job.map_or_else(String::new, |job| match job.error.is_empty() {
        true => job.waiting_on.first().map(|what| format!("{} waits on {what}", job.job)).unwrap_or_default(),
        false => format!("{}: {}", job.job, job.error),
    })
}

fn job_row(model: &Model, job: &JobStatus, selected: bool) -> Row<'static> {
    let (Rate { records, bytes: read }, totals) = (job_rate(job), job.totals.unwrap_or_default());
    let cells = [
        format!("{}{}", if selected { "> " } else { "  " }, job.job),
        state(job).to_owned(),
        job.published.to_string(),
        milliseconds(job.lag_ms),
        per_second(records),
        bytes(read as u64),
        totals.rows_dead.to_string(),
        job.shards_open.to_string(),
    ];
    let row = Row::new(cells).style(style(model, tone(job)));
    if selected { row.style(style(model, tone(job)).add_modifier(Modifier::REVERSED)) } else { row }
}

fn per_second(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn draw_workers(frame: &mut Frame<'_>, workers: &[WorkerStatus], area: Rect) {
    let row = |worker: &WorkerStatus| {
        let state = if worker.leaving { "leaving" } else { "ready" };
        let (tasks, memory) = (worker.tasks.to_string(), bytes(worker.memory_bytes));
        let (name, address) = (format!("  {}", worker.worker), worker.flight_address.clone());
        Row::new([name, state.to_owned(), tasks, busy(worker), memory, address])
    };
    let widths = [
        Constraint::Min(24),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(22),
    ];
    let table = Table::new(workers.iter().map(row), widths);
    frame.render_widget(table.header(heading(vec!["WORKER", "STATE", "TASKS", "BUSY", "MEMORY", "FLIGHT"])), area);
}

fn draw_job(frame: &mut Frame<'_>, model: &Model, name: &str, area: Rect) {
    let Some(job) = model.inside() else {
        return frame.render_widget(format!("asking for {name} ..."), area);
    };
    let lines = job_lines(model, job);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(2)]).areas(area);
    frame.render_widget(Paragraph::new(lines), above);
    let widths = [
        Constraint::Min(22),
        Constraint::Length(14),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(12),
    ];
    let room = usize::from(below.height.saturating_sub(1));
    let row = |(shard, rate): &(&streamctl_proto::v1::ShardStatus, Rate)| {
        Row::new([
            format!("  {}", shard.shard),
            if shard.ended { "ended".to_owned() } else { shard.worker.clone() },
            milliseconds(shard.lag_ms),
            per_second(rate.records),
            bytes(rate.bytes as u64),
            tail(&position(shard.committed.as_ref()), 12),
        ])
    };
    let shards = model.shards();
    let shown: Vec<_> = shards.iter().skip(model.scroll).take(room).map(row).collect();
    let cells = vec!["SHARD", "WORKER", "LAG", "ROWS/S", "READ/S", "COMMITTED"];
    frame.render_widget(Table::new(shown, widths).header(heading(cells)), below);
}

/// The end of a text: what changes of a position stands there.
fn tail(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars {
        return text.to_owned();
    }
    format!("..{}", text.chars().skip(count - chars + 2).collect::<String>())
}

fn job_lines(model: &Model, job: &JobStatus) -> Vec<Line<'static>> {
    let totals = job.totals.unwrap_or_default();
    let plain = |text: String| Line::from(text);
    let mut lines = vec![Line::from(vec![
        Span::styled(job.job.clone(), Style::default().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(state(job), style(model, tone(job))),
        Span::raw(format!("  version {}  lag {}", job.job_version.max(1), milliseconds(job.lag_ms))),
    ])];
    let (rows_in, rows_out, dead) = (totals.rows_in, totals.rows_out, totals.rows_dead);
    let Rate { records, bytes: read } = job_rate(job);
    lines.push(plain(format!(
        "epoch {} committed, {} published; {rows_in} rows in, {rows_out} out, {dead} dead, {} unmatched",
        job.epoch, job.published, totals.rows_unmatched
    )));
    if let Some(window) = job.last_epoch.as_ref().and_then(|epoch| epoch.window) {
        let (start, rate) = (time(window.start_ms), per_second(records));
        lines.push(plain(format!("last window {start}: {rate} rows/s, {}/s", bytes(read as u64))));
    }
    let tones = [(Tone::Bad, "error", &job.error), (Tone::Waiting, "hint", &job.hint)];
    for (tone, what, text) in tones.into_iter().filter(|(.., text)| !text.is_empty()) {
        lines.push(Line::from(Span::styled(format!("{what}: {text}"), style(model, tone))));
    }
    for what in job.waiting_on.iter().take(3) {
        lines.push(Line::from(Span::styled(format!("waits on {what}"), style(model, Tone::Waiting))));
    }
    lines
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = KEYS.iter().map(|(key, what)| Line::from(format!(" {key:<18}{what}"))).collect();
    let (width, height) = (54.min(area.width), (KEYS.len() as u16 + 2).min(area.height));
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let place = Rect { x: area.x + x, y: area.y + y, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), place);
}
