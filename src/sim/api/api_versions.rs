//! ApiVersions 0–4: what the broker's profile lists. A higher version gets error 35 in the encoding of version 0 (KIP-511).
//!
//! Invariant: the answer is the profile's, whatever the cluster does. Deliberately not here: finalized features; there are none, so
//! clients use the first transaction protocol unless they choose otherwise.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::profile::Profile;

pub(crate) struct ApiVersions;

fn listing(profile: Profile, error_code: i16) -> ApiVersionsResponse {
    let rows = profile.listed().into_iter();
    let keys = rows.map(|row| ApiVersion::default().with_api_key(row.api as i16).with_min_version(row.min).with_max_version(row.max));
    ApiVersionsResponse::default().with_error_code(error_code).with_api_keys(keys.collect())
}

/// The answer to a version that the broker does not have.
pub(crate) fn unsupported(call: &Call, profile: Profile) -> Reply {
    let oldest = Call { version: 0, ..call.clone() };
    oldest.reply(&listing(profile, code::UNSUPPORTED_VERSION))
}

impl Api for ApiVersions {
    type Request = ApiVersionsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: ApiVersionsRequest) -> Reply {
        Self::refuse(cluster, call, request, code::NONE)
    }

    fn refuse(cluster: &mut Cluster, call: &Call, _: ApiVersionsRequest, error_code: i16) -> Reply {
        let profile = cluster.brokers.get(&call.broker).map(|broker| broker.profile).unwrap_or_default();
        call.reply(&listing(profile, error_code))
    }
}
