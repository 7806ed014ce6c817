//! The sizes of values, and of the results of functions on them.
//!
//! Rule: figures are exact or too large, never too small, and their computation takes no more
//! memory than the arguments.

use arrow::array::{Array, ArrayRef, AsArray, GenericStringArray, MapArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;

/// Most bytes of a number in a list as text.
const NUMBER_TEXT_BYTES: u64 = 32;
/// Most bytes of a number or a time as JSON: a decimal has 38 digits.
const JSON_NUMBER_BYTES: u64 = 48;
/// Most bytes around a value in JSON: brackets or quotes, a comma, a colon, `null`.
const JSON_FRAME_BYTES: u64 = 8;
/// Most bytes that one byte of a time's pattern may become: `%c` is a whole date.
const PATTERN_GROWTH: u64 = 16;
/// Fewest days of a month.
const MONTH_DAYS: i128 = 28;
const DAY_NANOS: i128 = 86_400 * 1_000_000_000;

/// The bytes of an array's values, without unused parts of its buffers.
pub(in crate::query) fn bytes_of(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8View => {
            let lengths = array.as_string_view().lengths();
            lengths.map(|length| u64::from(length) + 16).sum()
        }
        DataType::BinaryView => {
            let lengths = array.as_binary_view().lengths();
            lengths.map(|length| u64::from(length) + 16).sum()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let from = offsets[0] as usize;
            let to = offsets[list.len()] as usize;
            bytes_of(&list.values().slice(from, to - from)) + 4 * list.len() as u64
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            let from = offsets[0] as usize;
            let to = offsets[list.len()] as usize;
            bytes_of(&list.values().slice(from, to - from)) + 8 * list.len() as u64
        }
        DataType::FixedSizeList(..) => bytes_of(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, length) = entries(map);
            let keys = bytes_of(&map.keys().slice(from, length));
            keys + bytes_of(&map.values().slice(from, length)) + 4 * map.len() as u64
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes_of).sum(),
        _ => {
            let data = array.to_data();
            data.get_slice_memory_size()
                .unwrap_or_else(|_| data.get_array_memory_size()) as u64
        }
    }
}

/// The place and number of the entries of all maps.
fn entries(map: &MapArray) -> (usize, usize) {
    let offsets = map.value_offsets();
    let from = offsets[0] as usize;
    (from, offsets[map.len()] as usize - from)
}

/// The bytes of all values as JSON: each letter may take six.
fn json_bytes(array: &ArrayRef) -> u64 {
    let rows = array.len() as u64;
    let frame = JSON_FRAME_BYTES * rows;
    frame
        + match array.data_type() {
            DataType::Struct(fields) => {
                let names: usize = fields.iter().map(|field| field.name().len()).sum();
                let keys = (names as u64) * 6 + JSON_FRAME_BYTES * fields.len() as u64;
                let values = array.as_struct().columns().iter();
                keys.saturating_mul(rows) + values.map(json_bytes).sum::<u64>()
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets();
                let from = offsets[0] as usize;
                let to = offsets[list.len()] as usize;
                json_bytes(&list.values().slice(from, to - from))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let offsets = list.value_offsets();
                let from = offsets[0] as usize;
                let to = offsets[list.len()] as usize;
                json_bytes(&list.values().slice(from, to - from))
            }
            DataType::FixedSizeList(..) => json_bytes(array.as_fixed_size_list().values()),
            DataType::Map(..) => {
                let map = array.as_map();
                let (from, length) = entries(map);
                let keys = json_bytes(&map.keys().slice(from, length));
                keys + json_bytes(&map.values().slice(from, length))
            }
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView => bytes_of(array).saturating_mul(6),
            _ => JSON_NUMBER_BYTES * rows,
        }
}

/// The arguments of one call.
pub(super) struct Arguments {
    columns: Vec<ArrayRef>,
    constant: Vec<bool>,
    rows: usize,
}

/// One argument's rows; a constant has the same for all.
struct Column<'a, A: ?Sized> {
    values: &'a A,
    constant: bool,
}

impl<A: ?Sized> Column<'_, A> {
    fn place(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }
}

impl Arguments {
    pub(super) fn new(values: &[ColumnarValue], rows: usize) -> Result<Self> {
        let mut columns = Vec::with_capacity(values.len());
        for value in values {
            columns.push(match value {
                ColumnarValue::Array(array) => array.clone(),
                ColumnarValue::Scalar(value) => value.to_array()?,
            });
        }
        let constant: Vec<bool> = values
            .iter()
            .map(|value| matches!(value, ColumnarValue::Scalar(_)))
            .collect();
        // Constants are computed once, however many rows there are.
        let rows = if constant.iter().all(|constant| *constant) {
            1
        } else {
            rows
        };
        Ok(Self {
            columns,
            constant,
            rows,
        })
    }

    fn texts(&self, place: usize) -> Result<Option<(ArrayRef, bool)>> {
        let Some(column) = self.columns.get(place) else {
            return Ok(None);
        };
        let text = match column.data_type() {
            DataType::Utf8 => column.clone(),
            _ => cast(column, &DataType::LargeUtf8)?,
        };
        Ok(Some((text, self.constant[place])))
    }

    fn numbers(&self, place: usize) -> Result<Option<(ArrayRef, bool)>> {
        let Some(column) = self.columns.get(place) else {
            return Ok(None);
        };
        Ok(Some((
            cast(column, &DataType::Int64)?,
            self.constant[place],
        )))
    }

    /// The sum of a figure over all rows.
    fn sum(&self, mut of_row: impl FnMut(usize) -> u64) -> u64 {
        (0..self.rows).fold(0_u64, |sum, row| sum.saturating_add(of_row(row)))
    }

    pub(super) fn all(&self) -> u64 {
        let mut all = 0_u64;
        for (column, constant) in self.columns.iter().zip(&self.constant) {
            let times = if *constant { self.rows as u64 } else { 1 };
            all = all.saturating_add(bytes_of(column).saturating_mul(times));
        }
        // `concat_ws` writes its first argument between all others.
        if let (Some(first), true) = (self.columns.first(), self.columns.len() > 2) {
            let times = if self.constant[0] {
                self.rows as u64
            } else {
                1
            };
            let between = (self.columns.len() as u64 - 2).saturating_mul(times);
            if matches!(
                first.data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ) {
                all = all.saturating_add(bytes_of(first).saturating_mul(between));
            }
        }
        all
    }

    pub(super) fn as_json(&self) -> u64 {
        let each = self.columns.iter().zip(&self.constant);
        each.map(|(column, constant)| {
            let times = if *constant { self.rows as u64 } else { 1 };
            json_bytes(column).saturating_mul(times)
        })
        .fold(0, u64::saturating_add)
    }

    pub(super) fn repeated(&self) -> Result<u64> {
        let (Some(text), Some(times)) = (self.texts(0)?, self.numbers(1)?) else {
            return Ok(0);
        };
        let text = Text::new(&text);
        let times = Number::new(&times);
        Ok(self.sum(|row| text.bytes(row).saturating_mul(times.at_least_0(row))))
    }

    pub(super) fn padded(&self) -> Result<u64> {
        let (Some(text), Some(length)) = (self.texts(0)?, self.numbers(1)?) else {
            return Ok(0);
        };
        let fill = self.texts(2)?;
        let text = Text::new(&text);
        let length = Number::new(&length);
        let fill = fill.as_ref().map(Text::new);
        Ok(self.sum(|row| {
            let fill_is_ascii = fill.as_ref().is_none_or(|fill| fill.at(row).is_ascii());
            let char_bytes = if fill_is_ascii && text.at(row).is_ascii() {
                1
            } else {
                4
            };
            length.at_least_0(row).saturating_mul(char_bytes)
        }))
    }

    pub(super) fn replaced(&self) -> Result<u64> {
        let (Some(text), Some(from), Some(to)) = (self.texts(0)?, self.texts(1)?, self.texts(2)?)
        else {
            return Ok(0);
        };
        let text = Text::new(&text);
        let from = Text::new(&from);
        let to = Text::new(&to);
        Ok(self.sum(|row| {
            if to.bytes(row) <= from.bytes(row) {
                return text.bytes(row);
            }
            let times = text.at(row).matches(from.at(row)).count() as u64;
            text.bytes(row)
                .saturating_add(times.saturating_mul(to.bytes(row)))
        }))
    }

    /// The pattern may match at every place; groups that are written into the replacement do not
    /// overlap.
    pub(super) fn regexp_replaced(&self, all: bool) -> Result<u64> {
        let (Some(text), Some(to)) = (self.texts(0)?, self.texts(2)?) else {
            return Ok(0);
        };
        let flags = self.texts(3)?;
        let text = Text::new(&text);
        let to = Text::new(&to);
        let flags = flags.as_ref().map(Text::new);
        Ok(self.sum(|row| {
            let has_flag = flags
                .as_ref()
                .is_some_and(|flags| flags.at(row).contains('g'));
            let everywhere = all || has_flag;
            let times = if everywhere { text.bytes(row) + 1 } else { 1 };
            let groups = to
                .at(row)
                .bytes()
                .filter(|byte| matches!(byte, b'\\' | b'$'))
                .count() as u64;
            let copies = text.bytes(row).saturating_mul(groups + 1);
            copies.saturating_add(times.saturating_mul(to.bytes(row)))
        }))
    }

    pub(super) fn regexp_matched(&self) -> Result<u64> {
        let (Some(text), Some(pattern)) = (self.texts(0)?, self.texts(1)?) else {
            return Ok(0);
        };
        let text = Text::new(&text);
        let pattern = Text::new(&pattern);
        Ok(self.sum(|row| {
            let groups = pattern.at(row).bytes().filter(|byte| *byte == b'(').count() as u64;
            text.bytes(row).saturating_mul(groups.max(1))
        }))
    }

    pub(super) fn formatted(&self) -> Result<u64> {
        let Some(pattern) = self.texts(1)? else {
            return Ok(0);
        };
        let pattern = Text::new(&pattern);
        Ok(self.sum(|row| pattern.bytes(row).saturating_mul(PATTERN_GROWTH)))
    }

    pub(super) fn joined(&self) -> Result<u64> {
        let (Some(list), Some(between)) = (self.columns.first(), self.texts(1)?) else {
            return Ok(0);
        };
        let null = self.texts(2)?;
        let between = Text::new(&between);
        let null = null.as_ref().map(Text::new);
        let list = Column {
            values: list,
            constant: self.constant[0],
        };
        Ok(self.sum(|row| {
            let one = list.values.slice(list.place(row), 1);
            let (elements, bytes) = leaves(&one);
            let null_bytes = null.as_ref().map_or(0, |null| null.bytes(row));
            let each = between
                .bytes(row)
                .saturating_add(null_bytes)
                .saturating_add(NUMBER_TEXT_BYTES);
            bytes.saturating_add(elements.saturating_mul(each))
        }))
    }

    pub(super) fn element_repeated(&self) -> Result<u64> {
        let (Some(element), Some(times)) = (self.columns.first(), self.numbers(1)?) else {
            return Ok(0);
        };
        let times = Number::new(&times);
        let element = Column {
            values: element,
            constant: self.constant[0],
        };
        Ok(self.sum(|row| {
            let times = times.at_least_0(row);
            if times == 0 {
                0
            } else {
                bytes_of(&element.values.slice(element.place(row), 1)).saturating_mul(times)
            }
        }))
    }

    pub(super) fn resized(&self) -> Result<u64> {
        let (Some(list), Some(length)) = (self.columns.first(), self.numbers(1)?) else {
            return Ok(0);
        };
        let length = Number::new(&length);
        let list = Column {
            values: list,
            constant: self.constant[0],
        };
        let element = self.columns.get(2).map(|values| Column {
            values,
            constant: self.constant[2],
        });
        Ok(self.sum(|row| {
            let own = bytes_of(&list.values.slice(list.place(row), 1));
            let of = |element: &Column<'_, ArrayRef>| {
                bytes_of(&element.values.slice(element.place(row), 1))
            };
            let each = element.as_ref().map_or(8, of).max(8);
            own.saturating_add(length.at_least_0(row).saturating_mul(each))
        }))
    }

    pub(super) fn elements_replaced(&self) -> Result<u64> {
        let (Some(list), Some(to)) = (self.columns.first(), self.columns.get(2)) else {
            return Ok(0);
        };
        let list = Column {
            values: list,
            constant: self.constant[0],
        };
        let to = Column {
            values: to,
            constant: self.constant[2],
        };
        Ok(self.sum(|row| {
            let (elements, bytes) = leaves(&list.values.slice(list.place(row), 1));
            let each = bytes_of(&to.values.slice(to.place(row), 1));
            bytes.saturating_add(elements.saturating_mul(each))
        }))
    }

    /// Elements of eight bytes.
    pub(super) fn series(&self) -> Result<u64> {
        let (start, end, step) = match self.columns.len() {
            0 => return Ok(0),
            1 => (None, 0, None),
            2 => (Some(0), 1, None),
            _ => (Some(0), 1, Some(2)),
        };
        // What a point counts, and the step where none is given: a day between times.
        let (scale, step_of_kind) = match self.columns[end].data_type() {
            DataType::Int64 | DataType::Null => (1, 1),
            data_type if data_type.is_integer() => (1, 1),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                (1_000_000_000, 86_400_000_000_000)
            }
            other => return exec_err!("a series of {other} is not supported"),
        };
        let points = |place: usize| -> Result<(ArrayRef, bool)> {
            let column = &self.columns[place];
            let numbers = match column.data_type() {
                data_type if data_type.is_integer() || data_type.is_null() => {
                    cast(column, &DataType::Int64)?
                }
                _ => {
                    let seconds = DataType::Timestamp(TimeUnit::Second, None);
                    cast(&cast(column, &seconds)?, &DataType::Int64)?
                }
            };
            Ok((numbers, self.constant[place]))
        };
        let start = start.map(points).transpose()?;
        let end = points(end)?;
        let steps = step.map(|place| self.steps(place)).transpose()?;
        let start = start.as_ref().map(Number::new);
        let end = Number::new(&end);
        Ok(self.sum(|row| {
            let from = start.as_ref().map_or(0, |start| start.at(row));
            let span = (i128::from(end.at(row)) - i128::from(from))
                .abs()
                .saturating_mul(scale);
            let step = steps
                .as_ref()
                .map_or(step_of_kind, |steps| {
                    steps[if steps.len() == 1 { 0 } else { row }]
                })
                .max(1);
            u64::try_from(span / step + 2)
                .unwrap_or(u64::MAX)
                .saturating_mul(8)
        }))
    }

    /// The size of each step, in the unit of [`Self::series`].
    fn steps(&self, place: usize) -> Result<Vec<i128>> {
        let column = &self.columns[place];
        if let DataType::Interval(_) = column.data_type() {
            let exact = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let steps = exact.as_primitive::<IntervalMonthDayNanoType>();
            let nanos = |step: arrow::datatypes::IntervalMonthDayNano| {
                let days = i128::from(step.months) * MONTH_DAYS + i128::from(step.days);
                (days * DAY_NANOS + i128::from(step.nanoseconds)).abs()
            };
            return Ok(steps.iter().map(|step| step.map_or(1, nanos)).collect());
        }
        let numbers = cast(column, &DataType::Int64)?;
        Ok(numbers
            .as_primitive::<Int64Type>()
            .iter()
            .map(|step| i128::from(step.unwrap_or(1)).abs())
            .collect())
    }
}

/// How many values a list has in all levels below it, and their bytes.
fn leaves(list: &ArrayRef) -> (u64, u64) {
    let inner = match list.data_type() {
        DataType::List(_) => {
            let list = list.as_list::<i32>();
            let offsets = list.value_offsets();
            let from = offsets[0] as usize;
            let to = offsets[list.len()] as usize;
            list.values().slice(from, to - from)
        }
        DataType::LargeList(_) => {
            let list = list.as_list::<i64>();
            let offsets = list.value_offsets();
            let from = offsets[0] as usize;
            let to = offsets[list.len()] as usize;
            list.values().slice(from, to - from)
        }
        DataType::FixedSizeList(..) => list.as_fixed_size_list().values().clone(),
        _ => return (list.len() as u64, bytes_of(list)),
    };
    leaves(&inner)
}

/// Texts of one argument; NULL is empty.
struct Text<'a>(Column<'a, dyn Array>);

impl<'a> Text<'a> {
    fn new((values, constant): &'a (ArrayRef, bool)) -> Self {
        Self(Column {
            values: values.as_ref(),
            constant: *constant,
        })
    }

    fn at(&self, row: usize) -> &'a str {
        fn value<O: OffsetSizeTrait>(texts: &GenericStringArray<O>, place: usize) -> &str {
            if texts.is_null(place) {
                ""
            } else {
                texts.value(place)
            }
        }
        let place = self.0.place(row);
        match self.0.values.data_type() {
            DataType::Utf8 => value(self.0.values.as_string::<i32>(), place),
            _ => value(self.0.values.as_string::<i64>(), place),
        }
    }

    fn bytes(&self, row: usize) -> u64 {
        self.at(row).len() as u64
    }
}

/// Numbers of one argument; NULL is 0.
struct Number<'a>(Column<'a, dyn Array>);

impl<'a> Number<'a> {
    fn new((values, constant): &'a (ArrayRef, bool)) -> Self {
        Self(Column {
            values: values.as_ref(),
            constant: *constant,
        })
    }

    fn at(&self, row: usize) -> i64 {
        let numbers = self.0.values.as_primitive::<Int64Type>();
        let place = self.0.place(row);
        if numbers.is_null(place) {
            0
        } else {
            numbers.value(place)
        }
    }

    fn at_least_0(&self, row: usize) -> u64 {
        u64::try_from(self.at(row)).unwrap_or(0)
    }
}
