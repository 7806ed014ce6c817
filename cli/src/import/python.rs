//! A Python script as statements and expressions: as much of the language as generated Glue scripts use.
//!
//! Owns: tokens, logical lines, expressions. Does not own: what a call means (`script`).
//! Rule: the script is read, never run; what is not understood becomes [`Expr::Other`] with its line, and reading goes
//! on. Nesting and size are limited, so that a hostile script costs little.

/// Longest script that is read.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of brackets and operators that is followed.
pub const SCRIPT_DEPTH_MAX: usize = 64;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Text; an f-string is an [`Expr::Join`].
    Text(String),
    /// A number, as written.
    Number(String),
    /// `True`, `False` or `None`.
    Constant(&'static str),
    /// A name, with the attributes after it: `glueContext.write_dynamic_frame.from_options`.
    Name(String),
    /// An attribute of something that is no name.
    Attribute(Box<Expr>, String),
    /// A call.
    Call(Box<Call>),
    /// `a[b]`.
    Index(Box<Expr>, Box<Expr>),
    /// A list, a tuple or a set.
    List(Vec<Expr>),
    /// A dictionary.
    Dict(Vec<(Expr, Expr)>),
    /// Texts and values, one after the other.
    Join(Vec<Expr>),
    /// `not a`, `-a`.
    Unary(String, Box<Expr>),
    /// `a + b`, `a == b`, `a and b` ...
    Binary(String, Box<Expr>, Box<Expr>),
    /// `lambda x: body`.
    Lambda(Vec<String>, Box<Expr>),
    /// What is not understood.
    Other,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub function: Expr,
    /// Arguments by place.
    pub args: Vec<Expr>,
    /// Arguments by name.
    pub named: Vec<(String, Expr)>,
    /// Where it begins, from 1.
    pub line: usize,
}

impl Call {
    /// The argument of this name, or at this place.
    pub fn arg(&self, name: &str, place: usize) -> Option<&Expr> {
        self.named.iter().find(|(key, _)| key == name).map(|(_, value)| value).or_else(|| self.args.get(place))
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where it begins, from 1.
    pub line: usize,
    /// Blanks before it.
    pub indent: usize,
    /// What it says.
    pub kind: Kind,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `target = value`.
    Assign(String, Expr),
    /// An expression by itself.
    Expr(Expr),
    /// `def name(parameters):`.
    Def(String, Vec<String>),
    /// `if condition:`.
    If(Expr),
    /// `try:`.
    Try,
    /// Another statement that has a body: its first word.
    Block(String),
    /// `import` and `from`, `pass`, `global`.
    Nothing,
    /// `return`, with or without a value.
    Return,
    /// What is not understood.
    Other,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Parts(Vec<Expr>),
    Number(String),
    Op(String),
    End,
}

/// Reads a whole script.
///
/// # Errors
/// What is wrong with it as a text: too long, an unended text, brackets that do not match.
pub fn parse(script: &str) -> Result<Vec<Statement>, String> {
    if script.len() > SCRIPT_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {SCRIPT_BYTES_MAX} are read", script.len()));
    }
    let lines = tokens(script)?;
    Ok(lines.into_iter().flat_map(Line::statements).collect())
}

struct Line {
    line: usize,
    indent: usize,
    tokens: Vec<(Token, usize)>,
}

impl Line {
    /// The statement, and what stands behind its colon on the same line: `if x: return`.
    fn statements(self) -> Vec<Statement> {
        let (line, indent) = (self.line, self.indent);
        let mut reader = Reader { tokens: self.tokens, at: 0, depth: 0 };
        let kind = reader.statement();
        let has_body = matches!(kind, Kind::If(_) | Kind::Try | Kind::Block(_) | Kind::Def(..));
        let mut statements = vec![Statement { line, indent, kind }];
        if has_body && reader.take(":") && *reader.token() != Token::End {
            statements.push(Statement { line, indent: indent + 1, kind: reader.statement() });
        }
        statements
    }
}

const OPERATORS: [&str; 22] = [
    "**=", "//=", "...", "->", ":=", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "|=", "&=", "^=", "%=", "**",
    "//", "<<", ">>", "@=",
];

fn tokens(script: &str) -> Result<Vec<Line>, String> {
    let mut cursor = Cursor { chars: script.chars().collect(), at: 0, line: 1 };
    let mut lines = Vec::new();
    let mut current: Option<Line> = None;
    let mut open = 0_usize;
    let mut indent = 0;
    let mut fresh = true;
    while let Some(c) = cursor.peek(0) {
        match c {
            '\n' => {
                cursor.next();
                if open == 0 {
                    lines.extend(current.take());
                    (fresh, indent) = (true, 0);
                }
            }
            ' ' | '\t' | '\r' | '\u{c}' => {
                cursor.next();
                indent += usize::from(fresh) * if c == '\t' { 8 } else { 1 };
            }
            '#' => {
                while cursor.peek(0).is_some_and(|c| c != '\n') {
                    cursor.next();
                }
            }
            '\\' if matches!(cursor.peek(1), Some('\n' | '\r')) => while cursor.next() != Some('\n') {},
            ';' if open == 0 => {
                cursor.next();
                lines.extend(current.take());
            }
            _ => {
                fresh = false;
                let (line, token) = (cursor.line, cursor.token()?);
                match &token {
                    Token::Op(op) if matches!(op.as_str(), "(" | "[" | "{") => open += 1,
                    Token::Op(op) if matches!(op.as_str(), ")" | "]" | "}") => {
                        open = open.checked_sub(1).ok_or_else(|| format!("line {line}: a bracket closes nothing"))?;
                    }
                    _ => {}
                }
                let entry = current.get_or_insert_with(|| Line { line, indent, tokens: Vec::new() });
                entry.tokens.push((token, line));
            }
        }
    }
    if open > 0 {
        return Err(format!(
            "a bracket is never closed in the statement that begins in line {}",
            current.map_or(0, |l| l.line)
        ));
    }
    lines.extend(current);
    Ok(lines)
}

struct Cursor {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Cursor {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn while_in(&mut self, fits: impl Fn(char) -> bool) -> String {
        let begin = self.at;
        while self.peek(0).is_some_and(&fits) {
            self.at += 1;
        }
        self.chars[begin..self.at].iter().collect()
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(c) = self.peek(0) else { return Ok(Token::End) };
        if matches!(c, '"' | '\'') {
            return self.text("");
        }
        if c.is_alphabetic() || c == '_' {
            let word = self.while_in(|c| c.is_alphanumeric() || c == '_');
            let prefix = word.to_lowercase();
            let quoted = matches!(self.peek(0), Some('"' | '\''));
            if quoted && matches!(prefix.as_str(), "r" | "b" | "u" | "f" | "rb" | "br" | "fr" | "rf") {
                return self.text(&prefix);
            }
            return Ok(Token::Name(word));
        }
        if c.is_ascii_digit() {
            return Ok(Token::Number(self.while_in(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))));
        }
        for op in OPERATORS {
            if op.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c)) {
                self.at += op.len();
                return Ok(Token::Op(op.to_owned()));
            }
        }
        self.next();
        Ok(Token::Op(c.to_string()))
    }

    fn text(&mut self, prefix: &str) -> Result<Token, String> {
        let begin = self.line;
        let quote = self.next().unwrap_or('"');
        let triple = self.peek(0) == Some(quote) && self.peek(1) == Some(quote);
        if triple {
            self.at += 2;
        }
        let (raw, mut text) = (prefix.contains('r'), String::new());
        loop {
            let unended = || format!("line {begin}: a text is never ended");
            let c = self.next().ok_or_else(unended)?;
            let ends = c == quote && (!triple || self.peek(0) == Some(quote) && self.peek(1) == Some(quote));
            match c {
                _ if ends => break,
                '\n' if !triple => return Err(unended()),
                '\\' => {
                    let escaped = self.next().ok_or_else(unended)?;
                    push_escaped(&mut text, escaped, raw);
                }
                _ => text.push(c),
            }
        }
        if triple {
            self.at += 2;
        }
        Ok(if prefix.contains('f') { Token::Parts(parts(&text)) } else { Token::Text(text) })
    }
}

fn push_escaped(text: &mut String, escaped: char, raw: bool) {
    match escaped {
        _ if raw => text.extend(['\\', escaped]),
        '\n' => {}
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        '\\' | '\'' | '"' => text.push(escaped),
        other => text.extend(['\\', other]),
    }
}

/// The texts and the values in braces of an f-string.
fn parts(text: &str) -> Vec<Expr> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let brace = &rest[at..=at];
        if after.starts_with(brace) || brace == "}" {
            plain.push_str(brace);
            rest = after.strip_prefix(brace).unwrap_or(after);
            continue;
        }
        let (inner, after) = after.split_once('}').unwrap_or((after, ""));
        if !plain.is_empty() {
            parts.push(Expr::Text(std::mem::take(&mut plain)));
        }
        let inner = inner.rsplit_once(':').map_or(inner, |(value, _)| value);
        // An f-string in an f-string in an f-string ...: one level is enough.
        let value = if inner.contains("f\"") || inner.contains("f'") { None } else { expression(inner) };
        parts.push(value.unwrap_or(Expr::Other));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Expr::Text(plain));
    }
    parts
}

fn expression(text: &str) -> Option<Expr> {
    let line = tokens(text).ok()?.into_iter().next()?;
    Some(Reader { tokens: line.tokens, at: 0, depth: 0 }.expr())
}

struct Reader {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

/// Operators by how strongly they bind, the weakest first.
const LEVELS: [&[&str]; 6] = [
    &["or"],
    &["and"],
    &["==", "!=", "<", ">", "<=", ">=", "in", "is", "not"],
    &["|", "&", "^"],
    &["+", "-"],
    &["*", "/", "%", "//"],
];

impl Reader {
    fn token(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(_, line)| *line)
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.token(), Token::Op(text) | Token::Name(text) if text == op)
    }

    fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<String> {
        let Token::Name(name) = self.token() else { return None };
        let name = name.clone();
        self.at += 1;
        Some(name)
    }

    fn statement(&mut self) -> Kind {
        let first = if let Token::Name(name) = self.token() { name.clone() } else { String::new() };
        match first.as_str() {
            "import" | "from" | "pass" | "global" => return Kind::Nothing,
            "return" => return Kind::Return,
            "def" => {
                self.at += 1;
                return self.def().unwrap_or(Kind::Other);
            }
            "if" => {
                self.at += 1;
                let condition = self.expr();
                return Kind::If(if self.is(":") { condition } else { self.not_understood(":") });
            }
            "try" | "else" | "finally" => {
                self.at += 1;
                return if first == "try" { Kind::Try } else { Kind::Block(first) };
            }
            "for" | "while" | "elif" | "except" | "class" | "with" | "async" => return Kind::Block(first),
            _ => {}
        }
        let target = self.expr();
        if self.take("=") {
            let value = self.expr();
            return match target {
                Expr::Name(name) if *self.token() == Token::End => Kind::Assign(name, value),
                _ => Kind::Other,
            };
        }
        if *self.token() == Token::End { Kind::Expr(target) } else { Kind::Other }
    }

    fn def(&mut self) -> Option<Kind> {
        let name = self.name()?;
        let mut parameters = Vec::new();
        if !self.take("(") {
            return None;
        }
        while !self.is(")") && *self.token() != Token::End {
            parameters.extend(self.name());
            while !self.is(",") && !self.is(")") && *self.token() != Token::End {
                self.at += 1;
            }
            self.take(",");
        }
        // A type of the result.
        while !self.is(":") && *self.token() != Token::End {
            self.at += 1;
        }
        Some(Kind::Def(name, parameters))
    }

    /// Past all that stands before `end`.
    fn not_understood(&mut self, end: &str) -> Expr {
        while !self.is(end) && *self.token() != Token::End {
            self.at += 1;
        }
        Expr::Other
    }

    fn expr(&mut self) -> Expr {
        if self.depth >= SCRIPT_DEPTH_MAX {
            self.at = self.tokens.len();
            return Expr::Other;
        }
        self.depth += 1;
        let expr = if self.take("lambda") { self.lambda() } else { self.level(0) };
        self.depth -= 1;
        expr
    }

    fn lambda(&mut self) -> Expr {
        let mut names = Vec::new();
        while !self.is(":") && *self.token() != Token::End {
            names.extend(self.name());
            self.take(",");
        }
        self.take(":");
        Expr::Lambda(names, Box::new(self.expr()))
    }

    fn level(&mut self, level: usize) -> Expr {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1);
        let mut links = 0;
        while let Some(op) = operators.iter().find(|op| self.is(op)) {
            self.at += 1;
            let mut op = (*op).to_owned();
            if op == "is" && self.take("not") {
                op = "is not".to_owned();
            }
            if op == "not" {
                if !self.take("in") {
                    return Expr::Other;
                }
                op = "not in".to_owned();
            }
            let right = self.level(level + 1);
            left = Expr::Binary(op, Box::new(left), Box::new(right));
            links += 1;
            // A chain is as deep a tree as brackets are.
            if links > SCRIPT_DEPTH_MAX {
                self.at = self.tokens.len();
                return Expr::Other;
            }
        }
        left
    }

    fn unary(&mut self) -> Expr {
        for op in ["not", "-", "+", "~", "*", "**", "await"] {
            if self.is(op) {
                if self.depth >= SCRIPT_DEPTH_MAX {
                    self.at = self.tokens.len();
                    return Expr::Other;
                }
                self.at += 1;
                self.depth += 1;
                // `not` binds less than a comparison.
                let inner = if op == "not" { self.level(2) } else { self.unary() };
                self.depth -= 1;
                return Expr::Unary(op.to_owned(), Box::new(inner));
            }
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Expr {
        let line = self.line();
        let mut expr = self.atom();
        let mut links = 0;
        loop {
            links += 1;
            if links > SCRIPT_DEPTH_MAX {
                self.at = self.tokens.len();
                return Expr::Other;
            }
            if self.take(".") {
                let Some(name) = self.name() else { return Expr::Other };
                expr = match expr {
                    Expr::Name(base) => Expr::Name(format!("{base}.{name}")),
                    other => Expr::Attribute(Box::new(other), name),
                };
            } else if self.take("(") {
                let (args, named) = self.arguments();
                expr = Expr::Call(Box::new(Call { function: expr, args, named, line }));
            } else if self.take("[") {
                let index = self.expr();
                while !self.take("]") {
                    if *self.token() == Token::End {
                        return Expr::Other;
                    }
                    self.at += 1;
                }
                expr = Expr::Index(Box::new(expr), Box::new(index));
            } else {
                return expr;
            }
        }
    }

    fn arguments(&mut self) -> (Vec<Expr>, Vec<(String, Expr)>) {
        let (mut args, mut named) = (Vec::new(), Vec::new());
        while !self.take(")") && *self.token() != Token::End {
            let value = self.expr();
            if self.take("=") {
                let right = self.expr();
                let right = self.whole(right, ")");
                if let Expr::Name(name) = value {
                    named.push((name, right));
                }
            } else {
                let value = self.whole(value, ")");
                args.push(value);
            }
        }
        (args, named)
    }

    /// The expression when nothing stands between it and the comma: half of `a if b else c` is not its meaning.
    fn whole(&mut self, expr: Expr, end: &str) -> Expr {
        if self.go_on_to(end) { expr } else { Expr::Other }
    }

    /// Past the comma; whether nothing stood before it.
    fn go_on_to(&mut self, end: &str) -> bool {
        let (mut open, mut clean) = (0_usize, true);
        while *self.token() != Token::End {
            if open == 0 && (self.is(end) || self.take(",")) {
                return clean;
            }
            clean = false;
            if ["(", "[", "{"].iter().any(|op| self.is(op)) {
                open += 1;
            } else if [")", "]", "}"].iter().any(|op| self.is(op)) {
                open = open.saturating_sub(1);
            }
            self.at += 1;
        }
        clean
    }

    fn atom(&mut self) -> Expr {
        let token = self.token().clone();
        if token == Token::End {
            return Expr::Other;
        }
        self.at += 1;
        match token {
            Token::Text(_) | Token::Parts(_) => {
                self.at -= 1;
                self.texts()
            }
            Token::Number(number) => Expr::Number(number),
            Token::Name(name) => match name.as_str() {
                "True" => Expr::Constant("True"),
                "False" => Expr::Constant("False"),
                "None" => Expr::Constant("None"),
                _ => Expr::Name(name),
            },
            Token::Op(op) => match op.as_str() {
                "(" => self.brackets(")"),
                "[" => self.brackets("]"),
                "{" => self.dict(),
                _ => Expr::Other,
            },
            Token::End => Expr::Other,
        }
    }

    /// Texts that stand side by side are one.
    fn texts(&mut self) -> Expr {
        let mut parts = Vec::new();
        loop {
            match self.token() {
                Token::Text(text) => parts.push(Expr::Text(text.clone())),
                Token::Parts(inner) => parts.extend(inner.iter().cloned()),
                _ => break,
            }
            self.at += 1;
        }
        if parts.len() == 1 && matches!(parts[0], Expr::Text(_)) { parts.remove(0) } else { Expr::Join(parts) }
    }

    fn brackets(&mut self, end: &str) -> Expr {
        let (mut items, mut tuple) = (Vec::new(), end != ")");
        while !self.take(end) && *self.token() != Token::End {
            let item = self.expr();
            tuple |= self.is(",");
            let item = self.whole(item, end);
            items.push(item);
        }
        match items.pop() {
            Some(only) if !tuple && items.is_empty() => only,
            last => {
                items.extend(last);
                Expr::List(items)
            }
        }
    }

    fn dict(&mut self) -> Expr {
        let (mut pairs, mut items) = (Vec::new(), Vec::new());
        while !self.take("}") && *self.token() != Token::End {
            let key = self.expr();
            if self.take(":") {
                let value = self.expr();
                let value = self.whole(value, "}");
                pairs.push((key, value));
            } else {
                let item = self.whole(key, "}");
                items.push(item);
            }
        }
        if items.is_empty() { Expr::Dict(pairs) } else { Expr::List(items) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Kind {
        let mut statements = parse(text).unwrap();
        assert_eq!(statements.len(), 1, "{statements:?}");
        statements.remove(0).kind
    }

    #[test]
    fn a_generated_call_gives_its_arguments_over_many_lines() {
        let text = "x = A.apply(\n    frame=y,  # a note\n    mappings=[(\"a\", 'b'), (\"c\",)],\n    n={\"k\": True, 'l': 1},\n)";
        let Kind::Assign(name, Expr::Call(call)) = one(text) else { panic!() };
        assert_eq!((name.as_str(), call.line), ("x", 1));
        assert_eq!(call.function, Expr::Name("A.apply".into()));
        assert_eq!(call.arg("frame", 0), Some(&Expr::Name("y".into())));
        let pair = Expr::List(vec![Expr::Text("a".into()), Expr::Text("b".into())]);
        assert_eq!(call.arg("mappings", 1), Some(&Expr::List(vec![pair, Expr::List(vec![Expr::Text("c".into())])])));
    }

    #[test]
    fn texts_of_all_kinds_are_read() {
        let Kind::Expr(Expr::Join(parts)) = one("f\"s3://{args['b']}/x\" \"/y\"") else { panic!() };
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[3], Expr::Text("/y".into()));
        assert_eq!(one("r'\\d'"), Kind::Expr(Expr::Text("\\d".into())));
        assert_eq!(one("\"\"\"a\nb\"\"\""), Kind::Expr(Expr::Text("a\nb".into())));
    }

    #[test]
    fn lines_and_indents_are_those_of_the_file() {
        let lines = parse("# c\n\ndef f(a, b=1):\n    if a.count() > 0:\n\n        x = 1; y = 2\n").unwrap();
        let places: Vec<_> = lines.iter().map(|line| (line.line, line.indent)).collect();
        assert_eq!(places, [(3, 0), (4, 4), (6, 8), (6, 8)]);
        assert_eq!(lines[0].kind, Kind::Def("f".into(), vec!["a".into(), "b".into()]));
    }

    #[test]
    fn half_of_an_expression_is_not_taken_for_the_whole() {
        assert_eq!(one("x = a if b else c"), Kind::Other);
        assert_eq!(one("x = y = f()"), Kind::Other);
        let Kind::Expr(Expr::Call(call)) = one("f(lambda r: r if a else b, c, k=1 if a else 2, l=[x for x in y])")
        else {
            panic!()
        };
        assert_eq!(call.args, [Expr::Other, Expr::Name("c".into())]);
        assert_eq!(call.named[0], ("k".into(), Expr::Other));
        assert_eq!(call.named[1], ("l".into(), Expr::List(vec![Expr::Other])));
        let Kind::Expr(Expr::Binary(op, ..)) = one("a not in b") else { panic!() };
        assert_eq!(op, "not in");
        let lines = parse("if a if b else c:\n    x = 1\n").unwrap();
        assert_eq!(lines[0].kind, Kind::If(Expr::Other));
    }

    #[test]
    fn what_stands_behind_a_colon_is_a_statement_of_its_own() {
        let lines =
            parse("def f(a) -> int: return 1\nif a.count() == 0: return\ntry: x = 1\nfinally: y = 2\n").unwrap();
        let kinds: Vec<_> = lines.iter().map(|line| (line.indent, line.kind.clone())).collect();
        assert_eq!(kinds[1], (1, Kind::Return));
        assert_eq!(kinds[3], (1, Kind::Return));
        assert_eq!((kinds[4].1.clone(), kinds[6].1.clone()), (Kind::Try, Kind::Block("finally".into())));
        assert_eq!(kinds[7], (1, Kind::Assign("y".into(), Expr::Number("2".into()))));
    }

    #[test]
    fn what_is_no_script_is_refused_and_never_a_panic() {
        for bad in ["x = (", "x = 'a", "x = \"\"\"a", ")", "x = 'a\nb'"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let open = "[".repeat(100_000) + &"]".repeat(100_000);
        for odd in [&open, &"-".repeat(100_000), &"not ".repeat(100_000), &format!("x{}", ".a()".repeat(100_000))] {
            parse(odd).unwrap();
        }
        for odd in
            ["x = {1: }", "f(=)", "lambda", "x[", "}{", "f'{'", "f'{a:{b}}'", "x = @", "é = ü", "\\", "def", "x ="]
        {
            let _ = parse(odd);
        }
        assert!(parse(&"1+".repeat(SCRIPT_BYTES_MAX)).is_err());
        parse(&"1+".repeat(10_000)).unwrap();
    }
}
