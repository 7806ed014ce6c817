//! Columns of objects and arrays, while their batch is being built.
//!
//! Owns: which value becomes a struct, a list or a map, what is bad inside of one. Does not own:
//! values at their ends ([`leaf`]), the grammar ([`super::json::scan`]), what becomes of a bad
//! record.
//! Rule: as Spark 3.5 reads JSON. A value is read where it stands, each place into its own buffer;
//! what was read of a row that is bad is taken back.
//!
//! - struct: an object. A key that no field has is passed over; a missing one is null. Keys are
//!   compared as those of columns: the exact name first, else without regard to case, of equal ones
//!   the last.
//! - list: an array; its elements may be null.
//! - map: an object; of equal keys the last.
//! - `null`, and a string of nothing but white space, is null: another value than a struct of nulls.
//! - With `on_bad_value = "null"` the innermost field of a struct that holds the bad value is null;
//!   a list or a map with a bad value is bad as a whole.

mod leaf;
#[cfg(test)]
mod tests;

use super::json::keys::{Found, Keys};
use super::json::scan::{Scanner, unescape};
use super::json::wanted::Comparison;
use super::unknown::UnknownKeys;
use super::value::{Reading, ValueType, type_name};
use super::{Kind, Span, shown};
use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::datatypes::{DataType, FieldRef, Fields};
use leaf::{Key, Leaf, offsets};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use streamctl_proto::spec::OnBadValue;

/// Most values of one record in one nested column, those of missing keys too: each takes memory
/// even where it is null.
pub const NESTED_VALUES_MAX: usize = 1 << 20;
/// Entries of a map that are compared one by one.
const MAP_COMPARED_MAX: usize = 16;
/// Bytes of a type's name in a message.
const TYPE_NAME_CHARS_MAX: usize = 80;
/// The first pass over the record has read these bytes.
const VALID: &str = "the record was validated";

/// Why a nested column has no value for a record.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The steps from the column to the value, innermost first.
    path: Vec<Step>,
    pub kind: WrongKind,
}

#[derive(Debug)]
pub(super) enum WrongKind {
    Value { value: String, type_name: String },
    TooMany,
}

#[derive(Debug)]
enum Step {
    Field(String),
    Item(usize),
    Key(String),
}

impl Wrong {
    #[cold]
    fn value(span: Span, text: &str, data_type: &DataType) -> Box<Self> {
        let name = type_name(data_type);
        let mut type_name: String = name.chars().take(TYPE_NAME_CHARS_MAX).collect();
        if type_name.len() < name.len() {
            type_name.push('…');
        }
        Box::new(Self {
            path: vec![],
            kind: WrongKind::Value {
                value: shown(span, text),
                type_name,
            },
        })
    }

    #[cold]
    fn inside(mut self: Box<Self>, step: impl FnOnce() -> Step) -> Box<Self> {
        self.path.push(step());
        self
    }

    /// `items[2].price`, behind the name of the column.
    pub fn path(&self, column: &str) -> String {
        let mut path = column.to_owned();
        for step in self.path.iter().rev() {
            // Writing to a text does not fail.
            _ = match step {
                Step::Field(name) => write!(path, ".{name}"),
                Step::Item(place) => write!(path, "[{place}]"),
                Step::Key(key) => write!(path, "[{key:?}]"),
            };
        }
        path
    }
}

type Read = Result<(), Box<Wrong>>;

/// What reading the values of one record takes, and what comes of it.
pub(super) struct Record<'r> {
    pub text: &'r str,
    pub reading: &'r Reading,
    pub on_bad_value: OnBadValue,
    pub unknown: &'r mut UnknownKeys,
    pub scratch: &'r mut String,
    /// Bad values that became null.
    pub nulls: u64,
    /// How many more values there may be.
    pub room: usize,
}

/// What to come back to.
struct Before {
    position: usize,
    nulls: u64,
    room: usize,
    unknown: usize,
}

impl Record<'_> {
    fn before(&self, scanner: &Scanner<'_>) -> Before {
        Before {
            position: scanner.position(),
            nulls: self.nulls,
            room: self.room,
            unknown: self.unknown.mark(),
        }
    }

    fn back_to(&mut self, before: &Before, scanner: &mut Scanner<'_>) {
        scanner.back_to(before.position);
        self.nulls = before.nulls;
        self.room = before.room;
        self.unknown.back_to(before.unknown);
    }

    fn spend(&mut self, values: usize) -> Read {
        match self.room.checked_sub(values) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => Err(Box::new(Wrong {
                path: vec![],
                kind: WrongKind::TooMany,
            })),
        }
    }
}

/// The values of one place.
#[derive(Debug)]
pub(super) struct Node {
    data_type: DataType,
    /// Values that one value of it takes, without those of list elements and entries of maps.
    width: usize,
    kind: NodeKind,
}

#[derive(Debug)]
enum NodeKind {
    Leaf(Leaf),
    Struct(Structs),
    List(Lists),
    Map(Maps),
}

#[derive(Debug)]
struct Structs {
    fields: Vec<Member>,
    keys: Keys,
    nulls: NullBufferBuilder,
    types: Fields,
    /// The path of the struct with a dot behind it, for unknown keys.
    prefix: String,
}

#[derive(Debug)]
struct Member {
    node: Node,
    /// The row, counted from 1, whose value has another spelling of the name as its key.
    loose_row: usize,
}

#[derive(Debug)]
struct Lists {
    items: Box<Node>,
    item: FieldRef,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
struct Maps {
    keys: Leaf,
    values: Box<Node>,
    entries: FieldRef,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
    seen: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
}

/// Whether records are read into a column of this type by a [`Node`].
pub(super) fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..)
    )
}

impl Node {
    /// `path`: how to name the place in a message. `None` if records are not read into the type.
    pub fn new(data_type: &DataType, path: &str, comparison: Comparison) -> Option<Self> {
        let kind = match data_type {
            DataType::Struct(types) => {
                let member = |field: &FieldRef| {
                    let path = format!("{path}.{}", field.name());
                    Some(Member {
                        node: Self::new(field.data_type(), &path, comparison)?,
                        loose_row: 0,
                    })
                };
                let names = types.iter().map(|field| field.name().as_str());
                NodeKind::Struct(Structs {
                    fields: types.iter().map(member).collect::<Option<_>>()?,
                    keys: Keys::new(names, std::iter::empty(), comparison),
                    nulls: NullBufferBuilder::new(0),
                    types: types.clone(),
                    prefix: format!("{path}."),
                })
            }
            DataType::List(item) => NodeKind::List(Lists {
                items: Box::new(Self::new(item.data_type(), path, comparison)?),
                item: Arc::clone(item),
                ends: vec![],
                nulls: NullBufferBuilder::new(0),
            }),
            DataType::Map(entries, _) => {
                let DataType::Struct(types) = entries.data_type() else {
                    return None;
                };
                let [key, value] = types.as_ref() else {
                    return None;
                };
                NodeKind::Map(Maps {
                    keys: Leaf::new(ValueType::of(key.data_type())?),
                    values: Box::new(Self::new(value.data_type(), path, comparison)?),
                    entries: Arc::clone(entries),
                    ends: vec![],
                    nulls: NullBufferBuilder::new(0),
                    seen: HashSet::default(),
                })
            }
            single => NodeKind::Leaf(Leaf::new(ValueType::of(single)?)),
        };
        let width = match &kind {
            NodeKind::Struct(structs) => structs.fields.iter().map(|one| one.node.width).sum(),
            NodeKind::Leaf(_) | NodeKind::List(_) | NodeKind::Map(_) => 1,
        };
        Some(Self {
            data_type: data_type.clone(),
            width: width.max(1),
            kind,
        })
    }

    /// Values that one row takes at least.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn len(&self) -> usize {
        match &self.kind {
            NodeKind::Leaf(leaf) => leaf.len(),
            NodeKind::Struct(structs) => structs.nulls.len(),
            NodeKind::List(lists) => lists.ends.len(),
            NodeKind::Map(maps) => maps.ends.len(),
        }
    }

    /// Takes back what was read after the first `length` values, whole or in part.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.kind {
            NodeKind::Leaf(leaf) => leaf.truncate(length),
            NodeKind::Struct(structs) => {
                structs.nulls.truncate(length);
                for field in &mut structs.fields {
                    field.node.truncate(length);
                    if field.loose_row > length {
                        field.loose_row = 0;
                    }
                }
            }
            NodeKind::List(lists) => {
                lists.ends.truncate(length);
                lists.nulls.truncate(length);
                lists.items.truncate(count(&lists.ends));
            }
            NodeKind::Map(maps) => {
                maps.ends.truncate(length);
                maps.nulls.truncate(length);
                maps.keys.truncate(count(&maps.ends));
                maps.values.truncate(count(&maps.ends));
            }
        }
    }

    pub fn append_null(&mut self) {
        match &mut self.kind {
            NodeKind::Leaf(leaf) => leaf.append_null(),
            NodeKind::Struct(structs) => {
                structs.nulls.append_null();
                for field in &mut structs.fields {
                    field.node.append_null();
                }
            }
            NodeKind::List(lists) => {
                lists.ends.push(lists.ends.last().copied().unwrap_or(0));
                lists.nulls.append_null();
            }
            NodeKind::Map(maps) => {
                maps.ends.push(maps.ends.last().copied().unwrap_or(0));
                maps.nulls.append_null();
            }
        }
    }

    /// Appends the value in a span of the record's text; null for a bad one, if that is the job's
    /// rule. On an error, part of it may be there: take it back.
    pub fn read_or_null(&mut self, span: Span, record: &mut Record<'_>) -> Read {
        let row = self.len();
        match self.read(span, record) {
            Err(wrong)
                if record.on_bad_value == OnBadValue::Null
                    && !matches!(wrong.kind, WrongKind::TooMany) =>
            {
                self.truncate(row);
                self.append_null();
                record.nulls += 1;
                Ok(())
            }
            read => read,
        }
    }

    fn read(&mut self, span: Span, record: &mut Record<'_>) -> Read {
        record.spend(self.width)?;
        match span.kind {
            Kind::Nested => self.next(&mut Scanner::starting_at(record.text, span.start), record),
            _ => self.single(span, record),
        }
    }

    /// Appends the value at the scanner. Inlined where fields and elements are read: most are leaves.
    #[inline]
    fn next(&mut self, scanner: &mut Scanner<'_>, record: &mut Record<'_>) -> Read {
        let opened = scanner.rest().first();
        match (&mut self.kind, opened) {
            (NodeKind::Leaf(leaf), _) => {
                let span = scanner.value().expect(VALID);
                let appended = leaf.append(record.reading, span, record.text, record.scratch);
                appended.map_err(|_| Wrong::value(span, record.text, &self.data_type))
            }
            (NodeKind::Struct(structs), Some(b'{')) => structs.object(scanner, record),
            (NodeKind::List(lists), Some(b'[')) => lists.array(scanner, record),
            (NodeKind::Map(maps), Some(b'{')) => maps.object(scanner, record),
            _ => {
                let span = scanner.value().expect(VALID);
                self.single(span, record)
            }
        }
    }

    /// A value in the place of an object or an array.
    #[cold]
    fn single(&mut self, span: Span, record: &mut Record<'_>) -> Read {
        let raw = span.of(record.text);
        let is_missing = match span.kind {
            Kind::Null => true,
            Kind::Plain => raw.trim_ascii().is_empty(),
            Kind::Escaped => {
                record.scratch.clear();
                unescape(raw, record.scratch).expect(VALID);
                record.scratch.trim_ascii().is_empty()
            }
            Kind::Number | Kind::Boolean | Kind::Nested => false,
        };
        if is_missing {
            self.append_null();
            return Ok(());
        }
        Err(Wrong::value(span, record.text, &self.data_type))
    }

    /// The values; none are left.
    pub fn finish(&mut self) -> ArrayRef {
        let length = self.len();
        match &mut self.kind {
            NodeKind::Leaf(leaf) => leaf.finish(),
            NodeKind::Struct(structs) => {
                let each = structs.fields.iter_mut();
                let columns = each.map(|field| {
                    field.loose_row = 0;
                    field.node.finish()
                });
                let columns = columns.collect();
                let nulls = structs.nulls.finish();
                let types = structs.types.clone();
                let array = StructArray::try_new_with_length(types, columns, nulls, length);
                Arc::new(array.expect("every field has a value of every row"))
            }
            NodeKind::List(lists) => {
                let items = lists.items.finish();
                let nulls = lists.nulls.finish();
                let item = Arc::clone(&lists.item);
                Arc::new(ListArray::new(item, offsets(&mut lists.ends), items, nulls))
            }
            NodeKind::Map(maps) => {
                let DataType::Struct(types) = maps.entries.data_type() else {
                    unreachable!("the type was checked by `new`")
                };
                let columns = vec![maps.keys.finish(), maps.values.finish()];
                let entries = StructArray::new(types.clone(), columns, None);
                let nulls = maps.nulls.finish();
                let field = Arc::clone(&maps.entries);
                let ends = offsets(&mut maps.ends);
                Arc::new(MapArray::new(field, ends, entries, nulls, false))
            }
        }
    }
}

/// How many elements these lists have.
fn count(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

fn end(elements: usize) -> i32 {
    i32::try_from(elements).expect("the payload of a batch is bounded")
}

impl Structs {
    fn object(&mut self, scanner: &mut Scanner<'_>, record: &mut Record<'_>) -> Read {
        let row = self.nulls.len();
        let mut failed = Vec::new();
        self.keys.begin();
        let mut more = scanner.begin_object().expect(VALID);
        while more {
            let found = match self.keys.expected(scanner.rest()) {
                Some((length, found)) => {
                    scanner.known_key(length);
                    found
                }
                None => self.unexpected(scanner, record),
            };
            match found {
                Found::Column(target) => {
                    let field = &mut self.fields[target.column];
                    let is_repeated = field.node.len() > row;
                    if is_repeated && !target.is_exact && field.loose_row != row + 1 {
                        scanner.value().expect(VALID);
                    } else {
                        if is_repeated {
                            field.node.truncate(row);
                            failed.retain(|(column, _)| *column != target.column);
                        }
                        if !target.is_exact {
                            field.loose_row = row + 1;
                        } else if is_repeated {
                            field.loose_row = 0;
                        }
                        let begin = scanner.position();
                        if let Err(wrong) = field.node.next(scanner, record) {
                            if matches!(wrong.kind, WrongKind::TooMany) {
                                return Err(wrong);
                            }
                            field.node.truncate(row);
                            field.node.append_null();
                            failed.push((target.column, wrong));
                            scanner.back_to(begin);
                            scanner.value().expect(VALID);
                        }
                    }
                }
                Found::Unread => _ = scanner.value().expect(VALID),
                Found::Unknown(key) => {
                    record.unknown.met(key);
                    scanner.value().expect(VALID);
                }
            }
            more = scanner.more().expect(VALID);
        }
        match record.on_bad_value {
            OnBadValue::Null => record.nulls += failed.len() as u64,
            OnBadValue::DeadLetter => {
                if let Some((column, wrong)) = failed.into_iter().next() {
                    let name = self.types[column].name().clone();
                    return Err(wrong.inside(|| Step::Field(name)));
                }
            }
        }
        for field in &mut self.fields {
            if field.node.len() == row {
                field.node.append_null();
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Reads a key that is not the next one in the remembered order.
    #[cold]
    fn unexpected(&mut self, scanner: &mut Scanner<'_>, record: &mut Record<'_>) -> Found {
        let rest = scanner.rest();
        let key = scanner.key().expect(VALID);
        let written = &rest[..rest.len() - scanner.rest().len()];
        let unknown = &mut *record.unknown;
        let prefix = &self.prefix;
        self.keys.find(
            key.of(record.text),
            key.kind == Kind::Escaped,
            written.trim_ascii_end(),
            |name| unknown.key(prefix, name),
        )
    }
}

impl Lists {
    fn array(&mut self, scanner: &mut Scanner<'_>, record: &mut Record<'_>) -> Read {
        let width = self.items.width;
        let mut more = scanner.begin_array().expect(VALID);
        while more {
            record.spend(width)?;
            if let Err(wrong) = self.items.next(scanner, record) {
                let place = self.items.len() - count(&self.ends);
                return Err(wrong.inside(|| Step::Item(place)));
            }
            more = scanner.more_items().expect(VALID);
        }
        self.ends.push(end(self.items.len()));
        self.nulls.append_non_null();
        Ok(())
    }
}

impl Maps {
    fn object(&mut self, scanner: &mut Scanner<'_>, record: &mut Record<'_>) -> Read {
        let before = record.before(scanner);
        let read = self.entries_of(scanner, record, |_| true);
        match read {
            Ok(()) if !self.may_repeat_keys() => {}
            Err(wrong) if matches!(wrong.kind, WrongKind::TooMany) => return Err(wrong),
            read => self.again(&before, read, scanner, record)?,
        }
        self.ends.push(end(self.keys.len()));
        self.nulls.append_non_null();
        Ok(())
    }

    /// Reads an object again that may have equal keys, of which the last counts: what was read of
    /// the others is taken back, and what is bad in them is not.
    #[cold]
    fn again(
        &mut self,
        before: &Before,
        read: Read,
        scanner: &mut Scanner<'_>,
        record: &mut Record<'_>,
    ) -> Read {
        self.take_back();
        record.back_to(before, scanner);
        let mut more = scanner.begin_object().expect(VALID);
        while more {
            self.key(scanner, record)?;
            scanner.value().expect(VALID);
            more = scanner.more().expect(VALID);
        }
        let first = count(&self.ends);
        let entries = first..self.keys.len();
        let all = entries.len();
        let last = entries.map(|row| (self.keys.key(row), row - first));
        let last: BTreeMap<Key<'_>, usize> = last.collect();
        let last: HashSet<usize> = last.into_values().collect();
        if last.len() == all && read.is_err() {
            return read;
        }
        self.take_back();
        record.back_to(before, scanner);
        self.entries_of(scanner, record, |place| last.contains(&place))
    }

    fn take_back(&mut self) {
        self.keys.truncate(count(&self.ends));
        self.values.truncate(count(&self.ends));
    }

    fn key(
        &mut self,
        scanner: &mut Scanner<'_>,
        record: &mut Record<'_>,
    ) -> Result<Span, Box<Wrong>> {
        let key = scanner.key().expect(VALID);
        let text = record.text;
        let appended = self.keys.append(record.reading, key, text, record.scratch);
        if appended.is_err() || self.keys.is_null(self.keys.len() - 1) {
            return Err(Wrong::value(key, text, &self.key_type()));
        }
        Ok(key)
    }

    fn entries_of(
        &mut self,
        scanner: &mut Scanner<'_>,
        record: &mut Record<'_>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Read {
        let width = self.values.width + 1;
        let mut more = scanner.begin_object().expect(VALID);
        let mut place = 0;
        while more {
            if is_wanted(place) {
                record.spend(width)?;
                let key = self.key(scanner, record)?;
                self.values
                    .next(scanner, record)
                    .map_err(|wrong| wrong.inside(|| Step::Key(shown_key(key, record.text))))?;
            } else {
                scanner.key().expect(VALID);
                scanner.value().expect(VALID);
            }
            place += 1;
            more = scanner.more().expect(VALID);
        }
        Ok(())
    }

    fn key_type(&self) -> DataType {
        match self.entries.data_type() {
            DataType::Struct(types) => types[0].data_type().clone(),
            other => other.clone(),
        }
    }

    /// Whether two keys of the entries that were just read may be equal: never `false` if they are.
    fn may_repeat_keys(&mut self) -> bool {
        let first = count(&self.ends);
        let all = first..self.keys.len();
        if all.len() < 2 {
            return false;
        }
        let keys = &self.keys;
        if all.len() <= MAP_COMPARED_MAX {
            let mut pairs = all.flat_map(|one| (first..one).map(move |two| (one, two)));
            return pairs.any(|(one, two)| keys.key(one) == keys.key(two));
        }
        self.seen.clear();
        let hasher = self.seen.hasher().clone();
        let seen = &mut self.seen;
        !all.map(|row| hasher.hash_one(keys.key(row)))
            .all(|hash| seen.insert(hash))
    }
}

/// A key in a message.
fn shown_key(key: Span, text: &str) -> String {
    shown(
        Span {
            kind: Kind::Number,
            ..key
        },
        text,
    )
}
