//! An object or a folder in S3, and the end of an upload there.

use super::s3_error::{code, meaning, refused};
use super::{RefusalCause, StorageError};
use aws_sdk_s3::Client;

#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub location: &'a str,
    pub bucket: &'a str,
    pub key: &'a str,
}

impl<'a> Place<'a> {
    /// Of an object or, with an empty key or one that ends in a slash, of a folder.
    pub(super) fn parse(location: &'a str) -> Result<Self, StorageError> {
        match location
            .strip_prefix("s3://")
            .and_then(|rest| rest.split_once('/'))
        {
            Some((bucket, key)) if !bucket.is_empty() => Ok(Self {
                location,
                bucket,
                key,
            }),
            _ => Err(refused(
                RefusalCause::Request,
                location,
                "not a name in S3",
                "write it as `s3://bucket/name`",
            )),
        }
    }
}

/// Ends an upload; one that has ended is no error.
pub(super) async fn abort(
    client: &Client,
    place: Place<'_>,
    upload_id: &str,
) -> Result<(), StorageError> {
    let request = client
        .abort_multipart_upload()
        .bucket(place.bucket)
        .key(place.key)
        .upload_id(upload_id);
    match request.send().await {
        Err(error) if code(&error).as_deref() != Some("NoSuchUpload") => {
            Err(meaning(place.location, &error))
        }
        _ => Ok(()),
    }
}
