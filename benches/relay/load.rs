//! The load: requests over plain sockets, `depth` of them under way on each connection, each connection on a thread.
//!
//! Invariant: every response has the correlation id that is due, so that a way which loses or reorders has no numbers.
//! Not here: Kafka's own client rules; they would be measured with the proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::frames::{self, Ask, IN_REQUEST, IN_RESPONSE};

const READ_BYTES: usize = 256 * 1024;
const STALLED_AFTER: Duration = Duration::from_secs(20);
/// 10 s in nanoseconds, with three digits.
const LATENCY_MAX_NS: u64 = 10_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub ask: Ask,
    pub connections: usize,
    pub depth: usize,
}

/// What one run brought.
#[derive(Debug)]
pub struct Outcome {
    pub requests: u64,
    pub took: Duration,
    /// Of single requests, where one at a time is under way.
    pub latency_ns: Histogram<u64>,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }
}

/// A connection that has had one answer.
pub struct Client {
    socket: TcpStream,
    request: Bytes,
    read: Vec<u8>,
    written: i32,
    answered: i32,
    /// Of the response that is being read: how many bytes are still to come.
    left: usize,
    start: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr, ask: Ask) -> Result<Client> {
        let socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(STALLED_AFTER))?;
        let request = frames::request(ask)?;
        let mut client = Client { socket, request, read: Vec::new(), written: 0, answered: 0, left: 0, start: Vec::new() };
        client.send(1)?;
        while client.receive()? == 0 {}
        Ok(client)
    }

    /// Gives its buffer back, for a connection that stays idle.
    pub fn rest(&mut self) {
        self.read = Vec::new();
    }

    fn send(&mut self, count: usize) -> Result<()> {
        let mut out = Vec::with_capacity(count * self.request.len());
        for _ in 0..count {
            frames::append(&mut out, &self.request, IN_REQUEST, self.written);
            self.written = self.written.wrapping_add(1);
        }
        self.socket.write_all(&out).context("sending")
    }

    /// One read. Returns how many responses ended in it.
    fn receive(&mut self) -> Result<usize> {
        self.read.resize(READ_BYTES, 0);
        let count = self.socket.read(&mut self.read).context("receiving")?;
        ensure!(count > 0, "the connection was closed after {} answers", self.answered);
        let mut bytes = &self.read[..count];
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = (IN_RESPONSE + 4 - self.start.len()).min(bytes.len());
                let (head, rest) = bytes.split_at(wanted);
                self.start.extend_from_slice(head);
                bytes = rest;
                if self.start.len() < IN_RESPONSE + 4 {
                    break;
                }
                let correlation_id = frames::number(&self.start, IN_RESPONSE);
                if correlation_id != self.answered {
                    bail!("answer {correlation_id} came where {} is due", self.answered);
                }
                self.left = usize::try_from(frames::number(&self.start, 0))? - 4;
                self.start.clear();
            }
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.answered = self.answered.wrapping_add(1);
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn run(&mut self, depth: usize, until: Instant, latency_ns: &mut Histogram<u64>) -> Result<u64> {
        let mut requests = 0;
        let mut under_way = 0;
        let mut sent_at = Instant::now();
        self.send(depth)?;
        under_way += depth;
        while under_way > 0 {
            let ended = self.receive()?;
            let now = Instant::now();
            requests += ended as u64;
            under_way -= ended;
            if depth == 1 && ended == 1 {
                latency_ns.saturating_record(u64::try_from((now - sent_at).as_nanos()).unwrap_or(LATENCY_MAX_NS));
            }
            if ended > 0 && now < until {
                sent_at = Instant::now();
                self.send(ended)?;
                under_way += ended;
            }
        }
        Ok(requests)
    }
}

/// Runs the load against these brokers for about so long.
pub fn run(addresses: &[SocketAddr], shape: Shape, lasting: Duration) -> Result<Outcome> {
    let mut clients =
        (0..shape.connections).map(|index| Client::connect(addresses[index % addresses.len()], shape.ask)).collect::<Result<Vec<_>>>()?;
    let mut outcome = Outcome { requests: 0, took: Duration::ZERO, latency_ns: Histogram::new_with_max(LATENCY_MAX_NS, 3)? };
    let started = Instant::now();
    let until = started + lasting;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for client in &mut clients {
            let mut latency_ns = outcome.latency_ns.clone();
            running.push(scope.spawn(move || client.run(shape.depth, until, &mut latency_ns).map(|requests| (requests, latency_ns))));
        }
        for ended in running {
            let (requests, latency_ns) = ended.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            outcome.requests += requests;
            outcome.latency_ns.add(latency_ns)?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    outcome.took = started.elapsed();
    Ok(outcome)
}

/// Opens connections one after another, each with one request, and closes each before the next. Returns how many per second.
pub fn connection_rate(addresses: &[SocketAddr], ask: Ask, count: usize) -> Result<f64> {
    let started = Instant::now();
    for index in 0..count {
        drop(Client::connect(addresses[index % addresses.len()], ask)?);
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
