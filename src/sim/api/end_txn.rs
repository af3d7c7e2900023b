//! EndTxn 0–5: the markers are written before the answer.
//!
//! Invariant: a transaction ends once, whatever is retried. Deliberately not here: the rules (`transaction`).

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::transaction::Identity;

pub(crate) struct EndTxn;

impl Api for EndTxn {
    type Request = EndTxnRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: EndTxnRequest) -> Reply {
        let id = request.transactional_id.to_string();
        let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
        let coordinated = cluster.coordinates_transaction(call, &id);
        match coordinated.and_then(|()| cluster.end_transaction(&id, identity, request.committed, call.version)) {
            Ok(next) if call.version >= 5 => {
                let response = EndTxnResponse::default().with_producer_id(ProducerId(next.producer_id));
                call.reply(&response.with_producer_epoch(next.epoch))
            }
            Ok(_) => call.reply(&EndTxnResponse::default()),
            Err(error_code) => Self::refuse(cluster, call, request, error_code),
        }
    }

    fn refuse(_: &mut Cluster, call: &Call, _: EndTxnRequest, error_code: i16) -> Reply {
        call.reply(&EndTxnResponse::default().with_error_code(error_code))
    }
}
