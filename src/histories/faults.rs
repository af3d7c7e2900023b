//! What goes wrong in the world, rolled when its time comes; and that it gets well.
//!
//! Invariant: at least one broker is up, and after `heal` nothing is wrong any more. Deliberately absent: brokers that forget producers.

use std::time::Duration;

use super::plan::{MS, S, Time};
use super::world::{Deed, Event, TOPIC, World};
use crate::sim::broker::Hang;
use crate::sim::fault::{Fault, Rule};
use crate::sim::profile::Profile;

const PRODUCE: i16 = 0;

impl World {
    fn later(&mut self, longest: Time, deed: impl FnOnce(&mut World) + 'static) {
        let wait = self.dice.between(0, longest);
        let deed: Deed = Box::new(deed);
        let at = (self.now + wait).min(self.plan.heals_at.saturating_sub(1));
        self.at(at, Event::Do(deed));
    }

    fn serving(&self) -> Vec<i32> {
        self.cluster.brokers().filter(|broker| broker.serves() && broker.hang.is_none()).map(|broker| broker.id).collect()
    }

    fn partition(&mut self) -> i32 {
        self.dice.below(self.plan.partitions as usize) as i32
    }

    fn move_leader(&mut self, partition: i32) {
        let old = self.cluster.leader(TOPIC, partition).map(|(leader, _)| leader);
        let others: Vec<i32> = self.serving().into_iter().filter(|broker| Some(*broker) != old).collect();
        if let Some(to) = self.dice.pick(&others) {
            self.say(|| format!("world: t/{partition} moves to {to}"));
            self.cluster.move_leader(TOPIC, partition, to);
            self.drain_cluster();
        }
    }

    fn lose_tail(&mut self, partition: i32) {
        let others = self.serving();
        if let Some(to) = self.dice.pick(&others) {
            self.say(|| format!("world: t/{partition} moves to {to}, which lacks what was not committed"));
            self.has_truncated = true;
            self.cluster.move_leader_losing_uncommitted(TOPIC, partition, to);
            self.drain_cluster();
        }
    }

    pub fn something_goes_wrong(&mut self) {
        self.faults_left = self.faults_left.saturating_sub(1);
        let serving = self.serving();
        let (Some(broker), partition) = (self.dice.pick(&serving), self.partition()) else { return };
        let has_spare = serving.len() > 1;
        let duration = *[5 * MS, 50 * MS, 300 * MS, 2 * S].get(self.dice.below(4)).unwrap_or(&MS);
        match self.dice.below(20) {
            0 | 1 => self.move_leader(partition),
            2 => {
                let old = self.cluster.leader(TOPIC, partition).map(|(leader, _)| leader);
                self.move_leader(partition);
                self.later(20 * MS, move |world| {
                    if let Some(old) = old.filter(|old| world.serving().contains(old)) {
                        world.say(|| format!("world: t/{partition} moves back to {old}"));
                        world.cluster.move_leader(TOPIC, partition, old);
                        world.drain_cluster();
                    }
                });
            }
            3 => (0..self.plan.partitions).for_each(|partition| self.move_leader(partition)),
            4 if has_spare => {
                self.say(|| format!("world: {broker} is drained"));
                self.cluster.drain_broker(broker);
                self.drain_cluster();
                if self.dice.chance(70) {
                    self.later(100 * MS, move |world| world.stop_cleanly(broker, duration));
                }
            }
            5 | 6 if has_spare => self.stop_cleanly(broker, duration),
            7 | 8 if has_spare => {
                self.say(|| format!("world: {broker} crashes"));
                if self.dice.chance(40) {
                    self.dark_hosts.insert(broker);
                }
                self.cluster.crash_broker(broker);
                self.drain_cluster();
                self.later(duration, move |world| world.fence(broker, duration));
            }
            9 | 10 => {
                let hang = if self.dice.chance(50) { Hang::Reading } else { Hang::NotReading };
                self.say(|| format!("world: {broker} freezes ({hang:?})"));
                self.cluster.hang_broker(broker, hang);
                if has_spare && self.dice.chance(60) {
                    if self.dice.chance(40) {
                        self.say(|| format!("world: {broker}'s host falls silent"));
                        self.silent_hosts.insert(broker);
                    }
                    self.later(duration, move |world| world.fence(broker, duration));
                } else {
                    self.later(duration, move |world| world.thaw(broker));
                }
            }
            11 => {
                self.say(|| format!("world: {broker} closes its connections"));
                self.cluster.close_connections(broker);
                self.drain_cluster();
            }
            12 => {
                let conns = self.cluster.connections_of(broker);
                if let Some(conn) = self.dice.pick(&conns) {
                    self.say(|| format!("world: {broker} closes {conn:?}"));
                    self.cluster.close_connection(conn);
                    self.drain_cluster();
                }
            }
            13 => {
                self.say(|| format!("world: {broker} tells old news"));
                self.cluster.freeze_metadata(broker, Duration::from_micros(duration));
                self.move_leader(partition);
            }
            14 => {
                self.say(|| format!("world: t/{partition} has no leader"));
                self.cluster.lose_leader(TOPIC, partition);
                self.drain_cluster();
                self.later(duration, move |world| world.move_leader(partition));
            }
            15 => {
                self.say(|| format!("world: t/{partition}'s followers stop"));
                self.cluster.hold_replication(TOPIC, partition, true);
                let (moves, loses) = (self.dice.chance(70), self.dice.chance(60));
                self.later(duration, move |world| {
                    if moves && loses {
                        world.lose_tail(partition);
                    } else if moves {
                        world.move_leader(partition);
                    }
                    world.cluster.hold_replication(TOPIC, partition, false);
                    world.drain_cluster();
                });
            }
            16 => {
                let times = self.dice.between(1, 3) as u32;
                let fault = match self.dice.below(4) {
                    0 => Fault::Close,
                    1 => Fault::Delay(Duration::from_micros(duration)),
                    _ => Fault::DropAnswer,
                };
                self.say(|| format!("world: {broker}: {fault:?}, {times} times"));
                self.cluster.inject(Rule::new(fault).on_broker(broker).on_api(PRODUCE).times(times));
            }
            17 => {
                self.say(|| format!("world: {broker} refuses connections"));
                self.cluster.refuse_connections(broker, true);
                if self.dice.chance(50) {
                    self.cluster.close_connections(broker);
                    self.drain_cluster();
                }
                self.later(duration, move |world| world.cluster.refuse_connections(broker, false));
            }
            18 if has_spare => self.readdress(broker),
            _ => {
                let open: Vec<usize> = self.clients.iter().flat_map(|client| client.conns.keys().copied()).collect();
                if let Some(sid) = self.dice.pick(&open) {
                    self.client_hangs_up(sid);
                    let cid = self.sessions[sid].cid;
                    self.client_acts(cid);
                }
            }
        }
    }

    fn stop_cleanly(&mut self, broker: i32, duration: Time) {
        if self.serving().iter().all(|other| *other == broker) {
            return;
        }
        self.say(|| format!("world: {broker} stops"));
        if self.dice.chance(30) {
            self.dark_hosts.insert(broker);
        }
        self.cluster.stop_broker(broker);
        self.drain_cluster();
        if self.dice.chance(70) {
            self.later(duration, move |world| world.start(broker));
        }
    }

    fn fence(&mut self, broker: i32, duration: Time) {
        self.say(|| format!("world: {broker} is fenced"));
        self.cluster.fence_broker(broker);
        self.drain_cluster();
        match self.dice.below(3) {
            0 => {}
            1 => self.later(duration, move |world| world.thaw(broker)),
            _ => self.later(duration, move |world| {
                if world.cluster.broker(broker).is_some_and(|known| known.running) {
                    world.say(|| format!("world: {broker} dies"));
                    world.cluster.crash_broker(broker);
                    world.drain_cluster();
                }
                world.start(broker);
            }),
        }
    }

    fn start(&mut self, broker: i32) {
        self.say(|| format!("world: {broker} starts"));
        let upgrades = self.dice.chance(15);
        if upgrades {
            self.cluster.set_profile(broker, Profile::V4);
        }
        if self.dice.chance(25) {
            self.new_address(broker);
        }
        self.silent_hosts.remove(&broker);
        self.dark_hosts.remove(&broker);
        self.cluster.start_broker(broker);
        self.drain_cluster();
        self.feed_all();
    }

    fn thaw(&mut self, broker: i32) {
        self.say(|| format!("world: {broker} thaws"));
        self.silent_hosts.remove(&broker);
        self.cluster.thaw_broker(broker);
        let is_running = self.cluster.broker(broker).is_some_and(|known| known.running);
        if is_running {
            self.cluster.start_broker(broker);
        }
        self.drain_cluster();
        self.feed_all();
    }

    fn readdress(&mut self, broker: i32) {
        self.say(|| format!("world: {broker} moves to another address"));
        self.new_address(broker);
        self.cluster.readdress_broker(broker);
        self.drain_cluster();
    }

    fn new_address(&mut self, broker: i32) {
        let port = self.cluster.broker(broker).map_or(9092, |known| known.port) + 100;
        self.cluster.set_address(broker, "127.0.0.1", port);
    }

    /// Brokers read again.
    fn feed_all(&mut self) {
        let conns: Vec<_> = self.upstreams.keys().copied().collect();
        self.is_thawing = true;
        conns.into_iter().for_each(|conn| self.feed_broker(conn));
        self.is_thawing = false;
    }

    pub fn heal(&mut self) {
        self.say(|| "world: all is well from here on".to_owned());
        self.cluster.clear_faults();
        let ids: Vec<i32> = self.cluster.brokers().map(|broker| broker.id).collect();
        for id in ids {
            self.silent_hosts.remove(&id);
            self.dark_hosts.remove(&id);
            self.cluster.refuse_connections(id, false);
            self.cluster.heal_metadata(id);
            self.cluster.thaw_broker(id);
            if self.cluster.broker(id).is_some_and(|broker| !broker.running || !broker.listed) {
                self.cluster.start_broker(id);
            }
        }
        for partition in 0..self.plan.partitions {
            self.cluster.hold_replication(TOPIC, partition, false);
            if self.cluster.leader(TOPIC, partition).is_none() {
                self.cluster.move_leader(TOPIC, partition, 0);
            }
        }
        self.is_healed = true;
        self.drain_cluster();
        self.feed_all();
    }
}
