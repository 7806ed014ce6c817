//! Where a value stands in a text, and what kind of value it is.

/// What kind of value a span holds. As wide as a word, so that a span has no gaps: they are copied
/// for every value, and a processor waits when it reads a word of which only a byte was just
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    /// `null`, or no value at all.
    Null,
    /// A string without escapes; the span lies between its quotes.
    Plain,
    /// A string with escapes; the span lies between its quotes.
    Escaped,
    Number,
    /// `true` or `false`.
    Boolean,
    /// An object or an array.
    Nested,
}

/// Where a value stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub const NULL: Span = Span {
        kind: Kind::Null,
        start: 0,
        end: 0,
    };

    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.end]
    }
}
