//! JoinGroup 0–9, classic protocol.
//!
//! Invariant: every join is answered, when its generation begins or when it is refused. Deliberately not here: the rules (`rebalance`).

use std::time::Duration;

use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::Member;
use crate::sim::rebalance::Joining;

pub(crate) struct JoinGroup;

/// A response, without what its version has no room for.
pub(crate) fn encode(call: &Call, mut response: JoinGroupResponse) -> Reply {
    if call.version < 7 {
        response.protocol_type = None;
        response.protocol_name = Some(response.protocol_name.unwrap_or_default());
    }
    if call.version < 5 {
        response.members.iter_mut().for_each(|member| member.group_instance_id = None);
    }
    call.reply(&response)
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

impl Api for JoinGroup {
    type Request = JoinGroupRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: JoinGroupRequest) -> Reply {
        let group_id = request.group_id.to_string();
        if let Err(error_code) = cluster.coordinates(call, &group_id) {
            return Self::refuse(cluster, call, request, error_code);
        }
        if request.session_timeout_ms <= 0 {
            return Self::refuse(cluster, call, request, code::INVALID_SESSION_TIMEOUT);
        }
        let rebalance_timeout_ms = if call.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        let member = Member {
            client_id: call.client_id.clone(),
            instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: millis(rebalance_timeout_ms),
            protocols: request.protocols.iter().map(|protocol| (protocol.name.to_string(), protocol.metadata.clone())).collect(),
            assignment: bytes::Bytes::new(),
            session_ends: Duration::ZERO,
            joining: None,
            syncing: None,
        };
        let joining = Joining { member_id: request.member_id.to_string(), protocol_type: request.protocol_type.to_string(), member };
        let fresh_id = format!("{}-{:032x}", call.client_id, cluster.rng.u128(..));
        let (now, delay) = (cluster.now, cluster.options.group_initial_rebalance_delay);
        let answers = cluster.groups.get_or_create(&group_id).join(now, call.clone(), joining, fresh_id, delay);
        cluster.deliver(answers);
        Reply::Later
    }

    fn refuse(_: &mut Cluster, call: &Call, request: JoinGroupRequest, error_code: i16) -> Reply {
        let response = JoinGroupResponse::default().with_error_code(error_code).with_generation_id(-1).with_member_id(request.member_id);
        encode(call, response)
    }
}
