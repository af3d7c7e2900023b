//! Reading a topic back, straight from the leaders: which of a client's records are where.
//!
//! Invariant: a partition is read to its high watermark, or the reading fails.
//! Not here: formats older than record batches, and codecs that no client of ours uses unasked.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder};

use super::probe::PROBE_KEY;
use crate::real::admin::{Partition, topic_name};
use crate::real::connection::Connection;

/// The last that names topics.
pub const FETCH_VERSION: i16 = 12;
/// Far more than a run writes: a batch is never cut off at its end.
const PARTITION_BYTES_MAX: i32 = 16 << 20;
/// A record's value begins with its number in so many digits.
const NUMBER_DIGITS: usize = 11;
/// The head of snappy-java's own framing.
const XERIAL_HEAD: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEAD_BYTES: usize = 16;

/// The numbers of the client's records, by partition, in the order of offsets. The probe's own are passed over.
pub fn read_back(topic: &str, partitions: &[Partition], ports: &BTreeMap<i32, u16>) -> Result<BTreeMap<i32, Vec<u64>>> {
    let mut numbers = BTreeMap::new();
    for partition in partitions.iter().filter(|partition| partition.topic == topic) {
        let port = ports.get(&partition.leader).with_context(|| format!("partition {} has no leader", partition.index))?;
        let mut connection = Connection::open(*port)?;
        numbers.insert(partition.index, read_partition(&mut connection, topic, partition.index)?);
    }
    Ok(numbers)
}

fn read_partition(connection: &mut Connection, topic: &str, index: i32) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut offset = 0;
    loop {
        let request = fetch_of(Place { topic, partition: index, offset }, PARTITION_BYTES_MAX, 0);
        let response = connection.ask(FETCH_VERSION, &request)?;
        let data = response.responses.first().and_then(|topic| topic.partitions.first()).context("an answer without the partition")?;
        if let Some(error) = ResponseError::try_from_code(response.error_code).or_else(|| ResponseError::try_from_code(data.error_code)) {
            bail!("reading partition {index} at {offset}: {error:?}");
        }
        if offset >= data.high_watermark {
            return Ok(numbers);
        }
        let mut batches = data.records.clone().unwrap_or_default();
        let before = offset;
        while batches.has_remaining() {
            let set = RecordBatchDecoder::decode_with_custom_compression(&mut batches, Some(decompress))?;
            for record in &set.records {
                offset = offset.max(record.offset + 1);
                numbers.extend(number(record)?);
            }
        }
        ensure!(offset > before, "partition {index} ends at {offset}, before its high watermark {}", data.high_watermark);
    }
}

/// Where to read on.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// A fetch of one partition, without a session: answered as soon as there is anything, and after so long at the latest.
pub fn fetch_of(place: Place<'_>, bytes_max: i32, wait_max_ms: i32) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(place.partition).with_fetch_offset(place.offset).with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default().with_topic(topic_name(place.topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_max_ms)
        .with_min_bytes(1)
        .with_max_bytes(bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// None of the probe's records and of markers.
fn number(record: &Record) -> Result<Option<u64>> {
    if record.control || record.key.as_deref() == Some(PROBE_KEY) {
        return Ok(None);
    }
    let digits = record.value.as_deref().and_then(|value| value.get(..NUMBER_DIGITS)).context("a record without a number")?;
    let digits = std::str::from_utf8(digits)?;
    Ok(Some(digits.parse().with_context(|| format!("a record that begins with {digits}"))?))
}

/// What franz-go does unasked; the others do not compress unless told to.
fn decompress(bytes: &mut Bytes, compression: Compression) -> Result<Bytes> {
    match compression {
        Compression::None => Ok(bytes.split_off(0)),
        Compression::Snappy if bytes.starts_with(XERIAL_HEAD) => {
            let mut blocks = bytes.split_off(XERIAL_HEAD_BYTES.min(bytes.len()));
            let mut out = Vec::new();
            while blocks.has_remaining() {
                let block_bytes = blocks.try_get_u32()? as usize;
                ensure!(block_bytes <= blocks.len(), "a snappy block of {block_bytes} bytes in {}", blocks.len());
                out.extend(snap::raw::Decoder::new().decompress_vec(&blocks.split_to(block_bytes))?);
            }
            Ok(out.into())
        }
        Compression::Snappy => Ok(snap::raw::Decoder::new().decompress_vec(bytes)?.into()),
        other => bail!("a batch compressed with {other:?}: no client here does that by default"),
    }
}
