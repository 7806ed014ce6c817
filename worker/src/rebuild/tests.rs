//! Lost objects of one window, computed again from its ranges.

use super::*;
use crate::replay::tests::manifest;
use crate::task::tests::{Bed, job, reports, shard, sink};
use streamctl_proto::Report;
use streamctl_proto::spec::{FilesSink, PartitionColumn};
use streamctl_proto::verify::RebuildOrder;
use tokio::runtime::Handle;

const NEW: TaskId = TaskId {
    term: streamctl_proto::Term(9),
    counter: 1,
};

/// A window with rows of three keys, and a record that is not JSON.
async fn lost_window() -> (Bed, Report) {
    let mut of = job("SELECT id, k FROM source");
    of.spec.sink = FilesSink {
        partition_by: vec![PartitionColumn::Column("k".into())],
        ..sink()
    }
    .into();
    let mut bed = Bed::new(of);
    bed.push("a", 0, &[10, 20, 30, 40, 50]);
    bed.source.push(&shard("a"), 60, "this is not JSON");
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert!(report.objects.len() >= 2, "{:?}", report.objects);
    (bed, report)
}

async fn rebuilt(bed: &Bed, report: &Report, lost: &[&StagedObject]) -> RebuildOutcome {
    let objects: Vec<_> = report
        .objects
        .iter()
        .cloned()
        .map(|staged| ManifestObject {
            task: report.task,
            staged,
        })
        .collect();
    let order = RebuildOrder {
        job: report.job.clone(),
        epoch: 1,
        task: NEW,
        lost: lost.iter().map(|object| object.location.clone()).collect(),
        repairs: vec![],
    };
    let manifest = manifest(report);
    rebuild_epoch(
        bed.context(),
        &Handle::current().into(),
        manifest,
        objects,
        order,
    )
    .await
}

async fn content(bed: &Bed, object: &StagedObject) -> bytes::Bytes {
    let storages = bed.storages();
    let storage = storages.for_location(&object.location);
    storage.publish(object).await.unwrap();
    storage.get(&object.location, u64::MAX).await.unwrap()
}

#[tokio::test]
async fn what_was_lost_is_staged_again_under_the_names_of_another_task() {
    let (bed, report) = lost_window().await;
    let all: Vec<_> = report.objects.iter().collect();
    let RebuildOutcome::Rebuilt { objects } = rebuilt(&bed, &report, &all).await else {
        panic!("not rebuilt")
    };
    assert_eq!(objects.len(), report.objects.len());
    for object in &objects {
        assert!(
            object.location.contains(&format!("-{NEW}-")),
            "{}",
            object.location
        );
        let before = report.objects.iter().find(|before| {
            before.location.replace(&report.task.to_string(), "")
                == object.location.replace(&NEW.to_string(), "")
        });
        let before = before.expect("it has its folder");
        assert_eq!((object.rows, object.kind), (before.rows, before.kind));
    }
}

#[tokio::test]
async fn only_the_folders_that_were_lost_are_staged_again() {
    let (bed, report) = lost_window().await;
    let lost = report
        .objects
        .iter()
        .find(|object| object.kind == ObjectKind::Data)
        .unwrap();
    let outcome = rebuilt(&bed, &report, &[lost]).await;
    let RebuildOutcome::Rebuilt { objects } = outcome else {
        panic!("{outcome:?}")
    };
    let [object] = &objects[..] else {
        panic!("{objects:?}")
    };
    assert_eq!(object.rows, lost.rows);
    assert_eq!(content(&bed, object).await, content(&bed, lost).await);
    let dead = report
        .objects
        .iter()
        .find(|object| object.kind == ObjectKind::DeadLetter)
        .unwrap();
    let outcome = rebuilt(&bed, &report, &[dead]).await;
    let RebuildOutcome::Rebuilt { objects } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (objects.len(), objects[0].kind, objects[0].rows),
        (1, ObjectKind::DeadLetter, 1)
    );
}

#[tokio::test]
async fn a_folder_that_is_lost_in_part_is_refused_and_leaves_nothing() {
    let (bed, mut report) = lost_window().await;
    let first = report
        .objects
        .iter()
        .find(|object| object.kind == ObjectKind::Data)
        .unwrap()
        .clone();
    let mut second = first.clone();
    second.location = first.location.replace("-0000.", "-0001.");
    report.objects.push(second);
    let staged = bed.storage.staged_locations().len();
    let outcome = rebuilt(&bed, &report, &[&first]).await;
    assert!(
        matches!(&outcome, RebuildOutcome::Failed { reason } if reason.contains("told apart")),
        "{outcome:?}"
    );
    let mut fewer = report.clone();
    fewer.objects.pop();
    let lost = fewer
        .objects
        .iter_mut()
        .find(|object| object.location == first.location)
        .unwrap();
    lost.rows += 1;
    let lost = lost.clone();
    let outcome = rebuilt(&bed, &fewer, &[&lost]).await;
    assert!(
        matches!(&outcome, RebuildOutcome::Failed { reason } if reason.contains("in place of")),
        "{outcome:?}"
    );
    assert_eq!(
        bed.storage.staged_locations().len(),
        staged,
        "nothing is left behind"
    );
}
