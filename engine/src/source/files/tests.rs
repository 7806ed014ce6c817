//! The files reader against files in memory.

use super::*;
use crate::source::testing::{clock_at, job};
use crate::storage::{ObjectInfo, PutOutcome, StagedWriter};
use crate::values::Times;
use std::collections::BTreeMap;
use std::sync::Mutex;
use streamctl_proto::StagedObject;
use streamctl_proto::spec::{Location, OnBadArrival, SourceKind, TimestampNumbers, ValueRules};
use streamctl_proto::staged_name::Orphans;

const FILE: &str = "/in/a.json";

/// Files that can be read and nothing else.
#[derive(Debug, Default)]
struct Files(Mutex<BTreeMap<String, (Bytes, String)>>);

impl Files {
    fn one(bytes: impl Into<Bytes>) -> Arc<Self> {
        let files = Self::default();
        files
            .0
            .lock()
            .unwrap()
            .insert(FILE.into(), (bytes.into(), "1".into()));
        Arc::new(files)
    }
    fn find(&self, location: &str) -> Result<(Bytes, String), StorageError> {
        let missing = || StorageError::NotFound {
            location: location.to_owned(),
        };
        self.0
            .lock()
            .unwrap()
            .get(location)
            .cloned()
            .ok_or_else(missing)
    }
}

#[async_trait]
impl Storage for Files {
    async fn get(&self, location: &str, _: u64) -> Result<Bytes, StorageError> {
        Ok(self.find(location)?.0)
    }
    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        let (bytes, etag) = self.find(location)?;
        Ok(ObjectInfo {
            location: location.to_owned(),
            size: bytes.len() as u64,
            etag,
        })
    }
    async fn put_new(&self, _: &str, _: Bytes) -> Result<PutOutcome, StorageError> {
        unreachable!("a reader does not write")
    }
    async fn list(&self, _: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        unreachable!("a reader does not list")
    }
    async fn stage(&self, _: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        unreachable!("a reader does not write")
    }
    async fn publish(&self, _: &StagedObject) -> Result<(), StorageError> {
        unreachable!("a reader does not write")
    }
    async fn abandon(&self, _: &StagedObject) -> Result<(), StorageError> {
        unreachable!("a reader does not write")
    }
    async fn sweep(&self, _: &Location, _: &Orphans) -> Result<usize, StorageError> {
        unreachable!("a reader does not write")
    }
}

fn source(format: RecordFormat, arrival_time: Option<&str>) -> FilesSource {
    FilesSource {
        role: None,
        path: Location::folder("/in/"),
        format,
        arrival_time: arrival_time.map(str::to_owned),
        on_bad_arrival_time: OnBadArrival::Previous,
        max_arrival_ahead: None,
    }
}

fn reader(files: &Arc<Files>, source: FilesSource, from: Position) -> FileReader {
    let job = job(SourceKind::Files(source.clone()), 1_000);
    FileReader {
        shard: "a.json".into(),
        file: FileShard {
            location: FILE.into(),
            size: 0,
            etag: "1".into(),
        },
        storage: files.clone(),
        format: source.format,
        on_data_loss: OnDataLoss::Fail,
        clock: clock_at(5_000).0,
        from,
        stamps: Stamps::of(&source, &job),
        bytes: None,
        header: None,
        lines: None,
        room: FileRoom::default(),
        held: None,
        ended: false,
        stats: ReaderStats::default(),
    }
}

async fn read_all(mut reader: FileReader) -> Result<Vec<(u64, i64, String)>, ReadError> {
    let mut out = Vec::new();
    loop {
        let chunk = reader.next().await?;
        for r in chunk.records {
            let text = String::from_utf8(r.data.to_vec()).unwrap();
            out.push((r.sequence.to_u64().unwrap(), r.arrival_ms, text));
        }
        if chunk.end.is_some() {
            return Ok(out);
        }
    }
}

#[tokio::test]
async fn every_line_is_a_record_with_its_number_and_the_time_of_reading() {
    let files = Files::one("{\"a\":1}\n\n{\"a\":2}\nbroken");
    let got = read_all(reader(
        &files,
        source(RecordFormat::Json, None),
        Position::Start,
    ))
    .await
    .unwrap();
    let want = [
        (1, 5_000, "{\"a\":1}"),
        (3, 5_000, "{\"a\":2}"),
        (4, 5_000, "broken"),
    ];
    assert_eq!(got, want.map(|(n, t, s)| (n, t, s.to_owned())));
}

#[tokio::test]
async fn reading_continues_after_the_stored_position() {
    let text: String = (1..=5_000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    let files = Files::one(text);
    let kind = source(RecordFormat::Json, None);
    let all = read_all(reader(&files, kind.clone(), Position::Start))
        .await
        .unwrap();
    assert_eq!(all.len(), 5_000);
    let tail = read_all(reader(&files, kind, Position::after(2_500.into())))
        .await
        .unwrap();
    assert_eq!(tail, all[2_500..]);
}

#[tokio::test]
async fn a_record_without_a_time_has_that_of_the_one_before_it_also_after_a_restart() {
    let files = Files::one("{}\n{\"t\":2}\n{}\n{\"t\":9}\n{\"t\":4}\n");
    let kind = source(RecordFormat::Json, Some("T"));
    let times =
        |got: Vec<(u64, i64, String)>| got.into_iter().map(|(n, t, _)| (n, t)).collect::<Vec<_>>();
    let all = times(
        read_all(reader(&files, kind.clone(), Position::Start))
            .await
            .unwrap(),
    );
    assert_eq!(
        all,
        [(1, 1_000), (2, 2_000), (3, 2_000), (4, 9_000), (5, 4_000)]
    );
    let tail = times(
        read_all(reader(&files, kind.clone(), Position::after(2.into())))
            .await
            .unwrap(),
    );
    assert_eq!(tail, all[2..]);
    let later = times(
        read_all(reader(&files, kind, Position::Timestamp(8_000)))
            .await
            .unwrap(),
    );
    assert_eq!(later, all[3..]);
}

#[tokio::test]
async fn csv_rows_become_objects_of_strings_and_the_header_is_line_one() {
    let files = Files::one("Name,t\nÅland,1\n\"a\nb\",2\nshort\n");
    let mut by_column = reader(
        &files,
        source(RecordFormat::Csv, Some("t")),
        Position::Start,
    );
    // A number in a text is a time only with its unit.
    let seconds = Times::new(&ValueRules {
        timestamp_numbers: TimestampNumbers::Seconds,
        ..ValueRules::default()
    });
    by_column.stamps.as_mut().unwrap().times = seconds;
    let got = read_all(by_column).await.unwrap();
    let want = [
        (2, 1_000, "{\"Name\":\"Åland\",\"t\":\"1\"}"),
        (3, 2_000, "{\"Name\":\"a\\nb\",\"t\":\"2\"}"),
        (4, 2_000, "short"),
    ];
    assert_eq!(got, want.map(|(n, t, s)| (n, t, s.to_owned())));
    let tail = read_all(reader(
        &files,
        source(RecordFormat::Csv, None),
        Position::after(3.into()),
    ))
    .await
    .unwrap();
    assert_eq!(tail.len(), 1);
}

#[tokio::test]
async fn p12_a_file_that_is_one_json_document_is_refused_as_a_whole() {
    for text in ["[{\"id\": 1}]", "{\n  \"id\": 1\n}\n"] {
        let json = source(RecordFormat::Json, None);
        let files = Files::one(text);
        let got = read_all(reader(&files, json.clone(), Position::Start)).await;
        let Err(ReadError::Refused { reason, hint, .. }) = got else {
            panic!("{text}: {got:?}");
        };
        assert!(reason.starts_with("/in/a.json is "), "{reason}");
        assert!(hint.contains("one JSON object per line"), "{hint}");
        // What an earlier build has read of it can be read again.
        let rest = reader(&files, json, Position::after(1.into()));
        assert!(read_all(rest).await.is_ok());
        let csv = reader(&files, source(RecordFormat::Csv, None), Position::Start);
        assert!(read_all(csv).await.is_ok());
    }
}

#[tokio::test]
async fn a_file_that_changed_since_its_listing_is_refused() {
    let files = Files::one("{}\n");
    files.0.lock().unwrap().get_mut(FILE).unwrap().1 = "2".into();
    let got = read_all(reader(
        &files,
        source(RecordFormat::Json, None),
        Position::Start,
    ))
    .await;
    assert!(matches!(got, Err(ReadError::Refused { reason, .. }) if reason.contains("changed")));
}

#[tokio::test]
async fn a_deleted_file_is_a_data_loss_that_can_be_gone_over() {
    let files = Arc::new(Files::default());
    let kind = source(RecordFormat::Json, None);
    let got = read_all(reader(&files, kind.clone(), Position::Start)).await;
    assert!(matches!(got, Err(ReadError::DataLoss { .. })));
    let mut lenient = reader(&files, kind, Position::Start);
    lenient.on_data_loss = OnDataLoss::Continue;
    assert_eq!(lenient.next().await.unwrap().end, Some(vec![]));
    assert_eq!(lenient.stats().data_losses, 1);
}

#[tokio::test]
async fn p28_records_before_the_first_usable_time_do_not_take_the_others_along() {
    let files = Files::one("{\"t\":\"soon\"}\n{}\n{\"t\":1000}\n{\"t\":\"?\"}\n");
    let strict = FilesSource {
        on_bad_arrival_time: OnBadArrival::DeadLetter,
        max_arrival_ahead: Some(Duration::from_secs(86_400)),
        ..source(RecordFormat::Json, Some("t"))
    };
    let mut reader = reader(&files, strict, Position::Start);
    let records = reader.next().await.unwrap().records;
    let found: Vec<_> = records
        .iter()
        .map(|record| (record.arrival_ms, record.refusal().is_some()))
        .collect();
    let first = 1_000_000;
    assert_eq!(
        found,
        [(first, true), (first, true), (first, false), (first, true)]
    );
}
