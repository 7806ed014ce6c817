//! A query's result beside a table's columns.
//!
//! Owns: which results a table takes. Does not own: changing the table.
//! Rule: columns are matched by name, and a difference names the column and what to write instead.

use super::types::{Field, Primitive, Schema, Type};

/// Why a table does not take the result of a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?} {reason}")]
pub struct Difference {
    /// With the path inside it: `a.b`.
    pub column: String,
    pub reason: String,
    pub hint: String,
}

/// All differences; none: the table takes the rows.
pub fn differences(result: &[Field], table: &Schema) -> Vec<Difference> {
    let mut found = vec![];
    of_fields("", result, &table.fields, &mut found);
    found
}

fn of_fields(path: &str, result: &[Field], table: &[Field], found: &mut Vec<Difference>) {
    let full = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    for field in result {
        match table.iter().find(|column| column.name == field.name) {
            Some(column) => of_field(&full(&field.name), field, column, found),
            None => found.push(missing(full(&field.name), &field.name, table)),
        }
    }
    for column in table {
        let given = result.iter().any(|field| field.name == column.name);
        if !given && column.required {
            found.push(Difference {
                column: full(&column.name),
                reason: "is required by the table, and the query does not return it".into(),
                hint: format!(
                    "add it to the query, or run: ALTER TABLE ... ALTER COLUMN {} DROP NOT NULL",
                    column.name
                ),
            });
        }
    }
}

fn missing(column: String, name: &str, table: &[Field]) -> Difference {
    let other_case = table
        .iter()
        .find(|field| field.name.to_lowercase() == name.to_lowercase());
    let hint = match other_case {
        Some(field) => format!(
            "the table's column is written {0:?}: name it AS {0:?}",
            field.name
        ),
        None => "add it to the table (ALTER TABLE ... ADD COLUMN), or leave it out".to_owned(),
    };
    Difference {
        column,
        reason: "is not in the table".into(),
        hint,
    }
}

fn of_field(path: &str, result: &Field, table: &Field, found: &mut Vec<Difference>) {
    if table.required && !result.required {
        found.push(Difference {
            column: path.to_owned(),
            reason: "is required by the table, and the query may return null".into(),
            hint: format!("return another value instead of null: COALESCE({path}, ...)"),
        });
    }
    of_type(path, &result.r#type, &table.r#type, found);
}

fn of_type(path: &str, result: &Type, table: &Type, found: &mut Vec<Difference>) {
    match (result, table) {
        (Type::Primitive(from), Type::Primitive(to)) if fits(from, to) => {}
        (Type::Struct(result), Type::Struct(table)) => of_fields(path, result, table, found),
        (Type::List { element: result }, Type::List { element: table }) => {
            of_field(&format!("{path}.element"), result, table, found);
        }
        (
            Type::Map { key, value },
            Type::Map {
                key: table_key,
                value: table_value,
            },
        ) => {
            of_field(&format!("{path}.key"), key, table_key, found);
            of_field(&format!("{path}.value"), value, table_value, found);
        }
        (Type::Primitive(_) | Type::Struct(_) | Type::List { .. } | Type::Map { .. }, _) => {
            found.push(Difference {
                column: path.to_owned(),
                reason: format!("is {result} in the query and {table} in the table"),
                hint: format!("cast it: CAST({path} AS {})", sql(table)),
            });
        }
    }
}

/// Whether a file may hold the first type where the table states the second.
pub fn fits(from: &Primitive, to: &Primitive) -> bool {
    use Primitive as P;
    match (from, to) {
        (P::Other(_), _) | (_, P::Other(_)) => false,
        (P::Int, P::Long) | (P::Float, P::Double) => true,
        // A query's timestamps are moments in UTC.
        (P::Timestamp, P::Timestamptz) => true,
        (
            P::Decimal { precision, scale },
            P::Decimal {
                precision: wider,
                scale: same,
            },
        ) => precision <= wider && scale == same,
        (from, to) => from == to,
    }
}

/// The type in a query.
fn sql(r#type: &Type) -> String {
    use Primitive as P;
    match r#type {
        Type::Primitive(P::Long) => "BIGINT".into(),
        Type::Primitive(P::String) => "VARCHAR".into(),
        Type::Primitive(P::Timestamptz) => "TIMESTAMP".into(),
        Type::Primitive(P::Binary) => "VARBINARY".into(),
        other => other.to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, required: bool, primitive: Primitive) -> Field {
        Field::new(1, name, required, Type::Primitive(primitive))
    }

    fn found(result: Vec<Field>, table: Vec<Field>) -> Vec<String> {
        let found = differences(&result, &Schema::new(table));
        let text = |found: &Difference| format!("{found}; {}", found.hint);
        found.iter().map(text).collect()
    }

    #[test]
    fn narrower_numbers_and_absent_optional_columns_are_taken() {
        use Primitive as P;
        let decimal = |precision| P::Decimal {
            precision,
            scale: 2,
        };
        let result = vec![
            field("a", false, P::Int),
            field("b", true, P::Float),
            field("c", false, decimal(9)),
            field("d", false, P::Timestamp),
        ];
        let table = vec![
            field("c", false, decimal(18)),
            field("b", true, P::Double),
            field("a", false, P::Long),
            field("z", false, P::String),
            field("d", false, P::Timestamptz),
        ];
        assert_eq!(found(result, table), Vec::<String>::new());
    }

    #[test]
    fn each_difference_names_its_column_and_a_remedy() {
        use Primitive as P;
        let result = vec![
            field("a", false, P::Long),
            field("Country", false, P::String),
            field("new", false, P::String),
            field("key", false, P::Long),
        ];
        let table = vec![
            field("a", false, P::Int),
            field("country", false, P::String),
            field("key", true, P::Long),
            field("must", true, P::Date),
        ];
        let found = found(result, table);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].contains("\"a\" is long in the query and int in the table"));
        assert!(found[0].contains("CAST(a AS INT)"));
        assert!(found[1].contains("name it AS \"country\""));
        assert!(found[2].contains("\"new\" is not in the table"));
        assert!(found[3].contains("\"key\" is required by the table"));
        assert!(found[4].contains("\"must\" is required"));
    }

    #[test]
    fn a_difference_inside_a_column_names_the_path() {
        let list = |primitive| {
            let element = field("element", false, primitive);
            let inner = Type::List {
                element: Box::new(element),
            };
            let inner = vec![Field::new(2, "b", false, inner)];
            vec![Field::new(1, "a", false, Type::Struct(inner))]
        };
        let found = found(list(Primitive::String), list(Primitive::Long));
        assert!(found[0].contains("\"a.b.element\" is string"), "{found:?}");
    }
}
