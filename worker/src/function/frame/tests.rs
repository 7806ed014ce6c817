use super::*;
use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, NullArray, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use std::sync::Arc;

fn batch() -> RecordBatch {
    let names: StringArray = (0..100).map(|id| Some(format!("name {id}"))).collect();
    let few: DictionaryArray<Int32Type> = (0..100).map(|id| ["a", "b"][id % 2]).collect();
    let flags: BooleanArray = (0..100).map(|id| Some(id % 3 == 0)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("name", Arc::new(names)),
        ("few", Arc::new(few)),
        ("flag", Arc::new(flags)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head: serde_json::Value = serde_json::from_str(head).unwrap();
    let mut bytes = head_bytes(&head, body.len()).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn frames_are_read_whatever_the_parts_in_which_they_come() {
    let body = encode(&batch().schema(), &[batch()]).unwrap();
    let mut bytes = answer(r#"{"type":"log","level":"info","text":"ü"}"#, &[]);
    bytes.extend(answer(r#"{"type":"rows","later":1}"#, &body));
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let mut reader = AsyncReadExt::chain(first, second);
        let log = read(&mut reader, 1 << 20).await.unwrap().unwrap();
        assert!(matches!(log.head, Answer::Log { text, .. } if text == "ü"));
        let rows = read(&mut reader, 1 << 20).await.unwrap().unwrap();
        assert!(matches!(rows.head, Answer::Rows));
        assert_eq!(rows.body, body);
        assert!(read(&mut reader, 1 << 20).await.unwrap().is_none());
        // The same, with an end in the middle.
        let whole = bytes.len() - body.len();
        if cut > whole {
            let mut reader = first;
            read(&mut reader, 1 << 20).await.unwrap().unwrap();
            let error = read(&mut reader, 1 << 20).await.unwrap_err();
            assert!(matches!(error, FrameError::Cut), "{error}");
        }
    }
}

#[tokio::test]
async fn announced_lengths_are_not_believed() {
    let read = async |bytes: &[u8]| {
        let mut reader = bytes;
        super::read(&mut reader, 1 << 40).await.unwrap_err()
    };
    assert!(matches!(
        read(&[0xff; 12]).await,
        FrameError::HeadTooLarge(u32::MAX)
    ));
    // A terabyte that does not come costs no memory.
    let mut much = answer(r#"{"type":"rows"}"#, &[]);
    much[4..12].copy_from_slice(&(1u64 << 40).to_be_bytes());
    assert!(matches!(read(&much).await, FrameError::Cut));
    much[4..12].copy_from_slice(&((1u64 << 40) + 1).to_be_bytes());
    assert!(matches!(read(&much).await, FrameError::BodyTooLarge { .. }));
    for head in [
        "{}",
        "[1]",
        r#"{"type":"rows"} "#,
        "\u{1}",
        r#"{"type":"quit"}"#,
    ] {
        let mut bytes = vec![0; PREFIX_BYTES];
        bytes[3] = u8::try_from(head.len()).unwrap();
        bytes.extend_from_slice(head.as_bytes());
        let mut reader = &bytes[..];
        let read = super::read(&mut reader, 0).await;
        assert_eq!(read.is_ok(), head.contains("rows"), "{head}: {read:?}");
    }
}

#[test]
fn the_launcher_reads_its_message_and_not_one_byte_more() {
    let mut bytes = answer(r#"{"a":1}"#, &[]);
    bytes.extend_from_slice(b"next");
    let mut reader = &bytes[..];
    let head: serde_json::Value = read_blocking(&mut reader).unwrap();
    assert_eq!(head["a"], 1);
    assert_eq!(reader, b"next");
}

#[test]
fn orders_have_the_form_of_the_protocol() {
    let module = crate::function::Module::File("transform.py".into());
    let open = Order::Open {
        protocol: 1,
        folder: "/code",
        module: &module,
        name: "process_batch",
        frame: Some(Frame::Pandas),
        job: "sales",
        on_published: None,
    };
    let expected = r#"{"type":"open","protocol":1,"folder":"/code","file":"transform.py","name":"process_batch","frame":"pandas","job":"sales"}"#;
    assert_eq!(serde_json::to_string(&open).unwrap(), expected);
    let call = Order::Call {
        batch_id: 5,
        window_start_ms: 1,
        window_end_ms: 2,
        attempt: 1,
        job: "sales",
        lookups: BTreeMap::from([("countries", "v1")]),
        empty: false,
        by: &[],
    };
    let expected = r#"{"type":"call","batch_id":5,"window_start_ms":1,"window_end_ms":2,"attempt":1,"job":"sales","lookups":{"countries":"v1"},"empty":false}"#;
    assert_eq!(serde_json::to_string(&call).unwrap(), expected);
    let by = ["country".to_owned()];
    let per_key = Order::Call {
        batch_id: 5,
        window_start_ms: 1,
        window_end_ms: 2,
        attempt: 1,
        job: "sales",
        lookups: BTreeMap::new(),
        empty: false,
        by: &by,
    };
    let text = serde_json::to_string(&per_key).unwrap();
    assert!(
        text.ends_with(r#""empty":false,"by":["country"]}"#),
        "{text}"
    );
    assert_eq!(
        serde_json::to_string(&Order::End).unwrap(),
        r#"{"type":"end"}"#
    );
}

#[test]
fn rows_come_back_as_they_were_sent() {
    let batch = batch();
    let slice = batch.slice(10, 20);
    let body = encode(&batch.schema(), &[batch.clone(), slice.clone()]).unwrap();
    let (schema, batches) = decode(body).unwrap();
    assert_eq!(schema, batch.schema());
    assert_eq!(batches, [batch.clone(), slice]);
    let (schema, batches) = decode(encode(&batch.schema(), &[]).unwrap()).unwrap();
    assert_eq!(schema, batch.schema());
    assert_eq!(batches, []);
}

#[test]
fn a_body_that_is_cut_off_or_changed_is_an_error_or_other_rows_and_never_a_panic() {
    let body = encode(&batch().schema(), &[batch()]).unwrap();
    for end in 0..body.len() {
        assert!(decode(body[..end].to_vec()).is_err(), "{end}");
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..2_000 {
        let mut changed = body.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..changed.len());
            changed[at] = random.u8(..);
        }
        // Columns that were accepted can be read.
        match decode(changed) {
            Ok((_, batches)) => batches.iter().for_each(|batch| drop(format!("{batch:?}"))),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 500, "{refused}");
    let mut longer = body;
    longer.push(0);
    assert!(matches!(decode(longer), Err(BodyError::NotAStream(_))));
}

#[test]
fn rows_that_take_no_bytes_are_refused() {
    let nulls: ArrayRef = Arc::new(NullArray::new(1 << 40));
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Null, true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![nulls]).unwrap();
    let error = decode(encode(&schema, &[batch]).unwrap()).unwrap_err();
    assert!(
        matches!(error, BodyError::MoreRowsThanBits { .. }),
        "{error}"
    );
}

#[test]
fn buffers_hold_no_more_than_their_batch() {
    let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..1_000));
    let columns = [("a", Arc::clone(&ids)), ("b", ids)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let body = encode(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
    // The second column's buffers: no bits for NULLs, and its values.
    let buffers = [8_000, 0, 8_000, 8_000].map(i64::to_le_bytes).concat();
    let place = body
        .windows(buffers.len())
        .position(|bytes| bytes == buffers);
    let at = place.unwrap() + 16;
    for (offset, length) in [(8_000, 8_008), (-8, 8_000), (0, 16_000), (i64::MAX, 8_000)] {
        let mut changed = body.clone();
        changed[at..at + 8].copy_from_slice(&i64::to_le_bytes(offset));
        changed[at + 8..at + 16].copy_from_slice(&i64::to_le_bytes(length));
        let error = decode(changed).unwrap_err();
        assert!(
            matches!(error, BodyError::Outside),
            "{offset} {length}: {error}"
        );
    }
    assert_eq!(decode(body).unwrap().1, [batch]);
}

#[test]
fn compressed_rows_are_refused() {
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))
        .unwrap();
    let schema = batch().schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    writer.write(&batch()).unwrap();
    writer.finish().unwrap();
    let body = writer.into_inner().unwrap();
    assert!(matches!(decode(body), Err(BodyError::Compressed)));
}
