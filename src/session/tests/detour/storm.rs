//! A thousand sessions and one departure: what it costs the cluster.

use std::time::Duration;

use super::bench::Stage;
use super::brokers::Written;
use super::frames::{Produce, numbered};
use crate::cluster::Want;
use crate::session::Note;

const SESSIONS: usize = 1000;
const S: Duration = Duration::from_secs(1);

/// Sessions with three requests of 2 KiB each at broker 1, which is gone.
fn departed() -> (Stage, usize) {
    let mut stage = Stage::new();
    for client in 0..SESSIONS {
        assert_eq!(stage.client(), client);
        for tag in 1..=3 {
            let batches = [0, 1].map(|partition| numbered(client as i64, partition, tag).of_bytes(1024));
            stage.sends(client, &Produce::of(batches));
        }
    }
    let kept_bytes = stage.gate.kept_bytes();
    assert!(kept_bytes > SESSIONS * 3 * 2048);
    stage.refusing.insert(1);
    for client in 0..SESSIONS {
        stage.loses(client, 1, Written::All);
    }
    (stage, kept_bytes)
}

/// Evidence that a session gives, answered or not: discovery makes one request of what all of them say.
fn distinct(stage: &mut Stage) -> Vec<Want> {
    let mut distinct = Vec::new();
    for client in 0..SESSIONS {
        for want in stage.asked(client) {
            if !distinct.contains(&want) {
                distinct.push(want);
            }
        }
    }
    distinct
}

#[test]
fn what_is_sent_again_is_at_most_twice_what_was_kept() {
    let (mut stage, kept_bytes) = departed();
    stage.departs(1, 2);
    stage.tell();
    let mut resent_bytes = 0;
    for client in 0..SESSIONS {
        for _ in 0..3 {
            stage.acks(client, 2);
        }
        assert_eq!(stage.errors(client), [0; 6]);
        assert_eq!(stage.ends(client, 2).len(), 1, "one connection each");
        let resent = |note: &Note| if let Note::Resent { bytes } = note { *bytes } else { 0 };
        resent_bytes += stage.notes(client).iter().map(resent).sum::<usize>();
    }
    assert!(resent_bytes >= kept_bytes && resent_bytes <= 2 * kept_bytes, "{resent_bytes} of {kept_bytes}");
    assert_eq!((stage.gate.tickets(), stage.gate.kept_bytes(), stage.gate.is_moving()), (0, 0, false));
}

#[test]
fn all_of_them_have_the_same_to_ask_and_ask_at_a_rate_that_does_not_grow() {
    let (mut stage, _) = departed();
    let evidence = distinct(&mut stage);
    assert_eq!(evidence.len(), 3, "two partitions and a broker, whoever asks: {evidence:?}");
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let mut asked = 0;
        for _ in 0..20 {
            for client in 0..SESSIONS {
                asked += stage.asked(client).len();
                stage.fresh(client);
            }
            stage.pass(S / 20);
        }
        rounds.push(asked / SESSIONS);
    }
    assert!(rounds[1..].iter().all(|asked| *asked <= rounds[0]), "{rounds:?}");
    assert!(*rounds.last().unwrap() <= 20, "{rounds:?}");
}
