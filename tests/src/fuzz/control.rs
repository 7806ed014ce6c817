//! Messages of a controller to a worker: a worker must tolerate one that is broken, or of another
//! version.
//!
//! Input: messages as prost writes them, each after its length; they are sent to a worker's
//! registry of its tasks.
//! Rule: a refused message changes nothing; an accepted one is remembered as it was sent, and
//! repeated in the next Hello.

use prost::Message as _;
use std::collections::BTreeMap;
use streamctl_controller::service::workers::read_hello;
use streamctl_engine::security::Policy;
use streamctl_proto::v1::controller_message::Message;
use streamctl_proto::{Clamp, JobName, ResolvedJob, TaskId, convert, v1};
use streamctl_worker::registry::{JobIdentity, Registry};
use streamctl_worker::session::read_start;

/// Most messages of one input.
const MESSAGES_MAX: usize = 64;

pub fn control(mut data: &[u8]) {
    let registry = Registry::default();
    let mut tasks = BTreeMap::new();
    for _ in 0..MESSAGES_MAX {
        let Ok(message) = v1::ControllerMessage::decode_length_delimited(&mut data) else {
            break;
        };
        let Some(message) = message.message else {
            continue;
        };
        let again = v1::ControllerMessage {
            message: Some(message.clone()),
        }
        .encode_to_vec();
        let again = v1::ControllerMessage::decode(&again[..]).expect("what was written is read");
        assert_eq!(again.message.as_ref(), Some(&message));
        obey(&registry, &mut tasks, message);
    }
    let (hello, _said) = registry.connect("w", "127.0.0.1:1");
    assert_eq!(hello.tasks.len(), tasks.len());
    let reported = read_hello(hello).expect("a worker has a name");
    assert!(
        reported.refused.is_empty() && reported.unknown.is_empty(),
        "a worker says nothing that cannot be read: {reported:?}"
    );
    for running in &reported.tasks {
        assert!(tasks.contains_key(&running.task));
    }
}

fn obey(registry: &Registry, tasks: &mut BTreeMap<TaskId, ResolvedJob>, message: Message) {
    match message {
        Message::StartTask(start) => {
            let Ok((id, job, shards)) = read_start(start) else {
                return;
            };
            for shard in &shards {
                assert!(shard.next_window().is_none() && shard.ended().is_none());
                for arrival_ms in [i64::MIN, -1, 0, 1_795_481_100_000, i64::MAX] {
                    let mut clamp = Clamp::new(job.spec.window, shard.floor());
                    let first = clamp.place(arrival_ms);
                    let second = clamp.place(0);
                    assert!(first <= second, "windows do not go back");
                }
            }
            let base = shards
                .iter()
                .map(|shard| (shard.id.clone(), shard.at.clone()))
                .collect();
            if registry.begin(id, JobIdentity::from(&job), base, None) {
                tasks.insert(id, job);
            }
        }
        Message::WindowOpened(opened) => {
            let (Ok(task), Ok(window)) = (
                convert::task_id(opened.task),
                convert::window(opened.window),
            ) else {
                return;
            };
            let lookups = convert::lookups_from_wire(opened.lookups);
            let unasked = registry.window_opened(task, window, &lookups);
            assert!(!unasked, "a window that nobody asked for was opened");
            registry.ask_window(task, window);
            assert_eq!(
                registry.window_opened(task, window, &lookups),
                tasks.contains_key(&task)
            );
        }
        Message::CancelTask(cancel) => {
            let Ok(task) = convert::task_id(cancel.task) else {
                return;
            };
            registry.forget(task);
            tasks.remove(&task);
        }
        Message::EpochCommitted(committed) => {
            let (Ok(job), Ok(window)) = (
                JobName::try_from(committed.job),
                convert::window(committed.window),
            ) else {
                return;
            };
            registry.committed(&job, window);
        }
        Message::Access(access) => drop(Policy::from_wire(access)),
        Message::Welcome(_)
        | Message::ReleaseTask(_)
        | Message::DrainTask(_)
        | Message::Part(_) => {}
    }
}
