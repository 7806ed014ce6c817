//! One verification, from the head back to the first epoch requested.
//!
//! Owns: the walk, and how it continues at a break. Does not own: any check (`chain`, `objects`,
//! `strays`).
//! Rule: each manifest is read once, and is trusted only as far as its successor, or the store,
//! proves it.

use super::ahead::Ahead;
use super::chain::Chain;
use super::finding::{Finding, Kind};
use super::objects::Objects;
use super::reporter::Reporter;
use super::strays::{self, Names};
use super::tables::{self, InTable};
use super::totals::Totals;
use super::versions::Versions;
use super::{Scope, Verifier};
use crate::checkpoints::{CheckpointError, Checkpoints};
use crate::load::after_head;
use crate::restored::{Standing, epoch_of};
use crate::sink::{Committer, Listing, committer};
use crate::store::StoredJob;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::storage::StorageError;
use streamctl_proto::manifest::{EpochRepair, ManifestError, objects_after};
use streamctl_proto::verify::{Comparison, EpochOutcome};
use streamctl_proto::{
    Epoch, Manifest, ManifestRef, ResolvedJob, StagedObject, count, describe, v1,
};
use tokio::sync::mpsc;
use tonic::Status;

/// Attempts to read a manifest while its storage does not answer.
const READ_TRIES_MAX: u32 = 4;
/// Wait between two attempts, times the number of the attempt.
const READ_WAIT: Duration = Duration::from_millis(500);

pub(super) struct Run<'v> {
    verifier: &'v Verifier,
    stored: &'v StoredJob,
    scope: Scope,
    checkpoints: Checkpoints,
    chain: Chain<'v>,
    committer: Arc<dyn Committer>,
    objects: Objects,
    names: Names,
    versions: Versions,
    reporter: Reporter,
    /// Repairs of epochs that the walk has not reached yet, oldest first.
    repairs: BTreeMap<u64, Vec<EpochRepair>>,
    /// Of a table.
    listing: Option<Listing>,
    /// Of a table: the rows that it must hold.
    totals: Totals,
    /// A manifest could not be read, so what it names is not known.
    incomplete: bool,
    /// The start of the earliest window that was checked.
    oldest_ms: Option<i64>,
    /// Why it is not known whether epochs after the head were committed.
    unknown_after_head: Option<String>,
    summary: v1::VerifySummary,
}

impl<'v> Run<'v> {
    pub fn new(
        verifier: &'v Verifier,
        stored: &'v StoredJob,
        scope: Scope,
        sender: mpsc::Sender<Result<v1::VerifyEvent, Status>>,
    ) -> Self {
        let summary = v1::VerifySummary {
            job: stored.job.spec.name.to_string(),
            from: scope.from,
            to: scope.to,
            anchor: stored.anchors.anchor().map_or(0, |anchor| anchor.epoch.0),
            anchor_ms: stored
                .anchors
                .anchor
                .as_ref()
                .map_or(0, |anchor| anchor.at_ms),
            ..Default::default()
        };
        let committer = committer(&verifier.storages, &stored.job);
        Self {
            verifier,
            stored,
            checkpoints: Checkpoints::of(&verifier.storages, &stored.job),
            chain: Chain::new(&stored.job),
            objects: Objects::new(Arc::clone(&committer), stored.published.0, scope.deep),
            committer,
            names: Names::default(),
            versions: Versions::new(&stored.job),
            reporter: Reporter::new(sender),
            scope,
            repairs: BTreeMap::new(),
            listing: None,
            totals: Totals::default(),
            incomplete: false,
            oldest_ms: None,
            unknown_after_head: None,
            summary,
        }
    }

    /// Runs all checks and reports the findings.
    pub async fn run(mut self) {
        if self.scope.is_whole(self.stored) {
            self.look_after_head().await;
        }
        self.read_listing().await;
        self.walk().await;
        let found = self.objects.inspect_all().await;
        self.reporter.find(found).await;
        self.compare_totals().await;
        if self.scope.is_whole(self.stored) {
            self.compare_listing().await;
        }
        let seen = &self.chain.seen;
        let summary = v1::VerifySummary {
            epochs: seen.epochs,
            ranges: seen.ranges,
            shards: seen.shards.len() as u64,
            counts: Some((&seen.counts).into()),
            objects: self.objects.seen,
            bytes: self.objects.bytes,
            objects_read: self.objects.read,
            ..self.summary
        };
        self.reporter.conclude(summary).await;
    }

    /// A head that is older than what was committed proves less than what is visible.
    async fn look_after_head(&mut self) {
        let head = self.stored.head.as_ref();
        let after = match after_head(&*self.committer, &self.checkpoints, head).await {
            Ok(Some(after)) if after.standing != Standing::Current => after,
            Ok(_) => return,
            Err(error) => {
                self.unknown_after_head = Some(describe(&error));
                return;
            }
        };
        // The job may have moved on since its head was read.
        let now = self
            .verifier
            .stored(&self.stored.job.spec.name)
            .await
            .ok()
            .and_then(|stored| stored.head);
        if epoch_of(now.as_ref()) > epoch_of(head) {
            return;
        }
        self.incomplete = true;
        let stands = epoch_of(head);
        let up_to = after.up_to;
        let text = format!(
            "the store's head is epoch {stands}, and epochs up to {up_to} were committed: it was \
             restored from an older copy"
        );
        self.reporter
            .find([Finding::new(Kind::StoreOlder, up_to.0, "", text)])
            .await;
    }

    /// Of a table: what its readers are led to.
    async fn read_listing(&mut self) {
        match self.committer.listing().await {
            Ok(None) => {}
            Ok(Some(mut listing)) => {
                // A person may have removed what the table states of this.
                listing.through = listing.through.max(self.stored.published.0);
                let found = tables::of_table(&listing, self.scope.from..=self.scope.to);
                self.reporter.find(found).await;
                self.listing = Some(listing);
            }
            Err(error) => {
                let text = format!("the table was not compared: {}", describe(&error));
                let place = self.stored.job.spec.sink.place();
                let finding = Finding::new(Kind::NotChecked, 0, &place, text);
                self.reporter.find([finding]).await;
            }
        }
    }

    /// From the head to the first epoch requested, and one more for its step; never past the
    /// anchor, before which manifests may be gone.
    async fn walk(&mut self) {
        let first = self.stored.anchors.first_kept().0;
        let below = self.scope.from.saturating_sub(1).max(first);
        let last = self.stored.head.as_ref().map_or(0, |head| head.epoch.0);
        let mut ahead = Ahead::new(&self.checkpoints, below..=last).await;
        let mut next = self.stored.head.clone();
        while let Some(reference) = next {
            let epoch = reference.epoch.0;
            if self.reached_anchor(&reference).await {
                return;
            }
            let manifest = match read(&mut ahead, &reference).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    if self.was_cut(epoch).await {
                        return self.stop_at_cut(epoch);
                    }
                    let in_scope = epoch >= self.scope.from;
                    self.reporter.find([unreadable(&reference, &error)]).await;
                    self.chain.break_off();
                    self.incomplete = true;
                    next = if in_scope && epoch > first {
                        self.around(epoch).await
                    } else {
                        None
                    };
                    continue;
                }
            };
            if epoch < self.scope.from {
                let found = self.chain.neighbour(&manifest);
                self.reporter.find(found).await;
                return;
            }
            next = manifest
                .previous
                .clone()
                .filter(|previous| previous.epoch.0 < epoch);
            if let Some(repair) = manifest.repair.as_deref() {
                self.repairs
                    .entry(repair.epoch.0)
                    .or_default()
                    .insert(0, repair.clone());
            }
            if epoch <= self.scope.to {
                self.take(manifest).await;
            }
        }
        let found = self.chain.begin();
        // The chain ends where no manifest names another one: at epoch 1, or too early, which
        // `alone` has reported.
        self.reporter.find(found).await;
    }

    /// Whether the walk is past the anchor: what lies before is not checked. The anchor's manifest is
    /// an epoch like any other; the step to it has no predecessor.
    async fn reached_anchor(&mut self, reference: &ManifestRef) -> bool {
        let Some(anchor) = self.stored.anchors.anchor() else {
            return false;
        };
        if reference.epoch == anchor.epoch && reference != anchor {
            let text = format!(
                "the store's anchor is {}, and the epochs after it lead to {}",
                anchor.digest, reference.digest
            );
            let finding = Finding::new(Kind::Anchor, anchor.epoch.0, &anchor.name, text);
            self.reporter.find([finding]).await;
        }
        let is_past = reference.epoch < anchor.epoch;
        if is_past {
            self.chain.break_off();
        }
        is_past
    }

    /// Whether the anchor moved past this epoch since the verification began.
    async fn was_cut(&self, epoch: u64) -> bool {
        let now = self.verifier.stored(&self.stored.job.spec.name).await;
        now.is_ok_and(|now| epoch < now.anchors.first_kept().0)
    }

    /// What is kept begins after this epoch now.
    fn stop_at_cut(&mut self, epoch: u64) {
        self.chain.break_off();
        self.summary.from = self.summary.from.max(epoch + 1);
        self.summary.anchor = epoch + 1;
    }

    /// Checks one requested manifest.
    async fn take(&mut self, manifest: Manifest) {
        let epoch = manifest.epoch.0;
        let of = self.scope.to + 1 - self.scope.from;
        let epochs = self.scope.to - epoch + 1;
        let objects = self.objects.seen;
        let doing = format!("epoch {epoch}");
        self.reporter
            .progress(|| v1::VerifyProgress {
                epochs,
                of,
                objects,
                doing,
            })
            .await;
        let repairs = self.repairs.remove(&epoch).unwrap_or_default();
        let found = repairs.iter().map(repaired).collect::<Vec<_>>();
        self.reporter.find(found).await;
        self.totals.begin(&manifest);
        for object in &objects_after(&manifest, &repairs) {
            if !self.names.add(object.staged.key()) {
                let text = "two manifests name it, or one does twice";
                self.reporter
                    .find([Finding::new(
                        Kind::ObjectTwice,
                        epoch,
                        object.staged.key(),
                        text,
                    )])
                    .await;
            }
            if let Some(listing) = &self.listing {
                self.totals.take(listing, epoch, &object.staged);
            }
            let listing = self
                .listing
                .as_ref()
                .filter(|_| epoch <= self.stored.published.0);
            let looked = listing.map(|listing| tables::of_object(listing, epoch, &object.staged));
            match looked {
                None => self.objects.add(epoch, object.staged.clone()),
                Some(InTable::Rewritten) => {}
                Some(InTable::Found(found)) => {
                    self.reporter.find(found).await;
                    self.objects.add(epoch, object.staged.clone());
                }
            }
        }
        let (made_by, wrong) = self.versions.of(&self.checkpoints, &manifest).await;
        if wrong.is_some() && !self.was_cut(epoch).await {
            self.reporter.find(wrong).await;
        }
        self.oldest_ms = Some(manifest.window.start_ms);
        if self.scope.replay.contains(&epoch) {
            self.replay(&manifest, &repairs, made_by.as_deref()).await;
        }
        let found = self.chain.take(manifest, made_by.as_deref());
        self.reporter.find(found).await;
        if self.objects.is_full() {
            let found = self.objects.inspect_all().await;
            self.reporter.find(found).await;
        }
    }

    /// An unreadable manifest names no other: the previous one is found by its name. It is not
    /// proven, but it can be checked. If there are several, it is unknown which of them was
    /// committed.
    async fn around(&mut self, epoch: u64) -> Option<ManifestRef> {
        let before = Epoch(epoch - 1);
        let candidates = self.checkpoints.candidates(before).await;
        let text = match candidates.as_deref() {
            Ok([reference]) => return Some(reference.clone()),
            Ok([]) => format!(
                "epochs 1 to {before} were not checked: no manifest of epoch {before} is there"
            ),
            Ok(several) => format!(
                "epochs 1 to {before} were not checked: {} manifests of epoch {before} are there, and the one that \
                 says which of them was committed cannot be read",
                several.len()
            ),
            Err(error) => format!("epochs 1 to {before} were not checked: {}", describe(error)),
        };
        self.reporter
            .find([Finding::new(Kind::NotChecked, before.0, "", text)])
            .await;
        None
    }

    /// Compares an epoch with its records.
    async fn replay(
        &mut self,
        manifest: &Manifest,
        repairs: &[EpochRepair],
        made_by: Option<&ResolvedJob>,
    ) {
        let epoch = manifest.epoch.0;
        let doing = format!("reading epoch {epoch} from the source again");
        let of = self.scope.to + 1 - self.scope.from;
        let objects = self.objects.seen;
        let epochs = self.scope.to - epoch + 1;
        self.reporter
            .progress(|| v1::VerifyProgress {
                epochs,
                of,
                objects,
                doing,
            })
            .await;
        if epoch > self.stored.published.0 {
            let text = "it was not replayed: it is committed and not published yet";
            self.reporter
                .find([Finding::new(Kind::NotChecked, epoch, "", text)])
                .await;
            return;
        }
        if repairs.iter().any(|repair| repair.rows_given_up > 0) {
            let text = "it was not replayed: some of its rows were given up";
            self.reporter
                .find([Finding::new(Kind::NotChecked, epoch, "", text)])
                .await;
            return;
        }
        let Some(made_by) = made_by else {
            let text = "it was not replayed: the version of the job that made it cannot be read";
            self.reporter
                .find([Finding::new(Kind::NotChecked, epoch, "", text)])
                .await;
            return;
        };
        let outcome = self
            .verifier
            .replayer
            .replay(made_by, manifest, repairs)
            .await;
        if let EpochOutcome::Compared {
            rows, dead_letters, ..
        } = &outcome
        {
            self.summary.replayed += 1;
            self.summary.rows_replayed += rows.replayed + dead_letters.replayed;
        }
        self.reporter.find(replayed(manifest, outcome)).await;
    }

    /// The rows of a table and of the epochs that are in it.
    async fn compare_totals(&mut self) {
        let Some(listing) = &self.listing else {
            return;
        };
        let head = self.stored.head.as_ref().map_or(0, |head| head.epoch.0);
        let is_whole = self.scope.is_whole(self.stored) && !self.incomplete;
        if is_whole && listing.through > head {
            // Epochs that were published meanwhile.
            match self.committed_meanwhile().await {
                Ok(objects) => {
                    for (epoch, staged) in &objects {
                        self.totals.take(listing, *epoch, staged);
                    }
                }
                Err(text) => {
                    let finding = Finding::new(Kind::NotChecked, 0, "", text);
                    return self.reporter.find([finding]).await;
                }
            }
        }
        let found = match is_whole {
            true => self.totals.compared(listing),
            false => self.totals.not_compared(),
        };
        self.reporter.find(found).await;
    }

    /// Objects that are visible but in no manifest.
    async fn compare_listing(&mut self) {
        let unchecked = |text: &str| Finding::new(Kind::NotChecked, 0, "", text);
        if self.incomplete || !self.versions.are_whole() {
            let text = "what is visible was not compared with what is committed: not all manifests, or not all versions of \
                        the job, can be read";
            return self.reporter.find([unchecked(text)]).await;
        }
        if self.names.too_many() {
            let text = format!(
                "what is visible was not compared: there are more than {} objects",
                strays::NAMES_MAX
            );
            return self.reporter.find([unchecked(&text)]).await;
        }
        let of = self.summary.to;
        let objects = self.objects.seen;
        let doing = "listing what is visible".to_owned();
        self.reporter
            .progress(|| v1::VerifyProgress {
                epochs: of,
                of,
                objects,
                doing,
            })
            .await;
        let job = &self.stored.job.spec.name;
        let folders = strays::folders(self.versions.specs());
        let named = strays::Named {
            job,
            names: &self.names,
            since_ms: self.oldest_ms.filter(|_| self.summary.anchor > 0),
        };
        let mut listed = match strays::list(&*self.committer, &folders, &named).await {
            Ok(listed) => listed,
            Err(finding) => return self.reporter.find([finding]).await,
        };
        self.summary.foreign_objects = listed.foreign;
        self.summary.objects_before_anchor = listed.before;
        self.summary.listed = true;
        if listed.has_strays() {
            // An object that became visible meanwhile was committed before: the current head knows
            // it.
            match self.committed_meanwhile().await {
                Ok(objects) => {
                    let locations = objects.iter().map(|(_, staged)| staged.key());
                    listed.remove(locations);
                }
                Err(text) => {
                    self.summary.listed = false;
                    return self.reporter.find([unchecked(&text)]).await;
                }
            }
        }
        if let Some(reason) = self
            .unknown_after_head
            .take()
            .filter(|_| listed.has_strays())
        {
            self.summary.listed = false;
            let text = format!(
                "what is visible was not compared: manifests after the head cannot be read: \
                 {reason}"
            );
            return self.reporter.find([unchecked(&text)]).await;
        }
        self.reporter.find(strays::findings(&listed)).await;
    }

    /// Objects of the epochs that were committed since the verification began.
    async fn committed_meanwhile(&self) -> Result<Vec<(u64, StagedObject)>, String> {
        let now = self.verifier.stored(&self.stored.job.spec.name).await;
        let now = now.map_err(|status| status.message().to_owned())?;
        let Some(head) = now.head else {
            return Ok(vec![]);
        };
        let down_to = self
            .stored
            .head
            .as_ref()
            .map_or(Epoch(0), |head| head.epoch);
        let manifests = self
            .checkpoints
            .read_back(&head, down_to)
            .await
            .map_err(|error| describe(&error))?;
        let objects = manifests.into_iter().flat_map(|manifest| {
            let epoch = manifest.epoch.0;
            let own = manifest.objects.into_iter();
            let own = own.map(move |object| (epoch, object.staged));
            let repaired = manifest.repair.into_iter().flat_map(|repair| {
                let epoch = repair.epoch.0;
                let objects = repair.objects.into_iter();
                objects.map(move |object| (epoch, object.staged))
            });
            own.chain(repaired)
        });
        Ok(objects.collect())
    }
}

/// If the storage does not answer, the read is retried a few times.
async fn read(ahead: &mut Ahead, reference: &ManifestRef) -> Result<Manifest, CheckpointError> {
    for tried in 1..READ_TRIES_MAX {
        match ahead.read(reference).await {
            Err(error) if error.is_transient() => tokio::time::sleep(READ_WAIT * tried).await,
            done => return done,
        }
    }
    ahead.read(reference).await
}

/// What a repair means for the verification.
fn repaired(repair: &EpochRepair) -> Finding {
    let lost = count(repair.lost.len() as u64, "object");
    let by = if repair.by.is_empty() {
        String::new()
    } else {
        format!(" by {}", repair.by)
    };
    match repair.rows_given_up {
        0 => Finding::new(
            Kind::EpochRepaired,
            repair.epoch.0,
            "",
            format!("{lost} that it had lost were computed again{by}"),
        ),
        rows => {
            let text = format!(
                "{lost} that it had lost were given up{by}, with {}",
                count(rows, "row")
            );
            Finding::new(Kind::EpochSkipped, repair.epoch.0, "", text)
        }
    }
}

/// Why a manifest is not as required.
fn unreadable(reference: &ManifestRef, error: &CheckpointError) -> Finding {
    let kind = match error {
        CheckpointError::Storage(StorageError::NotFound { .. }) => Kind::ManifestMissing,
        CheckpointError::Manifest {
            source: ManifestError::Version(_),
            ..
        } => Kind::NotChecked,
        CheckpointError::Manifest { .. } | CheckpointError::Broken { .. } => Kind::ManifestChanged,
        CheckpointError::Storage(_)
        | CheckpointError::Differs { .. }
        | CheckpointError::TooLarge { .. }
        | CheckpointError::Version { .. }
        | CheckpointError::NoVersion { .. } => Kind::NotChecked,
    };
    Finding::new(kind, reference.epoch.0, &reference.name, describe(error))
}

/// What a replay means for the verification.
fn replayed(manifest: &Manifest, outcome: EpochOutcome) -> Vec<Finding> {
    let epoch = manifest.epoch.0;
    let (rows, dead_letters, ranges) = match outcome {
        EpochOutcome::Compared {
            rows,
            dead_letters,
            ranges,
        } => (rows, dead_letters, ranges),
        EpochOutcome::Gone { reason } => {
            return vec![Finding::new(Kind::ReplayGone, epoch, "", reason)];
        }
        EpochOutcome::Failed { reason, hint } => {
            let text = if hint.is_empty() {
                reason
            } else {
                format!("{reason} ({hint})")
            };
            return vec![Finding::new(
                Kind::NotChecked,
                epoch,
                "",
                format!("it was not replayed: {text}"),
            )];
        }
    };
    let counts = &manifest.counts;
    let mut found: Vec<Finding> = ranges
        .into_iter()
        .map(|text| Finding::new(Kind::ReplayRecords, epoch, "", text))
        .collect();
    let rows_out = counts.rows_out.saturating_add(counts.rows_rejected);
    found.extend(differences(
        Kind::ReplayRows,
        epoch,
        "rows",
        &rows,
        rows_out,
    ));
    found.extend(differences(
        Kind::ReplayDeadLetters,
        epoch,
        "dead letters",
        &dead_letters,
        counts.rows_dead,
    ));
    found
}

fn differences(
    kind: Kind,
    epoch: u64,
    what: &str,
    compared: &Comparison,
    counted: u64,
) -> Option<Finding> {
    let Comparison {
        replayed,
        stored,
        only_replayed,
        only_stored,
        at_least,
        ..
    } = compared;
    if compared.equal() && *stored == counted {
        return None;
    }
    let least = if *at_least { "at least " } else { "" };
    let mut text = format!(
        "its records give {replayed} {what}, its objects hold {stored}, its manifest counts {counted}; \
         {least}{only_replayed} come out of the records only, {least}{only_stored} are in the objects only"
    );
    for (place, samples) in [
        ("records", &compared.samples_replayed),
        ("objects", &compared.samples_stored),
    ] {
        for sample in samples {
            text.push_str(&format!("\n  only in the {place}: {sample}"));
        }
    }
    Some(Finding::new(kind, epoch, "", text))
}
