//! The code of a batch function, as a function that returns its rows.
//!
//! Owns: which of its statements change, and how. Does not own: what the function uses of the
//! script (`carry`).
//! Rule: a statement is changed only where Glue's form has no meaning here: writing becomes
//! returning, and a frame without rows goes through like any other, since the result's columns are
//! learned from it.

use super::super::flow::FrameKind;
use super::super::python::{Kind, Statement};
use super::forms::{has_rows, is_setting, written};
use super::source::{CallText, closing, code, find, names};
use super::{Batch, Item, Source, problems};
use std::collections::{BTreeMap, BTreeSet};

/// Most calls of one kind that are replaced in a statement.
const CALLS_MAX: usize = 16;
const SECOND: &str = "a job has one output, and this is another: write it by a job of its own";
const NO_ROWS: &str = "this returns no frame: the call without rows at submit must return one with the result's columns";
const IN_BLOCK: &str = "this was written under a condition or in a loop: return one frame with the same columns in any case";
const NO_WRITE: &str = "what the function writes is not understood: return the frame";
const SWALLOWED: &str = "without `raise`, rows of a window that fails here are lost: without this, [retry] tries it again";

/// The statements below a `def`.
pub struct Body<'a> {
    def: &'a Statement,
    statements: &'a [Statement],
    parameters: &'a [String],
    written_at: Option<usize>,
}

/// The function, as it is written.
pub struct Written {
    pub lines: Vec<String>,
    pub frame: FrameKind,
}

/// What becomes of a statement.
enum Change {
    Keep,
    /// It goes, with everything below it.
    Remove,
    /// A condition that is always true (or never): what is below it moves to its place.
    Dissolve,
    Condition(bool),
    /// It writes this frame.
    Write(String),
    /// It sets a sink up.
    Setting,
}

impl<'a> Body<'a> {
    /// `None`: the body stands on the line of its `def`, or there is none.
    pub fn read(function: &Item<'a>, batch: &Batch) -> Option<Self> {
        let at = function.statements.iter().position(
            |statement| matches!(&statement.kind, Kind::Def(name, _) if name == batch.function),
        )?;
        let def = &function.statements[at];
        let Kind::Def(_, parameters) = &def.kind else {
            return None;
        };
        let statements = &function.statements[at + 1..];
        let first = statements.first()?;
        (first.line > def.end).then_some(Self {
            def,
            statements,
            parameters,
            written_at: batch.written_at,
        })
    }

    /// The function's text; what a person must change is added to the notes. `lookups` are names
    /// in the code and in the job file.
    pub fn write(
        &self,
        source: &Source,
        session: &BTreeSet<String>,
        lookups: &BTreeMap<String, String>,
        notes: &mut Vec<(usize, String)>,
    ) -> Written {
        let frame = self.frame(source);
        let changes = self.changes(source, frame);
        let writes: Vec<usize> = (0..changes.len())
            .filter(|at| matches!(changes[*at], Change::Write(_)))
            .collect();
        let is_outermost = |at: usize| {
            let mut above = self.above(at);
            above.all(|above| matches!(changes[above], Change::Dissolve | Change::Condition(_)))
        };
        let spans = |at: &usize| {
            let statement = &self.statements[*at];
            let line = self.written_at.unwrap_or(0);
            (statement.line..=statement.end).contains(&line)
        };
        let chosen = writes
            .iter()
            .find(|at| spans(at) && is_outermost(**at))
            .or(writes.iter().find(|at| is_outermost(**at)))
            .or(writes.first())
            .copied();
        let is_last = chosen.is_some_and(|chosen| {
            let rest = &changes[chosen + 1..];
            is_outermost(chosen) && rest.iter().all(|change| matches!(change, Change::Setting))
        });
        let mut output = Output {
            body: self,
            source,
            session,
            notes,
            frame,
            lines: self.head(source, lookups),
            next: self.def.end + 1,
            shifts: Vec::new(),
            result: self.result(source),
        };
        let base = self.statements[0].indent;
        let in_block = chosen.is_some_and(|chosen| !is_outermost(chosen));
        if in_block {
            let line = format!("{}{} = None", " ".repeat(base), output.result);
            output.lines.push(line);
        }
        let mut at = 0;
        while at < self.statements.len() {
            let statement = &self.statements[at];
            let below = self.below(at);
            match &changes[at] {
                Change::Remove => {
                    output.gap(statement);
                    output.next = self.statements[below.end - 1].end + 1;
                    at = below.end;
                    continue;
                }
                Change::Dissolve => {
                    output.gap(statement);
                    output.next = statement.end + 1;
                    let first = &self.statements[below.start];
                    let last = &self.statements[below.end - 1];
                    let by = first.indent - statement.indent;
                    output.shifts.push((statement.end + 1, last.end, by));
                }
                Change::Condition(value) => output.condition(statement, *value),
                Change::Setting => {
                    output.gap(statement);
                    output.pass(statement, base);
                    output.next = statement.end + 1;
                }
                Change::Write(text) if Some(at) == chosen => {
                    if in_block {
                        output.todo(statement, IN_BLOCK);
                    }
                    output.written(statement, text, is_last);
                }
                Change::Write(_) => output.left_out(statement, base),
                Change::Keep => output.kept(statement, self.is_swallowing(source, at)),
            }
            at += 1;
        }
        if chosen.is_none() {
            let last = &self.statements[0];
            let indent = " ".repeat(base);
            output
                .lines
                .push(format!("{indent}# TODO line {}: {NO_WRITE}", self.def.line));
            output.notes.push((last.line, NO_WRITE.to_owned()));
        } else if !is_last {
            let line = format!("{}return {}", " ".repeat(base), output.result);
            output.lines.push(line);
        }
        Written {
            lines: output.lines,
            frame,
        }
    }

    /// The `def`, and lookups as its first statements.
    fn head(&self, source: &Source, lookups: &BTreeMap<String, String>) -> Vec<String> {
        let begin = source.begin(self.def.line);
        let mut text = source.text(begin..=self.def.end);
        let has_context = self.parameters.len() > 2;
        let context = self.parameters.get(2).map_or("context", String::as_str);
        let plain = code(&text);
        let close = find(&plain, "def")
            .and_then(|at| plain[at..].find('(').map(|open| at + open))
            .and_then(|open| closing(&plain, open));
        if !lookups.is_empty()
            && !has_context
            && let Some(close) = close
        {
            text.insert_str(close, ", context");
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let indent = " ".repeat(self.statements[0].indent);
        lines.extend(
            lookups
                .iter()
                .map(|(name, lookup)| format!("{indent}{name} = {context}.lookups[\"{lookup}\"]")),
        );
        lines
    }

    /// A name for the result that the function does not use otherwise.
    fn result(&self, source: &Source) -> &'static str {
        let last = self.statements.iter().map(|statement| statement.end).max();
        let code = source.code(self.def.line..=last.unwrap_or(self.def.end));
        match find(&code, "result") {
            Some(_) => "result_frame",
            None => "result",
        }
    }

    fn frame(&self, source: &Source) -> FrameKind {
        let Some(parameter) = self.parameters.first() else {
            return FrameKind::Pyspark;
        };
        let only = BTreeSet::from([parameter.clone()]);
        let mut uses = 0;
        let mut as_pandas = 0;
        for statement in self.statements {
            if matches!(&statement.kind, Kind::If(condition) if has_rows(condition, &only).is_some())
            {
                continue;
            }
            let code = source.code(statement.line..=statement.end);
            uses += names(&code)
                .iter()
                .filter(|name| *name == parameter)
                .count();
            as_pandas += code.matches(&format!("{parameter}.toPandas")).count();
        }
        if as_pandas > 0 && as_pandas == uses {
            FrameKind::Pandas
        } else {
            FrameKind::Pyspark
        }
    }

    fn changes(&self, source: &Source, frame: FrameKind) -> Vec<Change> {
        let mut batches: BTreeSet<String> = self.parameters.first().cloned().into_iter().collect();
        let mut changes = Vec::new();
        for (at, statement) in self.statements.iter().enumerate() {
            let text = source.text(statement.line..=statement.end);
            let below = self.below(at);
            let shares_line = |other: Option<&Statement>| {
                other
                    .is_some_and(|other| other.line <= statement.end && other.end >= statement.line)
            };
            let is_inline = shares_line(self.statements.get(at + 1))
                || at > 0 && shares_line(self.statements.get(at - 1));
            let change = match &statement.kind {
                Kind::If(condition) => match has_rows(condition, &batches) {
                    Some(value) => {
                        let has_branch = self.statements.get(below.end).is_some_and(|next| {
                            next.indent == statement.indent
                                && matches!(&next.kind, Kind::Block(word) if word == "else" || word == "elif")
                        });
                        let last = self.statements[at..below.end]
                            .iter()
                            .map(|one| one.end)
                            .max();
                        let body = source.text(statement.line..=last.unwrap_or(statement.end));
                        let has_long_text = body.contains("\"\"\"") || body.contains("'''");
                        match value {
                            false if !has_branch => Change::Remove,
                            true if !has_branch && !has_long_text && !is_inline => Change::Dissolve,
                            value => Change::Condition(value),
                        }
                    }
                    None => Change::Keep,
                },
                _ if is_inline => Change::Keep,
                Kind::Assign(..) | Kind::Expr(_) | Kind::Other => {
                    let edited = self.edited(&text, frame);
                    let plain = code(&edited);
                    if let Kind::Assign(name, _) = &statement.kind
                        && let Some((_, value)) = edited.split_once('=')
                        && batches.contains(value.trim())
                    {
                        batches.insert(name.clone());
                    }
                    match written(&edited, &plain) {
                        Some(frame) => Change::Write(frame),
                        None if is_setting(&plain) => Change::Setting,
                        None => Change::Keep,
                    }
                }
                Kind::Block(word) if word == "else" => {
                    let before = (0..at)
                        .rev()
                        .find(|before| self.statements[*before].indent <= statement.indent);
                    match before.map(|before| &changes[before]) {
                        Some(Change::Condition(_)) => Change::Condition(true),
                        _ => Change::Keep,
                    }
                }
                _ => Change::Keep,
            };
            changes.push(change);
        }
        changes
    }

    /// The statements below one.
    fn below(&self, at: usize) -> std::ops::Range<usize> {
        let indent = self.statements[at].indent;
        let rest = self.statements[at + 1..].iter();
        let count = rest
            .take_while(|statement| statement.indent > indent)
            .count();
        at + 1..at + 1 + count
    }

    /// The statements that one is below of, the nearest first.
    fn above(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let mut indent = self.statements[at].indent;
        (0..at).rev().filter(move |before| {
            let is_above = self.statements[*before].indent < indent;
            if is_above {
                indent = self.statements[*before].indent;
            }
            is_above
        })
    }

    fn is_swallowing(&self, source: &Source, at: usize) -> bool {
        let is_except = matches!(&self.statements[at].kind, Kind::Block(word) if word == "except");
        let mut below = self.statements[self.below(at)].iter();
        is_except
            && !below.any(|inner| find(&source.code(inner.line..=inner.end), "raise").is_some())
    }

    /// A statement without what only converts frames.
    fn edited(&self, text: &str, frame: FrameKind) -> String {
        let mut text = text.to_owned();
        let mut calls = vec![
            ("DynamicFrame.fromDF".to_owned(), Some(("dataframe", 1))),
            ("createDataFrame".to_owned(), Some(("data", 1))),
            (".toDF".to_owned(), None),
        ];
        let parameter = self.parameters.first().cloned().unwrap_or_default();
        for (name, arg) in calls.drain(..) {
            for _ in 0..CALLS_MAX {
                let Some(call) = CallText::find(&text, &name) else {
                    break;
                };
                let is_only = call.args.len() <= 1 || name.ends_with("fromDF");
                let by = match arg {
                    Some((key, _)) if is_only => call.arg(key, 0).map(str::to_owned),
                    None if call.args.is_empty() => Some(String::new()),
                    _ => None,
                };
                let Some(by) = by else { break };
                let owner = match name.as_str() {
                    ".toDF" => 0,
                    _ => text[..call.range.start]
                        .bytes()
                        .rev()
                        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
                        .count(),
                };
                text.replace_range(call.range.start - owner..call.range.end, &by);
            }
        }
        if frame == FrameKind::Pandas {
            let name = format!("{parameter}.toPandas");
            for _ in 0..CALLS_MAX {
                let Some(call) = CallText::find(&text, &name) else {
                    break;
                };
                text.replace_range(call.range, &parameter);
            }
        }
        text
    }
}

struct Output<'a> {
    body: &'a Body<'a>,
    source: &'a Source<'a>,
    session: &'a BTreeSet<String>,
    notes: &'a mut Vec<(usize, String)>,
    frame: FrameKind,
    lines: Vec<String>,
    /// The first line of the script that is not written yet.
    next: usize,
    /// Lines that move to the left: the first, the last, and by how much.
    shifts: Vec<(usize, usize, usize)>,
    result: &'static str,
}

impl Output<'_> {
    fn shift(&self, line: usize) -> usize {
        let here = |shift: &&(usize, usize, usize)| (shift.0..=shift.1).contains(&line);
        self.shifts.iter().filter(here).map(|(_, _, by)| by).sum()
    }

    fn indent(&self, statement: &Statement) -> String {
        " ".repeat(statement.indent.saturating_sub(self.shift(statement.line)))
    }

    fn shifted(&self, line: usize, text: &str) -> String {
        let blanks = text.len() - text.trim_start_matches(' ').len();
        text[self.shift(line).min(blanks)..].to_owned()
    }

    /// The lines before a statement: comments and empty ones.
    fn gap(&mut self, statement: &Statement) {
        for line in self.next..statement.line {
            let text = self.source.text(line..=line);
            self.lines.push(self.shifted(line, &text));
        }
        self.next = self.next.max(statement.line);
    }

    fn todo(&mut self, statement: &Statement, text: &str) {
        self.gap(statement);
        let indent = self.indent(statement);
        self.lines
            .push(format!("{indent}# TODO line {}: {text}", statement.line));
        self.notes.push((statement.line, text.to_owned()));
    }

    fn push(&mut self, statement: &Statement, text: &str) {
        for (at, line) in text.lines().enumerate() {
            self.lines.push(self.shifted(statement.line + at, line));
        }
    }

    fn kept(&mut self, statement: &Statement, is_swallowing: bool) {
        self.gap(statement);
        if self.next > statement.end {
            return;
        }
        let text = self.source.text(statement.line..=statement.end);
        let text = self.body.edited(&text, self.frame);
        for problem in problems(&code(&text), self.session) {
            self.todo(statement, &problem);
        }
        if is_swallowing {
            self.todo(statement, SWALLOWED);
        }
        if matches!(statement.kind, Kind::Return) && code(&text).trim() == "return" {
            self.todo(statement, NO_ROWS);
        }
        if find(&code(&text), "awsglue").is_some() {
            self.todo(statement, "awsglue is not there in a function");
            let indent = self.indent(statement);
            self.lines.push(format!("{indent}# {}", text.trim()));
            self.lines.push(format!("{indent}pass"));
        } else {
            self.push(statement, &text);
        }
        self.next = statement.end + 1;
    }

    /// A condition that is always true or never stays as such.
    fn condition(&mut self, statement: &Statement, value: bool) {
        self.gap(statement);
        if matches!(statement.kind, Kind::Block(_)) {
            return self.kept(statement, false);
        }
        let text = self.source.text(statement.line..=statement.end);
        let plain = code(&text);
        let begin = find(&plain, "if").map_or(0, |at| at + 2);
        let mut depth = 0_i32;
        let colon = plain
            .bytes()
            .enumerate()
            .skip(begin)
            .find_map(|(at, byte)| {
                depth += i32::from(b"([{".contains(&byte)) - i32::from(b")]}".contains(&byte));
                (byte == b':' && depth == 0).then_some(at)
            });
        let rest = colon.map_or(":", |at| &text[at..]);
        let word = if value { "True" } else { "False" };
        self.push(statement, &format!("{} {word}{rest}", &text[..begin]));
        self.next = statement.end + 1;
    }

    fn pass(&mut self, statement: &Statement, base: usize) {
        let indent = self.indent(statement);
        if indent.len() > base {
            self.lines.push(format!("{indent}pass"));
        }
    }

    fn written(&mut self, statement: &Statement, frame: &str, is_last: bool) {
        self.gap(statement);
        let indent = self.indent(statement);
        let text = match is_last {
            true => format!("{indent}return {frame}"),
            false => format!("{indent}{} = {frame}", self.result),
        };
        for problem in problems(&code(frame), self.session) {
            self.todo(statement, &problem);
        }
        self.lines.extend(text.lines().map(str::to_owned));
        self.next = statement.end + 1;
    }

    /// A further target: its code becomes a comment.
    fn left_out(&mut self, statement: &Statement, base: usize) {
        self.todo(statement, SECOND);
        let indent = self.indent(statement);
        for line in self.source.text(statement.line..=statement.end).lines() {
            self.lines.push(format!("{indent}# {}", line.trim()));
        }
        self.pass(statement, base);
        self.next = statement.end + 1;
    }
}
