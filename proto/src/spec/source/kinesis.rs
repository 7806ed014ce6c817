//! `type = "kinesis"`: a Kinesis data stream.

use super::consumer::{Consumer, ConsumerName};
use super::{
    Registered, SourceContext, SourceFacts, SourceKind, StartingPosition, fields_text, start_text,
};
use crate::change::{Refusal, SourceChange, refuse};
use crate::resolved::StreamAddress;
use crate::spec::format;
use crate::spec::key::{Absent, Fields, Key, Kind, Part, Read, Span, Text, Whole, Word};
use crate::spec::keys::{self, key};
use crate::spec::raw::{Entry, Table, nearest_hint};
use crate::spec::role::{RoleArn, SessionName};
use crate::spec::{PayloadCompression, PayloadFormat, SourceSpec, duration_text};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Shortest interval between two calls for one shard: the limit is five calls a second.
pub const POLL_INTERVAL_MIN: Duration = Duration::from_millis(200);
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Most records that the service returns per call; also the default.
pub const RECORDS_PER_READ_MAX: u32 = 10_000;
/// `grace` if the job file has none.
pub const GRACE_DEFAULT: Duration = Duration::from_millis(500);
const GRACE_MIN: Duration = Duration::from_millis(100);
const GRACE_MAX: Duration = Duration::from_secs(300);

/// A Kinesis data stream; missing fields come from the catalog table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KinesisSource {
    /// Name of the stream.
    pub stream: Option<String>,
    pub arn: Option<String>,
    /// Another address of the service.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// Names the role's session.
    pub session_name: Option<String>,
    /// Read by enhanced fan-out through it. Not stored if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    /// How long to wait between two calls for a shard, at least [`POLL_INTERVAL_MIN`].
    pub poll_interval: Duration,
    /// Records requested per call, at most [`RECORDS_PER_READ_MAX`].
    pub max_records_per_read: u32,
    /// Not stored if it is the default.
    #[serde(default, skip_serializing_if = "PayloadFormat::is_default")]
    pub format: PayloadFormat,
    #[serde(default)]
    pub compression: PayloadCompression,
    /// How long after a window's end its records may still become readable. Not stored if it is the
    /// default: jobs of earlier builds do not have it.
    #[serde(default = "grace_default", skip_serializing_if = "is_grace_default")]
    pub grace: Duration,
    /// Not stored if it is the default.
    #[serde(default, skip_serializing_if = "Aggregates::is_default")]
    pub aggregates: Aggregates,
}

/// What becomes of user records of KPL aggregates outside of the shard's hash range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregates {
    /// They become dead letters.
    #[default]
    DeadLetter,
    /// They are records as all others.
    Keep,
    /// They are dropped and counted.
    Drop,
}

impl Aggregates {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn grace_default() -> Duration {
    GRACE_DEFAULT
}

fn is_grace_default(grace: &Duration) -> bool {
    *grace == GRACE_DEFAULT
}

/// The ARN of a stream.
struct Arn;
/// The address of a service.
struct Address;
/// A place in time to begin at.
struct Start;

static STREAM: Key<Text> = key(
    "stream",
    Text,
    Absent::Means("the catalog table's"),
    "the stream's name",
);
static ARN: Key<Arn> = key(
    "arn",
    Arn,
    Absent::Means("the catalog table's"),
    "the stream's ARN",
);
static ENDPOINT: Key<Address> = key(
    "endpoint",
    Address,
    Absent::Means("the catalog table's, else the region's"),
    "where the service answers",
);
static REGION: Key<Text> = key(
    "region",
    Text,
    Absent::Means("of the ARN, the table or the environment"),
    "the stream's region",
);
static ROLE_ARN: Key<RoleArn> = key(
    "role_arn",
    RoleArn,
    Absent::Means("the catalog table's, else none"),
    "a role to assume for reading",
);
static SESSION_NAME: Key<SessionName> = key(
    "session_name",
    SessionName,
    Absent::Means("the catalog table's, else `streamctl`"),
    "names the role's session",
);
static STARTING_POSITION: Key<Start> = key(
    "starting_position",
    Start,
    Absent::Is(StartingPosition::Latest),
    "where shards begin that are there at submit; `latest` is the time of the submit",
);
static POLL_INTERVAL: Key<Span> = key(
    "poll_interval",
    Span {
        least: POLL_INTERVAL_MIN,
        most: POLL_INTERVAL_MAX,
    },
    Absent::Is(Duration::from_millis(500)),
    "how long to wait between two reads of a shard at its tip; a quiet shard is read less often, and each shard once when a window can close",
);
static CONSUMER: Key<Consumer> = key(
    "consumer",
    Consumer,
    Absent::Means("none: shards are polled"),
    "read by [enhanced fan-out](operations.md#enhanced-fan-out) through this consumer: a name is registered for the job \
     and deregistered when the job is deleted, an ARN is of a consumer that is there and stays",
);
static MAX_RECORDS_PER_READ: Key<Whole> = key(
    "max_records_per_read",
    Whole {
        least: 1,
        most: RECORDS_PER_READ_MAX as u64,
    },
    Absent::Is(RECORDS_PER_READ_MAX as u64),
    "how many records a read asks for",
);
static PAYLOAD_COMPRESSION: Key<Word<PayloadCompression>> = key(
    "compression",
    Word(&[
        ("none", PayloadCompression::None),
        ("auto", PayloadCompression::Auto),
    ]),
    Absent::Is(PayloadCompression::None),
    "`auto`: payloads in gzip, zstd or snappy's framing are recognised by their first bytes and unpacked",
);
static GRACE: Key<Span> = key(
    "grace",
    Span {
        least: GRACE_MIN,
        most: GRACE_MAX,
    },
    Absent::Is(GRACE_DEFAULT),
    "how long after its arrival a record may become readable and still be in the window of its arrival; windows close that much later",
);
static AGGREGATES: Key<Word<Aggregates>> = key(
    "aggregates",
    Word(&[
        ("dead_letter", Aggregates::DeadLetter),
        ("keep", Aggregates::Keep),
        ("drop", Aggregates::Drop),
    ]),
    Absent::Is(Aggregates::DeadLetter),
    "what to do with user records of KPL aggregates that are outside of their shard's hash range: they become \
     [dead letters](guarantees.md#aggregates), are taken, or are dropped and counted",
);
static PART: Part = Part {
    title: "[source] with type = \"kinesis\"",
    about: "The stream is named by `stream`, by `arn`, or by the catalog table; what is written here goes before what the table says. \
            Credentials come from the environment of controller and workers, or from `role_arn`; never from this file.",
    keys: &[
        &STREAM,
        &ARN,
        &ENDPOINT,
        &REGION,
        &ROLE_ARN,
        &SESSION_NAME,
        &STARTING_POSITION,
        &POLL_INTERVAL,
        &CONSUMER,
        &MAX_RECORDS_PER_READ,
        &GRACE,
        &AGGREGATES,
        &format::FORMAT,
        &PAYLOAD_COMPRESSION,
    ],
};

pub(super) static KIND: Registered = Registered {
    word: "kinesis",
    part: &PART,
    has_own_columns: false,
    read,
};

fn read(
    table: &mut Table<'_>,
    _: &mut SourceContext<'_, '_>,
) -> Option<(SourceKind, StartingPosition)> {
    let tables = [keys::CATALOG_KEY.name, keys::SCHEMA_FILE.name]
        .map(|key| table.has(key))
        .contains(&true);
    let named = [STREAM.name, ARN.name]
        .map(|key| table.has(key))
        .contains(&true);
    if !tables && !named {
        table.refuse(
            "says neither which stream to read nor which catalog table names it",
            "add stream = \"my-stream\"",
        );
    }
    let starting_position = table.value(&STARTING_POSITION);
    let stream = table.optional(&STREAM);
    let arn = table.optional(&ARN);
    let endpoint = table.optional(&ENDPOINT);
    let region = table.optional(&REGION);
    let role_arn = table.optional(&ROLE_ARN);
    let session_name = table.optional(&SESSION_NAME);
    let poll_interval = table.value(&POLL_INTERVAL);
    let consumer = table.optional(&CONSUMER);
    let max_records_per_read = table.value(&MAX_RECORDS_PER_READ);
    let format = format::read(table);
    let compression = table.value(&PAYLOAD_COMPRESSION);
    let grace = table.value(&GRACE);
    let aggregates = table.value(&AGGREGATES);
    let source = KinesisSource {
        stream: stream?,
        arn: arn?,
        endpoint: endpoint?,
        region: region?,
        role_arn: role_arn?,
        session_name: session_name?,
        poll_interval: poll_interval?,
        consumer: consumer?,
        max_records_per_read: u32::try_from(max_records_per_read?).ok()?,
        format: format?,
        compression: compression?,
        grace: grace?,
        aggregates: aggregates?,
    };
    Some((SourceKind::Kinesis(source), starting_position?))
}

impl SourceFacts for KinesisSource {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        let stream = match self.arn.as_ref().or(self.stream.as_ref()) {
            Some(stream) => format!("Kinesis stream {stream}"),
            None => "the Kinesis stream of the catalog table".to_owned(),
        };
        match &self.consumer {
            Some(consumer) => format!("{stream} through consumer {consumer}"),
            None => stream,
        }
    }

    fn reads_stream(&self) -> bool {
        true
    }

    fn payload_format(&self) -> PayloadFormat {
        self.format.clone()
    }

    fn has_compression(&self) -> bool {
        true
    }

    fn payload_compression(&self) -> PayloadCompression {
        self.compression
    }

    fn consumer(&self) -> Option<&ConsumerName> {
        self.consumer.as_ref()
    }

    fn aggregates(&self) -> Option<Aggregates> {
        Some(self.aggregates)
    }

    fn fields(&self, spec: &SourceSpec, stream: Option<&StreamAddress>) -> Fields {
        let stream = stream.cloned().unwrap_or_default();
        let address = [
            ("stream", Some(stream.name)),
            ("arn", stream.arn),
            ("endpoint", stream.endpoint),
            ("region", stream.region),
            ("role_arn", stream.role_arn),
            ("session_name", stream.session_name),
        ];
        let mut fields: Fields = address
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        if let Some(consumer) = &self.consumer {
            fields.push((CONSUMER.name, consumer.to_string()));
        }
        fields.extend(self.defaults(spec));
        fields
    }

    fn defaults(&self, spec: &SourceSpec) -> Fields {
        let mut fields = vec![
            ("starting_position", start_text(spec.starting_position)),
            ("poll_interval", duration_text(self.poll_interval)),
            (
                "max_records_per_read",
                self.max_records_per_read.to_string(),
            ),
            ("compression", fields_text(&self.compression)),
            ("grace", duration_text(self.grace)),
            ("aggregates", fields_text(&self.aggregates)),
            ("format", self.format.name().to_owned()),
        ];
        fields.extend(self.format.fields());
        fields
    }

    fn refuses(&self, key: &str, change: &SourceChange<'_>) -> Option<Refusal> {
        match key {
            // Settings of reading, not of the stream's identity.
            "poll_interval"
            | "consumer"
            | "max_records_per_read"
            | "session_name"
            | "compression"
            | "grace"
            | "aggregates"
            | "format" => None,
            key if format::of_key(key).is_some() => None,
            "starting_position" => refuse(
                "it has no effect on a job that is there: it goes on where its last epoch stands",
                "leave it as it was, or give the new job another name",
            ),
            "role_arn" => role(change.old_stream, change.next_stream),
            _ => change.another_source(),
        }
    }
}

/// Another role may reach a stream of the same name in another account.
fn role(old: Option<&StreamAddress>, next: Option<&StreamAddress>) -> Option<Refusal> {
    let named = |stream: Option<&StreamAddress>| stream.and_then(|stream| stream.arn.clone());
    let account = |stream: Option<&StreamAddress>| {
        let role = stream.and_then(|stream| stream.role_arn.clone())?;
        role.split(':')
            .nth(4)
            .filter(|account| !account.is_empty())
            .map(str::to_owned)
    };
    let same_stream = named(old).is_some() && named(old) == named(next);
    let same_account = account(old).is_some() && account(old) == account(next);
    if same_stream || same_account {
        return None;
    }
    refuse(
        "a role of another account reads another account's stream of this name",
        "name the stream by `arn` in a job of its own, or use a role of the same account",
    )
}

impl Kind for Arn {
    type Value = String;
    fn words(&self) -> String {
        "the ARN of a stream".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for Arn {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let arn = entry.text("")?;
        let good = arn.starts_with("arn:") && arn.contains(":stream/");
        if !good {
            let example = "arn:aws:kinesis:eu-central-1:123456789012:stream/my-stream";
            entry.refuse(format_args!("{arn:?} is not the ARN of a stream"), example);
        }
        good.then(|| arn.to_owned())
    }
}

impl Kind for Address {
    type Value = String;
    fn words(&self) -> String {
        "an address with `http://` or `https://`".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for Address {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        let url = entry.text("")?;
        if url.contains('@') {
            // The value is not shown: it would be logged with the job.
            let hint =
                "take it out; credentials are those of the programs, or of a role (role_arn)";
            entry.refuse(
                "holds a name or a password: a job file is stored and shown, and holds no secret",
                hint,
            );
            return None;
        }
        let good = ["http://", "https://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !good {
            let example = "for example \"https://kinesis.eu-central-1.amazonaws.com\"";
            entry.refuse(format_args!("{url:?} is not an address"), example);
        }
        good.then(|| url.to_owned())
    }
}

impl Kind for Start {
    type Value = StartingPosition;
    fn words(&self) -> String {
        "`latest`, `trim_horizon`, or a time with its zone such as `2026-11-24T00:00:00Z`"
            .to_owned()
    }
    fn shown(&self, value: &StartingPosition) -> String {
        match value {
            StartingPosition::Latest => "latest".to_owned(),
            StartingPosition::TrimHorizon => "trim_horizon".to_owned(),
            StartingPosition::Timestamp(ms) => chrono::DateTime::from_timestamp_millis(*ms)
                .map_or_else(String::new, |time| time.to_rfc3339()),
        }
    }
}

impl Read for Start {
    fn read(&self, entry: &Entry<'_>) -> Option<StartingPosition> {
        let example =
            "one of \"latest\", \"trim_horizon\", or a time such as \"2026-11-24T00:00:00Z\"";
        let text = entry.text_or_time(example)?;
        match text.as_str() {
            "latest" => return Some(StartingPosition::Latest),
            "trim_horizon" => return Some(StartingPosition::TrimHorizon),
            _ => {}
        }
        match chrono::DateTime::parse_from_rfc3339(&text) {
            Ok(time) => Some(StartingPosition::Timestamp(time.timestamp_millis())),
            Err(_) => {
                let likely = nearest_hint(&text, &["latest", "trim_horizon"]);
                let hint = if likely.is_empty() {
                    example.to_owned()
                } else {
                    likely
                };
                entry.refuse(
                    format_args!("{text:?} is neither a known position nor a time with its zone"),
                    hint,
                );
                None
            }
        }
    }
}
