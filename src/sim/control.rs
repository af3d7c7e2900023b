//! Commands to the simulated cluster: brokers that leave and come, leaders that move, answers that fail.
//!
//! Invariant: a command leaves the cluster settled; what it answers or closes is ready to be polled. Deliberately not here: when things
//! happen; a test says so, or `Cluster::at`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::broker::{Broker, Hang, MetadataFault};
use super::cluster::{Cluster, ConnId};
use super::fault::{Exchange, Rule, RuleId, Verdict};
use super::image::{Image, ImageBroker, ImagePartition, ImageTopic};
use super::profile::Profile;

impl Cluster {
    // Brokers.

    /// A broker by its id.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// All brokers that exist, listed or not.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// A new broker joins, without partitions.
    pub fn add_broker(&mut self, id: i32, rack: Option<String>, profile: Profile) {
        self.brokers.insert(id, Broker::new(id, rack, profile));
        self.settle();
    }

    /// From now on the broker serves another generation's versions, as after an upgrade.
    pub fn set_profile(&mut self, id: i32, profile: Profile) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.profile = profile;
        }
    }

    /// The broker has this address from now on, as clients are told it. A driver that owns the listeners calls it.
    pub fn set_address(&mut self, id: i32, host: &str, port: u16) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.host = host.to_owned();
            broker.port = port;
        }
    }

    /// The broker stands in this rack.
    pub fn set_rack(&mut self, id: i32, rack: &str) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.rack = Some(rack.to_owned());
        }
    }

    /// The broker moves to another address: its connections end, and the driver gives it a new port.
    pub fn readdress_broker(&mut self, id: i32) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.address_generation += 1;
        }
        self.drop_connections_of(id);
        self.settle();
    }

    /// Leaderships and coordinators move away; the broker stays up and listed.
    pub fn drain_broker(&mut self, id: i32) {
        self.tell_old_news();
        for (topic, partition) in self.led_by(id) {
            if self.successor(&topic, partition, id).is_some() {
                self.hand_partition_over(&topic, partition, id, Cluster::successor);
            }
        }
        self.move_coordinators_away_from(id);
        self.settle();
    }

    /// A clean stop: drained, unlisted, gone.
    pub fn stop_broker(&mut self, id: i32) {
        self.drain_broker(id);
        self.halt(id);
        self.fence_broker(id);
    }

    /// The process dies. The cluster still lists it, as the leader that it was, until [`Cluster::fence_broker`].
    pub fn crash_broker(&mut self, id: i32) {
        self.halt(id);
        self.settle();
    }

    /// The controller gives the broker up: unlisted, its partitions led by others or by nobody.
    pub fn fence_broker(&mut self, id: i32) {
        self.tell_old_news();
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.listed = false;
        }
        for topic in self.topics.iter_mut() {
            topic
                .partitions
                .iter_mut()
                .for_each(|partition| partition.isr.retain(|replica| *replica != id || partition.replicas.len() == 1));
        }
        for (topic, partition) in self.led_by(id) {
            self.hand_partition_over(&topic, partition, id, Cluster::successor_among_replicas);
        }
        self.move_coordinators_away_from(id);
        self.settle();
    }

    /// A stopped, crashed or fenced broker comes back, empty of connections and sessions. It leads what nobody leads.
    pub fn start_broker(&mut self, id: i32) {
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        broker.running = true;
        broker.listed = true;
        broker.refusing = false;
        broker.coordinates = true;
        broker.hang = None;
        let mut orphans = Vec::new();
        for topic in self.topics.iter_mut() {
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                if partition.replicas.contains(&id) && !partition.isr.contains(&id) {
                    partition.isr.push(id);
                }
                if partition.replicas.contains(&id) && partition.leader.is_none() {
                    orphans.push((topic.name.clone(), i32::try_from(index).unwrap_or(i32::MAX)));
                }
            }
        }
        for (topic, partition) in orphans {
            self.change_leader(&topic, partition, Some(id));
        }
        self.settle();
    }

    /// A restart at one moment: down and up again. Sessions are gone, and of each producer the last batch is known.
    pub fn restart_broker(&mut self, id: i32) {
        self.stop_broker(id);
        self.start_broker(id);
    }

    /// Scale-in: drained, its replicas placed elsewhere, stopped, unregistered.
    pub fn remove_broker(&mut self, id: i32) {
        self.drain_broker(id);
        let others: Vec<i32> = self.brokers.values().filter(|broker| broker.id != id && broker.serves()).map(|broker| broker.id).collect();
        for partition in self.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut()) {
            if !partition.replicas.contains(&id) {
                continue;
            }
            partition.replicas.retain(|replica| *replica != id);
            partition.isr.retain(|replica| *replica != id);
            if let Some(spare) = others.iter().find(|other| !partition.replicas.contains(other)) {
                partition.replicas.push(*spare);
                partition.isr.push(*spare);
            }
        }
        self.stop_broker(id);
        self.brokers.remove(&id);
        self.settle();
    }

    fn halt(&mut self, id: i32) {
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        broker.running = false;
        broker.hang = None;
        broker.sessions.clear();
        self.drop_connections_of(id);
        for partition in self.topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut()) {
            partition.snapshot_producers(id);
        }
    }

    // Connections.

    /// The broker closes all of its connections and goes on.
    pub fn close_connections(&mut self, broker: i32) {
        self.drop_connections_of(broker);
        self.settle();
    }

    /// The broker closes one connection.
    pub fn close_connection(&mut self, conn: ConnId) {
        self.close(conn);
        self.settle();
    }

    /// New connections are refused, those there are stay.
    pub fn refuse_connections(&mut self, broker: i32, refuse: bool) {
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.refusing = refuse;
        }
    }

    /// The broker freezes: it accepts and never answers.
    pub fn hang_broker(&mut self, broker: i32, hang: Hang) {
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.hang = Some(hang);
        }
    }

    /// The broker goes on where it froze: what piled up is carried out now.
    pub fn thaw_broker(&mut self, id: i32) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.hang = None;
        }
        self.wake(id);
        self.settle();
    }

    // Leaders.

    /// Who leads a partition, and under which epoch.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let partition = self.topics.partition(topic, partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// Another broker leads under the next epoch; the old one answers 6.
    pub fn move_leader(&mut self, topic: &str, partition: i32, to: i32) {
        self.change_leader(topic, partition, Some(to));
        self.settle();
    }

    /// The partition lies elsewhere from now on, in sync at once; its first replica leads if the leader is not among them.
    pub fn reassign(&mut self, topic: &str, partition: i32, replicas: &[i32]) {
        let Some(known) = self.topics.partition_mut(topic, partition) else { return };
        known.replicas = replicas.to_vec();
        known.isr = replicas.to_vec();
        if !known.leader.is_some_and(|leader| replicas.contains(&leader)) {
            self.change_leader(topic, partition, replicas.first().copied());
        }
        self.dirty = true;
        self.settle();
    }

    /// Nobody leads the partition.
    pub fn lose_leader(&mut self, topic: &str, partition: i32) {
        self.change_leader(topic, partition, None);
        self.settle();
    }

    /// Followers stop fetching: the high watermark stands, and acks=all waits. Letting go commits what is there.
    pub fn hold_replication(&mut self, topic: &str, partition: i32, hold: bool) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.replication_held = hold;
            if !hold {
                partition.log.commit();
            }
        }
        self.dirty = true;
        self.settle();
    }

    /// The new leader lacks what was not committed: records that were acknowledged with acks=1 are lost, as in a crash.
    pub fn move_leader_losing_uncommitted(&mut self, topic: &str, partition: i32, to: i32) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.truncate_to(partition.log.high_watermark());
        }
        self.move_leader(topic, partition, to);
    }

    /// An unclean election: the new leader lacks all from the batch on that holds `offset`, committed and consumed or not.
    pub fn move_leader_uncleanly(&mut self, topic: &str, partition: i32, to: i32, offset: i64) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.truncate_to(offset);
        }
        self.move_leader(topic, partition, to);
    }

    /// Every replica forgets the partition's idempotent producers.
    pub fn forget_producers(&mut self, topic: &str, partition: i32) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.forget_producers();
        }
    }

    pub(crate) fn change_leader(&mut self, topic: &str, partition: i32, leader: Option<i32>) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            partition.lead(leader);
            if !partition.replication_held {
                partition.log.commit();
            }
        }
        self.dirty = true;
    }

    fn led_by(&self, broker: i32) -> Vec<(String, i32)> {
        let mut led = Vec::new();
        for topic in self.topics.iter() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                if partition.leader == Some(broker) {
                    led.push((topic.name.clone(), i32::try_from(index).unwrap_or(i32::MAX)));
                }
            }
        }
        led
    }

    fn serves(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(Broker::serves)
    }

    fn successor_among_replicas(&self, topic: &str, partition: i32, leaving: i32) -> Option<i32> {
        let replicas = &self.topics.partition(topic, partition)?.replicas;
        replicas.iter().copied().find(|replica| *replica != leaving && self.serves(*replica))
    }

    /// A drain also reassigns: where no replica can take over, any other broker does.
    fn successor(&self, topic: &str, partition: i32, leaving: i32) -> Option<i32> {
        let any = || self.brokers.keys().copied().find(|id| *id != leaving && self.serves(*id));
        self.successor_among_replicas(topic, partition, leaving).or_else(any)
    }

    /// What a produce or fetch response hints at: the leader and its epoch.
    pub(crate) fn leader_hint(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        self.leader(topic, partition).filter(|(leader, _)| self.brokers.contains_key(leader))
    }

    /// The brokers whose addresses go with hints at these leaders; without a hint, none.
    pub(crate) fn hint_endpoints(&self, leaders: &BTreeSet<i32>) -> impl Iterator<Item = &Broker> {
        let all = self.options.hints_list_all_brokers && !leaders.is_empty();
        self.brokers.values().filter(move |broker| leaders.contains(&broker.id) || (all && broker.listed))
    }

    // What metadata says.

    /// The cluster as it is.
    pub fn image(&self) -> Image {
        let listed = self.brokers.values().filter(|broker| broker.listed);
        let brokers: Vec<ImageBroker> = listed
            .map(|broker| ImageBroker { id: broker.id, host: broker.host.clone(), port: broker.port, rack: broker.rack.clone() })
            .collect();
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| ImagePartition {
                error_code: Image::leader_error(partition.leader),
                leader: partition.leader.unwrap_or(-1),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                offline: partition.replicas.iter().copied().filter(|replica| !brokers.iter().any(|broker| broker.id == *replica)).collect(),
            });
            (topic.name.clone(), ImageTopic { id: topic.id, partitions: partitions.collect() })
        });
        let topics = topics.collect();
        let coordinators = self.coordinators_now();
        Image { controller: brokers.first().map_or(-1, |broker| broker.id), brokers, topics, coordinators }
    }

    /// The cluster as this broker tells it.
    pub(crate) fn image_at(&mut self, broker: i32) -> Image {
        let image = self.known_image();
        let now = self.now;
        let Some(broker) = self.brokers.get_mut(&broker) else { return image };
        broker.metadata_faults.retain(|(_, until)| *until > now);
        broker.metadata_faults.iter().fold(image, |image, (fault, _)| image.distorted(fault))
    }

    /// A broker tells the cluster wrongly, for `how_long`.
    pub fn distort_metadata(&mut self, broker: i32, fault: MetadataFault, how_long: Duration) {
        let until = self.now.saturating_add(how_long);
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.metadata_faults.push((fault, until));
        }
    }

    /// A broker goes on telling the cluster as it is at this moment, for `how_long`.
    pub fn freeze_metadata(&mut self, broker: i32, how_long: Duration) {
        let image = self.image();
        self.distort_metadata(broker, MetadataFault::Stale(Box::new(image)), how_long);
    }

    /// A broker tells the truth again.
    pub fn heal_metadata(&mut self, broker: i32) {
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.metadata_faults.clear();
        }
    }

    // Rules and hooks.

    /// Puts a rule into force.
    pub fn inject(&mut self, rule: Rule) -> RuleId {
        self.faults.add_rule(rule)
    }

    /// Lifts a rule.
    pub fn lift(&mut self, id: RuleId) {
        self.faults.lift(id);
    }

    /// Every request is shown to `hook` before it is handled.
    pub fn hook(&mut self, hook: impl FnMut(&Exchange, &mut Cluster) -> Verdict + Send + 'static) {
        self.faults.add_hook(Box::new(hook));
    }

    /// Lifts all rules and hooks.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }
}
