//! What a way's load came to, chapter by chapter.
//!
//! Invariant: lost, duplicated and reordered are judged by the log alone; a record belongs to the chapter in which it was due, and order
//! by first appearance. Deliberately absent: sockets.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::story::Chapter;
use super::ways::Travelled;
use crate::sim::client::legacy::load::Sample;
use crate::sim::tally::{Seen, Tally};

/// A chapter of one way. Latency is from the moment at which a record was due to its acknowledgement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    pub records: u64,
    pub p50_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// Records that the application saw fail, or that were not acknowledged when time was up.
    pub errors: u64,
    /// Acknowledged, and not in the log.
    pub lost: u64,
    /// Further appearances in the log.
    pub duplicated: u64,
    /// First appearances behind a later record of the partition.
    pub reordered: u64,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0
    }
}

/// A way's verdicts, one per chapter, and how many records in its log were nobody's.
pub fn judge(chapters: &[Chapter], way: &Travelled) -> (Vec<Verdict>, u64) {
    let mut verdicts: Vec<Verdict> = Vec::new();
    let samples = &way.report.samples;
    for chapter in chapters {
        verdicts.push(latencies(samples.iter().flatten().filter(|sample| is_of(chapter, sample.due))));
    }
    let mut tally = Tally::new(i32::try_from(samples.len()).unwrap_or(0));
    for (partition, records) in (0..).zip(samples) {
        tally.send(partition, records.len() as u64);
        for (number, sample) in (0..).zip(records) {
            if sample.acknowledged.is_some() {
                tally.acknowledge(partition, number, 1);
            }
        }
    }
    for (partition, log) in (0..).zip(&way.log) {
        for stamp in log {
            let number = stamp.map(|stamp| stamp.number);
            let seen = tally.consume(partition, number);
            let Some(verdict) = number.and_then(|number| verdict_of(chapters, &mut verdicts, samples, partition, number)) else { continue };
            match seen {
                Seen::Behind => verdict.reordered += 1,
                Seen::Again => verdict.duplicated += 1,
                Seen::InOrder | Seen::Foreign => {}
            }
        }
    }
    let lost: Vec<(i32, u64)> = tally.lost_records().collect();
    for (partition, number) in lost {
        if let Some(verdict) = verdict_of(chapters, &mut verdicts, samples, partition, number) {
            verdict.lost += 1;
        }
    }
    (verdicts, tally.foreign())
}

fn is_of(chapter: &Chapter, due: Duration) -> bool {
    (chapter.from..chapter.until).contains(&due)
}

fn verdict_of<'a>(
    chapters: &[Chapter],
    verdicts: &'a mut [Verdict],
    samples: &[Vec<Sample>],
    partition: i32,
    number: u64,
) -> Option<&'a mut Verdict> {
    let sample = samples.get(usize::try_from(partition).ok()?)?.get(usize::try_from(number).ok()?)?;
    let chapter = chapters.iter().position(|chapter| is_of(chapter, sample.due))?;
    verdicts.get_mut(chapter)
}

fn latencies<'a>(samples: impl Iterator<Item = &'a Sample>) -> Verdict {
    const TEN_MINUTES_US: u64 = 600_000_000;
    let mut latency = Histogram::<u64>::new_with_bounds(1, TEN_MINUTES_US, 3).unwrap_or_else(|_| unreachable!("constant bounds are valid"));
    let mut verdict = Verdict::default();
    for sample in samples {
        verdict.records += 1;
        match sample.acknowledged {
            Some(at) => {
                let latency_us = u64::try_from(at.saturating_sub(sample.due).as_micros()).unwrap_or(u64::MAX);
                latency.saturating_record(latency_us);
                verdict.max_us = verdict.max_us.max(latency_us);
            }
            None => verdict.errors += 1,
        }
    }
    verdict.p50_us = latency.value_at_quantile(0.5);
    verdict.p999_us = latency.value_at_quantile(0.999);
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::story::{self, Scenario};
    use crate::sim::client::legacy::load::{Report, Stamp};

    #[test]
    fn each_fault_is_counted_in_the_chapter_in_which_its_record_was_due() {
        let chapters = story::chapters(&[Scenario::ScaleIn, Scenario::Crash]);
        let second = chapters[1].from;
        let sample = |due: Duration, took_ms: Option<u64>| Sample { due, acknowledged: took_ms.map(|ms| due + Duration::from_millis(ms)) };
        let early = |number: u64| Duration::from_millis(number);
        let samples = vec![
            sample(early(0), Some(1)),
            sample(early(1), Some(2)),
            sample(early(2), Some(3)),
            sample(second, Some(400)),
            sample(second, None),
        ];
        let stamp = |number| Some(Stamp { partition: 0, number });
        let log = vec![vec![stamp(0), stamp(2), stamp(1), stamp(2), None]];
        let way = Travelled { report: Report { samples: vec![samples], ..Report::default() }, log };
        let (verdicts, foreign) = judge(&chapters, &way);
        let counts = |verdict: &Verdict| (verdict.records, verdict.errors, verdict.lost, verdict.duplicated, verdict.reordered);
        assert_eq!(counts(&verdicts[0]), (3, 0, 0, 1, 1));
        assert_eq!(counts(&verdicts[1]), (2, 1, 1, 0, 0));
        assert_eq!((verdicts[0].max_us, verdicts[1].max_us, foreign), (3_000, 400_000, 1));
        assert!(!verdicts[0].is_clean() && !verdicts[1].is_clean());
    }
}
