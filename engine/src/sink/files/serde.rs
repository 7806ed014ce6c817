//! How readers of a table read each format.
//!
//! Rule: a list of facts; nothing is decided here.

use streamctl_proto::spec::SinkFormat;

/// What a table of one format states.
pub(super) struct Serde {
    pub input_format: &'static str,
    pub output_format: &'static str,
    /// The class that reads and writes records.
    pub library: &'static str,
    pub properties: &'static [(&'static str, &'static str)],
    pub parameters: &'static [(&'static str, &'static str)],
}

const TEXT_IN: &str = "org.apache.hadoop.mapred.TextInputFormat";
const TEXT_OUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";
const PARQUET: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
const JSON: &str = "org.openx.data.jsonserde.JsonSerDe";
const CSV: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";

impl Serde {
    pub fn of(format: SinkFormat) -> Self {
        match format {
            SinkFormat::Parquet => Self {
                input_format: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
                output_format: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
                library: PARQUET,
                properties: &[("serialization.format", "1")],
                parameters: &[("classification", "parquet")],
            },
            SinkFormat::Json => Self {
                input_format: TEXT_IN,
                output_format: TEXT_OUT,
                library: JSON,
                properties: &[("serialization.format", "1")],
                parameters: &[("classification", "json")],
            },
            SinkFormat::Csv => Self {
                input_format: TEXT_IN,
                output_format: TEXT_OUT,
                library: CSV,
                properties: &[
                    ("separatorChar", ","),
                    ("quoteChar", "\""),
                    ("escapeChar", "\\"),
                ],
                parameters: &[("classification", "csv"), ("skip.header.line.count", "1")],
            },
        }
    }
}

/// Whether a class reads files of a format.
pub(super) fn read_by(format: SinkFormat, library: &str) -> bool {
    let known: &[&str] = match format {
        SinkFormat::Parquet => &[PARQUET],
        SinkFormat::Json => &[
            JSON,
            "org.apache.hive.hcatalog.data.JsonSerDe",
            "org.apache.hadoop.hive.serde2.JsonSerDe",
        ],
        SinkFormat::Csv => &[CSV],
    };
    known
        .iter()
        .any(|class| class.eq_ignore_ascii_case(library.trim()))
}
