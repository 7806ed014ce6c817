//! What ends a function, and what its error reports.

use super::*;
use crate::function::error::{Exit, MemorySign, Phase};

#[tokio::test]
async fn an_exception_has_its_place_and_traceback_and_the_function_continues() {
    let given = given(
        "
def process_batch(head, bodies):
    print('before')
    raise ValueError('no such column: amount')
",
    );
    let mut child = given.start().await.unwrap();
    for _ in 0..2 {
        let error = call(&mut child, vec![rows(&[1])]).await.unwrap_err();
        let raised = error.raised().unwrap();
        assert_eq!(raised.kind, "ValueError");
        assert_eq!(
            raised.to_string(),
            "transform.py, line 4: ValueError: no such column: amount"
        );
        assert!(raised.traceback.contains("in process_batch"));
        assert!(texts(error.log()).contains(&"before"), "{:?}", error.log());
        assert!(error.report().contains("last lines of the function:"));
        assert!(child.is_usable());
    }
}

#[tokio::test]
async fn code_that_cannot_be_imported_is_an_error_of_the_start() {
    let given = given("import no_such_package");
    let error = given.start().await.unwrap_err();
    let FunctionError::Raised { raised, phase, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(raised.kind, "ModuleNotFoundError");
    assert_eq!(*phase, Phase::Start);
    assert!(error.hint().contains("requirements"));
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_python_that_is_missing_is_named_with_a_hint() {
    let mut given = given("");
    given.settings.python = "/nonexistent/python3".into();
    let error = given.start().await.unwrap_err();
    assert!(matches!(error, FunctionError::NoPython { .. }), "{error}");
    given.settings.python = "python3".into();
    given.settings.environment = Some("/nonexistent/environment".into());
    let error = given.start().await.unwrap_err();
    let FunctionError::NotStarted { step, problem, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(step, "exec");
    assert!(
        problem.contains("/nonexistent/environment/bin/python"),
        "{problem}"
    );
}

#[tokio::test]
async fn an_exit_is_reported_with_its_code() {
    let error = given(
        "
import os
def process_batch(head, bodies):
    print('giving up')
    os._exit(3)
",
    )
    .fails()
    .await;
    assert!(
        matches!(
            error,
            FunctionError::Ended {
                exit: Exit::Code(3),
                phase: Phase::Call,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        texts(error.log()).contains(&"giving up"),
        "{:?}",
        error.log()
    );
}

#[tokio::test]
async fn a_signal_is_reported_by_its_name() {
    for (name, number) in [("SIGKILL", 9), ("SIGSEGV", 11), ("SIGABRT", 6)] {
        let text = format!(
            "
import os, signal
def process_batch(head, bodies):
    os.kill(os.getpid(), signal.{name})
"
        );
        let error = given(&text).fails().await;
        let FunctionError::Ended { exit, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(exit, Exit::Signal(number));
        assert!(exit.to_string().contains(name), "{exit}");
    }
}

#[tokio::test]
async fn a_loop_without_end_is_ended_by_the_time_limit() {
    let mut given = given(
        "
import signal
for name in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM): signal.signal(name, signal.SIG_IGN)
def process_batch(head, bodies):
    print('forever')
    while True: pass
",
    );
    given.limits.timeout = Duration::from_secs(1);
    let error = given.fails().await;
    assert!(
        matches!(
            error,
            FunctionError::TimeLimit {
                phase: Phase::Call,
                ..
            }
        ),
        "{error}"
    );
    assert!(texts(error.log()).contains(&"forever"));
    given.leaves_nothing().await;
}

#[tokio::test]
async fn a_function_that_does_not_read_its_rows_is_ended_by_the_time_limit() {
    let mut given = given("import time\ntime.sleep(0)\nreal = connection.recv\n");
    let runner = RUNNER.replace("lookups = {}\n", "time.sleep(1000)\n");
    given.settings.runner = Box::leak(runner.into_boxed_str());
    given.limits.timeout = Duration::from_millis(300);
    let mut child = given.start().await.unwrap();
    let ids: Vec<i64> = (0..1_000_000).collect();
    let error = call(&mut child, vec![rows(&ids)]).await.unwrap_err();
    assert!(matches!(error, FunctionError::TimeLimit { .. }), "{error}");
}

#[tokio::test]
async fn an_allocation_above_the_limit_is_an_error_about_memory() {
    let given = given(
        "
def process_batch(head, bodies):
    return [b'x' * (1 << 30)]
",
    );
    let error = given.fails().await;
    let FunctionError::Memory { limit, sign, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*limit, 256 * MIB);
    assert!(matches!(sign, MemorySign::Raised(_)), "{sign}");
}

#[tokio::test]
async fn memory_that_is_shared_counts_as_well() {
    let given = given(
        "
import mmap, time
def process_batch(head, bodies):
    kept = mmap.mmap(-1, 1 << 30)
    for at in range(0, 1 << 30, 4096):
        kept[at] = 1
    time.sleep(100)
",
    );
    let error = given.fails().await;
    let FunctionError::Memory { sign, peak, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*sign, MemorySign::Exceeded);
    assert!(peak.unwrap() >= 256 * MIB, "{error}");
}

#[tokio::test]
async fn any_amount_of_output_costs_no_memory_and_keeps_the_last_lines() {
    let given = given(
        "
import os
def process_batch(head, bodies):
    block = b'x' * 99 + b'\\n'
    for _ in range(200):
        os.write(1, block * 10_000)
    os.write(2, b'the end')
    os._exit(5)
",
    );
    let error = given.fails().await;
    assert!(
        matches!(
            error,
            FunctionError::Ended {
                exit: Exit::Code(5),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.log().len() <= crate::function::log::LINES_MAX);
    assert!(texts(error.log()).contains(&"the end"));
}

#[tokio::test]
async fn a_fork_bomb_does_not_go_off() {
    // Bounded: at most 6 generations, if the sandbox were broken.
    let given = given(
        "
import os, threading, time
def process_batch(head, bodies):
    made = 0
    for _ in range(6):
        try:
            os.fork()
            made += 1
        except OSError:
            pass
    threads = 0
    try:
        for _ in range(2000):
            threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
            threads += 1
    except RuntimeError:
        pass
    raise ValueError(f'{made} processes, {threads < 2000}')
",
    );
    let mut child = given.start().await.unwrap();
    let error = call(&mut child, vec![]).await.unwrap_err();
    assert_eq!(error.raised().unwrap().message, "0 processes, True");
}

#[tokio::test]
async fn closing_the_connection_ends_the_function() {
    let error = given(
        "
import os, time
def process_batch(head, bodies):
    os.closerange(3, 1024)
    time.sleep(100)
",
    )
    .fails()
    .await;
    assert!(matches!(error, FunctionError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn frames_against_the_protocol_end_the_function() {
    let cases = [
        (
            "connection.sendall(b'\\xff' * 12)",
            "a head of 4294967295 bytes",
        ),
        (
            "connection.sendall(b'\\x00\\x00\\x00\\x02' + b'\\xff' * 8 + b'{}')",
            "a body of 184467",
        ),
        (
            "connection.sendall(b'\\x00\\x00\\x00\\x02' + b'\\x00' * 8 + b'{}')",
            "no message",
        ),
        ("send({'type': 'surprise'})", "no message"),
        (
            "send({'type': 'ready', 'protocol': 1})",
            "\"ready\" is no answer to a call",
        ),
        (
            "send({'type': 'rows'}, b'not arrow')",
            "no Arrow IPC stream",
        ),
        ("send({'type': 'rows'})", "no Arrow IPC stream"),
        (
            "send({'type': 'rows'}, bodies[0][:-9])",
            "no Arrow IPC stream",
        ),
        (
            "send({'type': 'dead', 'reasons': []}, bodies[0])",
            "3 rows with 0 reasons",
        ),
        (
            "send({'type': 'done', 'result': 'frame'})",
            "a frame without rows",
        ),
        (
            "send({'type': 'done', 'result': 'none', 'rows': 3})",
            "0 rows of 3",
        ),
        (
            "send({'type': 'rows'}, bodies[0]); send({'type': 'done', 'result': 'none'})",
            "no frame",
        ),
    ];
    for (line, expected) in cases {
        let text = format!(
            "def process_batch(head, bodies):\n    {line}\n    import time\n    time.sleep(100)"
        );
        let given = given(&text);
        let error = given.fails().await;
        let FunctionError::Protocol { problem, .. } = &error else {
            panic!("{line}: {error}");
        };
        assert!(problem.contains(expected), "{line}: {problem}");
        given.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_result_above_the_memory_limit_is_refused() {
    let given = given(
        "
def process_batch(head, bodies):
    for _ in range(100_000):
        send({'type': 'rows'}, bodies[0])
    return bodies
",
    );
    let mut child = given.start().await.unwrap();
    let ids: Vec<i64> = (0..20_000).collect();
    let error = call(&mut child, vec![rows(&ids)]).await.unwrap_err();
    assert!(
        matches!(error, FunctionError::ResultTooLarge { .. }),
        "{error}"
    );
}
