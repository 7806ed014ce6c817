//! The consumer of enhanced fan-out, as a job file names it.
//!
//! Owns: the two forms. Does not own: whether there is such a consumer (`streamctl_engine::source`).
//! Rule: a name is registered for the job and goes with it; an ARN is of a consumer that stays.

use crate::spec::key::{Kind, Read};
use crate::spec::raw::Entry;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name that the service takes.
const NAME_CHARS_MAX: usize = 128;
const EXAMPLE: &str = "a name such as \"reports\", or the ARN of a consumer that is there: \
                       arn:aws:kinesis:eu-central-1:123456789012:stream/my-stream/consumer/reports:1700000000";

/// A consumer of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerName {
    /// Registered for the job.
    Name(String),
    /// The ARN of one that is there.
    Arn(String),
}

impl ConsumerName {
    /// The ARN of the stream that the consumer is of, where that is known.
    pub fn stream_arn(&self) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::Arn(arn) => arn.split_once("/consumer/").map(|(stream, _)| stream),
        }
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Arn(text) => f.write_str(text),
        }
    }
}

/// A key with a consumer.
pub(super) struct Consumer;

impl Kind for Consumer {
    type Value = ConsumerName;
    fn words(&self) -> String {
        "a name, or the ARN of a consumer".to_owned()
    }
    fn shown(&self, value: &ConsumerName) -> String {
        value.to_string()
    }
}

impl Read for Consumer {
    fn read(&self, entry: &Entry<'_>) -> Option<ConsumerName> {
        let text = entry.text(EXAMPLE)?;
        if text.starts_with("arn:") {
            let good = text
                .split_once(":stream/")
                .and_then(|(_, stream)| stream.split_once("/consumer/"))
                .and_then(|(_, consumer)| consumer.split_once(':'))
                .is_some_and(|(name, created)| !name.is_empty() && !created.is_empty());
            if !good {
                entry.refuse(
                    format_args!("{text:?} is not the ARN of a consumer"),
                    EXAMPLE,
                );
            }
            return good.then(|| ConsumerName::Arn(text.to_owned()));
        }
        let good = (1..=NAME_CHARS_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !good {
            let hint = "1 to 128 letters, digits, dots, hyphens and underscores";
            entry.refuse(format_args!("{text:?} is not the name of a consumer"), hint);
        }
        good.then(|| ConsumerName::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JobSpec;

    fn parse(consumer: &str) -> Result<JobSpec, String> {
        let text = format!(
            "name = \"a\"\n[source]\ntype = \"kinesis\"\nstream = \"s\"\nconsumer = \"{consumer}\"\n\
             [source.schema]\nid = \"bigint\"\n[window]\nsize = \"1m\"\n[transform]\n\
             sql = \"SELECT id FROM source\"\n[sink]\npath = \"/out/\"\nformat = \"json\"\n\
             [checkpoint]\nlocation = \"/checkpoint/\"\n"
        );
        JobSpec::parse(&text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_consumer_is_a_name_or_an_arn() {
        let spec = parse("reports-1.x_y").unwrap();
        let name = ConsumerName::Name("reports-1.x_y".to_owned());
        assert_eq!(spec.source.kind.consumer(), Some(&name));
        let stream = "arn:aws:kinesis:eu-west-1:1:stream/s";
        let arn = format!("{stream}/consumer/reports:1700000000");
        let spec = parse(&arn).unwrap();
        let consumer = spec.source.kind.consumer().unwrap();
        assert_eq!(consumer, &ConsumerName::Arn(arn));
        assert_eq!(consumer.stream_arn(), Some(stream));
        assert!(
            spec.source
                .kind
                .describe()
                .contains("through consumer arn:")
        );
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for bad in ["", "a b", "ü", &"x".repeat(129)] {
            let problems = parse(bad).unwrap_err();
            assert!(problems.contains("source.consumer"), "{bad}: {problems}");
        }
        for bad in [
            "arn:aws:kinesis:eu-west-1:1:stream/s",
            "arn:aws:kinesis:eu-west-1:1:stream/s/consumer/",
            "arn:aws:kinesis:eu-west-1:1:stream/s/consumer/reports",
        ] {
            let problems = parse(bad).unwrap_err();
            assert!(
                problems.contains("is not the ARN of a consumer"),
                "{problems}"
            );
        }
    }

    #[test]
    fn a_job_without_a_consumer_is_stored_as_before() {
        let spec = parse("reports").unwrap();
        let stored = serde_json::to_value(&spec.source.kind).unwrap();
        assert_eq!(stored["consumer"]["name"], "reports");
        let mut without = stored.clone();
        without.as_object_mut().unwrap().remove("consumer");
        let kind: crate::spec::SourceKind = serde_json::from_value(without.clone()).unwrap();
        assert_eq!(kind.consumer(), None);
        assert_eq!(serde_json::to_value(&kind).unwrap(), without);
    }
}
