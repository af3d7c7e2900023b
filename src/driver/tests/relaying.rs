//! What passes, what is rewritten, where it goes.

use super::*;

#[tokio::test]
async fn requests_and_responses_pass_byte_for_byte_however_they_are_cut() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let requests: Vec<u8> = (0..20).flat_map(|n| request(n, 10 + 400 * n as usize)).collect();
    for piece in requests.chunks(777) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut broker = rig.broker_side().await;
    assert!(read(&mut broker, requests.len()).await == requests);
    let responses: Vec<u8> = (0..20).flat_map(|n| response(n, 4 + 300 * n as usize)).collect();
    for piece in responses.chunks(1111) {
        broker.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read(&mut client, responses.len()).await == responses);
    assert_eq!(rig.count(&rig.environment.counting.metrics.requests, "Heartbeat"), 20);
    drop(client);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
    assert_eq!(rig.environment.counting.metrics.requests_in_flight.get(), 0);
}

#[tokio::test]
async fn a_broker_at_a_new_address_is_reached_there_by_the_same_client() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut old = rig.broker_side().await;
    read(&mut old, request(1, 0).len()).await;
    old.write_all(&response(1, 9)).await.unwrap();
    read(&mut client, response(1, 9).len()).await;

    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, elsewhere.local_addr().unwrap().port())]);
    rig.cluster.generations.send(2).unwrap();
    assert_eq!(read_to_end(&mut old).await, b"", "the old leg is closed");
    client.write_all(&request(2, 0)).await.unwrap();
    let (mut new, _) = timeout(SOON, elsewhere.accept()).await.unwrap().unwrap();
    assert!(read(&mut new, request(2, 0).len()).await == request(2, 0));
    new.write_all(&response(2, 9)).await.unwrap();
    assert!(read(&mut client, response(2, 9).len()).await == response(2, 9));
}

#[tokio::test]
async fn a_coordinators_address_is_rewritten_and_unknown_tags_stay() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    // FindCoordinator v4: key type 0, keys ["g"], no tags.
    let mut body = BytesMut::new();
    body.put_slice(&[0, 10, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 2, 2, b'g', 0]);
    client.write_all(&frame(&body)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, body.len() + 4).await;
    let answer = |host: &[u8], port: i32| {
        let mut body = BytesMut::new();
        // Correlation id, tags, throttle time, one coordinator: key, node id.
        body.put_slice(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 2, b'g', 0, 0, 0, 3]);
        body.put_u8(host.len() as u8 + 1);
        body.put_slice(host);
        body.put_i32(port);
        // Error, no message, tags of the coordinator and of the response: an unknown one, which must stay.
        body.put_slice(&[0, 0, 0, 0, 1, 99, 3, b'a', b'b', b'c']);
        frame(&body)
    };
    broker.write_all(&answer(b"real.example", 9092)).await.unwrap();
    let expected = answer(b"localhost", 20_003);
    assert_eq!(read(&mut client, expected.len()).await, expected);
}

#[tokio::test]
async fn passing_metadata_is_learned_with_its_real_addresses() {
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, MetadataResponse};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    // Metadata v7: no topics, no auto-creation.
    client.write_all(&frame(&[0, 3, 0, 7, 0, 0, 0, 8, 0xff, 0xff, 0, 0, 0, 0, 0])).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, 19).await;
    let listed =
        MetadataResponseBroker::default().with_node_id(BrokerId(5)).with_host(StrBytes::from_static_str("real.example")).with_port(9092);
    let mut body = BytesMut::new();
    body.put_i32(8);
    MetadataResponse::default().with_brokers(vec![listed]).encode(&mut body, 7).unwrap();
    broker.write_all(&frame(&body)).await.unwrap();
    let length = read(&mut client, 4).await;
    let answer = read(&mut client, u32::from_be_bytes(length.try_into().unwrap()) as usize).await;
    assert!(answer.windows(9).any(|window| window == b"localhost"));
    assert!(!answer.windows(12).any(|window| window == b"real.example"));
    let observed = rig.cluster.observed.lock().unwrap();
    let [Observation::Metadata(news)] = &observed[..] else { panic!("{observed:?}") };
    assert_eq!((news.source, &*news.brokers[0].endpoint.host), (Source::Passing, "real.example"));
}

#[tokio::test]
async fn a_large_share_fetch_streams_and_tells_no_real_address() {
    use kafka_protocol::messages::share_fetch_response::{NodeEndpoint, PartitionData, ShareFetchableTopicResponse};
    use kafka_protocol::messages::{BrokerId, ShareFetchResponse};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    let endpoint = NodeEndpoint::default().with_node_id(BrokerId(5)).with_host(StrBytes::from_static_str("real.example")).with_port(9092);
    for records in [1_000, 3 * MIB] {
        // ShareFetch v1; whatever it asks.
        client.write_all(&frame(&[0, 78, 0, 1, 0, 0, 0, 8, 0xff, 0xff, 0, 0])).await.unwrap();
        let mut broker = rig.broker_side().await;
        read(&mut broker, 16).await;
        let mut body = BytesMut::new();
        body.put_slice(&[0, 0, 0, 8, 0]);
        let partition = PartitionData::default().with_records(Some(vec![b'x'; records].into()));
        let topic = ShareFetchableTopicResponse::default().with_partitions(vec![partition]);
        let sent = ShareFetchResponse::default().with_responses(vec![topic]).with_node_endpoints(vec![endpoint.clone()]);
        sent.encode(&mut body, 1).unwrap();
        broker.write_all(&frame(&body)).await.unwrap();
        let length = read(&mut client, 4).await;
        let answer = read(&mut client, u32::from_be_bytes(length.try_into().unwrap()) as usize).await;
        assert!(!answer.windows(12).any(|window| window == b"real.example"), "{records} bytes of records");
        let got = ShareFetchResponse::decode(&mut Bytes::from(answer).slice(5..), 1).unwrap();
        assert_eq!(got.responses[0].partitions[0].records, sent.responses[0].partitions[0].records);
        drop(broker);
        client = rig.client().await.0;
    }
}

#[tokio::test]
async fn a_broker_that_moved_while_a_request_was_in_flight_is_followed_afterwards() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut old = rig.broker_side().await;
    read(&mut old, request(1, 0).len()).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, elsewhere.local_addr().unwrap().port())]);
    rig.cluster.generations.send(2).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    old.write_all(&response(1, 9)).await.unwrap();
    read(&mut client, response(1, 9).len()).await;
    client.write_all(&request(2, 0)).await.unwrap();
    timeout(Duration::from_secs(2), elsewhere.accept()).await.expect("the next request goes to the new place").unwrap();
}
