//! Bytes to values.
//!
//! Rule: nothing is allocated for a length that the remaining bytes cannot hold.

use super::schema::Node;
use super::{AvroError, Value, bad};

/// Most items of arrays that take no bytes each.
const EMPTY_ITEMS_MAX: usize = 1 << 16;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], AvroError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => bad("the file ends in the middle of a value"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AvroError> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| AvroError("a number is cut off".into()))
    }

    pub(super) fn long(&mut self) -> Result<i64, AvroError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        bad("a number has more than ten bytes")
    }

    pub(super) fn length(&mut self) -> Result<usize, AvroError> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(length),
            _ => bad(format!(
                "a length of {length} is beyond the end of the file"
            )),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], AvroError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, AvroError> {
        let text = std::str::from_utf8(self.bytes()?);
        let text = text.map_err(|_| AvroError("a text is not UTF-8".into()))?;
        Ok(text.to_owned())
    }

    pub(super) fn value(&mut self, node: &Node) -> Result<Value, AvroError> {
        Ok(match node {
            Node::Null => Value::Null,
            Node::Boolean => Value::Boolean(self.take(1)?[0] != 0),
            Node::Int => match i32::try_from(self.long()?) {
                Ok(value) => Value::Int(value),
                Err(_) => return bad("an int has more than 32 bits"),
            },
            Node::Long => Value::Long(self.long()?),
            Node::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Node::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Node::Bytes => Value::Bytes(self.bytes()?.to_vec()),
            Node::Text => Value::Text(self.text()?),
            Node::Fixed(size) => Value::Bytes(self.take(*size)?.to_vec()),
            Node::Enum(symbols) => {
                let at = usize::try_from(self.long()?).unwrap_or(usize::MAX);
                match symbols.get(at) {
                    Some(symbol) => Value::Text(symbol.clone()),
                    None => return bad("an enum has an unknown symbol"),
                }
            }
            Node::Record(fields) => {
                let fields = fields.iter().map(|field| self.value(&field.node));
                Value::Record(fields.collect::<Result<_, _>>()?)
            }
            Node::Array(item) => {
                let mut items = Vec::new();
                self.blocks(|reader| {
                    items.push(reader.value(item)?);
                    Ok(items.len())
                })?;
                Value::Array(items)
            }
            Node::Map(node) => {
                let mut entries = Vec::new();
                self.blocks(|reader| {
                    let key = reader.text()?;
                    entries.push((key, reader.value(node)?));
                    Ok(entries.len())
                })?;
                Value::Map(entries)
            }
            Node::Union(branches) => {
                let at = usize::try_from(self.long()?).unwrap_or(usize::MAX);
                match branches.get(at) {
                    Some(branch) => self.value(branch)?,
                    None => return bad("a union has an unknown branch"),
                }
            }
        })
    }

    /// The items of an array or map; `each` reads one and returns how many there are.
    fn blocks(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<usize, AvroError>,
    ) -> Result<(), AvroError> {
        loop {
            let mut count = self.long()?;
            if count < 0 {
                count = count.checked_neg().unwrap_or(i64::MAX);
                self.long()?;
            }
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let before = self.rest.len();
                let items = each(self)?;
                if self.rest.len() == before && items > EMPTY_ITEMS_MAX {
                    return bad(format!("more than {EMPTY_ITEMS_MAX} empty items"));
                }
            }
        }
    }
}
