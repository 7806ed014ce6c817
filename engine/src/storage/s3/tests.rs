//! S3 against scripted responses, and the contract against a real server.

use super::*;
use crate::aws::AwsSettings;
use crate::storage::contract;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::{TaskId, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The test server: `STREAMCTL_TEST_S3` names a bucket that the tests may create and write to;
/// address and keys come from the environment. Without it only the tests that need no server run.
async fn server() -> Option<(S3Storage, Location)> {
    #[allow(clippy::disallowed_methods)]
    let bucket = std::env::var("STREAMCTL_TEST_S3").ok()?;
    let aws = Aws::new(AwsSettings::from_env());
    let made = aws.s3().await.create_bucket().bucket(&bucket).send().await;
    let there = made
        .as_ref()
        .err()
        .and_then(code)
        .is_some_and(|code| code.starts_with("BucketAlready"));
    assert!(made.is_ok() || there, "{made:?}");
    let root = format!("s3://{bucket}/{:016x}/", fastrand::u64(..));
    Some((S3Storage::new(aws), Location::folder(&root)))
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let Some((storage, root)) = server().await else {
        return;
    };
    contract::contract(&storage, &root).await;
}

#[test]
fn a_location_is_a_bucket_and_a_key() {
    let place = Place::parse("s3://b/k=v/a b+é.json").unwrap();
    assert_eq!((place.bucket, place.key), ("b", "k=v/a b+é.json"));
    for bad in ["s3:///k", "s3://b", "/tmp/a"] {
        assert!(
            matches!(Place::parse(bad), Err(StorageError::Refused { .. })),
            "{bad}"
        );
    }
}

#[test]
fn only_a_checksum_of_the_whole_object_counts() {
    let whole = crc32c::crc32c(b"123456789");
    assert_eq!(
        whole_crc32c(&BASE64.encode(whole.to_be_bytes())),
        Some(whole)
    );
    assert_eq!(whole_crc32c("4waSgw==-2"), None);
    assert_eq!(whole_crc32c(""), None);
}

/// A server that returns one scripted response per request, in order; its result is the requests
/// that it received.
async fn scripted(answers: Vec<String>) -> (S3Storage, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(request_line(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        asked
    });
    (S3Storage::new(Aws::at(&endpoint).await), server)
}

/// Reads a whole request; returns its method.
async fn request_line(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return text.split(' ').next().unwrap().to_owned();
            }
        }
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the request is whole");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn error(status: u16, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>as scripted</Message></Error>");
    answer(
        status,
        &format!(
            "content-type: application/xml\r\ncontent-length: {}\r\n",
            body.len()
        ),
        &body,
    )
}

fn completion() -> String {
    let body = "<CompleteMultipartUploadResult><ETag>e-1</ETag></CompleteMultipartUploadResult>";
    answer(200, &format!("content-length: {}\r\n", body.len()), body)
}

/// HEAD of an object with this content, and with the checksum that the service keeps, if any.
fn head(content: &str, kept: Option<&str>) -> String {
    let checksum = kept.map(|kept| {
        format!("x-amz-checksum-crc32c: {kept}\r\nx-amz-checksum-type: FULL_OBJECT\r\n")
    });
    let checksum = checksum.unwrap_or_default();
    answer(
        200,
        &format!("content-length: {}\r\n{checksum}", content.len()),
        "",
    )
}

fn body(content: &str) -> String {
    answer(
        200,
        &format!("content-length: {}\r\n", content.len()),
        content,
    )
}

fn checksum(content: &str) -> String {
    BASE64.encode(crc32c::crc32c(content.as_bytes()).to_be_bytes())
}

fn staged(content: &str) -> StagedObject {
    StagedObject {
        kind: ObjectKind::Data,
        location: "s3://bucket/out/a.json".into(),
        size: content.len() as u64,
        crc32c: crc32c::crc32c(content.as_bytes()),
        rows: 1,
        table_file: None,
        staging: Staging::Multipart {
            upload_id: "u".into(),
            etags: vec!["e".into()],
        },
    }
}

async fn publish(answers: Vec<String>) -> (Result<(), StorageError>, Vec<String>) {
    let (storage, server) = scripted(answers).await;
    let published = storage.publish(&staged("rows")).await;
    (published, server.await.unwrap())
}

#[tokio::test]
async fn a_completion_that_was_done_before_is_believed_by_the_object() {
    let (published, _) = publish(vec![
        error(404, "NoSuchUpload"),
        head("rows", Some(&checksum("rows"))),
    ])
    .await;
    published.unwrap();
    let other = head("rows", Some(&checksum("sows")));
    let (published, _) = publish(vec![error(404, "NoSuchUpload"), other, body("sows")]).await;
    assert!(matches!(published, Err(StorageError::StagedLost { .. })));
    let (published, _) = publish(vec![
        error(404, "NoSuchUpload"),
        answer(404, "content-length: 0\r\n", ""),
    ])
    .await;
    assert!(matches!(published, Err(StorageError::StagedLost { .. })));
}

#[tokio::test]
async fn a_completion_without_an_answer_is_believed_by_the_object() {
    let lost = || (0..4).map(|_| error(503, "SlowDown"));
    let (published, asked) = publish(
        lost()
            .chain([head("rows", Some(&checksum("rows")))])
            .collect(),
    )
    .await;
    published.unwrap();
    assert_eq!(asked, ["post", "post", "post", "post", "head"]);
    let (published, _) = publish(
        lost()
            .chain([answer(404, "content-length: 0\r\n", "")])
            .collect(),
    )
    .await;
    assert!(
        matches!(published, Err(StorageError::Unavailable { .. })),
        "it may still be staged"
    );
}

#[tokio::test]
async fn an_error_inside_an_answer_of_200_is_an_error() {
    let inside = error(200, "AccessDenied");
    let (published, asked) = publish(vec![inside, answer(404, "content-length: 0\r\n", "")]).await;
    assert!(
        matches!(published, Err(StorageError::Refused { .. })),
        "{published:?}"
    );
    assert_eq!(asked, ["post", "head"]);
}

#[tokio::test]
async fn in_doubt_an_object_without_a_checksum_is_read_back() {
    let gone = || error(404, "NoSuchUpload");
    let (published, asked) = publish(vec![gone(), head("rows", None), body("rows")]).await;
    published.unwrap();
    assert_eq!(asked, ["post", "head", "get"]);
    let parts = format!("{}-2", checksum("rows"));
    let (published, _) = publish(vec![gone(), head("rows", Some(&parts)), body("sows")]).await;
    assert!(matches!(published, Err(StorageError::StagedLost { .. })));
    let wrongly_kept = head("rows", Some(&checksum("sows")));
    let (published, _) = publish(vec![completion(), wrongly_kept, body("rows")]).await;
    published.expect("the bytes decide, not what a server keeps beside them");
    let (published, asked) = publish(vec![completion(), head("rows", None)]).await;
    published.unwrap();
    assert_eq!(asked, ["post", "head"], "a plain success is not in doubt");
}

#[tokio::test]
async fn errors_name_what_the_caller_does_next() {
    let list = async |answers: Vec<String>| {
        let (storage, server) = scripted(answers).await;
        let error = storage
            .list(&Location::folder("s3://bucket/out"))
            .await
            .unwrap_err();
        server.await.unwrap();
        error
    };
    assert!(matches!(
        list(vec![error(404, "NoSuchBucket")]).await,
        StorageError::NotFound { .. }
    ));
    use RefusalCause::{Environment, Request};
    for (status, code, cause, hint) in [
        (403, "AccessDenied", Environment, "s3:ListBucket"),
        (401, "Unauthorized", Environment, "s3:ListBucket"),
        (403, "InvalidAccessKeyId", Environment, "AWS_ACCESS_KEY_ID"),
        (
            403,
            "SignatureDoesNotMatch",
            Environment,
            "AWS_SECRET_ACCESS_KEY",
        ),
        (403, "RequestTimeTooSkewed", Environment, "clock"),
        (400, "ExpiredToken", Environment, "log in"),
        (400, "RequestExpired", Environment, "log in"),
        (301, "PermanentRedirect", Environment, "AWS_REGION"),
        (400, "KMS.DisabledException", Environment, "KMS key"),
        (400, "InvalidRequest", Request, "endpoint"),
        (400, "KeyTooLongError", Request, "name"),
    ] {
        let refused = list(vec![error(status, code)]).await;
        let StorageError::Refused {
            cause: by,
            hint: said,
            reason,
            ..
        } = refused
        else {
            panic!("{code}: {refused:?}")
        };
        assert!(
            said.contains(hint) && reason.contains(code),
            "{code}: {reason}; {said}"
        );
        assert_eq!(by, cause, "{code}");
    }
    let busy = list((0..4).map(|_| error(503, "SlowDown")).collect()).await;
    assert!(matches!(busy, StorageError::Unavailable { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let storage = S3Storage::new(Aws::at("http://127.0.0.1:1").await);
    let refused = storage.head("s3://bucket/a").await;
    assert!(
        matches!(refused, Err(StorageError::Unavailable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_put_that_meets_another_one_tries_again_and_finds_it() {
    let (storage, server) = scripted(vec![
        error(409, "ConditionalRequestConflict"),
        error(412, "PreconditionFailed"),
    ])
    .await;
    let outcome = storage
        .put_new("s3://bucket/a", Bytes::from_static(b"a"))
        .await
        .unwrap();
    assert_eq!(outcome, PutOutcome::Exists);
    assert_eq!(server.await.unwrap(), ["put", "put"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let broken = answer(200, "content-length: 4\r\n", "ro");
    let (storage, server) = scripted(vec![broken, body("rows")]).await;
    assert_eq!(storage.get("s3://bucket/a", 4).await.unwrap(), "rows");
    assert_eq!(server.await.unwrap(), ["get", "get"]);
}

fn page(keys: &[&str], next: Option<&str>) -> String {
    let contents: String = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag></Contents>"))
        .collect();
    let token = next
        .map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"))
        .unwrap_or_default();
    let truncated = next.is_some();
    body(&format!(
        "<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}{token}</ListBucketResult>"
    ))
}

#[tokio::test]
async fn a_listing_continues_to_its_last_page() {
    let (storage, server) = scripted(vec![
        page(&["out/b"], Some("t")),
        page(&[], Some("u")),
        page(&["out/a"], None),
    ])
    .await;
    let listed = storage
        .list(&Location::folder("s3://bucket/out"))
        .await
        .unwrap();
    let names: Vec<&str> = listed
        .iter()
        .map(|object| object.location.as_str())
        .collect();
    assert_eq!(names, ["s3://bucket/out/a", "s3://bucket/out/b"]);
    assert_eq!(server.await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_sweep_continues_to_the_last_page_of_uploads() {
    let upload = |n: u32| {
        let key = format!("out/20200101T000000Z-sales-t1.1-{n}.json");
        format!(
            "<Upload><Key>{key}</Key><UploadId>u{n}</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
        )
    };
    let page = |n, more: &str| {
        let marker = format!(
            "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>{more}"
        );
        body(&format!(
            "<ListMultipartUploadsResult>{marker}{}</ListMultipartUploadsResult>",
            upload(n)
        ))
    };
    let aborted = || answer(204, "", "");
    let pages = [
        page(1, "<IsTruncated>true</IsTruncated>"),
        page(2, "<IsTruncated>false</IsTruncated>"),
    ];
    let gone = error(404, "NoSuchUpload");
    let (storage, server) = scripted(pages.into_iter().chain([aborted(), gone]).collect()).await;
    let orphans = Orphans {
        job: "sales".parse().unwrap(),
        windows_before_ms: Some(i64::MAX),
        tasks_before: TaskId {
            term: Term(9),
            counter: 1,
        },
        terms_before: None,
        keep: Default::default(),
        live: Default::default(),
    };
    let swept = storage
        .sweep(&Location::folder("s3://bucket/out"), &orphans)
        .await
        .unwrap();
    assert_eq!(swept, 2);
    assert_eq!(server.await.unwrap(), ["get", "get", "delete", "delete"]);
}

/// The error of a client that cannot send at all; the SDK has no codes for it, so the test checks
/// its text.
async fn unsent(config: aws_sdk_s3::config::Builder) -> StorageError {
    let client = aws_sdk_s3::Client::from_conf(
        config
            .behavior_version_latest()
            .endpoint_url("http://127.0.0.1:1")
            .build(),
    );
    let sent = client.head_object().bucket("bucket").key("a").send().await;
    meaning("s3://bucket/a", &sent.unwrap_err())
}

#[tokio::test]
async fn missing_credentials_and_a_missing_region_are_refused_with_a_hint() {
    let hint = |error| match error {
        StorageError::Refused { hint, .. } => hint,
        other => panic!("{other:?}"),
    };
    let keys = aws_sdk_s3::config::Credentials::new("test", "test", None, None, "test");
    let no_region = aws_sdk_s3::Config::builder().credentials_provider(keys);
    assert!(hint(unsent(no_region).await).contains("AWS_REGION"));
    let profile = aws_config::profile::ProfileFileCredentialsProvider::builder()
        .profile_name("of-nobody")
        .build();
    let region = aws_sdk_s3::config::Region::new("us-east-1");
    let no_keys = aws_sdk_s3::Config::builder()
        .region(region)
        .credentials_provider(profile);
    assert!(hint(unsent(no_keys).await).contains("AWS_PROFILE"));
}
