//! The form of GetRecords calls: CBOR where the service speaks it, JSON elsewhere.
//!
//! Rule: the form changes no record, no position and no decision about a failure.

use super::*;
use streamctl_tests::kinesis::Speaks;

/// Payloads of every kind: text, bytes that are no text, none at all.
const PAYLOADS: [&[u8]; 4] = [
    b"{\"id\":1}",
    b"",
    b"\x00\xff\xfe",
    "{\"name\":\"\u{c5}land\"}".as_bytes(),
];

async fn scene() -> Scene {
    let scene = Scene::of(1).await;
    for (second, data) in PAYLOADS.iter().enumerate() {
        let arrival_ms = 1_795_481_100_123 + 1_000 * second as i64;
        scene.stream.put_in(SHARD, data, arrival_ms);
    }
    scene
}

/// Reads until there are this many records.
async fn read(scene: &Scene, reader: &mut Box<dyn ShardReader>, count: usize) -> Vec<Record> {
    let mut records = vec![];
    while records.len() < count {
        records.extend(scene.next(reader).await.expect("it is read").records);
    }
    records
}

fn facts(records: &[Record]) -> Vec<(String, i64, Vec<u8>)> {
    let fact = |record: &Record| {
        (
            record.sequence.as_str().to_owned(),
            record.arrival_ms,
            record.data.to_vec(),
        )
    };
    records.iter().map(fact).collect()
}

/// GetRecords calls in CBOR and in JSON that were understood.
fn forms(fake: &FakeKinesis) -> (usize, usize) {
    let calls = fake.calls_of("GetRecords");
    let cbor = calls.iter().filter(|call| call.is_cbor).count();
    (cbor, calls.len() - cbor)
}

#[tokio::test]
async fn both_forms_give_the_same_records() {
    let scene = scene().await;
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let in_cbor = read(&scene, &mut reader, PAYLOADS.len()).await;
    assert_eq!(forms(&scene.fake).1, 0, "the service speaks CBOR");
    scene.fake.speaks(Speaks::Json { status: 400 });
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let in_json = read(&scene, &mut reader, PAYLOADS.len()).await;
    assert_eq!(facts(&in_cbor), facts(&in_json));
    assert_eq!(in_cbor[2].data.as_ref(), PAYLOADS[2]);
}

#[tokio::test]
async fn the_end_of_a_shard_names_its_children_in_cbor() {
    let scene = scene().await;
    scene.stream.split(SHARD);
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let end = loop {
        let chunk = scene.next(&mut reader).await.expect("it is read");
        if let Some(end) = chunk.end {
            break end;
        }
    };
    assert_eq!(end.len(), 2);
    assert!(end.iter().all(|child| child.parents == [SHARD.into()]));
    assert!(end.iter().all(|child| !child.detail.is_empty()));
    assert_eq!(forms(&scene.fake).1, 0);
}

#[tokio::test]
async fn a_service_without_cbor_is_read_in_json_after_one_refused_call() {
    for status in [400, 415, 500] {
        let scene = scene().await;
        scene.fake.speaks(Speaks::Json { status });
        let mut reader = scene.reader(SHARD, Position::Start).await;
        let records = read(&scene, &mut reader, PAYLOADS.len()).await;
        assert_eq!(records.len(), PAYLOADS.len());
        for _ in 0..3 {
            scene.next(&mut reader).await.expect("it is read");
        }
        let calls = scene.fake.calls_of("GetRecords");
        let refused = calls.iter().filter(|call| call.error.is_some()).count();
        assert_eq!((refused, forms(&scene.fake).0), (1, 0), "status {status}");
    }
}

#[tokio::test]
async fn errors_in_cbor_are_handled_like_those_in_json() {
    let scene = scene().await;
    let mut reader = scene.reader(SHARD, Position::Start).await;
    scene.fake.fault("GetRecords", None, Fault::throttle(), 2);
    scene.fake.fault("GetRecords", None, Fault::expired(), 1);
    scene.fake.fault("GetRecords", None, Fault::internal(), 1);
    scene.fake.fault("GetRecords", None, Fault::Close, 1);
    scene.fake.fault("GetRecords", None, Fault::Cut, 1);
    let records = read(&scene, &mut reader, PAYLOADS.len()).await;
    assert_eq!(records.len(), PAYLOADS.len());
    assert_eq!(scene.fake.faults_left(), 0);
    let stats = reader.stats();
    assert_eq!((stats.throttles, stats.iterator_renewals), (2, 1));
    assert_eq!(forms(&scene.fake).1, 0);
}

#[tokio::test]
async fn an_emulator_that_writes_base64_in_cbor_and_no_errors_is_read() {
    let scene = scene().await;
    scene.fake.speaks(Speaks::LooseCbor);
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let records = read(&scene, &mut reader, PAYLOADS.len()).await;
    assert_eq!(records[2].data.as_ref(), PAYLOADS[2]);
    scene.next(&mut reader).await.expect("it is at the tip");
    // The reason of an error is in the answer to JSON alone.
    scene.fake.fault("GetRecords", None, Fault::expired(), 2);
    scene.stream.put_in(SHARD, b"later", scene.fake.now_ms());
    let later = read(&scene, &mut reader, 1).await;
    assert_eq!(later[0].data.as_ref(), b"later");
    assert_eq!(reader.stats().iterator_renewals, 1);
}

#[tokio::test]
async fn a_connection_that_breaks_settles_no_form() {
    let scene = scene().await;
    scene.fake.fault("GetRecords", None, Fault::Close, 1);
    let mut reader = scene.reader(SHARD, Position::Start).await;
    read(&scene, &mut reader, PAYLOADS.len()).await;
    assert_eq!(forms(&scene.fake).1, 0, "the service speaks CBOR");
}
