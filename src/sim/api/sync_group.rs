//! SyncGroup 0–5, classic protocol.
//!
//! Invariant: an assignment is only given under the generation that it was made for. Deliberately not here: the rules (`rebalance`).

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::profile::Profile;

pub(crate) struct SyncGroup;

/// A response, without what its version has no room for.
pub(crate) fn encode(call: &Call, mut response: SyncGroupResponse) -> Reply {
    if call.version < 5 {
        response.protocol_type = None;
        response.protocol_name = None;
    }
    call.reply(&response)
}

impl Api for SyncGroup {
    type Request = SyncGroupRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: SyncGroupRequest) -> Reply {
        if let Err(error_code) = cluster.coordinates(call, request.group_id.as_str()) {
            // While it loads, a release with the older coordinator sends members back to join (`GroupCoordinator.handleSyncGroup`); the
            // newer one says 14 (`GroupCoordinatorService.syncGroup`).
            let is_older = cluster.brokers.get(&call.broker).is_some_and(|broker| broker.profile == Profile::V3_6);
            let says_27 = error_code == code::COORDINATOR_LOAD_IN_PROGRESS && is_older;
            return Self::refuse(cluster, call, request, if says_27 { code::REBALANCE_IN_PROGRESS } else { error_code });
        }
        let now = cluster.now;
        let Some(group) = cluster.groups.get_mut(request.group_id.as_str()) else {
            return Self::refuse(cluster, call, request, code::UNKNOWN_MEMBER_ID);
        };
        let answers = group.sync(now, call.clone(), &request);
        cluster.deliver(answers);
        Reply::Later
    }

    fn refuse(_: &mut Cluster, call: &Call, _: SyncGroupRequest, error_code: i16) -> Reply {
        encode(call, SyncGroupResponse::default().with_error_code(error_code))
    }
}
