//! The scripts: what the cluster does, and what the client is told to do meanwhile.
//!
//! Invariant: a script does the same whether or not a proxy is between; it waits for nothing that only a direct client does.
//! Not here: which load a script runs under, and what is expected of it (`catalogue`).

use std::time::Duration;

use anyhow::Result;
use evenkeel::sim::broker::MetadataFault;
use evenkeel::sim::cluster::Cluster;
use evenkeel::sim::fault::{Exchange, Fault, Rule, Verdict};
use evenkeel::sim::frame::decode_request;
use kafka_protocol::messages::{ApiKey, MetadataRequest};

use super::stage::{BROKERS, PARTITIONS, Stage, TOPIC};

/// The broker that leaves. It leads partitions 1 and 4.
const LEAVING: i32 = 1;
const PRODUCE: i16 = ApiKey::Produce as i16;
const METADATA: i16 = ApiKey::Metadata as i16;
const CLIENT_ID: &str = "sequences";

pub const RACE_HELD: Duration = Duration::from_millis(60);
pub const STALE_LEADER: Duration = Duration::from_millis(100);
pub const STALE_METADATA: Duration = Duration::from_millis(300);
pub const LEADERLESS: Duration = Duration::from_millis(100);
/// Metadata are wrong for longer than any script lasts, or until it heals them.
const FOR_GOOD: Duration = Duration::from_secs(60);

/// The client's own metadata requests, not those of a proxy; of all topics (topics = null) or of some.
fn asks_metadata(exchange: &Exchange, all_topics: bool) -> bool {
    exchange.api_key == METADATA
        && decode_request::<MetadataRequest>(&exchange.frame)
            .is_ok_and(|(header, request)| header.client_id.as_deref() == Some(CLIENT_ID) && request.topics.is_none() == all_topics)
}

/// `brokers[]` is without it from now on.
fn hide_leaving(cluster: &mut Cluster) {
    for broker in 0..BROKERS {
        cluster.distort_metadata(broker, MetadataFault::Hide(LEAVING), FOR_GOOD);
    }
}

/// N is absent from metadata and still leads. The producer, which no longer finds N, asks for the brokers; while that answer is held, an
/// answer about the topic moves the leader away. Then the first one says once more that there is no N.
pub fn forced_race(stage: &mut Stage) -> Result<()> {
    let asked = stage.once(|exchange| asks_metadata(exchange, true), |_| Verdict::Inflict(Fault::Delay(RACE_HELD)));
    stage.control(hide_leaving);
    stage.refresh()?;
    // Whoever hides nothing from the client is not asked.
    let _ = asked.recv_timeout(RACE_HELD);
    stage.control(|cluster| cluster.remove_broker(LEAVING));
    stage.refresh()
}

/// N is absent from metadata and still leads for a while; then it is gone and others lead.
pub fn stale_leader(stage: &mut Stage) -> Result<()> {
    stage.control(hide_leaving);
    stage.later(STALE_LEADER, |cluster| cluster.remove_broker(LEAVING));
    stage.refresh()
}

/// N dies at a produce request. Metadata name it as the leader for a while, and it refuses connections.
pub fn refused(stage: &mut Stage) -> Result<()> {
    let died = stage.once(
        |exchange| exchange.api_key == PRODUCE && exchange.broker == LEAVING,
        |cluster| {
            cluster.at(cluster.now() + STALE_METADATA, |cluster| cluster.fence_broker(LEAVING));
            cluster.crash_broker(LEAVING);
            Verdict::Inflict(Fault::Close)
        },
    );
    Ok(died.recv_timeout(Duration::from_secs(5))?)
}

/// N leads no more and says so to those who produce; it stays.
pub fn not_leader(stage: &mut Stage) -> Result<()> {
    stage.control(|cluster| cluster.drain_broker(LEAVING));
    Ok(())
}

/// Nobody leads any partition for a while, and the client reads so. Then another replica of each leads.
pub fn leader_not_available(stage: &mut Stage) -> Result<()> {
    stage.control(|cluster| (0..PARTITIONS).for_each(|partition| cluster.lose_leader(TOPIC, partition)));
    stage.later(LEADERLESS, |cluster| {
        (0..PARTITIONS).for_each(|partition| cluster.move_leader(TOPIC, partition, (partition + 1) % BROKERS));
    });
    stage.refresh()
}

/// N closes a connection instead of taking a produce request, once.
pub fn one_eof(stage: &mut Stage) -> Result<()> {
    stage.control(|cluster| cluster.inject(Rule::new(Fault::Close).on_broker(LEAVING).on_api(PRODUCE).times(1)));
    Ok(())
}

/// N is at another address, and the client asks for metadata.
pub fn address_change(stage: &mut Stage) -> Result<()> {
    stage.control(|cluster| cluster.readdress_broker(LEAVING));
    stage.refresh()
}

/// N is at another address, and nobody tells the client.
pub fn address_change_unnoticed(stage: &mut Stage) -> Result<()> {
    stage.control(|cluster| cluster.readdress_broker(LEAVING));
    Ok(())
}

/// The answer about the topic that the client waits for is the first to be without N and with other leaders. N ends soon after.
pub fn removed_and_moved(stage: &mut Stage) -> Result<()> {
    const UNASKED_MAX: Duration = Duration::from_millis(50);
    const ENDS_AFTER: Duration = Duration::from_millis(100);
    let asked = stage.once(
        |exchange| asks_metadata(exchange, false),
        |cluster| {
            cluster.fence_broker(LEAVING);
            Verdict::Pass
        },
    );
    stage.refresh()?;
    if asked.recv_timeout(UNASKED_MAX).is_err() {
        stage.control(|cluster| cluster.fence_broker(LEAVING));
    }
    stage.later(ENDS_AFTER, |cluster| cluster.remove_broker(LEAVING));
    Ok(())
}
