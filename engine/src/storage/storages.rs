//! Which implementation serves which location, and the catalogs of tables and of files.
//!
//! Owns: the choice, and whose credentials are used. Does not own: the operations, the credentials
//! ([`crate::aws`]).
//! Rule: the location's text alone decides: `s3://`, else a path of the local disk. Tests also have
//! `memory://`; no program accepts it.

#[cfg(any(test, feature = "test-util"))]
use super::MemoryStorage;
use super::{LocalStorage, S3Storage, Storage};
use crate::aws::{Aws, AwsSettings};
use crate::data_catalog::DataCatalogs;
use crate::iceberg::tables::{TableSettings, Tables};
use std::sync::Arc;
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::spec::AssumedRole;

/// All storages of a process; a clone shares them.
#[derive(Clone, Debug)]
pub struct Storages {
    aws: Aws,
    s3: ForS3,
    local: Arc<dyn Storage>,
    tables: Tables,
    data_catalogs: DataCatalogs,
    #[cfg(any(test, feature = "test-util"))]
    memory: Arc<dyn Storage>,
}

/// The implementation for `s3://`.
#[derive(Clone, Debug)]
enum ForS3 {
    Service(Arc<S3Storage>),
    #[cfg(any(test, feature = "test-util"))]
    Given(Arc<dyn Storage>),
}

impl Storages {
    /// S3 through these clients, and the local disk.
    pub fn new(aws: Aws) -> Self {
        Self {
            tables: Tables::new(aws.clone(), TableSettings::default()),
            data_catalogs: DataCatalogs::new(aws.clone()),
            aws: aws.clone(),
            s3: ForS3::Service(Arc::new(S3Storage::new(aws))),
            local: Arc::new(LocalStorage),
            #[cfg(any(test, feature = "test-util"))]
            memory: Arc::new(MemoryStorage::default()),
        }
    }

    /// The local disk; S3 with default settings if a location requires it.
    pub fn local() -> Self {
        Self::new(Aws::new(AwsSettings::default()))
    }

    /// Objects below `memory://` are in `memory`.
    #[cfg(any(test, feature = "test-util"))]
    pub fn memory(memory: MemoryStorage) -> Self {
        Self {
            memory: Arc::new(memory),
            ..Self::local()
        }
    }

    /// The same storages; parts in flight to S3 take at most this many bytes together, for all
    /// objects of the process.
    pub fn with_upload_bytes(self, bytes: usize) -> Self {
        let s3 = match self.s3 {
            ForS3::Service(service) => ForS3::Service(Arc::new(service.with_upload_bytes(bytes))),
            #[cfg(any(test, feature = "test-util"))]
            given @ ForS3::Given(_) => given,
        };
        Self { s3, ..self }
    }

    /// The same storages, with these settings for the catalogs of tables.
    pub fn with_tables(self, settings: TableSettings) -> Self {
        let tables = self.tables.with(settings);
        Self { tables, ..self }
    }

    /// The clients behind all of it.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// The catalogs of tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The same storages, with these catalogs of tables of files.
    #[cfg(any(test, feature = "test-util"))]
    pub fn with_data_catalogs(self, data_catalogs: DataCatalogs) -> Self {
        Self {
            data_catalogs,
            ..self
        }
    }

    /// The catalogs of tables of files.
    pub fn data_catalogs(&self) -> &DataCatalogs {
        &self.data_catalogs
    }

    /// Uses one storage for every location.
    #[cfg(any(test, feature = "test-util"))]
    pub fn only(storage: Arc<dyn Storage>) -> Self {
        let aws = Aws::new(AwsSettings::default());
        Self {
            tables: Tables::new(aws.clone(), TableSettings::default()),
            data_catalogs: DataCatalogs::new(aws.clone()),
            aws,
            s3: ForS3::Given(Arc::clone(&storage)),
            local: Arc::clone(&storage),
            memory: storage,
        }
    }

    /// The same storages, whose objects in S3 and whose tables are used by this role; without one, as
    /// they are. The catalogs of tables of files have roles of their own.
    pub fn as_role(&self, role: Option<&AssumedRole>) -> Self {
        let Some(role) = role else {
            return self.clone();
        };
        let s3 = match &self.s3 {
            ForS3::Service(service) => ForS3::Service(Arc::new(service.as_role(role))),
            #[cfg(any(test, feature = "test-util"))]
            ForS3::Given(storage) => ForS3::Given(Arc::clone(storage)),
        };
        Self {
            s3,
            tables: self.tables.as_role(role),
            ..self.clone()
        }
    }

    /// The one that serves a staged object of a sink with this role: what is not of its rows lies
    /// beside the checkpoints, and is used with the program's own credentials.
    pub fn for_staged(
        &self,
        role: Option<&AssumedRole>,
        staged: &StagedObject,
    ) -> Arc<dyn Storage> {
        let role = match staged.kind {
            ObjectKind::Data => role,
            ObjectKind::DeadLetter | ObjectKind::RejectedRow => None,
        };
        self.as_role(role).for_location(&staged.location)
    }

    /// The one that serves this object or folder.
    pub fn for_location(&self, location: &str) -> Arc<dyn Storage> {
        #[cfg(any(test, feature = "test-util"))]
        if location.starts_with("memory://") {
            return Arc::clone(&self.memory);
        }
        if !location.starts_with("s3://") {
            return Arc::clone(&self.local);
        }
        match &self.s3 {
            ForS3::Service(service) => Arc::clone(service) as Arc<dyn Storage>,
            #[cfg(any(test, feature = "test-util"))]
            ForS3::Given(storage) => Arc::clone(storage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::report::Staging;

    #[test]
    fn the_location_s_text_decides() {
        let storages = Storages::local();
        for (location, storage) in [
            ("s3://b/k", "S3Storage"),
            ("memory://a", "MemoryStorage"),
            ("/data/out/", "LocalStorage"),
        ] {
            let chosen = format!("{:?}", storages.for_location(location));
            assert!(chosen.starts_with(storage), "{location}: {chosen}");
        }
    }

    #[test]
    fn a_role_is_used_for_the_rows_in_s3_alone() {
        let role = AssumedRole::new("arn:aws:iam::123456789012:role/writer");
        let storages = Storages::local();
        let staged = |kind, location: &str| StagedObject {
            kind,
            location: location.to_owned(),
            size: 1,
            crc32c: 0,
            rows: 1,
            table_file: None,
            staging: Staging::Multipart {
                upload_id: "u".into(),
                etags: vec![],
            },
        };
        let uses = |kind, location| {
            let storage = storages.for_staged(Some(&role), &staged(kind, location));
            format!("{storage:?}").contains(&role.role_arn)
        };
        assert!(uses(ObjectKind::Data, "s3://b/k"));
        assert!(!uses(ObjectKind::DeadLetter, "s3://b/k"));
        assert!(!uses(ObjectKind::RejectedRow, "s3://b/k"));
        assert!(!uses(ObjectKind::Data, "/data/out/k"));
        let again = storages.as_role(Some(&role)).as_role(None);
        let shown = format!("{:?}", again.for_location("s3://b/k"));
        assert!(shown.contains(&role.role_arn), "{shown}");
        assert!(!format!("{:?}", storages.for_location("s3://b/k")).contains("writer"));
    }
}
