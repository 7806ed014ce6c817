//! What a call gives and returns.

use super::*;
use crate::function::log::Level;
use crate::function::process::MEMORY_INTERVAL;

const ECHO: &str = "
def process_batch(head, bodies):
    print('window', head['batch_id'], head['window_start_ms'], head['window_end_ms'])
    send({'type': 'log', 'level': 'warning', 'text': 'looked at'})
    return bodies
";

#[tokio::test]
async fn a_call_returns_the_rows_that_the_function_gives_back() {
    let given = given(ECHO);
    let mut child = given.start().await.unwrap();
    assert_eq!(child.ready().frame, Some(Frame::Pyarrow));
    assert!(child.ready().python.starts_with("3."));
    for first in [10, 20] {
        let batches = vec![rows(&[first]), rows(&[]), rows(&[first + 1, first + 2])];
        let outcome = call(&mut child, batches).await.unwrap();
        let (found, batches) = outcome.result.unwrap();
        assert_eq!(found, schema());
        assert_eq!(batches, [rows(&[first]), rows(&[first + 1, first + 2])]);
        assert_eq!(outcome.rows_in, 3);
        assert_eq!(outcome.bytes_in, outcome.result_bytes);
        assert!(outcome.peak_memory.unwrap() > MIB);
        let warning = LogLine {
            source: LogSource::Context(Level::Warning),
            text: "looked at".into(),
        };
        assert!(outcome.log.contains(&warning), "{:?}", outcome.log);
        let printed = LogLine {
            source: LogSource::Stdout,
            text: "window 28512345 60000 120000".into(),
        };
        assert!(outcome.log.contains(&printed), "{:?}", outcome.log);
    }
    Box::new(child).close().await;
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_window_without_rows_has_its_schema() {
    let given = given(ECHO);
    let mut child = given.start().await.unwrap();
    let outcome = call(&mut child, vec![]).await.unwrap();
    assert_eq!(outcome.result.unwrap(), (schema(), vec![]));
    assert_eq!(outcome.rows_in, 0);
}

#[tokio::test]
async fn none_is_no_result_and_rows_may_be_dead_letters() {
    let text = "
def process_batch(head, bodies):
    for body in bodies:
        send({'type': 'dead', 'reasons': ['first', 'second']}, body)
";
    let given = given(text);
    let mut child = given.start().await.unwrap();
    let outcome = call(&mut child, vec![rows(&[1, 2])]).await.unwrap();
    assert!(outcome.result.is_none());
    let [dead] = outcome.dead.as_slice() else {
        panic!("{:?}", outcome.dead);
    };
    assert_eq!(dead.reasons, ["first", "second"]);
    let DeadLetterRows::Batch(batch) = &dead.rows else {
        panic!("{dead:?}");
    };
    assert_eq!(batch, &rows(&[1, 2]));
}

#[tokio::test]
async fn a_lookup_is_sent_once_per_version() {
    let text = "
seen = []
def process_batch(head, bodies):
    version, body = head['lookups']['countries']
    if not any(body is other for other in seen):
        seen.append(body)
    raise ValueError(f'{version} {len(seen)} {len(body)}')
";
    let given = given(text);
    let mut child = given.start().await.unwrap();
    let mut reported = Vec::new();
    for version in ["a", "a", "b"] {
        let mut call = window();
        let lookup = LookupRows {
            version: version.into(),
            schema: schema(),
            batches: vec![rows(&[1])],
        };
        call.lookups.insert("countries".into(), lookup);
        let error = call_as(&mut child, call, vec![]).await.unwrap_err();
        reported.push(error.raised().unwrap().message.clone());
        assert!(child.is_usable());
    }
    assert!(reported[0].starts_with("a 1 "), "{reported:?}");
    assert_eq!(reported[0], reported[1]);
    assert!(reported[2].starts_with("b 2 "), "{reported:?}");
}

#[tokio::test]
async fn what_was_published_is_reported_to_the_function() {
    let text = "
def process_batch(head, bodies): pass
def loaded(head):
    print('epoch', head['epoch'], head['objects'][0]['location'])
    if head['epoch'] == 8: raise KeyError('no such table')
";
    let given = given(text);
    let mut child = given.start().await.unwrap();
    let published = |epoch| Published {
        batch_id: 1,
        epoch,
        objects: vec![PublishedObject {
            location: "s3://bucket/a.parquet".into(),
            rows: 3,
            bytes: 4,
        }],
        name: "loaded".into(),
    };
    let log = child.published(published(7)).await.unwrap();
    assert!(
        texts(&log).contains(&"epoch 7 s3://bucket/a.parquet"),
        "{log:?}"
    );
    let error = child.published(published(8)).await.unwrap_err();
    assert!(error.to_string().contains("on_published"), "{error}");
    assert!(child.is_usable());
}

#[tokio::test]
async fn a_function_is_kept_between_calls_and_replaced_after_a_failure() {
    let text = "
import os
calls = 0
def process_batch(head, bodies):
    global calls
    calls += 1
    print('call', calls)
    if head['attempt'] == 3: os._exit(3)
";
    let given = given(text);
    let runner = Runner::Child(given.settings.clone());
    let functions = FunctionPool::new(runner, given.code(), given.limits.clone(), job(), 1);
    let mut printed = Vec::new();
    for attempt in 1..=5 {
        let mut lease = functions.acquire().await.unwrap();
        let call = Call {
            attempt,
            ..window()
        };
        match call_as(&mut *lease, call, vec![]).await {
            Ok(outcome) => printed.extend(outcome.log.last().map(|line| line.text.clone())),
            Err(_) => printed.push("failed".into()),
        }
    }
    assert_eq!(printed, ["call 1", "call 2", "failed", "call 1", "call 2"]);
    // A window is called at once, although the only slot is taken, and its function ends with the call.
    let mut first = functions.acquire().await.unwrap();
    let mut further = functions.acquire_at_once().await.unwrap();
    for (lease, text) in [(&mut first, "call 3"), (&mut further, "call 1")] {
        let outcome = call_as(&mut **lease, window(), vec![]).await.unwrap();
        assert_eq!(outcome.log.last().unwrap().text, text);
    }
    drop((first, further));
    let mut kept = functions.acquire().await.unwrap();
    let outcome = call_as(&mut *kept, window(), vec![]).await.unwrap();
    assert_eq!(outcome.log.last().unwrap().text, "call 4");
    drop(kept);
    functions.close().await;
    assert!(functions.acquire().await.is_err());
    assert!(functions.acquire_at_once().await.is_err());
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_function_leaves_the_processor_to_the_worker() {
    let text = "
import os
def process_batch(head, bodies):
    raise ValueError(os.getpriority(os.PRIO_PROCESS, 0))
";
    let given = given(text);
    let mut child = given.start().await.unwrap();
    let error = call_as(&mut child, window(), vec![]).await.unwrap_err();
    let own = rustix::process::getpriority_process(None).unwrap();
    let expected = (own + 5).min(19).to_string();
    assert_eq!(error.raised().unwrap().message, expected);
}

#[tokio::test]
async fn a_runner_that_knows_no_keys_is_refused() {
    let given = given(ECHO);
    let mut child = given.start().await.unwrap();
    let call = Call {
        by: vec!["id".into()],
        ..window()
    };
    let error = call_as(&mut child, call, vec![]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("too old to call the function per key"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_function_left_running_stands_still_between_calls() {
    let text = "
import threading, time
count = 0
def run():
    global count
    while True: count += 1
def process_batch(head, bodies):
    before = count
    if head['attempt'] == 1: threading.Thread(target=run, daemon=True).start()
    time.sleep(0.05)
    raise ValueError(f'{before} {count}')
";
    let given = given(text);
    let mut child = given.start().await.unwrap();
    let mut reported = Vec::new();
    for attempt in 1..=2 {
        let call = Call {
            attempt,
            ..window()
        };
        let error = call_as(&mut child, call, vec![]).await.unwrap_err();
        let message = &error.raised().unwrap().message;
        let counts = message
            .split(' ')
            .map(|count| count.parse::<u64>().unwrap());
        reported.push(counts.collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let [_, during_first] = reported[0][..] else {
        panic!()
    };
    let [before_second, after_second] = reported[1][..] else {
        panic!()
    };
    assert!(
        during_first > 0 && after_second > before_second,
        "{reported:?}"
    );
    // The time between was that of twenty calls.
    assert!(before_second < during_first * 10, "{reported:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_usable() {
    let given = given("def process_batch(head, bodies):\n    while True: pass");
    let mut child = given.start().await.unwrap();
    let dropped = tokio::time::timeout(MEMORY_INTERVAL, call(&mut child, vec![])).await;
    assert!(dropped.is_err());
    assert!(!child.is_usable());
    drop(child);
    given.leaves_nothing().await;
}

#[tokio::test]
async fn an_error_of_the_query_ends_the_call() {
    let given = given(ECHO);
    let mut child = given.start().await.unwrap();
    let mut input = futures::stream::iter([Ok(rows(&[1])), Err("division by zero".into())]);
    let error = child
        .call(window(), schema(), &mut input)
        .await
        .unwrap_err();
    assert!(matches!(error, FunctionError::Input(_)), "{error}");
    assert!(error.to_string().contains("division by zero"));
    assert!(!child.is_usable());
}

#[tokio::test]
async fn rows_that_do_not_fit_are_refused_before_the_function_has_all_of_them() {
    let mut given = given(ECHO);
    given.limits.memory_bytes = 64 * MIB;
    let mut child = given.start().await.unwrap();
    let ids: Vec<i64> = (0..1_000_000).collect();
    let error = call(&mut child, vec![rows(&ids); 4]).await.unwrap_err();
    assert!(
        matches!(error, FunctionError::InputTooLarge { .. }),
        "{error}"
    );
    assert!(error.hint().contains("function.memory"));
}
