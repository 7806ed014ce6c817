//! The place and kind of a value in a text.

/// The kind of value in a span. It is 64 bits wide so that a span has no padding: spans are copied
/// for every value, and a processor stalls when it reads a machine word of which only one byte was
/// just written.
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

/// The place of a value in the text.
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
