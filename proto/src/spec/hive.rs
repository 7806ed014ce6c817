//! The types of columns: those of Hive, as the Glue Data Catalog and `[source.schema]` name them.
//!
//! Owns: which texts are types. Does not own: what is between the angles of a nested one ([`nested`]),
//! what a value of a type becomes (`streamctl_engine::catalog`).
//! Rule: this is the only list; the parser, the reference of the job file, hints and the check
//! against the catalog use it.

mod nested;

use std::fmt;

/// Most levels of a type; `array<struct<a:int>>` has three.
pub const TYPE_LEVELS_MAX: usize = 16;
/// Most types inside of a type, itself counted.
pub const TYPE_PARTS_MAX: usize = 1_000;
/// Digits that a decimal may have.
const DECIMAL_DIGITS_MAX: u8 = 38;

/// A column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HiveType {
    String,
    /// With the most characters that it declares.
    Varchar(Option<u32>),
    /// With the number of characters that it declares.
    Char(Option<u32>),
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    Timestamp,
    Binary,
    Array(Box<HiveType>),
    /// Keys and values.
    Map(Box<HiveType>, Box<HiveType>),
    /// At least one field; no two have the same name.
    Struct(Vec<HiveField>),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiveField {
    /// In lower case, as names of columns.
    pub name: String,
    pub hive_type: HiveType,
}

/// What is written behind the name of a type.
#[derive(Clone, Copy)]
enum Arguments<'a> {
    None,
    /// Between `(` and `)`.
    Round(&'a str),
    /// Between `<` and `>`: the arguments of nested types, which are read elsewhere.
    Angled,
    Malformed,
}

type Read = fn(Arguments<'_>) -> Option<HiveType>;

/// Every type: its name, an example, and its reading.
static TYPES: [(&str, &str, Read); 19] = [
    ("string", "string", |a| plain(a, HiveType::String)),
    ("varchar", "varchar(20)", |a| {
        length(a).map(HiveType::Varchar)
    }),
    ("char", "char(3)", |a| length(a).map(HiveType::Char)),
    ("boolean", "boolean", |a| plain(a, HiveType::Boolean)),
    ("tinyint", "tinyint", |a| plain(a, HiveType::TinyInt)),
    ("smallint", "smallint", |a| plain(a, HiveType::SmallInt)),
    ("int", "int", |a| plain(a, HiveType::Int)),
    ("integer", "integer", |a| plain(a, HiveType::Int)),
    ("bigint", "bigint", |a| plain(a, HiveType::BigInt)),
    ("float", "float", |a| plain(a, HiveType::Float)),
    ("double", "double", |a| plain(a, HiveType::Double)),
    // As in Spark and Trino.
    ("real", "real", |a| plain(a, HiveType::Float)),
    ("decimal", "decimal(10,2)", decimal),
    ("date", "date", |a| plain(a, HiveType::Date)),
    ("timestamp", "timestamp", |a| plain(a, HiveType::Timestamp)),
    ("binary", "binary", |a| plain(a, HiveType::Binary)),
    (nested::ARRAY, "array<string>", |_| None),
    (nested::MAP, "map<string,int>", |_| None),
    (nested::STRUCT, "struct<a:int,b:string>", |_| None),
];

/// A text that is not a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAType {
    /// There is no type of this name, in lower case.
    Name(String),
    /// The type takes other arguments; an example.
    Arguments { example: &'static str },
    /// A part of a nested type is not one.
    Inside {
        /// The part, as far as it was read.
        part: String,
        why: Inside,
    },
    /// More than [`TYPE_LEVELS_MAX`] levels.
    Levels,
    /// More than [`TYPE_PARTS_MAX`] parts.
    Parts,
}

/// What is wrong with a part of a nested type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    NotAType(Box<NotAType>),
    /// Two fields of a struct have this name.
    Twice(String),
    /// The key of a map is an array, a map or a struct.
    Key,
    /// The text goes on, or ends, where this was expected.
    Expected(&'static str),
}

impl NotAType {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Name(_) => HiveType::hint(),
            Self::Arguments { example } => format!("write it as in {example:?}"),
            Self::Levels => format!(
                "a type has at most {TYPE_LEVELS_MAX} levels: declare the inner part as string, its JSON"
            ),
            Self::Parts => format!(
                "a type has at most {TYPE_PARTS_MAX} fields and elements: leave out those that no query reads"
            ),
            Self::Inside { part, why } => match why {
                Inside::NotAType(inner) => {
                    format!("{part:?} in it is not a type; {}", inner.hint())
                }
                Inside::Twice(name) => format!(
                    "{part:?} has two fields {name:?}, case makes no difference: rename one"
                ),
                Inside::Key => format!("{part:?} cannot be the key of a map: use string"),
                Inside::Expected(what) => format!("{what} was expected at {part:?}"),
            },
        }
    }
}

impl fmt::Display for HiveType {
    /// As the Data Catalog writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String | Self::Varchar(None) | Self::Char(None) => f.write_str("string"),
            Self::Varchar(Some(length)) => write!(f, "varchar({length})"),
            Self::Char(Some(length)) => write!(f, "char({length})"),
            Self::Boolean => f.write_str("boolean"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Binary => f.write_str("binary"),
            Self::Array(item) => write!(f, "array<{item}>"),
            Self::Map(key, value) => write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (place, field) in fields.iter().enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{}", field.name, field.hive_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl HiveType {
    /// Parses a type; case and white space make no difference.
    ///
    /// # Errors
    /// [`NotAType`].
    pub fn parse(text: &str) -> Result<Self, NotAType> {
        nested::parse(&text.trim().to_lowercase())
    }

    /// Whether a text is an array, a map or a struct, whatever is inside of it.
    pub fn is_nested(text: &str) -> bool {
        nested::outer(&text.trim().to_lowercase()).is_some()
    }

    /// The names of all types.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        TYPES.iter().map(|(word, ..)| *word)
    }

    /// An example of each type, in the order of [`Self::names`].
    pub fn examples() -> impl Iterator<Item = &'static str> {
        TYPES.iter().map(|(_, example, _)| *example)
    }

    /// `known types: string, ...`.
    pub fn hint() -> String {
        let names: Vec<_> = Self::names().collect();
        format!("known types: {}", names.join(", "))
    }
}

/// A type that is not nested, in lower case.
fn single(text: &str) -> Result<HiveType, NotAType> {
    let at = text.find(['(', '<']).unwrap_or(text.len());
    let name = text[..at].trim_end();
    let found = TYPES.iter().find(|(word, ..)| *word == name);
    let Some((_, example, read)) = found else {
        return Err(NotAType::Name(name.to_owned()));
    };
    read(arguments(&text[at..])).ok_or(NotAType::Arguments { example })
}

fn arguments(text: &str) -> Arguments<'_> {
    let inside = |begin, end| text.strip_prefix(begin)?.strip_suffix(end).map(str::trim);
    match (text, inside('(', ')'), inside('<', '>')) {
        ("", ..) => Arguments::None,
        (_, Some(inner), _) => Arguments::Round(inner),
        (_, _, Some(_)) => Arguments::Angled,
        _ => Arguments::Malformed,
    }
}

fn plain(arguments: Arguments<'_>, kind: HiveType) -> Option<HiveType> {
    matches!(arguments, Arguments::None).then_some(kind)
}

/// Outer `None`: not a length.
fn length(arguments: Arguments<'_>) -> Option<Option<u32>> {
    match arguments {
        Arguments::None => Some(None),
        Arguments::Round(number) => number.parse().ok().map(Some),
        Arguments::Angled | Arguments::Malformed => None,
    }
}

fn decimal(arguments: Arguments<'_>) -> Option<HiveType> {
    let inner = match arguments {
        Arguments::None => "10",
        Arguments::Round(inner) => inner,
        Arguments::Angled | Arguments::Malformed => return None,
    };
    let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    let good = (1..=DECIMAL_DIGITS_MAX).contains(&precision) && scale <= precision;
    good.then_some(HiveType::Decimal { precision, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<HiveType> {
        HiveType::parse(text).ok()
    }

    #[test]
    fn every_type_has_a_name_and_an_example_that_is_read() {
        for (name, example) in HiveType::names().zip(HiveType::examples()) {
            assert!(
                example.starts_with(name) && parse(example).is_some(),
                "{name}"
            );
        }
        assert_eq!(parse(" Decimal( 10 , 2 ) "), parse("decimal(10,2)"));
        assert_eq!(parse("CHAR (3)"), Some(HiveType::Char(Some(3))));
        assert_eq!(parse("real"), parse("float"));
    }

    #[test]
    fn an_unknown_type_is_distinguished_from_a_type_with_other_arguments() {
        assert_eq!(
            HiveType::parse("Strng"),
            Err(NotAType::Name("strng".into()))
        );
        for wrong in [
            "decimal(39,0)",
            "decimal(3,4)",
            "decimal(10,-2)",
            "decimal(a)",
            "array",
            "array(int)",
            "int(3)",
            "varchar(x)",
            "string<a>",
            "timestamp(3)",
            "char(3",
        ] {
            let found = HiveType::parse(wrong);
            assert!(matches!(found, Err(NotAType::Arguments { .. })), "{wrong}");
        }
        for unknown in [
            "",
            "set<string>",
            "double precision",
            "timestamp with time zone",
            "void",
        ] {
            let found = HiveType::parse(unknown);
            assert!(matches!(found, Err(NotAType::Name(_))), "{unknown}");
        }
    }
}
