//! What of a group outlives its coordinator: what lies in the log.
//!
//! A group's members are written when its leader has assigned, and when it has none any more; a rebalance that is under way is not, so
//! that a group is always loaded as Stable or Empty, in the generation before. Source: Kafka's `GroupCoordinator.doSyncGroup`,
//! `onGroupUnloaded`, `onGroupLoaded`; `GroupMetadataManager.replay(GroupMetadataKey)`, `onLoaded`, `onUnloaded`. Invariant: committed and
//! pending offsets are always in the log. Deliberately not here: a commit that lies in the log and is answered with 16 because its
//! replication was cut short; `Fault::ErrorAfterApplying(16)` is that.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::api::text;
use super::cluster::Cluster;
use super::code;
use super::group::{Answered, Group, Member, State};

/// The last `GroupMetadataValue` of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
}

impl Group {
    /// The group as it is goes to the log. Of each member's protocols only the chosen one does.
    pub(crate) fn store(&mut self) {
        let stored = |member: &Member| Member {
            protocols: vec![(self.protocol.clone(), member.metadata(&self.protocol))],
            joining: None,
            syncing: None,
            ..member.clone()
        };
        self.stored = Stored {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(|(id, member)| (id.clone(), stored(member))).collect(),
        };
    }

    /// The coordinator is gone: whoever waits is told 16.
    fn dismiss(&mut self) -> Vec<Answered> {
        let mut answers = Vec::new();
        for (member_id, member) in &mut self.members {
            if let Some(call) = member.joining.take() {
                let response = JoinGroupResponse::default().with_error_code(code::NOT_COORDINATOR).with_generation_id(-1);
                answers.push(Answered::Join(call, Box::new(response.with_member_id(text(member_id)))));
            }
            if let Some(call) = member.syncing.take() {
                answers.push(Answered::Sync(call, SyncGroupResponse::default().with_error_code(code::NOT_COORDINATOR)));
            }
        }
        answers
    }

    /// The group as the next coordinator finds it. Sessions begin anew when it has loaded.
    fn reload(&mut self, loaded_at: Duration) {
        let Stored { generation, protocol_type, protocol, leader, members } = self.stored.clone();
        self.state = if members.is_empty() { State::Empty } else { State::Stable };
        self.generation = generation;
        self.protocol_type = protocol_type;
        self.protocol = protocol;
        self.leader = leader;
        self.members = members;
        for member in self.members.values_mut() {
            member.session_ends = loaded_at + member.session_timeout;
        }
        self.promised.clear();
        self.rebalance_ends = None;
    }
}

impl Cluster {
    /// The coordinator moves; the next one has loaded the group at `loaded_at`.
    pub(crate) fn unload_group(&mut self, group_id: &str, loaded_at: Duration) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let answers = group.dismiss();
        group.reload(loaded_at);
        self.deliver(answers);
    }
}
