//! InitProducerId 0–5.
//!
//! Invariant: each answer is a producer id and epoch that nobody had before. Deliberately not here: two-phase commit (version 6).

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::transaction::Identity;

pub(crate) struct InitProducerId;

fn identify(cluster: &mut Cluster, call: &Call, request: &InitProducerIdRequest) -> Result<Identity, i16> {
    let Some(transactional_id) = &request.transactional_id else { return Ok(cluster.new_producer()) };
    cluster.coordinates_transaction(call, transactional_id.as_str())?;
    let timeout = Duration::from_millis(u64::try_from(request.transaction_timeout_ms).unwrap_or(0));
    let claims = call.version >= 3 && request.producer_id.0 >= 0;
    let claimed = claims.then_some(Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch });
    let fenced_before_version_4 =
        |error_code| if call.version < 4 && error_code == code::PRODUCER_FENCED { code::INVALID_PRODUCER_EPOCH } else { error_code };
    cluster.init_transactional(transactional_id.as_str(), timeout, claimed).map_err(fenced_before_version_4)
}

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: InitProducerIdRequest) -> Reply {
        match identify(cluster, call, &request) {
            Ok(identity) => {
                let response = InitProducerIdResponse::default().with_producer_id(ProducerId(identity.producer_id));
                call.reply(&response.with_producer_epoch(identity.epoch))
            }
            Err(error_code) => Self::refuse(cluster, call, request, error_code),
        }
    }

    fn refuse(_: &mut Cluster, call: &Call, _: InitProducerIdRequest, error_code: i16) -> Reply {
        let response = InitProducerIdResponse::default().with_error_code(error_code);
        call.reply(&response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
    }
}
