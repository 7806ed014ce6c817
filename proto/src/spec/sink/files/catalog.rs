//! The table of the Data Catalog that shows the files: its keys in the job file.
//!
//! Does not own: what the table must be, how partitions are registered (the engine).

use crate::change::value_text;
use crate::spec::is_default;
use crate::spec::key::{Absent, Flag, Key, Part, Text};
use crate::spec::keys::{self, key};
use crate::spec::raw::{Entry, Table};
use crate::spec::role::{self, AssumedRole};
use serde::{Deserialize, Serialize};

/// The table by which readers find the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkCatalog {
    pub database: String,
    pub table: String,
    /// The owning account; `None`: the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_id: Option<String>,
    /// `None`: the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The role that makes the table and its partitions; `None`: the controllers' own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    /// Readers compute the partitions from the table's properties; none is registered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub projection: bool,
    /// A submit adds the columns that the table lacks.
    pub add_columns: bool,
}

impl SinkCatalog {
    /// For users: `sales.orders in eu-west-1, projection`.
    pub fn describe(&self) -> String {
        let Self {
            database, table, ..
        } = self;
        let account = self.catalog_id.as_ref().map(|id| format!(" of {id}"));
        let region = self.region.as_ref().map(|region| format!(" in {region}"));
        let role = self
            .role
            .as_ref()
            .map(|role| format!(" by {}", role.describe()));
        let projection = self.projection.then(|| ", projection".to_owned());
        let fixed = (!self.add_columns)
            .then(|| format!(", add_columns = {}", value_text(&self.add_columns)));
        let more = [account, region, role, projection, fixed];
        let more: String = more.into_iter().flatten().collect();
        format!("{database}.{table}{more}")
    }
}

static PROJECTION: Key<Flag> = key(
    "projection",
    Flag,
    Absent::Is(false),
    "[partition projection](data-catalog.md#partition-projection): readers compute the partitions, and none is registered",
);
static ADD_COLUMNS: Key<Flag> = key(
    "add_columns",
    Flag,
    Absent::Is(true),
    "add the result's columns that the table lacks, at each submit; `false`: refuse the job",
);
static TABLE: Key<Text> = key(
    "table",
    Text,
    Absent::Refused("for example table = \"orders\""),
    "its name; a submit makes it if it is missing",
);
pub(super) static PART: Part = Part {
    title: "[sink.catalog]",
    about: "With `type = \"files\"`: the files are [a table of the Glue Data Catalog](data-catalog.md), and each partition is registered before \
            its window counts as published.",
    keys: &[
        &keys::DATABASE,
        &TABLE,
        &keys::CATALOG_ID,
        &keys::CATALOG_REGION,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
        &PROJECTION,
        &ADD_COLUMNS,
    ],
};

pub(super) fn read(entry: &Entry<'_>) -> Option<SinkCatalog> {
    let mut table = entry.table()?;
    let read = catalog(&mut table);
    table.finish(|_| None);
    read
}

fn catalog(table: &mut Table<'_>) -> Option<SinkCatalog> {
    let database = table.value(&keys::DATABASE);
    let name = table.value(&TABLE);
    let catalog_id = table.optional(&keys::CATALOG_ID);
    let region = table.optional(&keys::CATALOG_REGION);
    let role = role::read(table, false);
    let projection = table.value(&PROJECTION);
    let add_columns = table.value(&ADD_COLUMNS);
    Some(SinkCatalog {
        database: database?,
        table: name?,
        catalog_id: catalog_id?,
        region: region?,
        role: role?,
        projection: projection?,
        add_columns: add_columns?,
    })
}
