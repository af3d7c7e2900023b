//! States that pass soon near a departure, and are the client's business otherwise: 3, 19 and 100.

use super::bench::Stage;
use super::frames::{Produce, plain};

fn produce(error: i16, partition: i32) -> Produce {
    Produce { version: if error == 100 { 13 } else { 9 }, ..Produce::of([plain(partition, 1)]) }
}

#[test]
fn they_pass_at_once_where_nothing_departs() {
    for error in [3, 19, 100] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &produce(error, 0));
        stage.refuses(client, 1, error);
        assert_eq!(stage.errors(client), [error]);
    }
}

#[test]
fn near_a_departure_they_are_absorbed_but_only_briefly() {
    for (error, heals) in [(3, true), (19, true), (100, true), (3, false), (19, false), (100, false)] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &produce(error, 1));
        stage.refuses(client, 1, 6);
        stage.moves_for_all("t", 1, 2);
        stage.acks(client, 2);
        assert_eq!(stage.errors(client), [0]);

        stage.sends(client, &produce(error, 0));
        let began = stage.now;
        loop {
            stage.refuses(client, 1, error);
            if stage.now - began > stage.detours.passing {
                break;
            }
            assert!(stage.errors(client).is_empty(), "{error} is absorbed");
            stage.until_at(client, 1);
            if heals && stage.now - began > stage.detours.passing / 2 {
                stage.acks(client, 1);
                break;
            }
        }
        assert_eq!(stage.errors(client), [if heals { 0 } else { error }]);
    }
}
