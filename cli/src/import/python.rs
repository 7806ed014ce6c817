//! A Python script as statements and expressions: as much of the language as generated Glue scripts
//! use.
//!
//! Owns: statements and expressions as values. Does not own: tokens ([`tokens`]), grammar
//! ([`reader`]), what a call means (`script`).
//! Rule: the script is read, never run. What is not understood becomes [`Expr::Other`] with its
//! line, and reading continues. Nesting and size are limited, so that a hostile script costs
//! little.

mod reader;
mod tokens;

use reader::Reader;
use tokens::{Line, Token, tokens};

/// Longest script that is read.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of brackets and operators that is read.
pub const SCRIPT_DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Text; an f-string is an [`Expr::Join`].
    Text(String),
    Number(String),
    /// `True`, `False` or `None`.
    Constant(&'static str),
    /// A name, with the attributes after it: `glueContext.write_dynamic_frame.from_options`.
    Name(String),
    /// An attribute of something that is not a name.
    Attribute(Box<Expr>, String),
    Call(Box<Call>),
    /// `a[b]`.
    Index(Box<Expr>, Box<Expr>),
    /// A list, a tuple or a set.
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Texts and values, concatenated.
    Join(Vec<Expr>),
    /// `not a`, `-a`.
    Unary(String, Box<Expr>),
    /// `a + b`, `a == b`, `a and b` ...
    Binary(String, Box<Expr>, Box<Expr>),
    /// `lambda x: body`.
    Lambda(Vec<String>, Box<Expr>),
    Other,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: Expr,
    pub args: Vec<Expr>,
    pub named: Vec<(String, Expr)>,
    /// Where it begins, from 1.
    pub line: usize,
}

impl Call {
    /// The argument of this name, or at this position.
    pub fn arg(&self, name: &str, place: usize) -> Option<&Expr> {
        self.named
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .or_else(|| self.args.get(place))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where it begins, from 1.
    pub line: usize,
    /// Its last line; of a statement with a body, the line of the colon.
    pub end: usize,
    pub indent: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `target = value`.
    Assign(String, Expr),
    Expr(Expr),
    /// `def name(parameters):`.
    Def(String, Vec<String>),
    /// `if condition:`.
    If(Expr),
    /// `try:`.
    Try,
    /// Another statement with a body: its keyword.
    Block(String),
    /// `import` and `from`, `pass`, `global`.
    Nothing,
    /// `return`, with or without a value.
    Return,
    Other,
}

/// Reads a whole script.
///
/// # Errors
/// The text is malformed: too long, an unterminated string, brackets that do not match.
pub fn parse(script: &str) -> Result<Vec<Statement>, String> {
    if script.len() > SCRIPT_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, at most {SCRIPT_BYTES_MAX} are read",
            script.len()
        ));
    }
    let lines = tokens(script)?;
    Ok(lines.into_iter().flat_map(Line::statements).collect())
}

impl Line {
    /// The statement, and what follows its colon on the same line: `if x: return`.
    fn statements(self) -> Vec<Statement> {
        let line = self.line;
        let end = self.end;
        let indent = self.indent;
        let mut reader = Reader {
            tokens: self.tokens,
            at: 0,
            depth: 0,
        };
        let kind = reader.statement();
        let has_body = matches!(
            kind,
            Kind::If(_) | Kind::Try | Kind::Block(_) | Kind::Def(..)
        );
        let mut statements = vec![Statement {
            line,
            end,
            indent,
            kind,
        }];
        if has_body && reader.take(":") && *reader.token() != Token::End {
            statements.push(Statement {
                line,
                end,
                indent: indent + 1,
                kind: reader.statement(),
            });
        }
        statements
    }
}

fn expression(text: &str) -> Option<Expr> {
    let line = tokens(text).ok()?.into_iter().next()?;
    Some(
        Reader {
            tokens: line.tokens,
            at: 0,
            depth: 0,
        }
        .expr(),
    )
}

#[cfg(test)]
mod tests;
