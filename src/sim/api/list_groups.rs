//! ListGroups 0–5: the groups that this broker coordinates.
//!
//! Invariant: over all brokers, each group is listed once. Deliberately not here: groups of other protocols.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::{Api, Call, Reply, text};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::coordinator::GROUP;

pub(crate) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: ListGroupsRequest) -> Reply {
        let mut response = ListGroupsResponse::default();
        if cluster.is_loading(GROUP, call.broker) {
            // What is there already is listed beside it (`GroupCoordinator.handleListGroups`).
            response.error_code = code::COORDINATOR_LOAD_IN_PROGRESS;
        }
        let ids: Vec<String> = cluster.groups.iter().map(|(id, _)| id.clone()).collect();
        for id in ids.iter().filter(|id| cluster.coordinates(call, id).is_ok()).collect::<Vec<_>>() {
            let Some(group) = cluster.groups.get(id) else { continue };
            let name = group.state.name();
            if !request.states_filter.is_empty() && !request.states_filter.iter().any(|state| state.eq_ignore_ascii_case(name)) {
                continue;
            }
            let mut listed = ListedGroup::default().with_group_id(GroupId(text(id))).with_protocol_type(text(&group.protocol_type));
            if call.version >= 4 {
                listed.group_state = text(name);
            }
            if call.version >= 5 {
                listed.group_type = text("classic");
            }
            response.groups.push(listed);
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, _: ListGroupsRequest, error_code: i16) -> Reply {
        call.reply(&ListGroupsResponse::default().with_error_code(error_code))
    }
}
