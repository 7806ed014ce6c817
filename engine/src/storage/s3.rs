//! Folders of S3 buckets, and of servers that speak S3.
//!
//! Owns: requests, the meaning of responses and errors. Does not own: clients (`aws`), uploading
//! parts (`s3_writer`).
//! Rule: an upload that is not completed is the staged object. If a completion got no response or
//! was repeated, the object itself is inspected.

use super::s3_error::{chain, code, meaning, refused, status};
use super::s3_place::{Place, abort};
use super::s3_writer::{S3Writer, UploadRoom};
use super::{
    INSPECT_READ_BYTES_MAX, Inspected, Look, ObjectInfo, Pages, PutOutcome, RefusalCause,
    StagedWriter, Storage, StorageError,
};
use crate::aws::Aws;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    MultipartUpload, Object,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::time::Duration;
use streamctl_proto::report::{StagedObject, Staging};
use streamctl_proto::spec::{AssumedRole, Location};
use streamctl_proto::staged_name::Orphans;

/// Objects up to this size are read back when the service's own checksum does not decide.
const READ_BACK_BYTES_MAX: u64 = 1 << 30;
/// Attempts of one read, including the first, if the response breaks off.
const READ_TRIES_MAX: u32 = 3;
/// Attempts of a conditional put that conflicts with another one in flight.
const CONFLICT_TRIES_MAX: u32 = 5;
/// Wait before retrying such a put, times the number of the attempt.
const CONFLICT_WAIT: Duration = Duration::from_millis(50);

/// S3 objects, `s3://bucket/key`.
#[derive(Clone, Debug)]
pub struct S3Storage {
    aws: Aws,
    /// `None`: the program's own credentials.
    role: Option<AssumedRole>,
    uploads: UploadRoom,
}

impl S3Storage {
    pub fn new(aws: Aws) -> Self {
        Self {
            aws,
            role: None,
            uploads: UploadRoom::default(),
        }
    }

    /// The same storage; parts in flight take at most this many bytes together.
    pub(super) fn with_upload_bytes(&self, bytes: usize) -> Self {
        Self {
            uploads: UploadRoom::new(bytes),
            ..self.clone()
        }
    }

    /// The same storage by this role; parts in flight share the room of all.
    pub(super) fn as_role(&self, role: &AssumedRole) -> Self {
        Self {
            role: Some(role.clone()),
            ..self.clone()
        }
    }

    async fn client(&self) -> Client {
        self.aws.s3_as(self.role.as_ref()).await
    }

    /// Objects below a folder; may skip those up to the location `after`. If it is empty, none is
    /// skipped.
    fn pages_after<'a>(&'a self, folder: &'a Location, after: &'a str) -> Pages<'a> {
        let begin = async move {
            let place = Place::parse(folder.as_str())?;
            let start_after = Place::parse(after).ok().map(|after| after.key.to_owned());
            let request = self
                .client()
                .await
                .list_objects_v2()
                .bucket(place.bucket)
                .prefix(place.key);
            let pages = request.set_start_after(start_after).into_paginator().send();
            Ok::<_, StorageError>(stream::try_unfold(pages, move |mut pages| async move {
                let Some(page) = pages.next().await else {
                    return Ok(None);
                };
                let page = page.map_err(|error| meaning(folder.as_str(), &error))?;
                let info = |object: &Object| ObjectInfo {
                    location: format!("s3://{}/{}", place.bucket, object.key().unwrap_or_default()),
                    size: unsigned(object.size()),
                    etag: object.e_tag().unwrap_or_default().to_owned(),
                };
                Ok(Some((page.contents().iter().map(info).collect(), pages)))
            }))
        };
        stream::once(begin).try_flatten().boxed()
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn check(&self, folder: &Location) -> Result<(), StorageError> {
        let place = Place::parse(folder.as_str())?;
        // Not HeadBucket: that needs another permission than the job itself does.
        let request = self
            .client()
            .await
            .list_objects_v2()
            .bucket(place.bucket)
            .prefix(place.key)
            .max_keys(1);
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| meaning(folder.as_str(), &error))
    }

    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        let place = Place::parse(location)?;
        let client = self.client().await;
        let mut tries = 0;
        loop {
            tries += 1;
            match read(&client, place, None, limit).await {
                // The SDK retries until a response begins; a response that breaks off is retried
                // here.
                Err(Read::BrokenOff(_)) if tries < READ_TRIES_MAX => {}
                Err(Read::BrokenOff(error) | Read::Failed(error)) => return Err(error),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    async fn get_range(
        &self,
        location: &str,
        start: u64,
        length: u64,
    ) -> Result<Bytes, StorageError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let place = Place::parse(location)?;
        let client = self.aws.s3().await;
        let end = start.saturating_add(length);
        let range = format!("bytes={start}-{}", end - 1);
        let mut tries = 0;
        loop {
            tries += 1;
            match read(&client, place, Some(range.clone()), length).await {
                Err(Read::BrokenOff(_)) if tries < READ_TRIES_MAX => {}
                Err(Read::BrokenOff(error) | Read::Failed(error)) => return Err(error),
                Ok(bytes) if bytes.len() as u64 == length => return Ok(bytes),
                Ok(_) => return Err(super::too_short(location, end)),
            }
        }
    }

    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        let place = Place::parse(location)?;
        let request = self
            .client()
            .await
            .head_object()
            .bucket(place.bucket)
            .key(place.key);
        let answer = request
            .send()
            .await
            .map_err(|error| meaning(location, &error))?;
        let etag = answer.e_tag().unwrap_or_default().to_owned();
        Ok(ObjectInfo {
            location: location.to_owned(),
            size: unsigned(answer.content_length()),
            etag,
        })
    }

    /// If the response to a put is lost, the SDK retries it and then conflicts with itself:
    /// `Exists` may mean our own object.
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        let place = Place::parse(location)?;
        let client = self.client().await;
        let mut tries = 0;
        loop {
            let body = ByteStream::from(bytes.clone());
            let request = client
                .put_object()
                .bucket(place.bucket)
                .key(place.key)
                .if_none_match("*");
            let request = request
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .body(body);
            let Err(error) = request.send().await else {
                return Ok(PutOutcome::Created);
            };
            tries += 1;
            match status(&error) {
                Some(412) => return Ok(PutOutcome::Exists),
                // Another put of the name is in flight; the next attempt shows which of them wins.
                Some(409) if tries < CONFLICT_TRIES_MAX => {
                    tokio::time::sleep(CONFLICT_WAIT * tries).await
                }
                _ => return Err(meaning(location, &error)),
            }
        }
    }

    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut found: Vec<ObjectInfo> = self.pages(folder).try_concat().await?;
        // Servers other than AWS may order folder by folder.
        found.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(found)
    }

    async fn list_after(
        &self,
        folder: &Location,
        after: &str,
    ) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut found: Vec<ObjectInfo> = self.pages_after(folder, after).try_concat().await?;
        // Some servers ignore parameters that they do not know.
        found.retain(|object| object.location.as_str() > after);
        found.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(found)
    }

    fn pages<'a>(&'a self, folder: &'a Location) -> Pages<'a> {
        self.pages_after(folder, "")
    }

    async fn inspect(&self, location: &str, look: Look) -> Result<Inspected, StorageError> {
        let place = Place::parse(location)?;
        let client = self.client().await;
        let head = client
            .head_object()
            .bucket(place.bucket)
            .key(place.key)
            .checksum_mode(ChecksumMode::Enabled);
        let head = head
            .send()
            .await
            .map_err(|error| meaning(location, &error))?;
        let size = unsigned(head.content_length());
        let whole = head.checksum_type() == Some(&ChecksumType::FullObject);
        let kept = head
            .checksum_crc32_c()
            .filter(|_| whole)
            .and_then(whole_crc32c);
        match (look, kept) {
            (Look::Cheaply, Some(kept)) => Ok(Inspected {
                size,
                crc32c: Some(kept),
                read: false,
            }),
            (Look::Cheaply, None) if size > INSPECT_READ_BYTES_MAX => Ok(Inspected {
                size,
                crc32c: None,
                read: false,
            }),
            _ => Ok(Inspected {
                size,
                crc32c: Some(read_crc32c(&client, place).await?),
                read: true,
            }),
        }
    }

    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        let place = Place::parse(location)?;
        let client = self.client().await;
        let request = client
            .create_multipart_upload()
            .bucket(place.bucket)
            .key(place.key);
        // A checksum of the whole object, not of its parts' checksums: completion then needs only
        // the ETags.
        let request = request
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .checksum_type(ChecksumType::FullObject);
        let answer = request
            .send()
            .await
            .map_err(|error| meaning(location, &error))?;
        let Some(upload_id) = answer.upload_id() else {
            let reason = "the service began an upload without a name".to_owned();
            return Err(StorageError::Unavailable {
                location: location.to_owned(),
                reason,
            });
        };
        Ok(Box::new(S3Writer::new(
            client,
            place,
            upload_id.to_owned(),
            self.uploads.clone(),
        )))
    }

    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        let place = Place::parse(&object.location)?;
        let (upload_id, etags) = upload_of(object)?;
        let client = self.client().await;
        let request = client
            .complete_multipart_upload()
            .bucket(place.bucket)
            .key(place.key)
            .upload_id(upload_id);
        let request = request
            .multipart_upload(completed(etags))
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc32_c(BASE64.encode(object.crc32c.to_be_bytes()));
        let refusal = match request.send().await {
            Ok(_) => None,
            Err(error) => Some((code(&error), meaning(place.location, &error))),
        };
        let lost = || StorageError::StagedLost {
            location: object.location.clone(),
        };
        match (
            look(&client, place, object, refusal.is_some()).await?,
            refusal,
        ) {
            (Stands::Same, _) => Ok(()),
            // The upload is gone, or its content is not the recorded one: the object cannot be
            // recovered.
            (_, Some((Some(code), _))) if matches!(code.as_str(), "NoSuchUpload" | "BadDigest") => {
                Err(lost())
            }
            (_, Some((_, error))) => Err(error),
            (_, None) => Err(lost()),
        }
    }

    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError> {
        let place = Place::parse(&object.location)?;
        let (upload_id, _) = upload_of(object)?;
        abort(&self.client().await, place, upload_id).await
    }

    async fn delete(&self, location: &str) -> Result<(), StorageError> {
        let place = Place::parse(location)?;
        let client = self.client().await;
        let request = client.delete_object().bucket(place.bucket).key(place.key);
        match request.send().await {
            Ok(_) => Ok(()),
            // Servers other than AWS may report a missing object.
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(meaning(location, &error)),
        }
    }

    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        let place = Place::parse(folder.as_str())?;
        let client = self.client().await;
        let mut swept = 0;
        for upload in uploads(&client, place).await? {
            let (Some(key), Some(upload_id)) = (upload.key(), upload.upload_id()) else {
                continue;
            };
            let location = format!("s3://{}/{key}", place.bucket);
            if key.starts_with(place.key) && orphans.include(&location) {
                abort(
                    &client,
                    Place {
                        location: &location,
                        bucket: place.bucket,
                        key,
                    },
                    upload_id,
                )
                .await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// Why an object was not read.
enum Read {
    /// The response began well: retry at once.
    BrokenOff(StorageError),
    Failed(StorageError),
}

/// Reads an object, or a range of it in the form of the HTTP header.
async fn read(
    client: &Client,
    place: Place<'_>,
    range: Option<String>,
    limit: u64,
) -> Result<Bytes, Read> {
    let request = client.get_object().bucket(place.bucket).key(place.key);
    let request = request.set_range(range);
    let answer = request
        .send()
        .await
        .map_err(|error| Read::Failed(meaning(place.location, &error)))?;
    let too_large = |size| {
        Read::Failed(StorageError::TooLarge {
            location: place.location.to_owned(),
            size,
            limit,
        })
    };
    let size = unsigned(answer.content_length());
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut body = answer.body;
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(
            &chunk.map_err(|error| Read::BrokenOff(broken_off(place.location, &error)))?,
        );
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
    }
    Ok(bytes.freeze())
}

/// Every upload below a folder that is neither completed nor aborted.
async fn uploads(client: &Client, place: Place<'_>) -> Result<Vec<MultipartUpload>, StorageError> {
    let mut found = Vec::new();
    let mut key_marker = None;
    let mut id_marker = None;
    loop {
        let request = client
            .list_multipart_uploads()
            .bucket(place.bucket)
            .prefix(place.key);
        let request = request
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker);
        let page = request
            .send()
            .await
            .map_err(|error| meaning(place.location, &error))?;
        found.extend_from_slice(page.uploads());
        if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
            return Ok(found);
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_upload_id_marker().map(str::to_owned);
    }
}

/// What stands under an object's name.
#[derive(Debug, PartialEq, Eq)]
enum Stands {
    Same,
    Other,
    Nothing,
}

/// Compares the object with the staged one: by size, then by the service's checksum of the whole.
/// If the service keeps none, the object is read back if its completion is `in_doubt`: the
/// controller cannot read all output.
async fn look(
    client: &Client,
    place: Place<'_>,
    object: &StagedObject,
    in_doubt: bool,
) -> Result<Stands, StorageError> {
    let request = client
        .head_object()
        .bucket(place.bucket)
        .key(place.key)
        .checksum_mode(ChecksumMode::Enabled);
    let head = match request.send().await {
        Ok(head) => head,
        Err(error) => match meaning(place.location, &error) {
            StorageError::NotFound { .. } => return Ok(Stands::Nothing),
            error => return Err(error),
        },
    };
    if unsigned(head.content_length()) != object.size {
        return Ok(Stands::Other);
    }
    let whole = head.checksum_type() == Some(&ChecksumType::FullObject);
    let kept = head
        .checksum_crc32_c()
        .filter(|_| whole)
        .and_then(whole_crc32c);
    let crc32c = match kept {
        Some(kept) if kept == object.crc32c => kept,
        // Some servers keep another checksum under that name: read the bytes before the object is
        // considered lost.
        Some(_) if object.size <= READ_BACK_BYTES_MAX => read_crc32c(client, place).await?,
        Some(kept) => kept,
        None if in_doubt && object.size <= READ_BACK_BYTES_MAX => {
            read_crc32c(client, place).await?
        }
        // Names are never reused, so the size is sufficient.
        None => object.crc32c,
    };
    Ok(if crc32c == object.crc32c {
        Stands::Same
    } else {
        Stands::Other
    })
}

/// A checksum of a whole object; `None` for one of its parts' checksums (`...-2`).
fn whole_crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

async fn read_crc32c(client: &Client, place: Place<'_>) -> Result<u32, StorageError> {
    let request = client.get_object().bucket(place.bucket).key(place.key);
    let mut body = request
        .send()
        .await
        .map_err(|error| meaning(place.location, &error))?
        .body;
    let mut crc32c = 0;
    while let Some(chunk) = body.next().await {
        crc32c = crc32c::crc32c_append(
            crc32c,
            &chunk.map_err(|error| broken_off(place.location, &error))?,
        );
    }
    Ok(crc32c)
}

fn upload_of(object: &StagedObject) -> Result<(&str, &[String]), StorageError> {
    match &object.staging {
        Staging::Multipart { upload_id, etags } => Ok((upload_id, etags)),
        Staging::File { .. } => {
            let reason = "it was staged as a file, not in S3";
            Err(refused(
                RefusalCause::Request,
                &object.location,
                reason,
                "publish it where it was staged",
            ))
        }
    }
}

fn completed(etags: &[String]) -> CompletedMultipartUpload {
    let part = |(number, etag): (i32, &String)| {
        CompletedPart::builder()
            .part_number(number)
            .e_tag(etag)
            .build()
    };
    let parts = (1..).zip(etags).map(part).collect();
    CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build()
}

fn broken_off(location: &str, error: &(dyn std::error::Error + 'static)) -> StorageError {
    let reason = format!("reading broke off: {}", chain(error));
    StorageError::Unavailable {
        location: location.to_owned(),
        reason,
    }
}

fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
