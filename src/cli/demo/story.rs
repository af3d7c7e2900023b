//! What happens to the cluster, and when: the same script for both ways.
//!
//! Invariant: a story is a value; carried out on two clusters, it does the same to both at the same moments. Deliberately absent:
//! randomness.

use std::time::Duration;

use crate::sim::cluster::Cluster;

pub const BROKERS: i32 = 4;
pub const PARTITIONS: i32 = 12;
pub const TOPIC: &str = "evenkeel-demo";
/// After what silence the cluster gives a dead broker up. Kafka's default is 9 s (`broker.session.timeout.ms`); that long, the demo
/// would show little but the cluster's own waiting.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The way in which a broker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Its leaders are moved away one by one, then it is stopped for good
    ScaleIn,
    /// It hands its leaders over, stops, comes back, and leads again
    Restart,
    /// Its process dies; the cluster finds out after its session timeout
    Crash,
}

/// Something that is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    MoveOneLeaderAway,
    Remove,
    Stop,
    Start,
    MoveOneLeaderBack,
    Crash,
    Fence,
}

/// A moment worth a line in the picture.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub at: Duration,
    pub label: &'static str,
}

/// One departure and the time around it.
#[derive(Clone, Debug)]
pub struct Chapter {
    pub scenario: Scenario,
    pub from: Duration,
    pub until: Duration,
    pub marks: Vec<Mark>,
    /// While no broker could have taken the departed one's records, whatever stands between.
    pub leaderless: Option<(Duration, Duration)>,
    broker: i32,
    steps: Vec<(Duration, Step)>,
}

impl Scenario {
    pub const ALL: [Scenario; 3] = [Scenario::ScaleIn, Scenario::Restart, Scenario::Crash];

    pub fn title(self) -> &'static str {
        match self {
            Scenario::ScaleIn => "scale-in",
            Scenario::Restart => "rolling restart",
            Scenario::Crash => "crash",
        }
    }

    /// What happens, for whoever reads the table.
    pub fn explanation(self) -> &'static str {
        match self {
            Scenario::ScaleIn => "broker 3's leaders move away one by one, then it is removed",
            Scenario::Restart => "broker 1 hands its leaders over, stops, comes back after 3 s and leads again",
            Scenario::Crash => "broker 2's process dies; the cluster gives it up after 2 s",
        }
    }
}

/// The chapters, one behind the other.
pub fn chapters(scenarios: &[Scenario]) -> Vec<Chapter> {
    // A client that has been running for a while has metadata that is older than it may be at least.
    const FIRST_EVENT: Duration = Duration::from_secs(6);
    const LEAD_IN: Duration = Duration::from_secs(3);
    let mut from = Duration::ZERO;
    let mut chapters = Vec::new();
    for scenario in scenarios {
        let chapter = chapter(*scenario, from, FIRST_EVENT.max(from + LEAD_IN));
        from = chapter.until;
        chapters.push(chapter);
    }
    chapters
}

fn chapter(scenario: Scenario, from: Duration, event: Duration) -> Chapter {
    let at = |ms| event + Duration::from_millis(ms);
    let (broker, lasts, marks, steps) = match scenario {
        // As tools do it: partition by partition, as fast as replicas follow.
        Scenario::ScaleIn => {
            let steps = vec![
                (at(0), Step::MoveOneLeaderAway),
                (at(400), Step::MoveOneLeaderAway),
                (at(800), Step::MoveOneLeaderAway),
                (at(1_600), Step::Remove),
            ];
            (3, 8, vec![(at(0), "leaders move"), (at(1_600), "gone")], steps)
        }
        Scenario::Restart => {
            let mut steps = vec![(at(500), Step::Stop), (at(3_000), Step::Start)];
            steps.extend([0, 100, 200].map(|ms| (at(ms), Step::MoveOneLeaderAway)));
            steps.extend([6_000, 6_100, 6_200].map(|ms| (at(ms), Step::MoveOneLeaderBack)));
            (1, 13, vec![(at(0), "stops"), (at(3_000), "back"), (at(6_000), "leads again")], steps)
        }
        Scenario::Crash => {
            let fenced = event + SESSION_TIMEOUT;
            (2, 8, vec![(at(0), "killed"), (fenced, "given up")], vec![(at(0), Step::Crash), (fenced, Step::Fence)])
        }
    };
    Chapter {
        scenario,
        from,
        until: event + Duration::from_secs(lasts),
        marks: marks.into_iter().map(|(at, label)| Mark { at, label }).collect(),
        leaderless: (scenario == Scenario::Crash).then_some((event, event + SESSION_TIMEOUT)),
        broker,
        steps,
    }
}

/// Lays the story upon a cluster; its time zero is `start` of the cluster's time.
pub fn schedule(chapters: &[Chapter], cluster: &mut Cluster, start: Duration) {
    for chapter in chapters {
        for (at, step) in &chapter.steps {
            let (broker, step) = (chapter.broker, *step);
            cluster.at(start + *at, move |cluster| step.carry_out(cluster, broker));
        }
    }
}

impl Step {
    fn carry_out(self, cluster: &mut Cluster, broker: i32) {
        match self {
            Step::MoveOneLeaderAway => move_one_away(cluster, broker),
            Step::MoveOneLeaderBack => move_one_back(cluster, broker),
            Step::Remove => cluster.remove_broker(broker),
            Step::Stop => cluster.stop_broker(broker),
            Step::Start => cluster.start_broker(broker),
            Step::Crash => cluster.crash_broker(broker),
            Step::Fence => cluster.fence_broker(broker),
        }
    }
}

/// The first partition that `broker` leads goes to its next replica that serves.
fn move_one_away(cluster: &mut Cluster, broker: i32) {
    let image = cluster.image();
    let Some(topic) = image.topics.get(TOPIC) else { return };
    let found = topic.partitions.iter().zip(0_i32..).find(|(partition, _)| partition.leader == broker);
    let Some((partition, index)) = found else { return };
    let serves = |id: &i32| *id != broker && cluster.broker(*id).is_some_and(|known| known.serves());
    let next = partition.replicas.iter().copied().find(serves);
    if let Some(next) = next {
        cluster.move_leader(TOPIC, index, next);
    }
}

/// The first partition whose preferred leader `broker` is, and which another one leads, comes back.
fn move_one_back(cluster: &mut Cluster, broker: i32) {
    let image = cluster.image();
    let Some(topic) = image.topics.get(TOPIC) else { return };
    let mut preferred = topic.partitions.iter().zip(0_i32..).filter(|(partition, _)| partition.replicas.first() == Some(&broker));
    if let Some((_, index)) = preferred.find(|(partition, _)| partition.leader != broker) {
        cluster.move_leader(TOPIC, index, broker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Options;

    #[test]
    fn the_story_is_over_in_less_than_a_minute_and_each_departure_empties_its_broker() {
        let chapters = chapters(&Scenario::ALL);
        assert!(chapters.last().is_some_and(|last| last.until <= Duration::from_secs(45)));
        let mut cluster = Cluster::new(Options { brokers: BROKERS, ..Options::default() });
        cluster.create_topic(TOPIC, PARTITIONS);
        schedule(&chapters, &mut cluster, Duration::from_secs(100));
        let mut leads_at = |seconds: f64| {
            let until = Duration::from_secs(100) + Duration::from_secs_f64(seconds);
            while let Some(next) = cluster.next_timeout().filter(|next| *next <= until) {
                cluster.tick(next);
            }
            cluster.tick(until);
            let image = cluster.image();
            let leads = |broker: i32| image.topics[TOPIC].partitions.iter().filter(|partition| partition.leader == broker).count();
            (0..BROKERS).map(leads).collect::<Vec<_>>()
        };
        assert_eq!(leads_at(5.9), [3, 3, 3, 3]);
        assert_eq!(leads_at(6.5)[3], 1);
        assert_eq!(leads_at(7.5)[3], 0);
        assert_eq!(leads_at(17.4)[1], 0);
        assert_eq!(leads_at(23.5)[1], 3);
        assert!(leads_at(34.0)[2] > 0, "still listed as their leader");
        let after = leads_at(36.0);
        assert_eq!((after[2], after[3], after.iter().sum::<usize>()), (0, 0, 12));
        assert!(cluster.broker(3).is_none());
    }
}
