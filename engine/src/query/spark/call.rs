//! A function of Spark as the planner calls it.
//!
//! Owns: which arguments a function takes, the type of its result, reading its arguments row by
//! row. Does not own: the functions (`text`, `math`, `times`, ...), their list (`list`).
//! Rule: arguments that are not proven to mean the same as in Spark are refused by name; a function
//! gives NULL and never an error where Spark gives NULL.

use super::types::{self, TIME, is_atomic, is_number, is_time, is_whole, plain};
use super::value::{Reader, Value, collected};
use crate::query::bounded::{self, Growth};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Something that is refused in this dialect.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(in crate::query) struct Refusal {
    pub message: String,
    pub hint: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl From<Refusal> for DataFusionError {
    fn from(refusal: Refusal) -> Self {
        Self::External(Box::new(refusal))
    }
}

/// The name of a function as a query writes it.
fn shown(name: &str) -> &str {
    match name {
        "spark:key" => "max() or min",
        other => other.strip_prefix("spark:").unwrap_or(other),
    }
}

/// The types and the constants of a call's arguments.
pub(super) struct Given<'a> {
    pub name: &'a str,
    pub types: Vec<DataType>,
    constants: Vec<Option<&'a ScalarValue>>,
}

impl Given<'_> {
    pub(super) fn kind(&self, place: usize) -> &DataType {
        self.types.get(place).unwrap_or(&DataType::Null)
    }

    /// The text of a constant argument; `None` if there is no such argument.
    ///
    /// # Errors
    /// If it is no constant text.
    pub(super) fn constant_text(&self, place: usize) -> Result<Option<&str>, Refusal> {
        if place >= self.types.len() {
            return Ok(None);
        }
        let text = self.constants[place].and_then(|value| value.try_as_str().flatten());
        text.map(Some).ok_or_else(|| {
            Refusal::new(
                format!(
                    "argument {} of {}() must be a text that is written in the query",
                    place + 1,
                    shown(self.name)
                ),
                "what it means is checked at submit: write it as a constant",
            )
        })
    }

    pub(super) fn refuse(&self, what: impl fmt::Display, hint: &str) -> Refusal {
        Refusal::new(
            format!("{}() {what} in dialect \"spark\"", shown(self.name)),
            hint,
        )
    }
}

/// The type of a function's result.
pub(super) enum Gives {
    Type(DataType),
    Of(fn(&Given<'_>) -> Result<DataType, Refusal>),
    /// This type, if the arguments pass a check.
    Checked(DataType, fn(&Given<'_>) -> Result<(), Refusal>),
}

/// One function.
pub(super) struct Function {
    pub name: &'static str,
    /// A letter for each argument, `?` before those that may be missing, `*` after one that may
    /// be repeated: T text, I int, L bigint, D double, N any number, B boolean, d date, t
    /// timestamp, Z text or binary, A any single value but binary, X list, M map, Y list or map, V and
    /// W anything, K a key of an extreme.
    pub args: &'static str,
    pub gives: Gives,
    pub run: fn(&Rows<'_>) -> Result<ArrayRef>,
    pub growth: Option<Growth>,
}

impl Function {
    /// How many arguments it takes.
    fn arity(&self) -> (usize, usize) {
        let least = self.args.split('?').next().unwrap_or_default();
        let count = |text: &str| text.chars().filter(|letter| letter.is_alphabetic()).count();
        let most = if self.args.ends_with('*') {
            usize::MAX
        } else {
            count(self.args)
        };
        (count(least), most)
    }

    fn letter(&self, place: usize) -> char {
        let letters = self.args.chars().filter(|letter| letter.is_alphabetic());
        let letters: Vec<char> = letters.collect();
        letters
            .get(place)
            .or(letters.last())
            .copied()
            .unwrap_or('A')
    }

    /// Its arguments as a user writes them.
    pub(super) fn usage(&self) -> String {
        let (least, _) = self.arity();
        let letters: Vec<char> = self.args.chars().filter(|c| c.is_alphabetic()).collect();
        let words: Vec<String> = letters
            .iter()
            .enumerate()
            .map(|(place, letter)| {
                let word = described(*letter);
                if place < least {
                    word.to_owned()
                } else {
                    format!("[{word}]")
                }
            })
            .collect();
        let more = if self.args.ends_with('*') {
            ", ..."
        } else {
            ""
        };
        format!("{}({}{more})", shown(self.name), words.join(", "))
    }

    fn field(&self, given: &Given<'_>) -> Result<DataType, Refusal> {
        let (least, most) = self.arity();
        let count = given.types.len();
        if count < least || count > most {
            return Err(Refusal::new(
                format!("{}() does not take {count} arguments", shown(self.name)),
                format!("it takes {}", self.usage()),
            ));
        }
        for (place, data_type) in given.types.iter().enumerate() {
            if !takes(self.letter(place), data_type) {
                return Err(Refusal::new(
                    format!(
                        "{}() does not take {} as argument {} in dialect \"spark\"",
                        shown(self.name),
                        types::name(data_type),
                        place + 1
                    ),
                    format!(
                        "it takes {}; CAST(x AS STRING) and the like make it so",
                        self.usage()
                    ),
                ));
            }
        }
        match &self.gives {
            Gives::Type(data_type) => Ok(data_type.clone()),
            Gives::Of(of) => of(given),
            Gives::Checked(data_type, check) => check(given).map(|()| data_type.clone()),
        }
    }
}

fn described(letter: char) -> &'static str {
    match letter {
        'T' => "string",
        'I' => "int",
        'L' => "bigint",
        'D' => "double",
        'N' => "number",
        'B' => "boolean",
        'd' => "date",
        't' => "timestamp",
        'X' => "array",
        'M' => "map",
        'Z' => "string or binary",
        'Y' => "array or map",
        _ => "value",
    }
}

/// Whether Spark converts this type to that of the argument.
fn takes(letter: char, data_type: &DataType) -> bool {
    if *data_type == DataType::Null {
        return true;
    }
    let is_text = *data_type == DataType::Utf8;
    match letter {
        'T' | 'A' => is_atomic(data_type),
        'I' => {
            is_text
                || matches!(
                    data_type,
                    DataType::Int8 | DataType::Int16 | DataType::Int32
                )
        }
        'L' => is_text || is_whole(data_type),
        'D' => is_text || is_number(data_type),
        'N' => is_number(data_type),
        'B' => *data_type == DataType::Boolean,
        'Z' => is_atomic(data_type) || *data_type == DataType::Binary,
        'd' | 't' => is_text || is_time(data_type),
        'X' => matches!(data_type, DataType::List(_)),
        'M' => matches!(data_type, DataType::Map(..)),
        'Y' => matches!(data_type, DataType::List(_) | DataType::Map(..)),
        'K' => {
            is_atomic(data_type) || matches!(data_type, DataType::Time64(_) | DataType::Time32(_))
        }
        _ => {
            is_atomic(data_type)
                || *data_type == DataType::Binary
                || matches!(
                    data_type,
                    DataType::List(_) | DataType::Map(..) | DataType::Struct(_)
                )
        }
    }
}

/// The arguments of one call.
pub(super) struct Rows<'a> {
    readers: Vec<Reader>,
    constant: Vec<bool>,
    columns: &'a [ColumnarValue],
    pub count: usize,
    pub gives: &'a DataType,
    pub name: &'a str,
}

impl<'a> Rows<'a> {
    fn new(
        columns: &'a [ColumnarValue],
        count: usize,
        gives: &'a DataType,
        name: &'a str,
    ) -> Result<Self> {
        let mut readers = Vec::with_capacity(columns.len());
        for column in columns {
            readers.push(match column {
                ColumnarValue::Array(array) => Reader::new(array)?,
                ColumnarValue::Scalar(value) => Reader::new(&value.to_array()?)?,
            });
        }
        let constant = columns
            .iter()
            .map(|column| matches!(column, ColumnarValue::Scalar(_)))
            .collect();
        Ok(Self {
            readers,
            constant,
            columns,
            count,
            gives,
            name,
        })
    }

    pub(super) fn args(&self) -> usize {
        self.readers.len()
    }

    /// An argument as a column.
    pub(super) fn column(&self, place: usize) -> Result<ArrayRef> {
        match self.columns.get(place) {
            Some(column) => column.to_array(self.count),
            None => exec_err!("{}() lacks argument {place}", self.name),
        }
    }

    /// The type in which an argument is computed.
    pub(super) fn kind(&self, place: usize) -> DataType {
        self.columns
            .get(place)
            .map_or(DataType::Null, |column| plain(&column.data_type()))
    }

    /// A constant argument as a column of one row; `None` if it is no constant.
    pub(super) fn constant(&self, place: usize) -> Result<Option<ArrayRef>> {
        match self.columns.get(place) {
            Some(ColumnarValue::Scalar(value)) => value.to_array().map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn constant_text(&self, place: usize) -> Option<String> {
        let reader = self.readers.get(place)?;
        if !self.constant[place] {
            return None;
        }
        reader.get(0).map(|value| value.text().into_owned())
    }

    pub(super) fn row(&self, row: usize) -> Row<'_> {
        Row { rows: self, row }
    }

    fn each<'r>(&'r self) -> impl Iterator<Item = Row<'r>> {
        (0..self.count).map(|row| self.row(row))
    }

    pub(super) fn texts<'r, T: Into<Cow<'r, str>>>(
        &'r self,
        of: impl Fn(Row<'r>) -> Option<T>,
    ) -> Result<ArrayRef> {
        let texts = self.each().map(|row| of(row).map(Into::into));
        Ok(Arc::new(texts.collect::<StringArray>()))
    }

    pub(super) fn binaries<'r, T: Into<Cow<'r, [u8]>>>(
        &'r self,
        of: impl Fn(Row<'r>) -> Option<T>,
    ) -> Result<ArrayRef> {
        let values = self.each().map(|row| of(row).map(Into::into));
        Ok(Arc::new(values.collect::<BinaryArray>()))
    }

    pub(super) fn ints(&self, of: impl Fn(Row<'_>) -> Option<i32>) -> Result<ArrayRef> {
        Ok(Arc::new(self.each().map(of).collect::<Int32Array>()))
    }

    pub(super) fn longs(&self, of: impl Fn(Row<'_>) -> Option<i64>) -> Result<ArrayRef> {
        Ok(Arc::new(self.each().map(of).collect::<Int64Array>()))
    }

    pub(super) fn doubles(&self, of: impl Fn(Row<'_>) -> Option<f64>) -> Result<ArrayRef> {
        Ok(Arc::new(self.each().map(of).collect::<Float64Array>()))
    }

    pub(super) fn bools(&self, of: impl Fn(Row<'_>) -> Option<bool>) -> Result<ArrayRef> {
        Ok(Arc::new(self.each().map(of).collect::<BooleanArray>()))
    }

    pub(super) fn dates(&self, of: impl Fn(Row<'_>) -> Option<i32>) -> Result<ArrayRef> {
        Ok(Arc::new(self.each().map(of).collect::<Date32Array>()))
    }

    pub(super) fn times(&self, of: impl Fn(Row<'_>) -> Option<i64>) -> Result<ArrayRef> {
        let times = self.each().map(of).collect::<TimestampMicrosecondArray>();
        Ok(Arc::new(times))
    }

    /// Decimals of the result's type, from their unscaled numbers.
    pub(super) fn decimals(&self, of: impl Fn(Row<'_>) -> Option<i128>) -> Result<ArrayRef> {
        let DataType::Decimal128(digits, scale) = self.gives else {
            return exec_err!("{}() gives no decimal", self.name);
        };
        let decimals = self.each().map(of).collect::<Decimal128Array>();
        Ok(Arc::new(
            decimals.with_precision_and_scale(*digits, *scale)?,
        ))
    }

    /// Values of the result's type.
    pub(super) fn values<'r>(
        &'r self,
        of: impl Fn(Row<'r>) -> Option<Value<'r>>,
    ) -> Result<ArrayRef> {
        collected(self.count, self.gives, |row| of(self.row(row)))
    }
}

/// One row of the arguments.
#[derive(Clone, Copy)]
pub(super) struct Row<'r> {
    rows: &'r Rows<'r>,
    row: usize,
}

impl<'r> Row<'r> {
    fn place(self, place: usize) -> usize {
        if self.rows.constant[place] {
            0
        } else {
            self.row
        }
    }

    /// Which row of the batch it is.
    pub(super) fn number(self) -> usize {
        self.row
    }

    /// The number of arguments.
    pub(super) fn args(self) -> usize {
        self.rows.args()
    }

    pub(super) fn has(self, place: usize) -> bool {
        place < self.rows.args()
    }

    pub(super) fn value(self, place: usize) -> Option<Value<'r>> {
        self.rows.readers.get(place)?.get(self.place(place))
    }

    pub(super) fn is_null(self, place: usize) -> bool {
        match self.rows.readers.get(place) {
            Some(reader) => reader.is_null(self.place(place)),
            None => true,
        }
    }

    /// The elements of a list.
    pub(super) fn list(self, place: usize) -> Option<ArrayRef> {
        use arrow::array::Array;
        match self.rows.readers.get(place)? {
            Reader::List(list) => {
                let at = self.place(place);
                list.is_valid(at).then(|| list.value(at))
            }
            _ => None,
        }
    }

    pub(super) fn text(self, place: usize) -> Option<Cow<'r, str>> {
        self.value(place).map(Value::text)
    }

    /// The bytes of a text or of a binary value.
    pub(super) fn bytes(self, place: usize) -> Option<Cow<'r, [u8]>> {
        self.value(place).map(Value::bytes)
    }

    pub(super) fn int(self, place: usize) -> Option<i32> {
        self.value(place)?.int()
    }

    pub(super) fn long(self, place: usize) -> Option<i64> {
        self.value(place)?.long()
    }

    pub(super) fn double(self, place: usize) -> Option<f64> {
        self.value(place)?.double()
    }

    pub(super) fn bool(self, place: usize) -> Option<bool> {
        self.value(place)?.bool()
    }

    pub(super) fn date(self, place: usize) -> Option<i32> {
        self.value(place)?.date()
    }

    pub(super) fn time(self, place: usize) -> Option<i64> {
        self.value(place)?.time()
    }
}

/// A function as the planner takes it.
pub(super) struct Call {
    function: &'static Function,
    signature: Signature,
}

impl Call {
    pub(super) fn of(function: &'static Function) -> Arc<ScalarUDF> {
        let call = ScalarUDF::new_from_impl(Self {
            function,
            signature: Signature::user_defined(Volatility::Immutable),
        });
        Arc::new(match function.growth {
            Some(growth) => bounded::limited(call, growth),
            None => call,
        })
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.function.name).finish()
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {}() follows from its fields", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let given = Given {
            name: self.function.name,
            types: args
                .arg_fields
                .iter()
                .map(|field| plain(field.data_type()))
                .collect(),
            constants: args.scalar_arguments.to_vec(),
        };
        let data_type = self.function.field(&given)?;
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.iter().map(plain).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_constant = args
            .args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let count = if all_constant { 1 } else { args.number_rows };
        let gives = args.return_field.data_type();
        let rows = Rows::new(&args.args, count, gives, self.function.name)?;
        let result = (self.function.run)(&rows)?;
        if all_constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// The type of times.
pub(super) const fn time() -> Gives {
    Gives::Type(TIME)
}
