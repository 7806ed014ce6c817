//! Literals as Spark writes them and the parser does not: `1D`, `7Y`, `'a' 'b'`, `INTERVAL 1 DAY 2
//! HOURS`.
//!
//! Owns: parsing the tokens of literals and the units of an interval. Does not own: where an interval
//! is allowed.
//! Rule: tokens become others that mean the same; what has no equal is refused with its line.

use super::line;
use crate::query::error::QueryError;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Months, days and microseconds.
pub(super) type Figures = [i64; 3];

fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// The type that a letter behind a number stands for, and the largest number of it.
fn suffix(word: &str) -> Option<(&'static str, u64)> {
    Some(match word.to_uppercase().as_str() {
        "D" => ("DOUBLE", u64::MAX),
        "F" => ("FLOAT", u64::MAX),
        "S" => ("SMALLINT", 32_767),
        "Y" => ("TINYINT", 127),
        _ => return None,
    })
}

/// Numbers with a letter of their type, as casts.
///
/// # Errors
/// A word right behind a number that is no such letter, or a number that does not fit.
pub(super) fn typed_numbers(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, QueryError> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let Token::Number(number, false) = &token.token else {
            out.push(token);
            continue;
        };
        let Some(Token::Word(word)) = rest.peek().map(|next| &next.token) else {
            out.push(token);
            continue;
        };
        let at = line(token.span.start.line);
        let refused = |hint: &str| {
            let message = format!("{number}{word} is not supported in dialect \"spark\"");
            QueryError::sql(message, Some(hint.to_owned())).on_line(at)
        };
        let data_type = if word.value.eq_ignore_ascii_case("BD") {
            let digits = number.trim_start_matches('0');
            let is_whole = digits.bytes().all(|digit| digit.is_ascii_digit());
            match (is_whole, number.contains(['e', 'E'])) {
                (_, true) => return Err(refused("write it without an exponent")),
                (true, _) => Some(format!("DECIMAL({}, 0)", digits.len().max(1))),
                // It is a decimal anyway.
                (false, _) => None,
            }
        } else {
            let Some((name, most)) = suffix(&word.value) else {
                return Err(refused("write a blank before a name"));
            };
            let is_negative = out
                .iter()
                .rev()
                .find(|token| !is_blank(token))
                .is_some_and(|token| token.token == Token::Minus);
            let most = most.saturating_add(u64::from(is_negative));
            let fits = most == u64::MAX || number.parse::<u64>().is_ok_and(|one| one <= most);
            if !fits {
                return Err(refused("the number does not fit its type"));
            }
            Some(name.to_owned())
        };
        rest.next();
        let Some(data_type) = data_type else {
            out.push(token);
            continue;
        };
        let cast = format!("CAST({number} AS {data_type})");
        out.extend(tokens_of(&cast, &token));
    }
    Ok(out)
}

/// The tokens of a text that this file writes, at the place of another token.
fn tokens_of(text: &str, place: &TokenWithSpan) -> Vec<TokenWithSpan> {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize();
    let tokens = tokens.unwrap_or_default().into_iter();
    tokens
        .map(|token| TokenWithSpan {
            token,
            span: place.span,
        })
        .collect()
}

/// Texts side by side as one.
///
/// # Errors
/// Texts in quotes of two kinds.
pub(super) fn joined_texts(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, QueryError> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // The place of the last token that is no blank.
    let mut last: Option<usize> = None;
    for token in tokens {
        if is_blank(&token) {
            out.push(token);
            continue;
        }
        let before = last.map(|at| &mut out[at].token);
        match (before, &token.token) {
            (Some(Token::SingleQuotedString(one)), Token::SingleQuotedString(two))
            | (Some(Token::DoubleQuotedString(one)), Token::DoubleQuotedString(two)) => {
                one.push_str(two);
                continue;
            }
            (Some(Token::SingleQuotedString(_)), Token::DoubleQuotedString(_))
            | (Some(Token::DoubleQuotedString(_)), Token::SingleQuotedString(_)) => {
                return Err(QueryError::sql(
                    "two texts side by side in quotes of two kinds are not supported in dialect \"spark\"",
                    Some("Spark makes one text of them: write one".to_owned()),
                )
                .on_line(line(token.span.start.line)));
            }
            _ => {}
        }
        last = Some(out.len());
        out.push(token);
    }
    Ok(out)
}

/// `INTERVAL 1 DAY 2 HOURS` as `INTERVAL '1 DAY 2 HOURS'`.
pub(super) fn joined_intervals(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_interval =
            matches!(&tokens[at].token, Token::Word(word) if word.keyword == Keyword::INTERVAL);
        out.push(tokens[at].clone());
        at += 1;
        if !is_interval {
            continue;
        }
        let mut parts = vec![];
        let mut end = at;
        while let Some((part, after)) = part_of_interval(&tokens, end) {
            parts.push(part);
            end = after;
        }
        if parts.len() < 2 {
            continue;
        }
        let place = &tokens[at - 1];
        let token = |token| TokenWithSpan {
            token,
            span: place.span,
        };
        out.push(token(Token::SingleQuotedString(parts.join(" "))));
        at = end;
    }
    out
}

/// A number and its unit, and the place behind them.
fn part_of_interval(tokens: &[TokenWithSpan], from: usize) -> Option<(String, usize)> {
    let mut visible = (from..tokens.len()).filter(|at| !is_blank(&tokens[*at]));
    let number = visible.next()?;
    let unit = visible.next()?;
    let number = match &tokens[number].token {
        Token::Number(number, false) => number.clone(),
        Token::SingleQuotedString(number) => number.trim().to_owned(),
        _ => return None,
    };
    match &tokens[unit].token {
        Token::Word(word) if word.quote_style.is_none() && unit_micros(&word.value).is_some() => {
            Some((format!("{number} {}", word.value), unit + 1))
        }
        _ => None,
    }
}

/// What one of a unit is.
fn unit_micros(unit: &str) -> Option<Figures> {
    let unit = unit.to_uppercase();
    Some(match unit.strip_suffix('S').unwrap_or(&unit) {
        "YEAR" => [12, 0, 0],
        "MONTH" => [1, 0, 0],
        "WEEK" => [0, 7, 0],
        "DAY" => [0, 1, 0],
        "HOUR" => [0, 0, 3_600_000_000],
        "MINUTE" => [0, 0, 60_000_000],
        "SECOND" => [0, 0, 1_000_000],
        "MILLISECOND" => [0, 0, 1_000],
        "MICROSECOND" => [0, 0, 1],
        _ => return None,
    })
}

/// Digits behind the point of seconds.
const FRACTION_DIGITS: usize = 6;

/// So many of a unit; `None` if it is no unit, or the number is none of it.
pub(super) fn of_unit(number: &str, unit: &str) -> Option<Figures> {
    let one = unit_micros(unit)?;
    let number = number.trim();
    let Some((whole, fraction)) = number.split_once('.') else {
        let number: i64 = number.parse().ok()?;
        let [months, days, micros] = one.map(|figure| figure.checked_mul(number));
        return Some([months?, days?, micros?]);
    };
    // Only seconds have a fraction.
    let is_fraction = !fraction.is_empty()
        && fraction.len() <= FRACTION_DIGITS
        && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if one != [0, 0, 1_000_000] || !is_fraction {
        return None;
    }
    let micros: i64 = format!("{fraction:0<FRACTION_DIGITS$}").parse().ok()?;
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, whole),
    };
    let seconds: i64 = match digits {
        "" => 0,
        digits => digits.parse().ok().filter(|seconds| *seconds >= 0)?,
    };
    let all = seconds.checked_mul(1_000_000)?.checked_add(micros)?;
    Some([0, 0, sign * all])
}

/// `1 day 2 hours`, the word INTERVAL before it or not; months do not stand beside days.
pub(super) fn of_words(text: &str) -> Option<Figures> {
    let mut words = text.split_ascii_whitespace().peekable();
    if words
        .peek()
        .is_some_and(|word| word.eq_ignore_ascii_case("interval"))
    {
        words.next();
    }
    let mut sum: Option<Figures> = None;
    while let Some(number) = words.next() {
        let next = of_unit(number, words.next()?)?;
        let before = sum.unwrap_or_default();
        let mut all = [0; 3];
        for (place, figure) in all.iter_mut().enumerate() {
            *figure = before[place].checked_add(next[place])?;
        }
        sum = Some(all);
    }
    sum.filter(|[months, days, micros]| *months == 0 || *days == 0 && *micros == 0)
}
