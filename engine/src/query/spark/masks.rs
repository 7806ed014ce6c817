//! Texts that hide or prove something: `mask`, `luhn_check`.
//!
//! Rule: letters and digits are those of Spark, which looks at Unicode for letters that have a case.

use super::call::{Given, Refusal, Rows};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use regex::Regex;
use std::sync::LazyLock;

/// The signs that `mask(text, upper, lower, digit, other)` writes by default; others stay.
const DEFAULTS: [Option<char>; 4] = [Some('X'), Some('x'), Some('n'), None];

/// One sign that is written, or NULL for none.
pub(super) fn masked(given: &Given<'_>) -> Result<(), Refusal> {
    for place in 1..given.types.len() {
        if *given.kind(place) == DataType::Null {
            continue;
        }
        let sign = given.constant_text(place)?.unwrap_or_default();
        if sign.chars().count() != 1 {
            return Err(given.refuse(
                format!("does not write '{sign}'"),
                "each sign is one letter that is written in the query, or NULL for what stays",
            ));
        }
    }
    Ok(())
}

/// What a letter is, by its general category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
    Other,
}

fn class_of(letter: char) -> Class {
    static CLASSES: LazyLock<[(Regex, Class); 3]> = LazyLock::new(|| {
        [
            (r"^\p{Lu}$", Class::Upper),
            (r"^\p{Ll}$", Class::Lower),
            (r"^\p{Nd}$", Class::Digit),
        ]
        .map(|(pattern, class)| (Regex::new(pattern).expect("a constant"), class))
    });
    match letter {
        'A'..='Z' => Class::Upper,
        'a'..='z' => Class::Lower,
        '0'..='9' => Class::Digit,
        // Java sees two halves, which are no letters.
        letter if letter.is_ascii() || letter.len_utf16() > 1 => Class::Other,
        letter => {
            let mut bytes = [0; 4];
            let text = letter.encode_utf8(&mut bytes);
            let found = CLASSES.iter().find(|(pattern, _)| pattern.is_match(text));
            found.map_or(Class::Other, |(_, class)| *class)
        }
    }
}

pub(super) fn mask(rows: &Rows<'_>) -> Result<ArrayRef> {
    let mut signs = DEFAULTS;
    for (place, sign) in signs.iter_mut().enumerate() {
        if place + 1 < rows.args() {
            *sign = rows
                .constant_text(place + 1)
                .and_then(|text| text.chars().next());
        }
    }
    let [upper, lower, digit, other] = signs;
    rows.texts(|row| {
        let text = row.text(0)?;
        let mut hidden = String::with_capacity(text.len());
        for letter in text.chars() {
            let sign = match class_of(letter) {
                Class::Upper => upper,
                Class::Lower => lower,
                Class::Digit => digit,
                Class::Other => other,
            };
            match sign {
                Some(sign) => hidden.extend(std::iter::repeat_n(sign, letter.len_utf16())),
                None => hidden.push(letter),
            }
        }
        Some(hidden)
    })
}

/// Whether the last digit is that which the others have by Luhn's rule.
pub(super) fn luhn_check(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| {
        let text = row.text(0)?;
        let mut sum = 0;
        for (place, letter) in text.chars().rev().enumerate() {
            let Some(digit) = letter.to_digit(10) else {
                return Some(false);
            };
            let weighted = digit * (1 + place as u32 % 2);
            sum += weighted / 10 + weighted % 10;
        }
        Some(!text.is_empty() && sum % 10 == 0)
    })
}
