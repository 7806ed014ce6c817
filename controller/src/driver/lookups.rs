//! The check of a lookup: whether there is a new version, and whether it may be used.
//!
//! Owns: keeping a version in the checkpoint location, the facts about it. Does not own: the
//! decision (`engine::lookup::accept`), what follows (the core).
//! Rule: a version that is used is kept, was read once, and the query was started on it. A refused
//! one is not read again before its files change.

use arrow::array::RecordBatch;
use streamctl_engine::lookup::accept::{Facts, accept};
use streamctl_engine::lookup::{self, rows, trial};
use streamctl_engine::query::{Needs, QueryError, QueryPlan, fit};
use streamctl_engine::resolve::{lookup_columns, plan_of};
use streamctl_engine::storage::Storages;
use streamctl_proto::spec::LookupSpec;
use streamctl_proto::{Duplicates, LookupVersion, ResolvedJob, describe};

/// What the core knows of a lookup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub lookup: &'a str,
    /// The version that windows use.
    pub in_use: Option<&'a LookupVersion>,
    /// Its rows; `None`: this leader has not read it.
    pub rows_in_use: Option<u64>,
    /// The version that was refused last.
    pub refused: Option<&'a LookupVersion>,
}

/// The state of a lookup's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The version in use is the newest.
    Current(LookupVersion),
    /// A version that may be used, and what was read of it.
    Usable {
        version: LookupVersion,
        rows: u64,
        duplicates: Duplicates,
    },
    /// A version that may not be used; `None`: for the reason that is known.
    Refused {
        version: LookupVersion,
        problem: Option<String>,
    },
}

/// Looks at a lookup's files.
///
/// # Errors
/// Why nothing could be found out; it may be another time.
pub(super) async fn check(
    storages: &Storages,
    job: &ResolvedJob,
    known: Known<'_>,
) -> Result<Found, String> {
    let mut specs = job.spec.lookups.iter();
    let spec = specs.find(|spec| spec.name == known.lookup);
    let spec = spec.ok_or("the job has no such lookup")?;
    let listed = lookup::current_version(storages, spec)
        .await
        .map_err(|error| describe(&error))?;
    let is_current = known.in_use == Some(&listed.version);
    if is_current && known.rows_in_use.is_some() {
        return Ok(Found::Current(listed.version));
    }
    if known.refused == Some(&listed.version) && !is_current {
        return Ok(Found::Refused {
            version: listed.version,
            problem: None,
        });
    }
    lookup::keep(
        storages,
        &job.spec.checkpoint,
        &job.spec.name,
        spec,
        &listed,
    )
    .await
    .map_err(|error| describe(&error))?;
    let kept = Kept {
        storages,
        job,
        spec,
    };
    let rows = match kept.rows(&listed.version).await? {
        Ok(rows) => rows,
        Err(problem) => return Ok(refused(job, spec, listed.version, problem)),
    };
    let plan = plan(job).await?;
    let judged = kept.judge(plan.as_ref(), &rows, known).await;
    match judged {
        Ok(duplicates) => Ok(Found::Usable {
            version: listed.version,
            rows: rows.num_rows() as u64,
            duplicates,
        }),
        // Windows use it already: nothing is better than it.
        Err(_) if is_current => Ok(Found::Usable {
            version: listed.version,
            rows: rows.num_rows() as u64,
            duplicates: Duplicates::default(),
        }),
        Err(problem) => Ok(refused(job, spec, listed.version, problem)),
    }
}

fn refused(job: &ResolvedJob, spec: &LookupSpec, version: LookupVersion, problem: String) -> Found {
    tracing::warn!(
        job = %job.spec.name,
        lookup = spec.name,
        %version,
        reason = problem,
        "a new version of a lookup is not used, the one before stays"
    );
    Found::Refused {
        version,
        problem: Some(problem),
    }
}

/// The plan that tasks make; `None`: the job is of an earlier build, whose tasks plan with what they
/// meet.
async fn plan(job: &ResolvedJob) -> Result<Option<QueryPlan>, String> {
    let Some(columns) = lookup_columns(job) else {
        return Ok(None);
    };
    match plan_of(job, columns).await {
        Ok(plan) => Ok(Some(plan)),
        Err(error @ (QueryError::Busy | QueryError::Late { .. })) => Err(error.to_string()),
        // It was planned at submit: the tasks report why it cannot be now.
        Err(_) => Ok(None),
    }
}

/// The kept versions of one lookup.
struct Kept<'a> {
    storages: &'a Storages,
    job: &'a ResolvedJob,
    spec: &'a LookupSpec,
}

impl Kept<'_> {
    /// The rows of a version; inner error: its files are not a table.
    async fn rows(&self, version: &LookupVersion) -> Result<Result<RecordBatch, String>, String> {
        let Self {
            storages,
            job,
            spec,
        } = self;
        let files = lookup::fetch(
            storages,
            &job.spec.checkpoint,
            &job.spec.name,
            &spec.name,
            version,
            spec.size_max,
        )
        .await
        .map_err(|error| describe(&error))?;
        Ok(rows::read(spec, files)
            .await
            .map_err(|error| describe(&error)))
    }

    /// Whether the rows of a new version may be used.
    async fn judge(
        &self,
        plan: Option<&QueryPlan>,
        rows: &RecordBatch,
        known: Known<'_>,
    ) -> Result<Duplicates, String> {
        let name = &self.spec.name;
        let in_use = match (known.in_use, plan, known.rows_in_use) {
            // Only what is not known is read.
            (Some(version), None, _) | (Some(version), Some(_), None) => {
                self.rows(version).await.ok().and_then(Result::ok)
            }
            (Some(_), Some(_), Some(_)) | (None, _, _) => None,
        };
        let needs = match plan {
            Some(plan) => plan.needs(name),
            None => in_use.as_ref().map(all_columns),
        };
        let fit = needs.map_or(Ok(()), |needs| fit(rows, &needs).map(drop));
        let tried = match (plan, &fit) {
            (Some(plan), Ok(())) => trial::run(plan, name, rows).await,
            (Some(_), Err(_)) | (None, _) => Ok(Duplicates::default()),
        };
        let in_use = in_use.map(|rows| rows.num_rows() as u64);
        let facts = Facts {
            rows: rows.num_rows() as u64,
            rows_in_use: known.rows_in_use.or(in_use),
            fit,
            trial: tried.clone().map(drop),
        };
        accept(&facts, self.spec.allow_empty).map_err(|refused| refused.to_string())?;
        tried
    }
}

/// Without a plan each column may be read.
fn all_columns(rows: &RecordBatch) -> Needs {
    let columns = rows.schema();
    let names = columns.fields().iter().map(|field| field.name().clone());
    Needs {
        read: names.collect(),
        columns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_engine::aws::{Aws, AwsSettings};
    use streamctl_engine::resolve::{World, foreign, resolve};
    use streamctl_engine::storage::MemoryStorage;
    use streamctl_proto::JobSpec;
    use streamctl_proto::spec::{FilesSink, Location};

    /// A job whose query reads `id` and `name` of its lookup, and its storage with a good version.
    async fn job() -> (MemoryStorage, Storages, ResolvedJob) {
        let memory = MemoryStorage::default();
        memory.put(
            "memory://in/units/u.csv",
            "id,name,more\n1,one,x\n2,two,y\n2,zwei,y\n",
        );
        let storages = Storages::memory(memory.clone());
        let text = r#"
            name = "p43"
            source = { type = "generator", shards = 1, rate = 200 }
            window = { size = "1s" }
            lookup = [{ name = "units", path = "/in/units/", refresh = "1s" }]
            sink = { path = "/out/" }
            checkpoint = { location = "/checkpoint/" }
            [transform]
            sql = """SELECT s.uuid, u.name FROM source s JOIN units u
                     ON length(s.region) = CAST(u.id AS BIGINT)"""
        "#;
        let mut spec = JobSpec::parse(text).unwrap();
        spec.lookups[0].path = Location::folder("memory://in/units/");
        spec.checkpoint = Location::folder("memory://checkpoint/");
        spec.sink = FilesSink::new(Location::folder("memory://out/")).into();
        let world = World {
            aws: Aws::new(AwsSettings::default()),
            storages: storages.clone(),
            foreign: foreign::ForeignRule::default(),
            function: Default::default(),
        };
        let resolved = resolve(&world, spec, "digest".into(), 0).await;
        let job = resolved.unwrap_or_else(|error| panic!("{error}"));
        (memory, storages, job)
    }

    fn known<'a>(in_use: &'a LookupVersion, rows: u64) -> Known<'a> {
        Known {
            lookup: "units",
            in_use: Some(in_use),
            rows_in_use: Some(rows),
            refused: None,
        }
    }

    async fn first(storages: &Storages, job: &ResolvedJob) -> LookupVersion {
        let none = Known {
            lookup: "units",
            in_use: None,
            rows_in_use: None,
            refused: None,
        };
        let Ok(Found::Usable {
            version,
            rows: 3,
            duplicates,
        }) = check(storages, job, none).await
        else {
            panic!("the first version is good");
        };
        assert_eq!(
            (duplicates.keys, duplicates.rows),
            (1, 2),
            "P21: two rows of id 2"
        );
        assert_eq!(duplicates.examples, ["2"]);
        version
    }

    #[tokio::test]
    async fn p43_bad_uploads_are_refused_with_their_reason_and_good_ones_are_taken() {
        let (memory, storages, job) = job().await;
        let version = first(&storages, &job).await;
        for (upload, reason) in [
            (
                "id;name\n1;one\n",
                "it has no column \"id\", which the query reads",
            ),
            (
                "id,name\n1,one\nn/a,unknown\n",
                "the query cannot run on it: ",
            ),
            ("id,name\n", "it has no rows, and the version in use has 3"),
            ("id,name\n1\n", "line 2: 1 fields, the header has 2"),
            ("", "there is no table in its files"),
        ] {
            memory.put("memory://in/units/u.csv", upload);
            let found = check(&storages, &job, known(&version, 3)).await;
            let Ok(Found::Refused {
                version: bad,
                problem: Some(problem),
            }) = found
            else {
                panic!("{upload:?}: {found:?}");
            };
            assert!(problem.contains(reason), "{upload:?}: {problem}");
            // Not read again before the files change.
            let again = Known {
                refused: Some(&bad),
                ..known(&version, 3)
            };
            let same = Found::Refused {
                version: bad.clone(),
                problem: None,
            };
            assert_eq!(check(&storages, &job, again).await.unwrap(), same);
        }
        // Other order, a column less and one more that nobody reads.
        memory.put("memory://in/units/u.csv", "name,new,id\neins,z,1\n");
        let found = check(&storages, &job, known(&version, 3)).await.unwrap();
        assert!(matches!(found, Found::Usable { rows: 1, .. }), "{found:?}");
    }

    #[tokio::test]
    async fn p43_no_rows_are_taken_where_the_job_allows_it_and_a_new_leader_reads_what_is_in_use() {
        let (memory, storages, mut job) = job().await;
        let version = first(&storages, &job).await;
        memory.put("memory://in/units/u.csv", "id,name\n");
        let new_leader = Known {
            rows_in_use: None,
            ..known(&version, 0)
        };
        let found = check(&storages, &job, new_leader).await.unwrap();
        assert!(
            matches!(&found, Found::Refused { problem: Some(text), .. } if text.contains("has 3")),
            "{found:?}"
        );
        job.spec.lookups[0].allow_empty = true;
        let found = check(&storages, &job, new_leader).await.unwrap();
        assert!(matches!(found, Found::Usable { rows: 0, .. }), "{found:?}");
    }

    #[tokio::test]
    async fn a_job_of_an_earlier_build_keeps_its_version_unless_the_new_one_has_its_columns() {
        let (memory, storages, mut job) = job().await;
        let version = first(&storages, &job).await;
        job.lookup_columns.clear();
        memory.put("memory://in/units/u.csv", "id,name\n1,one\n");
        let found = check(&storages, &job, known(&version, 3)).await.unwrap();
        assert!(
            matches!(&found, Found::Refused { problem: Some(text), .. } if text.contains("\"more\"")),
            "{found:?}"
        );
        memory.put("memory://in/units/u.csv", "more,id,name\n,1,one\n");
        let found = check(&storages, &job, known(&version, 3)).await.unwrap();
        assert!(matches!(found, Found::Usable { rows: 1, .. }), "{found:?}");
    }
}
