//! Catalogs that speak Iceberg's REST protocol: Glue, S3 Tables, Polaris, Lakekeeper and others.
//!
//! Owns: addresses and bodies of the protocol. Does not own: what an answer means (`answer`),
//! tokens and signatures (`auth`).
//! Rule: a commit is sent once. It is sent again only after an answer which states that it was not
//! looked at: the token had expired.

mod answer;
mod auth;
mod transport;

pub use auth::{Auth, Secret, Service};

use super::super::metadata::TableMetadata;
use super::request::{CommitRequest, NewTable};
use super::{Catalog, CatalogError, CommitOutcome, Created, TableName};
use crate::calls::noted;
use crate::clock::Clock;
use answer::Meaning;
use async_trait::async_trait;
use auth::Signer;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use tokio::sync::OnceCell;
use transport::{Call, Failure, Reply, Transport};

/// How a call that hangs names the catalog.
const SERVICE: &str = "the Iceberg catalog";
/// Separates the parts of a namespace in an address.
const NAMESPACE_SEPARATOR: &str = "\u{1f}";

/// Which catalog, and how to reach it.
#[derive(Clone, Debug)]
pub struct RestSettings {
    /// Up to and without `/v1`: `https://glue.eu-west-1.amazonaws.com/iceberg`.
    pub uri: String,
    /// What the catalog calls the place of its tables: a name, an account, a bucket's ARN.
    pub warehouse: Option<String>,
    pub auth: Auth,
}

pub struct RestCatalog {
    settings: RestSettings,
    transport: Transport,
    signer: Signer,
    base: OnceCell<String>,
}

impl fmt::Debug for RestCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RestCatalog")
            .field(&self.settings.uri)
            .finish()
    }
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    defaults: BTreeMap<String, Value>,
    #[serde(default)]
    overrides: BTreeMap<String, Value>,
}

impl Config {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.overrides.get(name).or_else(|| self.defaults.get(name));
        found
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }
}

#[derive(Deserialize)]
struct Loaded {
    metadata: TableMetadata,
}

impl RestCatalog {
    pub fn new(settings: RestSettings, clock: Clock) -> Self {
        let signer = Signer::new(&settings.uri, settings.auth.clone(), clock);
        Self {
            settings,
            transport: Transport::new(),
            signer,
            base: OnceCell::new(),
        }
    }

    /// Creates a namespace; one that exists stays as it is.
    #[cfg(feature = "test-util")]
    pub async fn create_namespace(&self, namespace: &[&str]) -> Result<Created, CatalogError> {
        let body = json_bytes(&json!({"namespace": namespace, "properties": {}}))?;
        let call = Call::post(format!("{}/namespaces", self.base().await?), body);
        let reply = self.call(&call).await.map_err(answer::failed)?;
        match answer::meaning(&reply) {
            Meaning::Done => Ok(Created::Created),
            Meaning::Conflict(_) => Ok(Created::Exists),
            other => Err(other.error(None)),
        }
    }

    /// The address below which tables are, with the prefix that the catalog states.
    async fn base(&self) -> Result<&str, CatalogError> {
        let ask = || async {
            let mut url = format!("{}/v1/config", self.settings.uri.trim_end_matches('/'));
            if let Some(warehouse) = &self.settings.warehouse {
                url.push_str("?warehouse=");
                url.push_str(&encoded(warehouse));
            }
            let reply = self.call(&Call::get(url)).await;
            let reply = reply.map_err(answer::failed)?;
            let config: Config = match answer::meaning(&reply) {
                Meaning::Done => answer::body(&reply)?,
                // An old catalog without configuration.
                Meaning::NoRoute => Config::default(),
                other => return Err(other.error(None)),
            };
            let uri = config.get("uri").unwrap_or(&self.settings.uri);
            let uri = uri.trim_end_matches('/');
            Ok(match config.get("prefix") {
                Some(prefix) => format!("{uri}/v1/{}", prefix.trim_matches('/')),
                None => format!("{uri}/v1"),
            })
        };
        self.base.get_or_try_init(ask).await.map(String::as_str)
    }

    async fn tables(&self, table: &TableName) -> Result<String, CatalogError> {
        let namespace = table.namespace.join(NAMESPACE_SEPARATOR);
        let base = self.base().await?;
        Ok(format!("{base}/namespaces/{}/tables", encoded(&namespace)))
    }

    async fn table(&self, table: &TableName) -> Result<String, CatalogError> {
        let tables = self.tables(table).await?;
        Ok(format!("{tables}/{}", encoded(&table.name)))
    }

    /// Sends with credentials; once more with new ones if the catalog states that these are too
    /// old.
    async fn call(&self, call: &Call) -> Result<Reply, Failure> {
        noted(SERVICE, call.method.name(), self.call_now(call)).await
    }

    async fn call_now(&self, call: &Call) -> Result<Reply, Failure> {
        let headers = self.signer.headers(&self.transport, call).await?;
        let reply = self.transport.send(call, &headers).await?;
        if answer::meaning(&reply) != Meaning::Unauthorized {
            return Ok(reply);
        }
        self.signer.forget(&headers).await;
        let headers = self.signer.headers(&self.transport, call).await?;
        self.transport.send(call, &headers).await
    }
}

#[async_trait]
impl Catalog for RestCatalog {
    async fn load(&self, table: &TableName) -> Result<Arc<TableMetadata>, CatalogError> {
        let call = Call::get(self.table(table).await?);
        let reply = self.call(&call).await.map_err(answer::failed)?;
        match answer::meaning(&reply) {
            Meaning::Done => Ok(Arc::new(answer::body::<Loaded>(&reply)?.metadata)),
            other => Err(other.error(Some(table))),
        }
    }

    async fn create(&self, new: &NewTable) -> Result<Created, CatalogError> {
        // Some catalogs answer the creation of a table that exists like the first one.
        match self.load(&new.name).await {
            Ok(_) => return Ok(Created::Exists),
            Err(CatalogError::TableMissing { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut properties = new.properties.clone();
        properties.insert("format-version".to_owned(), "2".to_owned());
        let mut body = json!({
            "name": new.name.name,
            "schema": new.schema,
            "partition-spec": new.spec,
            "stage-create": false,
            "properties": properties,
        });
        if let Some(location) = &new.location {
            body["location"] = location.clone().into();
        }
        let call = Call::post(self.tables(&new.name).await?, json_bytes(&body)?);
        let meaning = match self.call(&call).await {
            Ok(reply) => answer::meaning(&reply),
            Err(failure) => Meaning::from(failure),
        };
        match meaning {
            Meaning::Done => Ok(Created::Created),
            Meaning::Conflict(_) => Ok(Created::Exists),
            Meaning::Missing(reason) => Err(CatalogError::Refused {
                reason,
                hint: format!(
                    "create the database {:?} first",
                    new.name.namespace.join(".")
                ),
            }),
            other => Err(other.error(Some(&new.name))),
        }
    }

    async fn commit(
        &self,
        table: &TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, CatalogError> {
        let identifier = json!({"namespace": table.namespace, "name": table.name});
        let body = json_bytes(&json!({
            "identifier": identifier,
            "requirements": request.requirements,
            "updates": request.updates,
        }))?;
        let mut call = Call::post(self.table(table).await?, body);
        call.idempotency_key = Some(idempotency_key(&call.body));
        let meaning = match self.call(&call).await {
            Ok(reply) => match answer::meaning(&reply) {
                Meaning::Done => match answer::body::<Loaded>(&reply) {
                    Ok(loaded) => {
                        return Ok(CommitOutcome::Committed(Arc::new(loaded.metadata)));
                    }
                    // It is committed, by an answer that cannot be read: look at the table.
                    Err(error) => Meaning::Unknown(error.to_string()),
                },
                other => other,
            },
            Err(failure) => Meaning::from(failure),
        };
        match meaning {
            Meaning::Conflict(reason) => Ok(CommitOutcome::Conflict { reason }),
            Meaning::Unknown(reason) => Ok(CommitOutcome::Unknown { reason }),
            other => Err(other.error(Some(table))),
        }
    }
}

fn json_bytes(body: &Value) -> Result<Vec<u8>, CatalogError> {
    serde_json::to_vec(body).map_err(|error| CatalogError::Refused {
        reason: error.to_string(),
        hint: "this is a fault of streamctl; please report it".into(),
    })
}

/// The same for the same body, in the form of a UUID.
fn idempotency_key(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let mut key = String::new();
    for (at, byte) in digest.iter().take(16).enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            key.push('-');
        }
        let byte = match at {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        write!(key, "{byte:02x}").expect("a text takes every write");
    }
    key
}

/// As a part of an address.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'~' | b'_' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("a text takes every write"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
