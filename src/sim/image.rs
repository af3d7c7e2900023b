//! What a broker tells of the cluster: an image that may be the truth, an earlier truth, or a wrong one.
//!
//! Invariant: an image is a value; answering from it never looks at the cluster again. Deliberately not here: encoding (`api`).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::broker::MetadataFault;
use super::code;
use super::coordinator::GROUP;

/// A broker in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageBroker {
    /// Node id.
    pub id: i32,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// Rack.
    pub rack: Option<String>,
}

/// A partition in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePartition {
    /// 0, or 5 where there is no leader.
    pub error_code: i16,
    /// −1: none.
    pub leader: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Who holds it.
    pub replicas: Vec<i32>,
    /// Who is in sync.
    pub isr: Vec<i32>,
    /// Replicas that are not listed.
    pub offline: Vec<i32>,
}

/// A topic in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageTopic {
    /// Its id.
    pub id: Uuid,
    /// By index.
    pub partitions: Vec<ImagePartition>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// What `brokers[]` lists.
    pub brokers: Vec<ImageBroker>,
    /// −1: none.
    pub controller: i32,
    /// By name.
    pub topics: BTreeMap<String, ImageTopic>,
    /// Who leads the partition that a group's (0) or a transactional id's (1) log lies in; −1: nobody.
    pub coordinators: BTreeMap<(i8, String), i32>,
}

impl Image {
    /// This image as `fault` distorts it.
    pub fn distorted(self, fault: &MetadataFault) -> Image {
        let mut image = self;
        match fault {
            MetadataFault::Stale(earlier) => return earlier.as_ref().clone(),
            MetadataFault::Hide(id) => image.brokers.retain(|broker| broker.id != *id),
            MetadataFault::Leaderless { topic, error_code } => {
                let chosen = image.topics.iter_mut().filter(|(name, _)| topic.as_ref().is_none_or(|only| only == *name));
                for partition in chosen.flat_map(|(_, topic)| topic.partitions.iter_mut()) {
                    partition.leader = -1;
                    partition.error_code = *error_code;
                }
                let log_of = |key_type: i8| if key_type == GROUP { "__consumer_offsets" } else { "__transaction_state" };
                let is_chosen = |key_type: i8| topic.as_ref().is_none_or(|only| only == log_of(key_type));
                image.coordinators.iter_mut().filter(|((key_type, _), _)| is_chosen(*key_type)).for_each(|(_, at)| *at = -1);
            }
        }
        image
    }

    /// The error code of a partition without a leader, as Kafka gives it.
    pub fn leader_error(leader: Option<i32>) -> i16 {
        if leader.is_some() { code::NONE } else { code::LEADER_NOT_AVAILABLE }
    }
}
