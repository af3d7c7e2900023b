//! The ways in which a broker leaves a real cluster, and the way back.
//!
//! Invariant: every step is waited for, in the eyes of a broker that stays.
//! Not here: clients.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::real::admin::{Admin, Picture, without};
use crate::real::kafka::RealKafka;

/// Moving all partitions off a broker, while others compile.
const MOVE_TIME_MAX: Duration = Duration::from_secs(60);
/// Beyond the 9 s after which a silent broker's session has run out.
const FENCE_TIME_MAX: Duration = Duration::from_secs(40);
const SYNC_TIME_MAX: Duration = Duration::from_secs(90);
/// How long a silent broker stays silent after others lead in its place.
const SILENT_MORE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// All partitions are moved off a broker, it is stopped and unregistered
    Drain,
    /// Every broker in turn is stopped and started
    Restart,
    /// SIGKILL of a broker that leads
    Kill,
    /// SIGSTOP of a broker that leads, until others lead, and SIGCONT
    Stop,
}

impl Event {
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::Stop => "stop",
        }
    }

    /// Brings it about, and returns when the cluster has got over it. It is `broker` that leaves.
    pub fn happen(self, kafka: &mut RealKafka, broker: i32) -> Result<()> {
        match self {
            Self::Drain => drain(kafka, broker),
            Self::Restart => restart(kafka),
            Self::Kill => {
                let mut admin = beside(kafka, broker)?;
                kafka.kill(broker);
                admin.wait_until("the killed broker is gone", FENCE_TIME_MAX, |picture| picture.is_without(broker))?;
                Ok(())
            }
            Self::Stop => {
                let mut admin = beside(kafka, broker)?;
                kafka.freeze(broker)?;
                admin.wait_until("others lead for the silent broker", FENCE_TIME_MAX, |picture| picture.is_without(broker))?;
                std::thread::sleep(SILENT_MORE);
                kafka.thaw(broker)?;
                admin.wait_until("the silent broker is back", SYNC_TIME_MAX, Picture::is_in_sync)?;
                Ok(())
            }
        }
    }
}

/// After an event: all brokers run, and the topic is gone.
pub fn restore(kafka: &mut RealKafka, topic: &str) -> Result<()> {
    let brokers = kafka.broker_ids();
    for broker in &brokers {
        if !kafka.is_running(*broker)? {
            kafka.restart(*broker)?;
        }
    }
    for broker in &brokers {
        let all_are_there = |picture: &Picture| picture.brokers.len() == brokers.len();
        at(kafka, *broker)?.wait_until("all brokers are back", SYNC_TIME_MAX, all_are_there)?;
    }
    let first = *brokers.first().context("a cluster without brokers")?;
    at(kafka, first)?.delete_topic(topic)
}

fn drain(kafka: &mut RealKafka, broker: i32) -> Result<()> {
    let mut admin = beside(kafka, broker)?;
    let brokers = kafka.broker_ids();
    let held = admin.picture()?.partitions.into_iter().filter(|partition| partition.replicas.contains(&broker));
    let moves = held.map(|partition| Ok((partition.topic, partition.index, without(&partition.replicas, broker, &brokers)?)));
    admin.reassign(&moves.collect::<Result<Vec<_>>>()?)?;
    admin.wait_until_moved(MOVE_TIME_MAX)?;
    let moved = |picture: &Picture| picture.partitions.iter().all(|partition| !partition.replicas.contains(&broker));
    admin.wait_until("everything is moved off the broker", MOVE_TIME_MAX, moved)?;
    kafka.stop(broker)?;
    admin.wait_until("the stopped broker is gone", FENCE_TIME_MAX, |picture| picture.is_without(broker))?;
    admin.unregister(broker)
}

fn restart(kafka: &mut RealKafka) -> Result<()> {
    for broker in kafka.broker_ids() {
        kafka.stop(broker)?;
        let mut admin = beside(kafka, broker)?;
        admin.wait_until("the stopped broker is gone", FENCE_TIME_MAX, |picture| picture.is_without(broker))?;
        kafka.restart(broker)?;
        let back = |picture: &Picture| picture.brokers.contains(&broker) && picture.is_in_sync();
        admin.wait_until("everything is in sync", SYNC_TIME_MAX, back)?;
    }
    let first = *kafka.broker_ids().first().context("a cluster without brokers")?;
    let mut admin = at(kafka, first)?;
    let mut topics: BTreeMap<String, i32> = BTreeMap::new();
    for partition in admin.picture()?.partitions {
        *topics.entry(partition.topic).or_default() += 1;
    }
    topics.iter().try_for_each(|(topic, partitions)| admin.elect_preferred_leaders(topic, *partitions))?;
    admin.wait_until("preferred replicas lead", SYNC_TIME_MAX, Picture::is_led_as_preferred)?;
    Ok(())
}

pub fn at(kafka: &RealKafka, broker: i32) -> Result<Admin> {
    Admin::open(*kafka.addresses().get(&broker).context("no such broker")?)
}

/// At a broker that stays.
pub fn beside(kafka: &RealKafka, broker: i32) -> Result<Admin> {
    let other = kafka.broker_ids().into_iter().find(|id| *id != broker).context("a cluster of one broker")?;
    at(kafka, other)
}
