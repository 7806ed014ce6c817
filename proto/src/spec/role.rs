//! Roles that the programs assume for one place of a job: a sink, a lookup, a catalog, a function.
//!
//! Owns: the keys `role_arn` and `session_name`, which texts are the ARN of a role, the list of a
//! job's roles. Does not own: the role of a stream (`source`), credentials and who may name a role
//! (the engine).
//! Rule: a role belongs to one place; without one, a place is used with the program's own
//! credentials.

use super::JobSpec;
use super::key::{Absent, Key, Kind, Read};
use super::problem::Part;
use super::raw::{Entry, Table};
use serde::{Deserialize, Serialize};

/// Longest ARN of a role (the service's limit).
const ARN_CHARS_MAX: usize = 2_048;
/// Digits of an account's number.
const ACCOUNT_DIGITS: usize = 12;
/// Length of a session's name (the service's limits).
const SESSION_CHARS: std::ops::RangeInclusive<usize> = 2..=64;
const EXAMPLE: &str = "for example \"arn:aws:iam::123456789012:role/streamctl-writer\"";

/// A role whose credentials are used in place of the program's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AssumedRole {
    pub role_arn: String,
    /// Names the role's session; `None`: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

impl AssumedRole {
    pub fn new(role_arn: &str) -> Self {
        Self {
            role_arn: role_arn.to_owned(),
            session_name: None,
        }
    }

    /// As text: `arn:aws:iam::123456789012:role/writer, session nightly`.
    pub fn describe(&self) -> String {
        match &self.session_name {
            Some(name) => format!("{}, session {name}", self.role_arn),
            None => self.role_arn.clone(),
        }
    }

    /// Keys and values, as a job file could have them.
    pub(crate) fn fields(role: Option<&Self>) -> [(&'static str, String); 2] {
        let arn = role.map(|role| role.role_arn.clone());
        let session = role.and_then(|role| role.session_name.clone());
        [
            (ROLE_ARN.name, arn.unwrap_or_default()),
            (SESSION_NAME.name, session.unwrap_or_default()),
        ]
    }
}

/// A role and the key that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedRole<'a> {
    /// In dots: `sink.role_arn`.
    pub field: &'static str,
    /// Which of several tables of one name.
    pub part: Option<Part>,
    pub role_arn: &'a str,
}

impl JobSpec {
    /// Every role that the job's places name, besides that of a stream, which the catalog may name.
    pub fn roles(&self) -> Vec<NamedRole<'_>> {
        let catalog = match &self.source.schema {
            super::SchemaFrom::Catalog { role, .. } => role.as_ref(),
            super::SchemaFrom::File(_)
            | super::SchemaFrom::Inline(_)
            | super::SchemaFrom::BuiltIn => None,
        };
        let credentials = self.function.as_ref();
        let credentials = credentials.and_then(|function| function.credentials.as_ref());
        let mut found: Vec<_> = [
            named("source.role_arn", self.source.kind.role(), None),
            named("source.catalog.role_arn", catalog, None),
            named("function.credentials", credentials, None),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (index, lookup) in self.lookups.iter().enumerate() {
            let part = Some(Part::Element(index));
            found.extend(named("lookup.role_arn", lookup.role.as_ref(), part));
        }
        let sink = self.sink.roles().into_iter();
        found.extend(sink.filter_map(|(field, role)| named(field, Some(role), None)));
        found
    }
}

fn named<'a>(
    field: &'static str,
    role: Option<&'a AssumedRole>,
    part: Option<Part>,
) -> Option<NamedRole<'a>> {
    let role_arn = role?.role_arn.as_str();
    Some(NamedRole {
        field,
        part,
        role_arn,
    })
}

/// The ARN of a role.
pub(super) struct RoleArn;
/// The name of a role's session.
pub(super) struct SessionName;

pub(super) static ROLE_ARN: Key<RoleArn> = Key {
    name: "role_arn",
    kind: RoleArn,
    absent: Absent::Means("the programs' own credentials"),
    about: "[a role to assume](security.md#roles-of-other-accounts) for this place, of another account for example",
};
pub(super) static SESSION_NAME: Key<SessionName> = Key {
    name: "session_name",
    kind: SessionName,
    absent: Absent::Means("`streamctl`"),
    about: "names the role's session",
};

/// Reads both keys. `is_local`: the place is a folder of a machine.
pub(super) fn read(table: &mut Table<'_>, is_local: bool) -> Option<Option<AssumedRole>> {
    let arn = table.entry(&ROLE_ARN);
    let session = table.entry(&SESSION_NAME);
    if is_local && let Some(entry) = arn.as_ref().or(session.as_ref()) {
        entry.refuse(
            "is for places in AWS: a folder of a machine belongs to no account",
            "remove it, or name a place in S3",
        );
        return None;
    }
    match (arn, session) {
        (None, None) => Some(None),
        (None, Some(session)) => {
            session.refuse(
                "names the session of a role, and no role is named",
                "add role_arn, or remove it",
            );
            None
        }
        (Some(arn), session) => {
            let role_arn = ROLE_ARN.kind.read(&arn);
            let session_name = match session {
                Some(session) => SESSION_NAME.kind.read(&session).map(Some),
                None => Some(None),
            };
            Some(Some(AssumedRole {
                role_arn: role_arn?,
                session_name: session_name?,
            }))
        }
    }
}

impl Kind for RoleArn {
    type Value = String;
    fn words(&self) -> String {
        "the ARN of a role".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for RoleArn {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text(EXAMPLE)?;
        if let Err(problem) = check_role_arn(text) {
            entry.refuse(
                format_args!("{text:?} is not the ARN of a role: {problem}"),
                EXAMPLE,
            );
            return None;
        }
        Some(text.to_owned())
    }
}

/// `arn:<partition>:iam::<account>:role/<path and name>`.
fn check_role_arn(text: &str) -> Result<(), &'static str> {
    if text.len() > ARN_CHARS_MAX {
        return Err("it is too long");
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [prefix, partition, service, region, account, resource] = parts[..] else {
        return Err("it has fewer than six parts");
    };
    if prefix != "arn" || !partition.starts_with("aws") {
        return Err("it does not begin with \"arn:aws\"");
    }
    if service != "iam" || !region.is_empty() {
        return Err("its service is not \"iam\", or it has a region");
    }
    if account.len() != ACCOUNT_DIGITS || !account.bytes().all(|c| c.is_ascii_digit()) {
        return Err("its account is not a number of 12 digits");
    }
    let name = resource.strip_prefix("role/").unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let is_part = |part: &str| !part.is_empty() && part.chars().all(good);
    match name.split('/').all(is_part) {
        true => Ok(()),
        false => Err("it does not end with \"role/\" and a name"),
    }
}

impl Kind for SessionName {
    type Value = String;
    fn words(&self) -> String {
        format!(
            "{} to {} letters, digits and `_+=,.@-`",
            SESSION_CHARS.start(),
            SESSION_CHARS.end()
        )
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for SessionName {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let text = entry.text("for example \"nightly\"")?;
        let good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if !SESSION_CHARS.contains(&text.len()) || !text.chars().all(good) {
            entry.refuse(
                format_args!("{text:?} is not the name of a session"),
                self.words().replace('`', ""),
            );
            return None;
        }
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::compare;
    use crate::{ResolvedJob, spec::SchemaFrom};

    const ROLE: &str = "arn:aws:iam::123456789012:role/team/writer";

    /// A job with these lines in its tables.
    fn job(catalog: &str, lookup: &str, sink: &str, function: &str) -> String {
        format!(
            "name = \"sales\"\n[source]\ntype = \"kinesis\"\nstream = \"s\"\n\
             catalog = {{ database = \"d\", table = \"t\"{catalog} }}\n[window]\nsize = \"60s\"\n\
             [transform]\nsql = \"SELECT 1\"\n[checkpoint]\nlocation = \"s3://own-bucket/c/\"\n\
             [[lookup]]\nname = \"plain\"\npath = \"s3://own-bucket/plain/\"\n\
             [[lookup]]\nname = \"l\"\n{lookup}\n\
             [sink]\n{sink}\n{function}"
        )
    }

    fn full() -> JobSpec {
        let role = |name: &str| format!("role_arn = \"arn:aws:iam::123456789012:role/{name}\"");
        let text = job(
            &format!(", {}, session_name = \"nightly\"", role("schema")),
            &format!("path = \"s3://their-bucket/l/\"\n{}", role("lookup")),
            &format!(
                "path = \"s3://their-bucket/out/\"\n{}\n\
                 catalog = {{ database = \"d\", table = \"t\", {} }}",
                role("sink"),
                role("catalog")
            ),
            "[function]\nfile = \"f.py\"\nnetwork = true\n\
             credentials = \"arn:aws:iam::123456789012:role/function\"\n",
        );
        JobSpec::parse(&text).unwrap()
    }

    #[test]
    fn each_place_has_its_own_role_and_its_key() {
        let spec = full();
        let found = spec.roles();
        let found: Vec<_> = found
            .iter()
            .map(|named| {
                let name = named.role_arn.rsplit('/').next().unwrap_or_default();
                (named.field, named.part, name)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("source.catalog.role_arn", None, "schema"),
                ("function.credentials", None, "function"),
                ("lookup.role_arn", Some(Part::Element(1)), "lookup"),
                ("sink.role_arn", None, "sink"),
                ("sink.catalog.role_arn", None, "catalog"),
            ]
        );
        assert_eq!(spec.sink.role().unwrap().role_arn, spec.roles()[3].role_arn);
        let SchemaFrom::Catalog { role, .. } = &spec.source.schema else {
            panic!("a catalog");
        };
        let described = role.as_ref().unwrap().describe();
        assert!(described.ends_with("role/schema, session nightly"));
        let stored = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&stored).unwrap(), spec);
    }

    #[test]
    fn a_job_without_roles_is_stored_as_before() {
        let text = job("", "path = \"s3://b-1/l/\"", "path = \"s3://b-1/out/\"", "");
        let spec = JobSpec::parse(&text).unwrap();
        assert!(spec.roles().is_empty());
        let stored = serde_json::to_string(&spec.sink).unwrap()
            + &serde_json::to_string(&spec.lookups).unwrap()
            + &serde_json::to_string(&spec.source.schema).unwrap();
        assert!(!stored.contains("role\":"), "{stored}");
    }

    #[test]
    fn what_is_no_role_or_no_session_is_refused_with_its_line() {
        let lookup = "path = \"s3://b-1/l/\"";
        let of = |more: &str| job("", lookup, &format!("path = \"s3://b-1/out/\"\n{more}"), "");
        for (text, problem) in [
            ("role_arn = \"writer\"", "fewer than six parts"),
            (
                "role_arn = \"arn:aws:sts::123456789012:role/x\"",
                "not \"iam\"",
            ),
            ("role_arn = \"arn:aws:iam::1:role/x\"", "12 digits"),
            (
                "role_arn = \"arn:aws:iam::123456789012:user/x\"",
                "does not end with",
            ),
            (
                "role_arn = \"arn:aws:iam::123456789012:role/\"",
                "does not end with",
            ),
            (
                "role_arn = \"arn:aws:iam::123456789012:role/a b\"",
                "does not end with",
            ),
            (
                "role_arn = \"urn:aws:iam::123456789012:role/x\"",
                "does not begin",
            ),
            ("session_name = \"x1\"", "no role is named"),
            (
                "role_arn = \"arn:aws:iam::123456789012:role/x\"\nsession_name = \"a b\"",
                "not the name of a session",
            ),
        ] {
            let found = JobSpec::parse(&of(text)).unwrap_err().to_string();
            assert!(found.contains(problem), "{text}: {found}");
            assert!(
                found.contains("line 20") || found.contains("line 21"),
                "{found}"
            );
            assert!(found.contains("hint:"), "{found}");
        }
        let role = format!("role_arn = \"{ROLE}\"");
        for partition in ["aws-cn", "aws-us-gov"] {
            let text = of(&role.replace("arn:aws:", &format!("arn:{partition}:")));
            assert!(JobSpec::parse(&text).is_ok(), "{partition}");
        }
    }

    #[test]
    fn a_folder_of_a_machine_has_no_role() {
        let role = format!("role_arn = \"{ROLE}\"");
        let iceberg = format!(
            "type = \"iceberg\"\ncatalog = \"local\"\nwarehouse = \"/w\"\ntable = \"d.t\"\n{role}"
        );
        let s3 = "path = \"s3://b-1/l/\"";
        for text in [
            job("", s3, &format!("path = \"/out/\"\n{role}"), ""),
            job("", s3, &iceberg, ""),
            job(
                "",
                &format!("path = \"/l/\"\n{role}"),
                "path = \"s3://b-1/out/\"",
                "",
            ),
        ] {
            let found = JobSpec::parse(&text).unwrap_err().to_string();
            assert!(found.contains("belongs to no account"), "{found}");
        }
    }

    #[test]
    fn a_function_with_credentials_needs_the_network() {
        let of = |function: &str| {
            job(
                "",
                "path = \"s3://b-1/l/\"",
                "path = \"s3://b-1/out/\"",
                &format!("[function]\n{function}\ncredentials = \"{ROLE}\"\n"),
            )
        };
        for (function, problem) in [
            ("file = \"f.py\"", "can call no service without a network"),
            ("url = \"grpc://h:1\"", "has its own credentials"),
        ] {
            let found = JobSpec::parse(&of(function)).unwrap_err().to_string();
            assert!(found.contains(problem), "{found}");
        }
        let spec = JobSpec::parse(&of("file = \"f.py\"\nnetwork = true")).unwrap();
        let function = spec.function.unwrap();
        assert!(
            function
                .fields()
                .contains(&("credentials", ROLE.to_owned()))
        );
    }

    #[test]
    fn a_running_job_takes_another_role_over_if_its_place_stays() {
        let golden = include_str!("../../golden/job-v3.json");
        let of = |spec: JobSpec| {
            let mut job: ResolvedJob = serde_json::from_str(golden).unwrap();
            job.spec = spec;
            job
        };
        let sink = |sink: &str| {
            let text = job("", "path = \"s3://b-1/l/\"", sink, "");
            of(JobSpec::parse(&text).unwrap())
        };
        let path = "path = \"s3://b-1/out/\"";
        let role = format!("role_arn = \"{ROLE}\"");
        let old = sink(path);
        let changed = |next: &ResolvedJob| {
            let changes = compare(&old, next, None).into_iter();
            changes
                .map(|change| (change.field, change.refused.is_some()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            changed(&sink(&format!(
                "{path}\n{role}\nsession_name = \"nightly\""
            ))),
            [
                ("sink.role_arn".to_owned(), false),
                ("sink.session_name".to_owned(), false)
            ]
        );
        assert_eq!(
            changed(&sink(&format!("path = \"s3://b-1/other/\"\n{role}"))),
            [
                ("sink.path".to_owned(), false),
                ("sink.role_arn".to_owned(), true)
            ]
        );
        let all = changed(&of(full()));
        for field in ["lookup.l.role_arn", "source.catalog", "sink.catalog"] {
            assert!(all.contains(&(field.to_owned(), false)), "{field}: {all:?}");
        }
    }
}
