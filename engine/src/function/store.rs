//! The code of a function in the checkpoint location.
//!
//! Owns: writing it at submit, reading it on a worker. Does not own: names and digests
//! (`proto::function_code`).
//! Rule: content-addressed: writing it again changes nothing, and what is read is what was stored.

use crate::storage::{Storage, StorageError, Storages};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_proto::JobSpec;
use streamctl_proto::function_code::{
    CODE_BYTES_MAX, CODE_INDEX, CodeDigest, CodeError, CodeFile, CodeIndex, FunctionCode,
};
use streamctl_proto::manifest::CheckpointNames;

/// Files of one function that are read or written at once.
const CONCURRENCY: usize = 16;

/// The code of a function could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreCodeError {
    #[error("the function's code: {0}")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Code(#[from] CodeError),
}

fn folder(spec: &JobSpec, code: &CodeDigest) -> String {
    let names = CheckpointNames::new(&spec.name);
    spec.checkpoint.join(&names.function_code(code))
}

/// Writes the code below the job's checkpoint location; the index last, so that what has an index
/// is complete.
///
/// # Errors
/// The storage did not take it.
pub async fn write(
    storages: &Storages,
    spec: &JobSpec,
    code: &FunctionCode,
) -> Result<CodeDigest, StoreCodeError> {
    let (index, digest) = code.index();
    let folder = folder(spec, &digest);
    let storage = storages.for_location(&folder);
    let put = |(name, bytes): (&str, &[u8])| {
        put_new(
            Arc::clone(&storage),
            format!("{folder}{name}"),
            Bytes::copy_from_slice(bytes),
        )
    };
    let puts: Vec<_> = code.files().map(put).collect();
    stream::iter(puts)
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    put_new(storage, format!("{folder}{CODE_INDEX}"), index.into()).await?;
    Ok(digest)
}

async fn put_new(
    storage: Arc<dyn Storage>,
    location: String,
    bytes: Bytes,
) -> Result<(), StorageError> {
    storage.put_new(&location, bytes).await.map(|_| ())
}

/// Reads the code back.
///
/// # Errors
/// It is not there, or not what was stored.
pub async fn read(
    storages: &Storages,
    spec: &JobSpec,
    digest: &CodeDigest,
) -> Result<FunctionCode, StoreCodeError> {
    let folder = folder(spec, digest);
    let storage = storages.for_location(&folder);
    let limit = CODE_BYTES_MAX as u64;
    let index = storage.get(&format!("{folder}{CODE_INDEX}"), limit).await?;
    let index = CodeIndex::decode(&index, digest)?;
    let get = |file: CodeFile| {
        let storage = Arc::clone(&storage);
        let location = format!("{folder}{}", file.name);
        async move {
            let bytes = storage.get(&location, limit).await?;
            file.check(&bytes)?;
            Ok::<_, StoreCodeError>((file.name, bytes.to_vec()))
        }
    };
    let gets: Vec<_> = index.files.into_iter().map(get).collect();
    let files: BTreeMap<String, Vec<u8>> = stream::iter(gets)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(FunctionCode::new(files)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;
    use streamctl_proto::spec::Location;

    fn spec() -> JobSpec {
        let spec = JobSpec::parse(
            "name = \"a\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"60s\"\n\
             [function]\nfile = \"transform.py\"\n[sink]\npath = \"/s\"\n[checkpoint]\nlocation = \"/c\"\n",
        );
        JobSpec {
            checkpoint: Location::folder("memory://c/"),
            ..spec.unwrap()
        }
    }

    fn code(text: &str) -> FunctionCode {
        let files = [
            ("transform.py", text.as_bytes().to_vec()),
            ("sales/rates.csv", b"a,1".to_vec()),
        ];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
        FunctionCode::new(files.into()).unwrap()
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written_or_an_error() {
        let storages = Storages::memory(MemoryStorage::default());
        let digest = write(&storages, &spec(), &code("x = 1")).await.unwrap();
        let again = write(&storages, &spec(), &code("x = 1")).await.unwrap();
        assert_eq!(again, digest);
        let found = read(&storages, &spec(), &digest).await.unwrap();
        assert_eq!(found, code("x = 1"));
        let other = code("x = 2").digest();
        assert!(matches!(
            read(&storages, &spec(), &other).await,
            Err(StoreCodeError::Storage(StorageError::NotFound { .. }))
        ));
    }

    #[tokio::test]
    async fn code_that_was_changed_where_it_is_stored_is_not_run() {
        let storages = Storages::memory(MemoryStorage::default());
        let digest = code("x = 1").digest();
        let location = format!("{}transform.py", folder(&spec(), &digest));
        let storage = storages.for_location(&location);
        storage
            .put_new(&location, Bytes::from_static(b"import os"))
            .await
            .unwrap();
        write(&storages, &spec(), &code("x = 1")).await.unwrap();
        let error = read(&storages, &spec(), &digest).await.unwrap_err();
        assert!(error.to_string().contains("was changed since"), "{error}");
    }
}
