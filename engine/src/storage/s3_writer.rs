//! An object on its way to S3, part by part.
//!
//! Owns: cutting parts, uploading them while the writer continues, the checksum of the whole.
//! Rule: memory is bounded by the part that is being filled and [`PARTS_IN_FLIGHT_MAX`] parts in
//! flight; an [`UploadRoom`] bounds the parts of all objects together, and a faster writer waits. A
//! part in flight needs no further input to arrive.

use super::s3_error::{meaning, refused};
use super::s3_place::{Place, abort};
use super::{RefusalCause, StagedWriter, StorageError};
use crate::calls::inherited;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_proto::report::{ObjectKind, StagedObject, Staging};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Size of every part but the last. S3 takes no smaller ones than 5 MiB.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// Most parts in flight at once.
pub const PARTS_IN_FLIGHT_MAX: usize = 2;
/// S3's limit: 10,000 parts of an upload, which is 78 GiB here.
pub const PARTS_MAX: i32 = 10_000;

/// Most bytes of parts in flight, for all objects of a process together, by default.
pub const UPLOAD_BYTES_MAX: usize = 1 << 30;
/// Room for them is counted in these.
const UNIT_BYTES: usize = 1 << 10;

/// Room for parts in flight; clones share it.
#[derive(Clone, Debug)]
pub(super) struct UploadRoom {
    units: Arc<Semaphore>,
    /// A part of any size passes, even if there is less room.
    units_max: usize,
}

impl Default for UploadRoom {
    fn default() -> Self {
        Self::new(UPLOAD_BYTES_MAX)
    }
}

impl UploadRoom {
    pub(super) fn new(bytes: usize) -> Self {
        let units_max = (bytes / UNIT_BYTES).max(1);
        Self {
            units: Arc::new(Semaphore::new(units_max)),
            units_max,
        }
    }

    /// Waits for room. Never returns `None`: the semaphore is never closed.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.units_max);
        Arc::clone(&self.units)
            .acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX))
            .await
            .ok()
    }
}

/// Number and ETag of a part that has arrived.
type Part = Result<(i32, String), StorageError>;

/// If dropped, it stops the parts in flight; the upload remains until a sweep.
pub(super) struct S3Writer {
    client: Client,
    uploads: UploadRoom,
    location: String,
    upload_id: String,
    buffer: BytesMut,
    size: u64,
    crc32c: u32,
    parts: i32,
    in_flight: JoinSet<Part>,
    etags: BTreeMap<i32, String>,
}

impl S3Writer {
    pub(super) fn new(
        client: Client,
        place: Place<'_>,
        upload_id: String,
        uploads: UploadRoom,
    ) -> Self {
        Self {
            client,
            uploads,
            location: place.location.to_owned(),
            upload_id,
            buffer: BytesMut::new(),
            size: 0,
            crc32c: 0,
            parts: 0,
            in_flight: JoinSet::new(),
            etags: BTreeMap::new(),
        }
    }

    /// Sends the first `length` buffered bytes as the next part, once there is room for it.
    async fn send(&mut self, length: usize) -> Result<(), StorageError> {
        if self.parts == PARTS_MAX {
            let hint = "set a smaller target_size";
            return Err(refused(
                RefusalCause::Request,
                &self.location,
                "it is larger than 78 GiB",
                hint,
            ));
        }
        while self.in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            self.collect().await?;
        }
        let room = self.uploads.take(length).await;
        let bytes = self.buffer.split_to(length).freeze();
        let crc32c = crc32c::crc32c(&bytes);
        // Each byte is processed once: the checksum of the whole follows from those of the parts.
        self.crc32c = crc32c::crc32c_combine(self.crc32c, crc32c, bytes.len());
        self.size += bytes.len() as u64;
        self.parts += 1;
        let client = self.client.clone();
        let location = self.location.clone();
        let upload_id = self.upload_id.clone();
        let sent = upload(client, location, upload_id, self.parts, bytes, crc32c);
        self.in_flight.spawn(inherited(async move {
            let part = sent.await;
            drop(room);
            part
        }));
        Ok(())
    }

    /// Waits for one part to arrive.
    async fn collect(&mut self) -> Result<(), StorageError> {
        let Some(part) = self.in_flight.join_next().await else {
            return Ok(());
        };
        let (number, etag) = part.unwrap_or_else(|stopped| {
            Err(StorageError::Unavailable {
                location: self.location.clone(),
                reason: stopped.to_string(),
            })
        })?;
        self.etags.insert(number, etag);
        Ok(())
    }
}

async fn upload(
    client: Client,
    location: String,
    upload_id: String,
    number: i32,
    bytes: Bytes,
    crc32c: u32,
) -> Part {
    let place = Place::parse(&location)?;
    let request = client
        .upload_part()
        .bucket(place.bucket)
        .key(place.key)
        .upload_id(upload_id)
        .part_number(number);
    let request = request
        .checksum_crc32_c(BASE64.encode(crc32c.to_be_bytes()))
        .body(ByteStream::from(bytes));
    let answer = request
        .send()
        .await
        .map_err(|error| meaning(&location, &error))?;
    match answer.e_tag() {
        Some(etag) => Ok((number, etag.to_owned())),
        None => {
            let reason = format!("part {number} arrived without an ETag");
            Err(StorageError::Unavailable { location, reason })
        }
    }
}

#[async_trait]
impl StagedWriter for S3Writer {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let room = PART_BYTES - self.buffer.len();
            self.buffer
                .extend_from_slice(&bytes.split_to(bytes.len().min(room)));
            if self.buffer.len() == PART_BYTES {
                self.send(PART_BYTES).await?;
            }
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.buffer.capacity()
    }

    async fn finish(
        mut self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError> {
        // An upload has at least one part; it may be empty.
        if !self.buffer.is_empty() || self.parts == 0 {
            self.send(self.buffer.len()).await?;
        }
        while !self.in_flight.is_empty() {
            self.collect().await?;
        }
        let Self {
            location,
            upload_id,
            size,
            crc32c,
            etags,
            ..
        } = *self;
        let staging = Staging::Multipart {
            upload_id,
            etags: etags.into_values().collect(),
        };
        Ok(StagedObject {
            kind,
            location,
            size,
            crc32c,
            rows,
            table_file: None,
            staging,
        })
    }

    async fn abort(mut self: Box<Self>) {
        // A part that arrives after the abort would stay, and be paid for.
        self.in_flight.shutdown().await;
        let aborted = match Place::parse(&self.location) {
            Ok(place) => abort(&self.client, place, &self.upload_id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = aborted {
            tracing::warn!(location = %self.location, %error, "upload stays until a sweep");
        }
    }
}
