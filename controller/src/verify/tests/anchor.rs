//! Verification of a job whose history begins at an anchor.

use super::*;
use streamctl_core::stored::{Anchors, Waypoint};

impl Scene {
    /// The store holds this anchor.
    async fn anchor(&self, head: ManifestRef) {
        let anchor = Some(Waypoint { head, at_ms: 5 });
        let anchors = Anchors {
            anchor,
            ..Anchors::of(self.job.submitted_ms)
        };
        let term = self.leadership.term;
        let name = &self.job.spec.name;
        let written = self.store.set_anchors(term, name, &anchors).await;
        assert_eq!(written.unwrap(), crate::store::WriteOutcome::Written);
    }

    /// History before an epoch is removed, by the code that removes it.
    async fn cut(&self, first: usize) {
        let (_, head) = self.epochs[first - 1].encode();
        self.anchor(head.clone()).await;
        crate::trim::trim(&self.storages(), &self.job, &head, 1_000)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_job_is_proven_from_its_anchor_on_and_the_summary_names_it() {
    let mut scene = Scene::new(3).await;
    scene.change().await;
    for _ in 0..4 {
        scene.commit().await;
        scene.publish().await;
    }
    let (found, whole) = scene.verify().await;
    assert_eq!((found, whole.anchor, whole.epochs), (vec![], 0, 7));
    scene.cut(5).await;
    let (found, summary) = scene.verify().await;
    assert_eq!(found, []);
    assert_eq!((summary.from, summary.to, summary.epochs), (5, 7, 3));
    assert_eq!((summary.anchor, summary.anchor_ms), (5, 5));
    assert!(summary.listed);
    // Of epochs 4: the folder of the first three is that of a version that is not kept.
    assert_eq!(summary.objects_before_anchor, 1);
}

#[tokio::test]
async fn what_is_kept_is_proven_as_before() {
    let scene = Scene::new(6).await;
    scene.cut(3).await;
    scene.storage.delete(&scene.location(4));
    let stray = format!("{}9.json", scene.location(5).trim_end_matches("0.json"));
    scene.storage.put(&stray, TEXT);
    scene.storage.delete(&scene.manifest_location(5));
    let (found, _) = scene.verify().await;
    assert!(found.contains(&(Kind::ObjectMissing, 4, scene.location(4))));
    assert!(
        found
            .iter()
            .any(|(kind, epoch, _)| (*kind, *epoch) == (Kind::ManifestMissing, 5))
    );
}

#[tokio::test]
async fn a_stray_of_a_kept_window_is_found_and_one_of_an_earlier_window_is_counted() {
    let scene = Scene::new(6).await;
    scene.cut(3).await;
    let other = |epoch| format!("{}9.json", scene.location(epoch).trim_end_matches("0.json"));
    scene.storage.put(&other(3), TEXT);
    scene.storage.put(&other(2), TEXT);
    let (found, summary) = scene.verify().await;
    assert_eq!(found, [(Kind::ObjectStray, 0, other(3))]);
    assert_eq!(summary.objects_before_anchor, 3);
}

#[tokio::test]
async fn an_anchor_that_is_not_in_the_chain_is_a_fault() {
    let scene = Scene::new(4).await;
    let (_, mut other) = scene.epochs[1].encode();
    other.digest = "0".repeat(64);
    scene.anchor(other.clone()).await;
    let (found, _) = scene.verify().await;
    assert_eq!(found, [(Kind::Anchor, 2, other.name)]);
}

#[tokio::test]
async fn epochs_before_the_anchor_are_refused_and_a_part_after_it_needs_no_anchor() {
    let scene = Scene::new(6).await;
    scene.cut(4).await;
    let request = |from, to| v1::VerifyRequest {
        job: "sales".into(),
        from,
        to,
        ..Default::default()
    };
    let refused = scene.verifier().verify(&request(3, 5)).await.unwrap_err();
    assert!(
        refused
            .message()
            .contains("epoch 3 of job sales is not kept any more"),
        "{refused}"
    );
    assert!(
        refused.message().contains("epochs 4 to 6 are kept"),
        "{refused}"
    );
    let (found, summary) = scene.run_verify(request(5, 6)).await;
    assert_eq!((found.len(), summary.epochs), (0, 2));
}

#[tokio::test]
async fn a_cut_during_a_verification_is_no_fault() {
    let mut scene = Scene::new(3).await;
    scene.change().await;
    for _ in 0..4 {
        scene.commit().await;
        scene.publish().await;
    }
    let request = v1::VerifyRequest {
        job: "sales".into(),
        ..Default::default()
    };
    let events = scene.verifier().verify(&request).await.unwrap();
    scene.cut(6).await;
    let (found, summary) = all(events).await;
    assert_eq!(found, []);
    assert_eq!((summary.from, summary.epochs, summary.anchor), (6, 2, 6));
}

#[tokio::test]
async fn manifests_that_were_never_committed_are_not_taken_for_the_committed_ones() {
    let scene = Scene::new(6).await;
    let checkpoints = Checkpoints::of(&scene.storages(), &scene.job);
    for epoch in [2, 4] {
        let stray = Manifest {
            created_ms: 9,
            ..scene.epochs[epoch].clone()
        };
        checkpoints.write_manifest(&stray).await.unwrap();
    }
    // Only the stray of epoch 5 is left: what is read ahead is not what was committed.
    scene.storage.delete(&scene.manifest_location(5));
    let (found, _) = scene.verify().await;
    let kinds: Vec<_> = found
        .iter()
        .map(|(kind, epoch, _)| (*kind, *epoch))
        .collect();
    assert!(kinds.contains(&(Kind::ManifestMissing, 5)), "{kinds:?}");
}
