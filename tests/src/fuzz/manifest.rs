//! Manifests, as stored in a checkpoint location.
//!
//! Input: the stored bytes.
//! Rule: a manifest that is read is written again unchanged, and a leader that loads it does not
//! crash.

use streamctl_controller::store::contract;
use streamctl_core::job::EpochFigures;
use streamctl_core::status::summary_of;
use streamctl_core::stored::DesiredState;
use streamctl_core::{Core, CoreSettings, Event, LoadedJob};
use streamctl_proto::manifest::sha256_hex;
use streamctl_proto::{Epoch, Manifest, ManifestRef, Term};

pub fn manifest(data: &[u8]) {
    let reference = ManifestRef {
        epoch: Epoch(1),
        name: "m".into(),
        digest: sha256_hex(data),
    };
    let Ok(manifest) = Manifest::decode(data, &reference) else {
        return;
    };
    let (bytes, own) = manifest.encode();
    assert_eq!(
        Manifest::decode(&bytes, &own).expect("what was written is read"),
        manifest
    );
    assert_eq!(own.digest, sha256_hex(&bytes));
    assert!(
        own.name.starts_with(&format!("{}/epochs/", manifest.job)) && own.name.ends_with(".json")
    );
    assert!(Manifest::decode(&bytes, &reference).is_ok() == (own.digest == reference.digest));
    let figures = EpochFigures::of(&manifest, "");
    assert_eq!(figures.objects, manifest.objects.len());
    let _summary = summary_of(&manifest, "name", Epoch(0));
    load(manifest);
}

/// A leader loads it as the head of a job.
fn load(manifest: Manifest) {
    let mut job = contract::job("sales");
    job.spec.name = manifest.job.clone();
    let name = job.spec.name.clone();
    let mut core = Core::new(Term(u64::MAX), 0, CoreSettings::default());
    let published = Epoch(0);
    let unpublished = vec![manifest.clone()];
    let head = Some(Box::new(manifest));
    core.step(
        0,
        Event::loaded(LoadedJob {
            job,
            wanted: DesiredState::Running,
            head,
            unpublished,
            published,
            replays: Default::default(),
            lookups: Default::default(),
            repairs: vec![],
            anchors: Default::default(),
        }),
    );
    for now in [1, 2_000, 4_000] {
        core.step(now, Event::Ticked);
        assert!(core.status(&name, false).is_some());
    }
}
