//! Heartbeat 0–4.
//!
//! Invariant: a heartbeat of a member that should join again says so (27) and counts as a sign of life. Deliberately not here: sessions'
//! ends (`group`).

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::State;

pub(crate) struct Heartbeat;

fn beat(cluster: &mut Cluster, call: &Call, request: &HeartbeatRequest) -> Result<(), i16> {
    cluster.coordinates(call, request.group_id.as_str())?;
    let now = cluster.now;
    let group = cluster.groups.get_mut(request.group_id.as_str()).ok_or(code::UNKNOWN_MEMBER_ID)?;
    group.admit(request.member_id.as_str(), request.group_instance_id.as_deref(), request.generation_id)?;
    group.touch(request.member_id.as_str(), now);
    if group.state == State::PreparingRebalance { Err(code::REBALANCE_IN_PROGRESS) } else { Ok(()) }
}

impl Api for Heartbeat {
    type Request = HeartbeatRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: HeartbeatRequest) -> Reply {
        // One that is still loading answers blindly (`GroupCoordinator.handleHeartbeat`).
        let told = beat(cluster, call, &request).err().filter(|error_code| *error_code != code::COORDINATOR_LOAD_IN_PROGRESS);
        let error_code = told.unwrap_or(code::NONE);
        Self::refuse(cluster, call, request, error_code)
    }

    fn refuse(_: &mut Cluster, call: &Call, _: HeartbeatRequest, error_code: i16) -> Reply {
        call.reply(&HeartbeatResponse::default().with_error_code(error_code))
    }
}
