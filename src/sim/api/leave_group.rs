//! LeaveGroup 0–5: one member up to version 2, several from 3 on.
//!
//! Invariant: a member that left is gone at once. Deliberately not here: what the others are told (`rebalance`).

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct LeaveGroup;

fn leave(cluster: &mut Cluster, group_id: &str, member_id: &str, instance_id: Option<&str>) -> i16 {
    let now = cluster.now;
    let Some(group) = cluster.groups.get_mut(group_id) else { return code::UNKNOWN_MEMBER_ID };
    if group.promised.remove(member_id).is_some() {
        return code::NONE;
    }
    // A static member may be named by its instance alone.
    let by_instance = group.members.iter().find(|(_, member)| instance_id.is_some() && member.instance_id.as_deref() == instance_id);
    let member_id = match by_instance {
        Some((id, _)) if member_id.is_empty() || id == member_id => id.clone(),
        Some(_) => return code::FENCED_INSTANCE_ID,
        None => member_id.to_owned(),
    };
    if !group.members.contains_key(&member_id) {
        return code::UNKNOWN_MEMBER_ID;
    }
    let answers = group.remove(now, &member_id);
    cluster.deliver(answers);
    code::NONE
}

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: LeaveGroupRequest) -> Reply {
        let group_id = request.group_id.to_string();
        if let Err(error_code) = cluster.coordinates(call, &group_id) {
            return Self::refuse(cluster, call, request, error_code);
        }
        if call.version < 3 {
            let error_code = leave(cluster, &group_id, request.member_id.as_str(), None);
            return Self::refuse(cluster, call, request, error_code);
        }
        let mut response = LeaveGroupResponse::default();
        for member in request.members {
            let error_code = leave(cluster, &group_id, member.member_id.as_str(), member.group_instance_id.as_deref());
            let result = MemberResponse::default().with_member_id(member.member_id).with_group_instance_id(member.group_instance_id);
            response.members.push(result.with_error_code(error_code));
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, _: LeaveGroupRequest, error_code: i16) -> Reply {
        call.reply(&LeaveGroupResponse::default().with_error_code(error_code))
    }
}
