//! DescribeGroups 0–6.
//!
//! Invariant: only the coordinator describes a group. Deliberately not here: authorised operations.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::{Api, Call, Reply, text};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DescribeGroups;

fn describe(cluster: &mut Cluster, call: &Call, group_id: GroupId) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(group_id.clone());
    if let Err(error_code) = cluster.coordinates(call, group_id.as_str()) {
        return described.with_error_code(error_code);
    }
    let Some(group) = cluster.groups.get(group_id.as_str()) else {
        let error_code = if call.version >= 6 { code::GROUP_ID_NOT_FOUND } else { code::NONE };
        return described.with_group_state(text("Dead")).with_error_code(error_code);
    };
    let members = group.members.iter().map(|(id, member)| {
        let instance_id = member.instance_id.as_deref().filter(|_| call.version >= 4).map(text);
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance_id)
            .with_client_id(text(&member.client_id))
            .with_client_host(text("/127.0.0.1"))
            .with_member_metadata(member.metadata(&group.protocol))
            .with_member_assignment(member.assignment.clone())
    });
    described
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DescribeGroupsRequest) -> Reply {
        let groups = request.groups.into_iter().map(|group_id| describe(cluster, call, group_id)).collect();
        call.reply(&DescribeGroupsResponse::default().with_groups(groups))
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DescribeGroupsRequest, error_code: i16) -> Reply {
        let one = |group_id| DescribedGroup::default().with_group_id(group_id).with_error_code(error_code);
        call.reply(&DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(one).collect()))
    }
}
