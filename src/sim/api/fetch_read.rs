//! What one partition gives to a fetch: records, or why not; and whether another replica should be asked.
//!
//! A broker that has lost a partition and still holds a replica of it fences (74) a consumer that knows the old epoch, and goes on serving
//! one that names none, up to the high watermark, if its version could name a rack (`FetchParams.fetchOnlyLeader`). Source: Kafka's
//! `ReplicaManager.readFromLog`, `findPreferredReadReplica`, `Partition.readRecords`, `RackAwareReplicaSelector`. Invariant: whole batches
//! only, none above the high watermark or, read committed, the last stable offset. Deliberately not here: a last batch that is cut,
//! followers whose high watermark lags behind the leader's, tiered storage.

use kafka_protocol::messages::fetch_response::{AbortedTransaction, EpochEndOffset, PartitionData};
use kafka_protocol::messages::{BrokerId, ProducerId};

use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::fetch_session::{FetchKey, Planned, Told, Wanted};
use crate::sim::topic::Partition;

/// Who reads, and where.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) broker: i32,
    pub(crate) is_read_committed: bool,
    pub(crate) any_replica: bool,
    /// Empty: none.
    pub(crate) rack: String,
}

/// What a partition has to give.
pub(crate) struct Read {
    pub(crate) topic: String,
    pub(crate) data: PartitionData,
    /// What a session remembers; nothing after an error, so that the next answer has the partition again.
    pub(crate) told: Option<Told>,
    pub(crate) bytes: usize,
    /// The client has to act: it is told at once, also in a session.
    pub(crate) is_urgent: bool,
}

/// A partition of which there is nothing but an error code.
pub(crate) fn failed(topic: String, key: &FetchKey, error_code: i16) -> Read {
    let data = PartitionData::default()
        .with_partition_index(key.partition)
        .with_error_code(error_code)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_records(Some(bytes::Bytes::new()));
    Read { topic, data, told: None, bytes: 0, is_urgent: true }
}

impl Reader {
    /// Reads a partition, up to `budget` bytes; the first batch even if it is larger, with `first_always`.
    pub(crate) fn read(&self, cluster: &Cluster, planned: &Planned, budget: usize, first_always: bool) -> Read {
        let Planned { key, topic, wanted } = planned;
        let Some(topic) = topic.clone() else { return failed(String::new(), key, code::UNKNOWN_TOPIC_ID) };
        match self.try_read(cluster, &topic, planned, budget, first_always) {
            Err(error_code) => failed(topic, key, error_code),
            Ok((partition, data)) => {
                let log = &partition.log;
                let bytes = data.records.as_ref().map_or(0, |records| records.len());
                let is_urgent = data.preferred_read_replica.0 >= 0 || data.diverging_epoch != EpochEndOffset::default();
                debug_assert!(bytes == 0 || wanted.offset < log.high_watermark());
                let told = Told { high_watermark: log.high_watermark(), log_start_offset: log.start_offset() };
                let data = data
                    .with_partition_index(key.partition)
                    .with_high_watermark(told.high_watermark)
                    .with_last_stable_offset(log.last_stable_offset())
                    .with_log_start_offset(told.log_start_offset);
                Read { topic, data, told: Some(told), bytes, is_urgent }
            }
        }
    }

    fn try_read<'a>(
        &self,
        cluster: &'a Cluster,
        name: &str,
        planned: &Planned,
        budget: usize,
        first_always: bool,
    ) -> Result<(&'a Partition, PartitionData), i16> {
        let Planned { key, wanted, .. } = planned;
        let topic = cluster.topics.get(name).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
        let partition = topic.partition(key.partition).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
        if !partition.replicas.contains(&self.broker) {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        // A session may know the name of a topic that was deleted and created again since.
        if !key.topic_id.is_nil() && key.topic_id != topic.id {
            return Err(code::INCONSISTENT_TOPIC_ID);
        }
        let empty = PartitionData::default().with_records(Some(bytes::Bytes::new()));
        if let Some(replica) = self.preferred(cluster, partition, wanted.offset) {
            partition.admit_reader(self.broker, wanted.current_leader_epoch)?;
            return Ok((partition, empty.with_preferred_read_replica(BrokerId(replica))));
        }
        if self.any_replica {
            partition.admit_reader(self.broker, wanted.current_leader_epoch)?;
        } else {
            partition.admit(self.broker, wanted.current_leader_epoch)?;
        }
        if let Some(diverging) = diverging(partition, wanted)? {
            return Ok((partition, empty.with_diverging_epoch(diverging)));
        }
        if wanted.offset < partition.log.start_offset() || wanted.offset > partition.end_offset_at(self.broker) {
            return Err(code::OFFSET_OUT_OF_RANGE);
        }
        Ok((partition, self.records(partition, wanted, budget, first_always)))
    }

    fn records(&self, partition: &Partition, wanted: &Wanted, budget: usize, first_always: bool) -> PartitionData {
        let log = &partition.log;
        let limit = if self.is_read_committed { log.last_stable_offset() } else { log.high_watermark() };
        let max_bytes = budget.min(usize::try_from(wanted.max_bytes).unwrap_or(0));
        let slice = log.read(wanted.offset, limit, max_bytes, first_always);
        let aborted = self.is_read_committed.then(|| {
            let found = log.aborted_between(wanted.offset, slice.end_offset).into_iter();
            let one = found.map(|aborted| {
                AbortedTransaction::default().with_producer_id(ProducerId(aborted.producer_id)).with_first_offset(aborted.first_offset)
            });
            one.collect()
        });
        PartitionData::default().with_aborted_transactions(aborted).with_records(Some(slice.records))
    }

    /// The follower that this leader sends the reader to: in its rack, in sync, with what it asks for (KIP-392).
    fn preferred(&self, cluster: &Cluster, partition: &Partition, offset: i64) -> Option<i32> {
        let may = cluster.options.rack_aware_fetch && self.any_replica && !self.rack.is_empty();
        let leader = partition.leader.filter(|leader| may && *leader == self.broker)?;
        let is_near = |id: i32| cluster.brokers.get(&id).is_some_and(|broker| broker.listed && broker.rack.as_ref() == Some(&self.rack));
        let has_it = |id: i32| partition.end_offset_at(id) >= offset && partition.log.start_offset() <= offset;
        if is_near(leader) {
            return None;
        }
        let candidates = partition.isr.iter().copied().filter(|id| *id != leader && is_near(*id) && has_it(*id));
        candidates.max_by_key(|id| (partition.end_offset_at(*id), std::cmp::Reverse(*id)))
    }
}

/// Where the log that the reader knows parts from this one (KIP-595).
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEndOffset>, i16> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let ended = partition.log.end_of_epoch(wanted.last_fetched_epoch, partition.leader_epoch);
    let (epoch, end_offset) = ended.ok_or(code::OFFSET_OUT_OF_RANGE)?;
    if wanted.offset < partition.log.start_offset() {
        return Err(code::OFFSET_OUT_OF_RANGE);
    }
    let parts = epoch < wanted.last_fetched_epoch || end_offset < wanted.offset;
    Ok(parts.then(|| EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset)))
}
