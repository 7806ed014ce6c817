//! The catalogs of a process.
//!
//! Owns: which client serves which catalog of a job file, credentials of REST catalogs. Does not
//! own: the protocol (`catalog`), which addresses a job may name (`resolve::foreign`).
//! Rule: a secret is in no job file. The operator's credentials name the catalog's address, and are
//! sent to no other one.

use super::catalog::local::LocalCatalog;
use super::catalog::rest::{Auth, RestCatalog, RestSettings, Secret, Service};
use super::catalog::{Catalog, CatalogError};
use crate::aws::Aws;
use crate::clock::{Clock, system_clock};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::spec::{AssumedRole, IcebergSink, TableCatalog};

/// Catalogs whose clients are kept, with their tokens.
pub const CATALOGS_MAX: usize = 64;
/// Largest file of credentials.
pub const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;
/// The cluster's name in the markers of jobs that run without one.
const LOCAL: &str = "local";

/// What a process knows of catalogs besides its AWS settings.
#[derive(Clone, Debug)]
pub struct TableSettings {
    /// The cluster's name: jobs of one name in two clusters may write one table.
    pub cluster: String,
    /// The folder with a file `<name>.toml` for each name of credentials.
    pub credentials: Option<PathBuf>,
    pub clock: Clocked,
}

/// A clock that can be shown.
#[derive(Clone)]
pub struct Clocked(pub Clock);

impl std::fmt::Debug for Clocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a clock")
    }
}

impl Default for TableSettings {
    fn default() -> Self {
        Self {
            cluster: LOCAL.to_owned(),
            credentials: None,
            clock: Clocked(system_clock()),
        }
    }
}

impl TableSettings {
    /// Of a program that runs without a cluster: the environment names the folder of credentials.
    /// Call it once, in `main`.
    #[allow(clippy::disallowed_methods)]
    pub fn from_env() -> Self {
        let folder = std::env::var_os("STREAMCTL_CATALOG_CREDENTIALS");
        Self {
            credentials: folder
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
            ..Self::default()
        }
    }
}

/// Makes clients of catalogs; a clone shares them.
#[derive(Clone, Debug)]
pub struct Tables {
    aws: Aws,
    settings: TableSettings,
    /// Calls catalogs of AWS; `None`: the program's own credentials do.
    role: Option<AssumedRole>,
    kept: Arc<Mutex<Vec<Kept>>>,
    /// The tables whose manifests are being merged.
    merging: Arc<Mutex<BTreeSet<String>>>,
}

/// Holds that a table's manifests are being merged; at its end others may.
#[derive(Debug)]
pub struct Merging {
    table: String,
    all: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Merging {
    fn drop(&mut self) {
        let all = self.all.lock();
        all.unwrap_or_else(PoisonError::into_inner)
            .remove(&self.table);
    }
}

#[derive(Debug)]
struct Kept {
    of: TableCatalog,
    role: Option<AssumedRole>,
    /// Those that it was made with: a new file makes a new client.
    credentials: Option<Credentials>,
    catalog: Arc<dyn Catalog>,
}

/// A file of credentials.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    uri: String,
    token: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    token_uri: Option<String>,
    scope: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "credentials for {}", self.uri)
    }
}

impl Tables {
    pub fn new(aws: Aws, settings: TableSettings) -> Self {
        Self {
            aws,
            settings,
            role: None,
            kept: Arc::default(),
            merging: Arc::default(),
        }
    }

    /// The same with other settings, and without the clients.
    pub fn with(&self, settings: TableSettings) -> Self {
        Self::new(self.aws.clone(), settings)
    }

    /// The same, whose catalogs of AWS are called by this role; clients are shared.
    pub fn as_role(&self, role: &AssumedRole) -> Self {
        Self {
            role: Some(role.clone()),
            ..self.clone()
        }
    }

    /// The cluster's name in markers.
    pub fn cluster(&self) -> &str {
        &self.settings.cluster
    }

    pub fn clock(&self) -> Clock {
        Arc::clone(&self.settings.clock.0)
    }

    /// Begins to merge a table's manifests, unless this process is at it.
    pub fn begin_merge(&self, sink: &IcebergSink) -> Option<Merging> {
        let table = format!("{} in {}", sink.table, sink.catalog.describe());
        let all = Arc::clone(&self.merging);
        let is_first = all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(table.clone());
        is_first.then(|| Merging { table, all })
    }

    /// The client of a catalog; it sends nothing yet.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] if there are no credentials or no region.
    pub async fn catalog(&self, of: &TableCatalog) -> Result<Arc<dyn Catalog>, CatalogError> {
        let credentials = match of {
            TableCatalog::Rest {
                uri,
                credentials: Some(name),
                ..
            } => Some(self.credentials(name, uri).await?),
            TableCatalog::Rest { .. }
            | TableCatalog::Glue { .. }
            | TableCatalog::S3Tables { .. }
            | TableCatalog::Local { .. } => None,
        };
        let is_of = |kept: &Kept| kept.of == *of && kept.role == self.role;
        let same = |kept: &&Kept| is_of(kept) && kept.credentials == credentials;
        let found = self
            .kept()
            .iter()
            .find(same)
            .map(|kept| &kept.catalog)
            .cloned();
        if let Some(catalog) = found {
            return Ok(catalog);
        }
        let catalog = self.make(of, credentials.as_ref()).await?;
        let mut kept = self.kept();
        kept.retain(|kept| !is_of(kept));
        if kept.len() >= CATALOGS_MAX {
            kept.remove(0);
        }
        kept.push(Kept {
            of: of.clone(),
            role: self.role.clone(),
            credentials,
            catalog: Arc::clone(&catalog),
        });
        Ok(catalog)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(
        &self,
        of: &TableCatalog,
        credentials: Option<&Credentials>,
    ) -> Result<Arc<dyn Catalog>, CatalogError> {
        let settings = match of {
            TableCatalog::Local { warehouse } => {
                let folder = Path::new(warehouse.as_str());
                return Ok(Arc::new(LocalCatalog::new(folder, self.clock())));
            }
            TableCatalog::Rest { uri, warehouse, .. } => RestSettings {
                uri: uri.clone(),
                warehouse: warehouse.clone(),
                auth: credentials.map_or(Auth::None, Credentials::auth),
            },
            TableCatalog::Glue {
                warehouse,
                region,
                uri,
            } => {
                self.of_aws(Service::Glue, region, uri, warehouse.clone())
                    .await?
            }
            TableCatalog::S3Tables {
                warehouse,
                region,
                uri,
            } => {
                let region = region.clone().or_else(|| region_of_arn(warehouse));
                self.of_aws(Service::S3Tables, &region, uri, Some(warehouse.clone()))
                    .await?
            }
        };
        Ok(Arc::new(RestCatalog::new(settings, self.clock())))
    }

    async fn of_aws(
        &self,
        service: Service,
        region: &Option<String>,
        uri: &Option<String>,
        warehouse: Option<String>,
    ) -> Result<RestSettings, CatalogError> {
        let signing = self.aws.signing(self.role.as_ref(), region.as_deref());
        let (environment, credentials) = signing.await;
        let region = region.clone().or(environment).ok_or_else(|| {
            refused(
                "no region is set",
                "set region in [sink], or AWS_REGION for the controllers",
            )
        })?;
        let credentials = credentials.ok_or_else(|| {
            refused(
                "there are no AWS credentials",
                "give the controllers a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        })?;
        Ok(RestSettings {
            uri: uri.clone().unwrap_or_else(|| service.uri(&region)),
            warehouse,
            auth: Auth::Aws {
                service,
                region,
                credentials,
            },
        })
    }

    async fn credentials(&self, name: &str, uri: &str) -> Result<Credentials, CatalogError> {
        let hint = "the operator puts NAME.toml with uri and token, or uri, client_id and \
                    client_secret, into the folder that --catalog-credentials names";
        let Some(folder) = &self.settings.credentials else {
            let reason = format!("there are no credentials {name:?}: no folder of them is named");
            return Err(refused(&reason, hint));
        };
        let path = folder.join(format!("{name}.toml"));
        let text = read(&path)
            .await
            .map_err(|error| refused(&format!("no credentials {name:?}: {error}"), hint))?;
        // Not the parser's message: it shows the line.
        let found: Credentials = toml::from_str(&text).map_err(|_| {
            let reason = format!("credentials {name:?} are not in the form of such a file");
            refused(&reason, hint)
        })?;
        if found.uri.trim_end_matches('/') != uri.trim_end_matches('/') {
            let reason = format!("credentials {name:?} are not for {uri}");
            let hint =
                "name the credentials of this catalog: they are sent to their own address only";
            return Err(refused(&reason, hint));
        }
        if found.token.is_none() == found.client_secret.is_none() {
            let reason = format!("credentials {name:?} need either token or client_secret");
            return Err(refused(&reason, hint));
        }
        Ok(found)
    }
}

impl Credentials {
    fn auth(&self) -> Auth {
        match (&self.token, &self.client_secret) {
            (Some(token), _) => Auth::Bearer(Secret::new(token.clone())),
            (None, Some(secret)) => Auth::Client {
                token_uri: self.token_uri.clone(),
                id: self.client_id.clone(),
                secret: Secret::new(secret.clone()),
                scope: self.scope.clone(),
            },
            (None, None) => Auth::None,
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let metadata = tokio::fs::metadata(path).await;
    let size = metadata.map_err(|error| error.to_string())?.len();
    if size > CREDENTIALS_BYTES_MAX {
        return Err(format!(
            "the file has {size} bytes, the limit is {CREDENTIALS_BYTES_MAX}"
        ));
    }
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|error| error.to_string())
}

fn refused(reason: &str, hint: &str) -> CatalogError {
    CatalogError::Refused {
        reason: reason.to_owned(),
        hint: hint.to_owned(),
    }
}

/// `arn:aws:s3tables:<region>:<account>:bucket/<name>`.
fn region_of_arn(arn: &str) -> Option<String> {
    let region = arn.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::AwsSettings;

    fn tables(folder: Option<&Path>) -> Tables {
        let settings = TableSettings {
            credentials: folder.map(Path::to_owned),
            ..TableSettings::default()
        };
        Tables::new(Aws::new(AwsSettings::default()), settings)
    }

    fn rest(uri: &str) -> TableCatalog {
        TableCatalog::Rest {
            uri: uri.into(),
            warehouse: None,
            credentials: Some("prod".into()),
        }
    }

    async fn refusal(tables: &Tables, of: &TableCatalog) -> String {
        match tables.catalog(of).await {
            Err(CatalogError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn credentials_are_sent_to_their_own_address_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prod.toml");
        let tables = tables(Some(folder.path()));
        std::fs::write(&file, "uri = \"https://a.example\"\ntoken = \"secret-1\"").unwrap();
        let first = tables.catalog(&rest("https://a.example/")).await.unwrap();
        let again = tables.catalog(&rest("https://a.example/")).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again), "one client, one token");
        assert!(!format!("{tables:?}").contains("secret-1"));
        let other = refusal(&tables, &rest("https://evil.example")).await;
        assert!(other.contains("not for https://evil.example"), "{other}");
        std::fs::write(&file, "uri = \"https://a.example\"\ntoken = \"secret-2\"").unwrap();
        let renewed = tables.catalog(&rest("https://a.example/")).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &renewed), "a new file is used");
    }

    #[tokio::test]
    async fn bad_credentials_are_refused_without_showing_them() {
        let folder = tempfile::tempdir().unwrap();
        let of = rest("https://a.example");
        assert!(refusal(&tables(None), &of).await.contains("no folder"));
        let tables = tables(Some(folder.path()));
        assert!(refusal(&tables, &of).await.contains("\"prod\""));
        for text in [
            "uri = \"https://a.example\"\ntoken = hush",
            "uri = \"https://a.example\"",
            "uri = \"https://a.example\"\ntoken = \"hush\"\nclient_secret = \"hush\"",
        ] {
            std::fs::write(folder.path().join("prod.toml"), text).unwrap();
            let reason = refusal(&tables, &of).await;
            assert!(!reason.contains("hush"), "{reason}");
        }
    }

    #[tokio::test]
    async fn each_role_has_a_client_of_its_own_and_all_share_the_room() {
        let aws = Aws::with_fake("http://127.0.0.1:1", "OWN").await;
        let own = Tables::new(aws, TableSettings::default());
        let role = AssumedRole::new("arn:aws:iam::123456789012:role/writer");
        let by_role = own.as_role(&role);
        let glue = TableCatalog::Glue {
            warehouse: None,
            region: None,
            uri: None,
        };
        let first = by_role.catalog(&glue).await.unwrap();
        let other = own.catalog(&glue).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &other), "another signature");
        let again = own.as_role(&role).catalog(&glue).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(Arc::ptr_eq(&other, &own.catalog(&glue).await.unwrap()));
    }

    #[test]
    fn the_region_of_a_table_bucket_is_in_its_name() {
        let arn = "arn:aws:s3tables:eu-west-1:123456789012:bucket/tables";
        assert_eq!(region_of_arn(arn).as_deref(), Some("eu-west-1"));
        assert_eq!(region_of_arn("tables"), None);
    }
}
