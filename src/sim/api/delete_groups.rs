//! DeleteGroups 0–2.
//!
//! Invariant: a group with members stays. Deliberately not here: deletion of single offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DeleteGroups;

fn delete(cluster: &mut Cluster, call: &Call, group_id: &str) -> Result<(), i16> {
    cluster.coordinates(call, group_id)?;
    let group = cluster.groups.get(group_id).ok_or(code::GROUP_ID_NOT_FOUND)?;
    if !group.members.is_empty() {
        return Err(code::NON_EMPTY_GROUP);
    }
    cluster.groups.remove(group_id);
    Ok(())
}

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DeleteGroupsRequest) -> Reply {
        let mut response = DeleteGroupsResponse::default();
        for group_id in request.groups_names {
            let error_code = delete(cluster, call, group_id.as_str()).err().unwrap_or(code::NONE);
            response.results.push(DeletableGroupResult::default().with_group_id(group_id).with_error_code(error_code));
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DeleteGroupsRequest, error_code: i16) -> Reply {
        let one = |group_id| DeletableGroupResult::default().with_group_id(group_id).with_error_code(error_code);
        call.reply(&DeleteGroupsResponse::default().with_results(request.groups_names.into_iter().map(one).collect()))
    }
}
