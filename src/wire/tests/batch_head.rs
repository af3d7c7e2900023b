use bytes::BytesMut;
use kafka_protocol::records::{Compression, NO_PRODUCER_ID, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::*;
use crate::wire::produce_fixtures::{batch, message};

fn by_the_crate(producer_id: i64, transactional: bool) -> BytesMut {
    let record = |offset: i64| Record {
        transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id,
        producer_epoch: 5,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: 1000 + offset as i32,
        timestamp: 0,
        key: None,
        value: Some(vec![1; 30].into()),
        headers: Default::default(),
    };
    let mut out = BytesMut::new();
    let records = [record(0), record(1), record(2)];
    RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression: Compression::None }).unwrap();
    out
}

fn sequence(producer_id: i64) -> Sequence {
    Sequence { producer_id, producer_epoch: 5, base_sequence: 1000, last_offset_delta: 2, transactional: false }
}

fn read(records: &[u8]) -> BatchHead {
    BatchHead::read(Some(records))
}

#[test]
fn a_batch_of_the_crates_is_read() {
    for producer_id in [0, 4711, i64::MAX] {
        assert_eq!(read(&by_the_crate(producer_id, false)), BatchHead::Sequenced(sequence(producer_id)));
        let transactional = Sequence { transactional: true, ..sequence(producer_id) };
        assert_eq!(read(&by_the_crate(producer_id, true)), BatchHead::Sequenced(transactional));
    }
    assert_eq!(read(&by_the_crate(NO_PRODUCER_ID, false)), BatchHead::Plain);
}

#[test]
fn no_records_and_old_formats() {
    assert_eq!(BatchHead::read(None), BatchHead::Empty);
    assert_eq!(read(&[]), BatchHead::Empty);
    for magic in [0, 1] {
        assert_eq!(read(&message(magic, b"")), BatchHead::Plain);
        // What would be a producer id in a newer batch.
        assert_eq!(read(&message(magic, &[0; 100])), BatchHead::Plain);
    }
}

#[test]
fn of_several_the_first_with_a_producer_id_counts() {
    let plain = batch(None, &[0; 20]);
    let one = batch(Some(sequence(1)), &[0; 20]);
    let two = batch(Some(sequence(2)), b"");
    let old = message(1, b"old");
    for (records, expected) in [
        ([&one[..], &two], BatchHead::Sequenced(sequence(1))),
        ([&plain, &two], BatchHead::Sequenced(sequence(2))),
        ([&old, &two], BatchHead::Sequenced(sequence(2))),
        ([&two, &[1, 2, 3]], BatchHead::Sequenced(sequence(2))),
        ([&plain, &old], BatchHead::Plain),
    ] {
        assert_eq!(read(&records.concat()), expected);
    }
}

#[test]
fn a_batch_that_is_not_whole_or_lies_about_its_length_has_no_numbers() {
    let whole = batch(Some(sequence(1)), b"");
    for cut in 1..whole.len() {
        assert_eq!(read(&whole[..cut]), BatchHead::Plain, "cut at {cut}");
    }
    for len in [i32::MIN, -1, 0, 13, 48, 50, i32::MAX] {
        let mut lying = whole.clone();
        lying[8..12].copy_from_slice(&len.to_be_bytes());
        assert_eq!(read(&lying), BatchHead::Plain, "of length {len}");
    }
}
