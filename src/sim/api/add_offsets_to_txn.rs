//! AddOffsetsToTxn 0–4: the open transaction will commit offsets of a group.
//!
//! Invariant: it opens the transaction if need be. Deliberately not here: the offsets, which TxnOffsetCommit brings.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::transaction::Identity;

pub(crate) struct AddOffsetsToTxn;

fn add(cluster: &mut Cluster, call: &Call, request: &AddOffsetsToTxnRequest) -> Result<(), i16> {
    let id = request.transactional_id.as_str();
    cluster.coordinates_transaction(call, id)?;
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let fenced = if call.version >= 2 { code::PRODUCER_FENCED } else { code::INVALID_PRODUCER_EPOCH };
    cluster.transactions.add_group(cluster.now, id, identity, fenced, request.group_id.as_str())
}

impl Api for AddOffsetsToTxn {
    type Request = AddOffsetsToTxnRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: AddOffsetsToTxnRequest) -> Reply {
        let error_code = add(cluster, call, &request).err().unwrap_or(code::NONE);
        Self::refuse(cluster, call, request, error_code)
    }

    fn refuse(_: &mut Cluster, call: &Call, _: AddOffsetsToTxnRequest, error_code: i16) -> Reply {
        call.reply(&AddOffsetsToTxnResponse::default().with_error_code(error_code))
    }
}
