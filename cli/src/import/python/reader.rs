//! Parses tokens into a statement.
//!
//! Owns: the grammar. Does not own: tokens (`tokens`).
//! Rule: what is not understood becomes [`Expr::Other`], and reading continues.

use super::tokens::Token;
use super::{Call, Expr, Kind, SCRIPT_DEPTH_MAX};

pub struct Reader {
    pub tokens: Vec<(Token, usize)>,
    pub at: usize,
    pub depth: usize,
}

/// Operators by precedence, the lowest first.
const LEVELS: [&[&str]; 6] = [
    &["or"],
    &["and"],
    &["==", "!=", "<", ">", "<=", ">=", "in", "is", "not"],
    &["|", "&", "^"],
    &["+", "-"],
    &["*", "/", "%", "//"],
];

impl Reader {
    pub fn token(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(0, |(_, line)| *line)
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.token(), Token::Op(text) | Token::Name(text) if text == op)
    }

    pub fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<String> {
        let Token::Name(name) = self.token() else {
            return None;
        };
        let name = name.clone();
        self.at += 1;
        Some(name)
    }

    pub fn statement(&mut self) -> Kind {
        let first = if let Token::Name(name) = self.token() {
            name.clone()
        } else {
            String::new()
        };
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
                return Kind::If(if self.is(":") {
                    condition
                } else {
                    self.not_understood(":")
                });
            }
            "try" | "else" | "finally" => {
                self.at += 1;
                return if first == "try" {
                    Kind::Try
                } else {
                    Kind::Block(first)
                };
            }
            "for" | "while" | "elif" | "except" | "class" | "with" | "async" => {
                return Kind::Block(first);
            }
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
        if *self.token() == Token::End {
            Kind::Expr(target)
        } else {
            Kind::Other
        }
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

    /// Skips everything before `end`.
    fn not_understood(&mut self, end: &str) -> Expr {
        while !self.is(end) && *self.token() != Token::End {
            self.at += 1;
        }
        Expr::Other
    }

    pub fn expr(&mut self) -> Expr {
        if self.depth >= SCRIPT_DEPTH_MAX {
            self.at = self.tokens.len();
            return Expr::Other;
        }
        self.depth += 1;
        let expr = if self.take("lambda") {
            self.lambda()
        } else {
            self.level(0)
        };
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
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
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
            // A chain of operators makes a tree as deep as brackets do.
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
                // `not` binds less tightly than a comparison.
                let inner = if op == "not" {
                    self.level(2)
                } else {
                    self.unary()
                };
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
                let Some(name) = self.name() else {
                    return Expr::Other;
                };
                expr = match expr {
                    Expr::Name(base) => Expr::Name(format!("{base}.{name}")),
                    other => Expr::Attribute(Box::new(other), name),
                };
            } else if self.take("(") {
                let (args, named) = self.arguments();
                expr = Expr::Call(Box::new(Call {
                    function: expr,
                    args,
                    named,
                    line,
                }));
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
        let mut args = Vec::new();
        let mut named = Vec::new();
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

    /// Returns the expression if it ends at the comma: half of `a if b else c` has another meaning.
    fn whole(&mut self, expr: Expr, end: &str) -> Expr {
        if self.go_on_to(end) {
            expr
        } else {
            Expr::Other
        }
    }

    /// Skips past the comma; returns whether nothing was before it.
    fn go_on_to(&mut self, end: &str) -> bool {
        let mut open = 0_usize;
        let mut clean = true;
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

    /// Adjacent string literals are one text.
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
        if parts.len() == 1 && matches!(parts[0], Expr::Text(_)) {
            parts.remove(0)
        } else {
            Expr::Join(parts)
        }
    }

    fn brackets(&mut self, end: &str) -> Expr {
        let mut items = Vec::new();
        let mut tuple = end != ")";
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
        let mut pairs = Vec::new();
        let mut items = Vec::new();
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
        if items.is_empty() {
            Expr::Dict(pairs)
        } else {
            Expr::List(items)
        }
    }
}
