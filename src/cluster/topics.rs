//! Topics of the view, by id and by name, and their partitions' leaders.
//!
//! Invariant: a name leads to one topic at a time: the one whose id was heard last for it.
//! Deliberately absent: the rules by which an answer counts (`learn_topics`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::{NodeId, TopicId};

/// How a request or an answer names a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    Id(TopicId),
    Name(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// All zeros: the cluster has not said it (Metadata below 10).
    pub id: TopicId,
    /// `None`: known only from leader hints that carry ids (Produce ≥ 13, Fetch ≥ 13).
    pub name: Option<Arc<str>>,
    pub partitions: BTreeMap<i32, Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The last leader that the cluster named, whether listed or not; `None`: it never named one.
    pub leader: Option<NodeId>,
    /// −1: the cluster has not said it.
    pub epoch: i32,
    /// Since when the cluster says that there is no leader (−1); `leader` is then the last good one.
    pub leaderless_since: Option<Instant>,
    /// When `leader` or `epoch` last changed.
    pub changed_at: Instant,
    /// While `leader` is a broker that nobody has listed: the one before it.
    pub(super) last_good: Option<NodeId>,
    /// `leader` was not listed when it was named: since when no listed broker has led.
    pub(super) unlisted_since: Option<Instant>,
    /// A smaller epoch that answers keep repeating, where that may come to count.
    pub(super) lower: Option<LowerEpoch>,
}

/// A leader with an epoch below the known one, and how many answers in a row have named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LowerEpoch {
    pub leader: Option<NodeId>,
    pub epoch: i32,
    pub answers: u32,
}

/// Every topic of the view. Topics are shared between snapshots; a change copies the one that it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_id: HashMap<TopicId, Arc<Topic>>,
    by_name: HashMap<Arc<str>, Named>,
    partitions_count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// `previous`: the id that this name had before, kept because a lagging broker may still speak of it.
    Id {
        current: TopicId,
        previous: Option<TopicId>,
    },
    WithoutId(Arc<Topic>),
}

impl Topics {
    pub fn get(&self, topic: TopicRef<'_>) -> Option<&Arc<Topic>> {
        match topic {
            TopicRef::Id(id) => self.by_id.get(&id),
            TopicRef::Name(name) => match self.by_name.get(name)? {
                Named::Id { current, .. } => self.by_id.get(current),
                Named::WithoutId(topic) => Some(topic),
            },
        }
    }

    /// Topics by any id or name, those included that only hints have named, and a re-created topic's last id.
    pub fn len(&self) -> usize {
        self.by_id.len() + self.by_name.values().filter(|named| matches!(named, Named::WithoutId(_))).count()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_name.is_empty()
    }

    pub fn partitions_count(&self) -> usize {
        self.partitions_count
    }

    /// Every topic, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let without_id = self.by_name.values().filter_map(|named| match named {
            Named::WithoutId(topic) => Some(topic),
            Named::Id { .. } => None,
        });
        self.by_id.values().chain(without_id)
    }

    /// Puts `topic` in the place of what had its id, or, where it has none, its name. What has neither is ignored.
    ///
    /// `takes_name`: from now on its name means this topic.
    pub(super) fn put(&mut self, topic: Topic, takes_name: bool) {
        let added = topic.partitions.len();
        if topic.id != TopicId::default() {
            if let Some(name) = topic.name.as_ref().filter(|_| takes_name) {
                self.point_name_at(name, topic.id);
            }
            if let Some(replaced) = self.by_id.insert(topic.id, Arc::new(topic)) {
                self.partitions_count -= replaced.partitions.len();
            }
        } else if let Some(name) = topic.name.clone() {
            self.remove_name(&name);
            self.by_name.insert(name, Named::WithoutId(Arc::new(topic)));
        } else {
            return;
        }
        self.partitions_count += added;
    }

    pub(super) fn remove(&mut self, topic: TopicRef<'_>) {
        match topic {
            TopicRef::Name(name) => self.remove_name(name),
            TopicRef::Id(id) => {
                let name = self.by_id.get(&id).and_then(|topic| topic.name.clone());
                match name.as_deref().and_then(|name| self.by_name.get(name)) {
                    Some(Named::Id { current, .. }) if *current == id => self.remove_name(&name.unwrap_or_default()),
                    _ => self.remove_id(id),
                }
            }
        }
    }

    fn point_name_at(&mut self, name: &Arc<str>, id: TopicId) {
        let before = match self.by_name.get(name) {
            Some(Named::Id { current, .. }) if *current == id => return,
            Some(Named::Id { current, previous }) => Some((*current, *previous)),
            Some(Named::WithoutId(topic)) => {
                self.partitions_count -= topic.partitions.len();
                None
            }
            None => None,
        };
        if let Some(older) = before.and_then(|(_, previous)| previous).filter(|older| *older != id) {
            self.remove_id(older);
        }
        self.by_name.insert(name.clone(), Named::Id { current: id, previous: before.map(|(current, _)| current) });
    }

    fn remove_name(&mut self, name: &str) {
        match self.by_name.remove(name) {
            Some(Named::Id { current, previous }) => {
                self.remove_id(current);
                if let Some(previous) = previous {
                    self.remove_id(previous);
                }
            }
            Some(Named::WithoutId(topic)) => self.partitions_count -= topic.partitions.len(),
            None => {}
        }
    }

    fn remove_id(&mut self, id: TopicId) {
        if let Some(topic) = self.by_id.remove(&id) {
            self.partitions_count -= topic.partitions.len();
        }
    }
}
