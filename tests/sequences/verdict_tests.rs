//! The judge itself: it sees each kind of harm.

use std::time::Duration;

use super::client::{End, Settled};
use super::verdict::Verdict;

fn acknowledged(record: u64, latency_us: u64) -> Settled {
    Settled { record, partition: 0, latency_us, error: None }
}

#[test]
fn harm_is_seen() {
    let settled: Vec<Settled> = (0..6).map(|record| acknowledged(record, 1_000 * (record + 1))).collect();
    let end = End { sent: 6, unsettled: 0 };
    let good = Verdict::new(&settled, end, &[vec![0, 2, 4], vec![1, 3, 5]]);
    assert!(good.harm().is_empty(), "{good:?}");
    assert_eq!(good.latency_max, Duration::from_millis(6));

    let bad = Verdict::new(&settled, end, &[vec![0, 4, 2, 0], vec![1, 3]]);
    assert_eq!((bad.lost, bad.duplicated, bad.reordered), (1, 1, 1), "{bad:?}");

    let given_up = Settled { error: Some("no usable partitions".to_owned()), ..acknowledged(6, 9_000) };
    let bad = Verdict::new(&[given_up], End { sent: 2, unsettled: 1 }, &[]);
    assert_eq!((bad.error_count(), bad.unsettled, bad.latency_max), (1, 1, Duration::from_millis(9)));
    assert_eq!(bad.harm().len(), 2);
}
