//! Slow sides, large frames, small reads, strangers.

use super::*;

#[tokio::test]
async fn a_large_response_waits_for_a_slow_client_without_lying_in_memory() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    let response = response(1, 64 * MIB);
    let whole = response.clone();
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while written < whole.len() {
            match timeout(Duration::from_millis(300), broker.write(&whole[written..])).await {
                Ok(n) => written += n.unwrap(),
                Err(_) => break,
            }
        }
        (broker, written)
    });
    let (mut broker, written) = writer.await.unwrap();
    // What the kernel's socket buffers take besides is not ours; it is a few MiB at most.
    assert!(written < 32 * MIB, "{written} bytes went somewhere while nobody read");
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "queued_bytes") > 0);
    let rest = response.slice(written..);
    let writer = tokio::spawn(async move { broker.write_all(&rest).await.map(|()| broker) });
    assert!(read(&mut client, response.len()).await == response);
    writer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_large_request_waits_for_a_slow_broker_without_lying_in_memory() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let _broker = rig.broker_side().await;
    let large = request(2, 64 * MIB);
    let mut written = 0;
    while let Ok(n) = timeout(Duration::from_millis(300), client.write(&large[written..])).await {
        written += n.unwrap();
    }
    assert!(written < 32 * MIB, "{written} bytes went somewhere while nobody read");
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "queued_bytes") > 0);
}

#[tokio::test]
async fn no_leg_is_opened_for_a_client_that_asks_nothing() {
    let rig = Rig::with(|environment| environment.settings.handshake_timeout = Duration::from_millis(200)).await;
    let (mut client, session) = rig.client().await;
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HandshakeTimeout);
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)[..7]).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HandshakeTimeout);
    assert!(timeout(Duration::from_millis(50), rig.broker.accept()).await.is_err());
}

#[tokio::test]
async fn a_stranger_is_named_and_closed() {
    let rig = Rig::new().await;
    let cases: [(&[u8], &str); 4] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (b"\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00", "frame_too_large"),
        (b"\x00\x00\x00\x02\x00\x00", "malformed"),
    ];
    for (bytes, kind) in cases {
        let (mut client, session) = rig.client().await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{kind}");
        drop(client);
        assert_eq!(ends(session).await.as_str(), "bad_client", "{kind}");
        assert_eq!(rig.count(&rig.environment.counting.metrics.bad_clients, kind), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_full_ring_of_slots_delays_and_loses_nothing() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    let requests: Vec<u8> = (0..1000).flat_map(|n| request(n, 0)).collect();
    client.write_all(&requests).await.unwrap();
    let mut broker = rig.broker_side().await;
    let one = request(0, 0).len();
    let answering = tokio::spawn(async move {
        for n in 0..1000 {
            let got = read(&mut broker, one).await;
            assert!(got == request(n, 0), "request {n}");
            broker.write_all(&response(n, 20)).await.unwrap();
        }
        broker
    });
    for n in 0..1000 {
        let expected = response(n, 20);
        assert!(read(&mut client, expected.len()).await == expected, "response {n}");
    }
    answering.await.unwrap();
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "slots_per_session") > 0);
}

#[tokio::test]
async fn a_response_over_a_limit_closes_the_client_and_is_counted() {
    let narrow = |environment: &mut Environment| {
        let limits = Arc::make_mut(&mut environment.limits);
        (limits.max_rewrite_bytes, limits.max_response_bytes) = (2_000, 3_000);
    };
    // Metadata v0 is rewritten, Heartbeat is not.
    for (request, bytes, limit) in
        [(frame(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff]), 2_100, "rewrite_bytes"), (request(1, 0), 3_100, "response_bytes")]
    {
        let rig = Rig::with(narrow).await;
        let (mut client, session) = rig.client().await;
        client.write_all(&request).await.unwrap();
        let mut broker = rig.broker_side().await;
        broker.write_all(&response(1, bytes)).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{limit}");
        drop((client, broker));
        assert_eq!(ends(session).await, CloseReason::ResponseTooLarge(limit));
        assert_eq!(rig.count(&rig.environment.counting.metrics.limit_hits, limit), 1);
    }
}

#[tokio::test]
async fn a_pipelining_client_whose_writes_end_within_a_head_is_not_stuck() {
    let rig = Rig::with(|environment| environment.settings.handshake_timeout = Duration::from_millis(400)).await;
    let (mut client, session) = rig.client().await;
    let all: Vec<u8> = (0..20).flat_map(|n| request(n, 0)).collect();
    let one = request(0, 0).len();
    let mut at = 0;
    for n in 0..15 {
        let to = n * one + 6;
        if client.write_all(&all[at..to]).await.is_err() {
            break;
        }
        at = to;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!session.is_finished(), "closed after {n} steps: {:?}", ends(session).await);
    }
}

#[tokio::test]
async fn small_reads_do_not_pin_a_read_buffer_each() {
    let rss = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    // A leg that stays opening: a listener whose backlog is full.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(tokio::spawn(TcpStream::connect(address)));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rig = Rig::new().await;
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, address.port())]);
    let (mut client, _session) = rig.client().await;
    client.set_nodelay(true).unwrap();
    let large = request(1, MIB);
    let before = rss();
    let begun = Instant::now();
    client.write_all(&large[..64]).await.unwrap();
    let mut sent = 64;
    while sent < 60_000 && begun.elapsed() < Duration::from_secs(4) {
        client.write_all(&large[sent..sent + 1]).await.unwrap();
        sent += 1;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    let grown = rss().saturating_sub(before);
    assert!(grown < 4 * MIB, "{sent} bytes cost {grown} bytes");
}
