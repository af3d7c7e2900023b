//! What holds for one client over any history of a cluster, whoever of its brokers answers and however much they lag.

use std::collections::HashMap;
use std::time::Duration;

use super::departures::{World, node};
use super::*;
use crate::wire::fixtures::{PartitionSpec, TopicSpec};

/// What happens to the cluster, or what somebody is answered.
#[derive(Clone, Debug)]
enum Step {
    /// A broker leaves, or it returns, at this port and in this rack.
    Leave(i32),
    Return(i32, u16, u8),
    /// A partition gets this leader and a new epoch; −1: none; 6 and above: nobody has heard of it.
    Lead(usize, i32),
    /// The same without a new epoch.
    Guess(usize, i32),
    Recreate(usize),
    Pass(u64),
    /// Our own request, or the client's, is answered by a broker that lags by so many steps.
    Own(usize),
    Client(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = || 0usize..4;
    let step = prop_oneof![
        2 => (0i32..5).prop_map(Step::Leave),
        2 => (0i32..5, 1u16..4, 0u8..3).prop_map(|(id, port, rack)| Step::Return(id, port, rack)),
        3 => (partition(), -1i32..7).prop_map(|(partition, leader)| Step::Lead(partition, leader)),
        1 => (partition(), -1i32..7).prop_map(|(partition, leader)| Step::Guess(partition, leader)),
        1 => (0usize..2).prop_map(Step::Recreate),
        1 => (0u64..8).prop_map(Step::Pass),
        3 => (0usize..4).prop_map(Step::Own),
        8 => (0usize..8).prop_map(Step::Client),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Two topics of two partitions each, on brokers 0 to 4.
fn first() -> Spec {
    let topic = |name: &str, id| {
        let partition = |leader| PartitionSpec { error: 0, leader, epoch: 3, replicas: vec![0, 1, 2], records: None };
        TopicSpec { name: name.to_owned(), id: [id; 16], partitions: vec![partition(1), partition(2)] }
    };
    let nodes = (0..5).map(node).collect();
    Spec { nodes, controller: 1, topics: vec![topic("t", 1), topic("u", 2)], message: Some("c".to_owned()), unknown_tag: Some(vec![9; 3]) }
}

fn apply(cluster: &mut Spec, step: &Step, recreated: &mut u8) {
    let lead = |cluster: &mut Spec, at: usize, leader: i32, epochs: i32| {
        let partition = &mut cluster.topics[at / 2].partitions[at % 2];
        partition.epoch += epochs;
        partition.leader = leader;
        // Kafka says 5; others say nothing.
        partition.error = if leader < 0 && partition.epoch % 2 == 0 { 5 } else { 0 };
    };
    match *step {
        Step::Leave(id) => cluster.nodes.retain(|node| node.id != id || cluster.controller == id),
        Step::Return(id, port, rack) => {
            cluster.nodes.retain(|node| node.id != id);
            cluster.nodes.push(NodeSpec { port: port.into(), rack: Some(format!("rack-{rack}")), ..node(id) });
        }
        Step::Lead(at, leader) => lead(cluster, at, leader, 1),
        Step::Guess(at, leader) => lead(cluster, at, leader, 0),
        // Once each: the view remembers one predecessor of a name.
        Step::Recreate(at) if cluster.topics[at].id[0] < 10 => {
            *recreated += 1;
            cluster.topics[at].id = [10 + *recreated; 16];
            cluster.topics[at].partitions.iter_mut().for_each(|partition| partition.epoch = 0);
        }
        Step::Recreate(_) | Step::Pass(_) | Step::Own(_) | Step::Client(_) => {}
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn what_a_client_is_told_holds_together(version in 0i16..=13, steps in steps()) {
        let mut history = vec![first()];
        let mut recreated = 0;
        let mut world = World { view: View::default(), now: Instant::now() };
        world.own(&history[0]);
        let mut epochs: HashMap<(Vec<u8>, i32), i32> = HashMap::new();
        let mut brokers: BTreeMap<i32, (String, i32, Option<String>)> = BTreeMap::new();

        for step in &steps {
            let mut now = history.last().unwrap().clone();
            apply(&mut now, step, &mut recreated);
            history.push(now);
            let lagging = |lag: usize| &history[history.len().saturating_sub(lag + 1)];
            world.now += Duration::from_millis(1);
            match *step {
                Step::Pass(seconds) => world.now += Duration::from_secs(seconds),
                Step::Own(lag) => world.own(lagging(lag)),
                Step::Client(lag) => {
                    let (told, masked) = world.client(version, lagging(lag));
                    let listed: Vec<i32> = told.brokers.iter().map(|broker| broker.node_id.0).collect();
                    prop_assert_eq!(listed.len() - lagging(lag).nodes.len(), masked.brokers_added as usize);
                    prop_assert!(told.controller_id.0 == -1 || listed.contains(&told.controller_id.0));

                    for broker in &told.brokers {
                        let seen = (broker.host.to_string(), broker.port, broker.rack.as_ref().map(|rack| rack.to_string()));
                        let before = brokers.entry(broker.node_id.0).or_insert(seen.clone());
                        prop_assert_eq!(&*before, &seen, "broker {} changed", broker.node_id.0);
                    }
                    prop_assert_eq!(listed.len(), brokers.len(), "a broker vanished, or is there twice: {:?} of {:?}", listed, brokers.keys());

                    for topic in &told.topics {
                        for partition in &topic.partitions {
                            let (error, leader, epoch) = (partition.error_code, partition.leader_id.0, partition.leader_epoch);
                            prop_assert!(leader == -1 || listed.contains(&leader), "leader {} is not in {:?}", leader, listed);
                            prop_assert!(leader != -1 || !matches!(error, 0 | 9), "no leader, and no error");
                            prop_assert!(leader == -1 || error == 0, "a leader beside error {}", error);
                            // Without ids a topic that was created again cannot be told from the one before.
                            if version >= 10 || (version >= 7 && recreated == 0) {
                                let key = if version >= 10 {
                                    topic.topic_id.as_bytes().to_vec()
                                } else {
                                    topic.name.as_ref().unwrap().as_bytes().to_vec()
                                };
                                let before = epochs.insert((key, partition.partition_index), epoch).unwrap_or(-1);
                                prop_assert!(epoch >= before, "{} after {}", epoch, before);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
