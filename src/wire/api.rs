//! The table of Kafka's APIs.

/// A Kafka API key, as it stands in the first two bytes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKey(pub i16);

#[allow(missing_docs)]
impl ApiKey {
    pub const PRODUCE: ApiKey = ApiKey(0);
    pub const FETCH: ApiKey = ApiKey(1);
    pub const METADATA: ApiKey = ApiKey(3);
    pub const FIND_COORDINATOR: ApiKey = ApiKey(10);
    pub const SASL_HANDSHAKE: ApiKey = ApiKey(17);
    pub const API_VERSIONS: ApiKey = ApiKey(18);
    pub const DESCRIBE_CLUSTER: ApiKey = ApiKey(60);
    pub const SHARE_FETCH: ApiKey = ApiKey(78);
    pub const SHARE_ACKNOWLEDGE: ApiKey = ApiKey(79);

    /// The row of the table, or `None` for a key that this build does not know.
    pub fn spec(self) -> Option<&'static ApiSpec> {
        None
    }

    /// The API's name (`Produce`), or `Unknown`; a bounded set, fit for a metric's label.
    pub fn name(self) -> &'static str {
        self.spec().map_or("Unknown", |spec| spec.name)
    }
}

/// What the table says of one API.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiSpec {
    pub key: ApiKey,
    pub name: &'static str,
    /// The first version whose request header and body are flexible (KIP-482); `None`: none is.
    pub first_flexible: Option<i16>,
    /// The highest version that we can relay without a broker's address slipping through; what ApiVersions is clamped to.
    pub max_version: i16,
}
