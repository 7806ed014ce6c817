//! The service's operations: from a request's JSON to a response's.
//!
//! Rule: a limit refuses a request before anything changes.

use super::error::Refusal;
use super::limits::{
    ITERATOR_AGE_MAX_MS, PAGE_SHARDS_MAX, RECORD_BYTES_MAX, RECORDS_MAX, TOKEN_AGE_MAX_MS,
};
use super::stream::{
    Shard, ShardState, Stream, Trimmed, hash_key, sequence_number, sequence_text, shard_name,
};
use super::token::{PageToken, ShardIterator};
use super::{ACCOUNT, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;

/// A response, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub body: Vec<u8>,
    pub records: usize,
    pub last: bool,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self {
            body: value.to_string().into_bytes(),
            ..Self::default()
        }
    }
}

pub(super) type Answered = Result<Answer, Refusal>;

/// Stream and shard of a request, as far as it names them.
pub(super) fn about(body: &Value) -> (String, String) {
    if let Some(iterator) = body["ShardIterator"]
        .as_str()
        .and_then(ShardIterator::decode)
    {
        return (iterator.stream, shard_name(iterator.shard));
    }
    let shard = ["ShardId", "ShardToSplit", "ShardToMerge"]
        .iter()
        .find_map(|key| body[*key].as_str());
    let of_consumer = || {
        let (_, stream) = body["ConsumerARN"].as_str()?.split_once(":stream/")?;
        let (name, _) = stream.split_once('/')?;
        Some(name.to_owned())
    };
    (
        stream_name(body).or_else(of_consumer).unwrap_or_default(),
        shard.unwrap_or_default().to_owned(),
    )
}

fn stream_name(body: &Value) -> Option<String> {
    let by_arn = || {
        body["StreamARN"]
            .as_str()
            .and_then(|arn| arn.rsplit_once('/'))
            .map(|(_, name)| name)
    };
    body["StreamName"]
        .as_str()
        .or_else(by_arn)
        .map(str::to_owned)
}

pub(super) fn text<'v>(body: &'v Value, key: &str) -> Result<&'v str, Refusal> {
    body[key]
        .as_str()
        .ok_or_else(|| Refusal::invalid(format!("{key} is missing")))
}

impl Service {
    pub(super) fn perform(&self, operation: &str, body: &Value) -> Answered {
        match operation {
            "GetRecords" => self.get_records(body),
            "GetShardIterator" => self.get_shard_iterator(body),
            "ListShards" => self.list_shards(body),
            "RegisterStreamConsumer" => self.register_consumer(body),
            "DescribeStreamConsumer" => self.describe_consumer(body),
            "ListStreamConsumers" => self.list_consumers(body),
            "DeregisterStreamConsumer" => self.deregister_consumer(body),
            "PutRecord" => self.put_record(body),
            "PutRecords" => self.put_records(body),
            "SplitShard" => self.split_shard(body),
            "MergeShards" => self.merge_shards(body),
            "DescribeStreamSummary" => self.describe_stream_summary(body),
            "CreateStream" => {
                let shards = body["ShardCount"].as_u64().unwrap_or(4);
                self.create(
                    text(body, "StreamName")?,
                    usize::try_from(shards).unwrap_or(4),
                );
                Ok(json!({}).into())
            }
            "DeleteStream" => {
                self.delete(&self.named(body)?.name);
                Ok(json!({}).into())
            }
            "ListStreams" => {
                let names: Vec<String> = self.streams().keys().cloned().collect();
                Ok(json!({ "StreamNames": names, "HasMoreStreams": false }).into())
            }
            other => Err(Refusal::new(
                400,
                "UnknownOperationException",
                format!("{other} is not known here"),
            )),
        }
    }

    pub(super) fn named(&self, body: &Value) -> Result<Arc<Stream>, Refusal> {
        let name = stream_name(body)
            .ok_or_else(|| Refusal::invalid("StreamName or StreamARN is missing"))?;
        self.find(&name)
    }

    pub(super) fn shard(&self, stream: &Stream, name: &str) -> Result<Arc<Shard>, Refusal> {
        let there = stream.shards().into_iter().find(|shard| shard.name == name);
        there.ok_or_else(|| Refusal::no_shard(name, &stream.name))
    }

    fn get_shard_iterator(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let now_us = self.clock.now_us();
        let shard = stream
            .shard(text(body, "ShardId")?)
            .ok_or_else(|| Refusal::no_shard(&body["ShardId"].to_string(), &stream.name))?;
        let mut state = shard.state();
        if !state.limits.iterator(now_us) {
            return Err(Refusal::rate("GetShardIterator", &shard.name, &stream.name));
        }
        stream.expire(&mut state);
        let gone = state
            .closed
            .as_ref()
            .is_some_and(|closed| closed.at_ms < now_us / 1_000 - stream.retention_ms());
        if gone {
            return Err(Refusal::no_shard(&shard.name, &stream.name));
        }
        let after = self.iterator_after(&stream, &shard, &state, body)?;
        let made_ms = now_us / 1_000;
        let stream = stream.name.clone();
        let iterator = ShardIterator {
            stream,
            shard: shard.index,
            after,
            gaps: 0,
            made_ms,
        };
        Ok(json!({ "ShardIterator": iterator.encode() }).into())
    }

    /// The number after which an iterator continues.
    pub(super) fn iterator_after(
        &self,
        stream: &Stream,
        shard: &Shard,
        state: &ShardState,
        body: &Value,
    ) -> Result<u64, Refusal> {
        match text(body, "ShardIteratorType")? {
            "TRIM_HORIZON" => Ok(0),
            "LATEST" => Ok(state
                .records
                .back()
                .map_or(state.trimmed_to, |record| record.number)),
            "AT_TIMESTAMP" => {
                let seconds = body["Timestamp"]
                    .as_f64()
                    .ok_or_else(|| Refusal::invalid("Timestamp is missing"))?;
                let at_ms = (seconds * 1_000.0).round() as i64;
                if at_ms > self.clock.now_ms() {
                    let message = format!(
                        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {at_ms}"
                    );
                    return Err(Refusal::invalid(message));
                }
                let before = state
                    .records
                    .iter()
                    .take_while(|record| record.arrival_ms < at_ms);
                Ok(before.last().map_or(0, |record| record.number))
            }
            kind @ ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER") => {
                let at = kind == "AT_SEQUENCE_NUMBER";
                after_sequence(
                    stream,
                    shard,
                    state,
                    text(body, "StartingSequenceNumber")?,
                    at,
                )
            }
            other => Err(Refusal::invalid(format!(
                "{other} is not a ShardIteratorType"
            ))),
        }
    }

    fn get_records(&self, body: &Value) -> Answered {
        let now_us = self.clock.now_us();
        let token = text(body, "ShardIterator")?;
        let iterator = ShardIterator::decode(token)
            .ok_or_else(|| Refusal::invalid("Invalid ShardIterator."))?;
        let stream = self.find(&iterator.stream)?;
        let gone = || Refusal::no_shard(&shard_name(iterator.shard), &stream.name);
        let shard = stream.shard_at(iterator.shard).ok_or_else(gone)?;
        let limit = body["Limit"].as_u64().map_or(RECORDS_MAX, |limit| {
            usize::try_from(limit).unwrap_or(RECORDS_MAX)
        });
        if limit == 0 || limit > RECORDS_MAX {
            return Err(Refusal::invalid(format!(
                "Limit must be from 1 to {RECORDS_MAX}"
            )));
        }
        let mut state = shard.state();
        if !state.limits.records(now_us) {
            return Err(Refusal::rate("GetRecords", &shard.name, &stream.name));
        }
        if now_us / 1_000 - iterator.made_ms > ITERATOR_AGE_MAX_MS {
            return Err(Refusal::expired_iterator());
        }
        stream.expire(&mut state);
        let is_stuck = stream.trimmed() == Trimmed::Stuck
            && iterator.after > 0
            && iterator.after < state.trimmed_to;
        let is_gap = iterator.gaps < stream.gaps() && state.next(iterator.after).is_some();
        let (json, records, bytes, last) = match is_gap || is_stuck {
            true => (Vec::new(), 0, 0, iterator.after),
            false => state.after(iterator.after, limit),
        };
        state.limits.gave(now_us, bytes);
        let behind_ms = state
            .next(last)
            .map_or(0, |record| (now_us / 1_000 - record.arrival_ms).max(1));
        let behind_ms = if is_stuck {
            stream.retention_ms()
        } else {
            behind_ms
        };
        let gaps = if records == 0 { iterator.gaps + 1 } else { 0 };
        let ended = state
            .closed
            .clone()
            .filter(|_| state.next(last).is_none() && !is_stuck);
        drop(state);
        let mut body = Vec::with_capacity(json.len() + 600);
        body.extend_from_slice(b"{\"Records\":[");
        body.extend_from_slice(&json);
        body.extend_from_slice(format!("],\"MillisBehindLatest\":{behind_ms}").as_bytes());
        match &ended {
            Some(closed) if stream.children_named() => {
                let children: Vec<Value> = closed
                    .children
                    .iter()
                    .filter_map(|child| child_shard(&stream, *child))
                    .collect();
                body.extend_from_slice(
                    format!(",\"ChildShards\":{}", Value::from(children)).as_bytes(),
                );
            }
            Some(_) => {}
            None => {
                let next = ShardIterator {
                    after: last,
                    gaps,
                    made_ms: now_us / 1_000,
                    ..iterator
                };
                body.extend_from_slice(
                    format!(",\"NextShardIterator\":\"{}\"", next.encode()).as_bytes(),
                );
            }
        }
        body.push(b'}');
        Ok(Answer {
            body,
            records,
            last: ended.is_some(),
        })
    }

    fn list_shards(&self, body: &Value) -> Answered {
        let token = body["NextToken"].as_str();
        let named = stream_name(body);
        let (name, from) = match (token, named) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "NextToken and StreamName cannot be provided together.",
                ));
            }
            (Some(token), None) => {
                let token = PageToken::decode(token)
                    .ok_or_else(|| Refusal::invalid("Invalid NextToken."))?;
                if self.clock.now_ms() - token.made_ms > TOKEN_AGE_MAX_MS {
                    return Err(Refusal::new(
                        400,
                        "ExpiredNextTokenException",
                        "The pagination token is expired.",
                    ));
                }
                (token.stream, token.from)
            }
            (None, Some(name)) => (name, 0),
            (None, None) => {
                return Err(Refusal::invalid(
                    "StreamName, StreamARN or NextToken is needed.",
                ));
            }
        };
        let stream = self.find(&name)?;
        if !stream.may_list() {
            return Err(Refusal::limit("ListShards"));
        }
        let after = body["ExclusiveStartShardId"]
            .as_str()
            .or(body["ShardFilter"]["ShardId"].as_str());
        let most = body["MaxResults"]
            .as_u64()
            .map_or(PAGE_SHARDS_MAX, |most| usize::try_from(most).unwrap_or(1));
        let wanted = |shard: &&Arc<Shard>| {
            shard.index >= from
                && after.is_none_or(|after| shard.name.as_str() > after)
                && self.filtered(shard, body)
        };
        let shards = stream.shards();
        let mut wanted = shards.iter().filter(wanted);
        let page: Vec<&Arc<Shard>> = wanted
            .by_ref()
            .take(most.clamp(1, PAGE_SHARDS_MAX))
            .collect();
        let mut answer =
            json!({ "Shards": page.iter().map(|shard| listed(shard)).collect::<Vec<_>>() });
        if let Some(next) = wanted.next() {
            let token = PageToken {
                stream: name,
                from: next.index,
                made_ms: self.clock.now_ms(),
            };
            answer["NextToken"] = token.encode().into();
        }
        Ok(answer.into())
    }

    /// Whether a shard passes the request's ShardFilter.
    fn filtered(&self, shard: &Shard, body: &Value) -> bool {
        let closed_ms = shard.state().closed.as_ref().map(|closed| closed.at_ms);
        let at_ms = body["ShardFilter"]["Timestamp"]
            .as_f64()
            .map_or(0, |seconds| (seconds * 1_000.0) as i64);
        match body["ShardFilter"]["Type"].as_str() {
            Some("AT_LATEST") => closed_ms.is_none(),
            Some("AT_TIMESTAMP" | "FROM_TIMESTAMP") => {
                closed_ms.is_none_or(|closed_ms| closed_ms >= at_ms)
            }
            Some("AT_TRIM_HORIZON") => shard.parents.is_empty(),
            _ => true,
        }
    }

    fn put_one(&self, stream: &Stream, record: &Value) -> Result<Value, Refusal> {
        let key = text(record, "PartitionKey")?;
        let data = STANDARD
            .decode(text(record, "Data")?)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        if data.len() + key.len() > RECORD_BYTES_MAX {
            return Err(Refusal::new(
                400,
                "ValidationException",
                "the record is too large",
            ));
        }
        let hash = match record["ExplicitHashKey"].as_str() {
            Some(explicit) => explicit
                .parse()
                .map_err(|_| Refusal::invalid("ExplicitHashKey is not a hash key"))?,
            None => hash_key(key),
        };
        let put = stream.put_as(key, hash, &data, self.clock.now_ms());
        Ok(json!({ "ShardId": put.shard, "SequenceNumber": put.sequence }))
    }

    fn put_record(&self, body: &Value) -> Answered {
        Ok(self.put_one(&*self.named(body)?, body)?.into())
    }

    fn put_records(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let none = vec![];
        let records = body["Records"].as_array().unwrap_or(&none);
        let put: Vec<Value> = records
            .iter()
            .map(|record| self.put_one(&stream, record))
            .collect::<Result<_, _>>()?;
        Ok(json!({ "FailedRecordCount": 0, "Records": put }).into())
    }

    fn split_shard(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let shard = text(body, "ShardToSplit")?;
        self.shard(&stream, shard)?;
        let at = text(body, "NewStartingHashKey")?
            .parse()
            .map_err(|_| Refusal::invalid("NewStartingHashKey"))?;
        stream.split_at(shard, at).map_err(Refusal::invalid)?;
        Ok(json!({}).into())
    }

    fn merge_shards(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let shard = text(body, "ShardToMerge")?;
        let other = text(body, "AdjacentShardToMerge")?;
        self.shard(&stream, shard)?;
        self.shard(&stream, other)?;
        stream.merge(shard, other).map_err(Refusal::invalid)?;
        Ok(json!({}).into())
    }

    fn describe_stream_summary(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        Ok(json!({ "StreamDescriptionSummary": {
            "StreamName": stream.name, "StreamARN": stream.arn(), "StreamStatus": "ACTIVE",
            "StreamModeDetails": { "StreamMode": "PROVISIONED" },
            "RetentionPeriodHours": hours(stream.retention_ms()),
            "StreamCreationTimestamp": stream.created_ms as f64 / 1_000.0, "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
            "EncryptionType": "NONE", "OpenShardCount": stream.open_shards().len(), "ConsumerCount": 0,
        } })
        .into())
    }
}

/// Rounds to whole hours, as the service does; a test with a shorter retention jumps in time
/// instead.
fn hours(retention_ms: i64) -> i64 {
    const HOUR_MS: i64 = 3_600_000;
    retention_ms.saturating_add(HOUR_MS - 1) / HOUR_MS
}

fn after_sequence(
    stream: &Stream,
    shard: &Shard,
    state: &ShardState,
    text: &str,
    at: bool,
) -> Result<u64, Refusal> {
    let number = sequence_number(text).filter(|number| *number >= shard.first);
    let Some(number) = number else {
        let shard = &shard.name;
        let stream = &stream.name;
        let message = format!(
            "StartingSequenceNumber {text} used in GetShardIterator on shard {shard} in stream {stream} under account {ACCOUNT} is invalid because it did not come from this stream."
        );
        return Err(Refusal::invalid(message));
    };
    let lost = if at {
        number <= state.trimmed_to
    } else {
        number < state.trimmed_to
    };
    match stream.trimmed() {
        Trimmed::Refused(code) if lost => {
            let message = format!(
                "StartingSequenceNumber {text} of shard {} is older than the trim horizon",
                shard.name
            );
            Err(Refusal::new(400, code, message))
        }
        _ => Ok(if at { number - 1 } else { number }),
    }
}

fn hash_range(shard: &Shard) -> Value {
    json!({ "StartingHashKey": shard.hash.0.to_string(), "EndingHashKey": shard.hash.1.to_string() })
}

pub(super) fn child_shard(stream: &Stream, index: usize) -> Option<Value> {
    let shard = stream.shard_at(index)?;
    let parents: Vec<String> = shard
        .parents
        .iter()
        .map(|parent| shard_name(*parent))
        .collect();
    Some(
        json!({ "ShardId": shard.name, "ParentShards": parents, "HashKeyRange": hash_range(&shard) }),
    )
}

fn listed(shard: &Shard) -> Value {
    let mut listed = json!({
        "ShardId": shard.name, "HashKeyRange": hash_range(shard),
        "SequenceNumberRange": { "StartingSequenceNumber": sequence_text(shard.first) },
    });
    for (key, parent) in ["ParentShardId", "AdjacentParentShardId"]
        .iter()
        .zip(&shard.parents)
    {
        listed[*key] = shard_name(*parent).into();
    }
    if let Some(closed) = &shard.state().closed {
        listed["SequenceNumberRange"]["EndingSequenceNumber"] = sequence_text(closed.last).into();
    }
    listed
}
