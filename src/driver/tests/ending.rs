//! Either side's end, draining, silence.

use super::*;

#[tokio::test]
async fn a_client_that_leaves_while_it_is_not_read_from_is_noticed() {
    let rig = Rig::with(|environment| environment.settings.half_close_timeout = Duration::from_millis(200)).await;
    let (mut client, session) = rig.client().await;
    let more_than_slots: Vec<u8> = (0..1000).flat_map(|n| request(n, 0)).collect();
    client.write_all(&more_than_slots).await.unwrap();
    let _silent = rig.broker_side().await;
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HalfCloseTimeout);
}

#[tokio::test]
async fn what_was_sent_before_a_fin_still_reaches_the_broker() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let frames: Vec<u8> = (0..100).flat_map(unanswered).collect();
    client.write_all(&frames).await.unwrap();
    drop(client);
    let mut broker = rig.broker_side().await;
    assert!(read_to_end(&mut broker).await == frames);
    drop(broker);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_responses() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    client.shutdown().await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    broker.write_all(&response(1, 5000)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 5000));
    drop(broker);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
}

#[tokio::test]
async fn a_broker_that_closes_closes_its_client_after_its_last_answer() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    client.write_all(&request(2, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, 2 * request(1, 0).len()).await;
    broker.write_all(&response(1, 50)).await.unwrap();
    drop(broker);
    assert!(read_to_end(&mut client).await == response(1, 50));
    drop(client);
    assert_eq!(ends(session).await, CloseReason::UpstreamClosed);
}

#[tokio::test]
async fn a_broker_that_refuses_closes_its_client() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let Rig { broker, .. } = rig;
    drop(broker);
    client.write_all(&request(1, 0)).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::UpstreamConnectFailed);
}

#[tokio::test]
async fn draining_lets_requests_in_flight_finish() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    rig.drain.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write_all(&request(2, 0)).await.unwrap();
    broker.write_all(&response(1, 9)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 9));
    assert_eq!(read_to_end(&mut broker).await, b"", "the second request was not taken");
    drop((client, broker));
    assert_eq!(ends(session).await, CloseReason::Drained);
}

#[tokio::test]
async fn an_idle_connection_is_closed_on_both_sides_but_not_one_that_waits() {
    let rig = Rig::with(|environment| environment.settings.idle_timeout = Duration::from_millis(300)).await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    broker.write_all(&response(1, 9)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 9), "the answer, and then the end");
    assert_eq!(read_to_end(&mut broker).await, b"");
    drop((client, broker));
    assert_eq!(ends(session).await, CloseReason::Idle);
}

#[tokio::test]
async fn what_was_answered_before_the_broker_closed_waits_for_a_client_that_pauses() {
    let rig = Rig::new().await;
    socket2::SockRef::from(&rig.front).set_send_buffer_size(32 * 1024).unwrap();
    socket2::SockRef::from(&rig.front).set_recv_buffer_size(32 * 1024).unwrap();
    let (mut client, session) = rig.client().await;
    socket2::SockRef::from(&client).set_recv_buffer_size(16 * 1024).unwrap();
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    let whole = response(1, 250 * 1024);
    let sent = whole.clone();
    let writing = tokio::spawn(async move {
        broker.write_all(&sent).await.unwrap();
        broker.shutdown().await.unwrap();
        broker
    });
    // The application handles a batch for eight seconds and does not read meanwhile.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut got = vec![0; whole.len()];
    timeout(Duration::from_secs(20), client.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got == whole);
    drop(writing);
    drop(session);
}
