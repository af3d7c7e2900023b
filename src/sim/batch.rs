//! Record batches of format 2: their header, the offsets that a leader writes into them, and the control batches of transactions.
//!
//! Invariant: a stored batch is the producer's bytes except for base offset and partition leader epoch, which its checksum leaves out.
//! Deliberately not here: compression (a compressed batch is stored and served, never opened) and the formats 0 and 1.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::code;

/// Bytes of a batch before its records.
const HEADER_BYTES: usize = 61;
/// Bytes of a batch that its own length field does not count.
const LENGTH_PREFIX_BYTES: usize = 12;

/// The fixed fields of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// Compression, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record, counted from the first.
    pub last_offset_delta: i32,
    /// The largest timestamp in it, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// −1: none.
    pub producer_id: i64,
    /// −1: none.
    pub producer_epoch: i16,
    /// −1: none.
    pub base_sequence: i32,
    /// How many records it says that it has.
    pub record_count: i32,
}

impl BatchHeader {
    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether it is a transaction's marker.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// The codec's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & 0x07
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The last record's sequence; sequences wrap to 0 behind `i32::MAX` (Kafka: `DefaultRecordBatch.incrementSequence`).
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(0)
    }
}

/// Reads the one batch that a produce request of version 3 or later may carry per partition; an error is the broker's error code.
pub fn read_produced(records: &Bytes) -> Result<BatchHeader, i16> {
    if records.len() < HEADER_BYTES {
        return Err(code::CORRUPT_MESSAGE);
    }
    let magic = records.get(16).copied().unwrap_or_default();
    if magic != 2 {
        return Err(code::INVALID_RECORD);
    }
    let mut head = records.clone();
    let base_offset = head.get_i64();
    let length = usize::try_from(head.get_i32()).map_err(|_| code::CORRUPT_MESSAGE)?;
    if length + LENGTH_PREFIX_BYTES > records.len() {
        return Err(code::CORRUPT_MESSAGE);
    }
    if length + LENGTH_PREFIX_BYTES < records.len() {
        return Err(code::INVALID_RECORD);
    }
    let leader_epoch = head.get_i32();
    head.advance(1);
    let checksum = head.get_u32();
    if crc32c::crc32c(&head) != checksum {
        return Err(code::CORRUPT_MESSAGE);
    }
    let attributes = head.get_i16();
    let last_offset_delta = head.get_i32();
    head.advance(8);
    let max_timestamp_ms = head.get_i64();
    let header = BatchHeader {
        base_offset,
        leader_epoch,
        attributes,
        last_offset_delta,
        max_timestamp_ms,
        producer_id: head.get_i64(),
        producer_epoch: head.get_i16(),
        base_sequence: head.get_i32(),
        record_count: head.get_i32(),
    };
    let counts_agree = header.last_offset_delta >= 0 && i64::from(header.last_offset_delta) + 1 == i64::from(header.record_count);
    if !counts_agree || header.is_control() {
        return Err(code::INVALID_RECORD);
    }
    Ok(header)
}

/// The batch as the leader stores it: with its base offset and the leader's epoch written in.
pub fn stamp(records: &Bytes, base_offset: i64, leader_epoch: i32) -> Bytes {
    let mut stored = BytesMut::from(records.as_ref());
    if let Some(field) = stored.get_mut(0..8) {
        field.copy_from_slice(&base_offset.to_be_bytes());
    }
    if let Some(field) = stored.get_mut(12..16) {
        field.copy_from_slice(&leader_epoch.to_be_bytes());
    }
    stored.freeze()
}

/// A transaction's marker: one record whose key is (version 0, type) and whose value is (version 0, coordinator epoch).
pub fn control_batch(producer_id: i64, producer_epoch: i16, committed: bool, timestamp_ms: i64) -> (Bytes, BatchHeader) {
    let kind: i16 = if committed { 1 } else { 0 };
    let mut key = Vec::with_capacity(4);
    key.extend_from_slice(&0i16.to_be_bytes());
    key.extend_from_slice(&kind.to_be_bytes());
    let record = Record {
        transactional: true,
        control: true,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: timestamp_ms,
        key: Some(Bytes::from(key)),
        value: Some(Bytes::from_static(&[0, 0, 0, 0, 0, 0])),
        headers: IndexMap::new(),
    };
    let header = BatchHeader {
        base_offset: 0,
        leader_epoch: 0,
        attributes: 0x30,
        last_offset_delta: 0,
        max_timestamp_ms: timestamp_ms,
        producer_id,
        producer_epoch,
        base_sequence: -1,
        record_count: 1,
    };
    (encode(&[record]), header)
}

/// Encodes records as one uncompressed batch (as many as share producer, epoch and a run of sequences).
pub fn encode(records: &[Record]) -> Bytes {
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    match RecordBatchEncoder::encode(&mut out, records, &options) {
        Ok(()) => out.freeze(),
        // Only a record larger than 2 GiB cannot be encoded; an empty batch is then refused where it arrives.
        Err(_) => Bytes::new(),
    }
}

/// Opens an uncompressed batch; a compressed one is empty.
pub fn records_of(stored: &Bytes) -> Vec<Record> {
    let mut bytes = stored.clone();
    RecordBatchDecoder::decode(&mut bytes).map(|set| set.records).unwrap_or_default()
}
