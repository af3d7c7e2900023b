//! Large things pass without lying in memory.

use std::time::Duration;

use bytes::Bytes;
use evenkeel::sim::fault::Verdict;
use kafka_protocol::messages::FetchRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Client, Proxy, three_brokers};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn fetch_responses_of_64_mib_stream_through() {
    let cluster = three_brokers().await;
    let large = Bytes::from(vec![0x5a; 64 * MIB]);
    // Any bytes do: nobody on the way looks into them.
    cluster.control(|cluster| {
        cluster.hook(move |exchange, _| {
            if exchange.api_key != 1 {
                return Verdict::Pass;
            }
            let mut answer = exchange.correlation_id.to_be_bytes().to_vec();
            answer.extend_from_slice(&large);
            Verdict::Answer(answer.into())
        });
    });
    let proxy = Proxy::before(&cluster).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(proxy.node(1)).await;
        client.send(11, &FetchRequest::default()).await;
        clients.push(client);
    }
    // Nobody reads yet; what can lie between does.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for client in &mut clients {
        let frame = client.receive_frame().await.expect("the response");
        assert_eq!(frame.len(), 64 * MIB + 4);
        assert!(frame[4..].iter().all(|byte| *byte == 0x5a));
    }
    let peak = proxy.peak_memory_bytes();
    assert!(peak < 48 * MIB as u64, "{} MiB for four responses of 64 MiB", peak / MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_requests_of_64_mib_stream_through() {
    let cluster = three_brokers().await;
    cluster.control(|cluster| {
        cluster.hook(|exchange, _| {
            if exchange.api_key != 0 {
                return Verdict::Pass;
            }
            let mut answer = exchange.correlation_id.to_be_bytes().to_vec();
            answer.extend_from_slice(&(exchange.frame.len() as u32).to_be_bytes());
            Verdict::Answer(answer.into())
        });
    });
    let proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.node(1)).await;
    // Produce v3: no transactional id, acks 1, and 64 MiB of whatever.
    let mut request = vec![0, 0, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 3, 0xe8];
    request.resize(64 * MIB, 7);
    for _ in 0..3 {
        client.socket.write_u32(request.len() as u32).await.expect("is taken");
        client.socket.write_all(&request).await.expect("is taken");
        assert_eq!(client.socket.read_u32().await.expect("an answer"), 8);
        assert_eq!(client.socket.read_u32().await.expect("an answer"), 9);
        assert_eq!(client.socket.read_u32().await.expect("an answer"), 64 * MIB as u32);
    }
    let peak = proxy.peak_memory_bytes();
    assert!(peak < 48 * MIB as u64, "{} MiB for requests of 64 MiB", peak / MIB as u64);
}
