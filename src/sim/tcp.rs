//! Runs a simulated cluster on real sockets: a listener per broker on 127.0.0.1.
//!
//! Invariant: a broker that refuses connections has no listener, and keeps its port for when it comes back. Deliberately not here: any
//! behaviour of a broker; and a silent host, which the loopback interface cannot play.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ConnId, Options as ClusterOptions, Output};
use super::frame::MAX_FRAME_BYTES;

/// Answers that may wait for a client that does not read, before its requests are no longer read either.
const QUEUED_ANSWERS: usize = 64;
/// How long what is already answered may still be written when a connection closes.
const FLUSH_ON_CLOSE: Duration = Duration::from_secs(1);

/// A cluster that listens. Dropping it ends everything.
pub struct SimCluster {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The next timeout may have moved.
    moved: Notify,
    started: Instant,
    runtime: Handle,
    ended: CancellationToken,
}

struct State {
    cluster: Cluster,
    listeners: BTreeMap<i32, Listener>,
    peers: HashMap<ConnId, Peer>,
    first_port: Option<u16>,
    /// Brokers whose next request is cut off behind so many bytes.
    cuts: BTreeMap<i32, usize>,
}

struct Listener {
    address_generation: u64,
    /// Bound and never listening: the port stays ours while the broker refuses connections.
    _reserved: Socket,
    port: u16,
    accepting: Option<CancellationToken>,
}

struct Peer {
    answers: mpsc::Sender<Bytes>,
    flow: Arc<Flow>,
    closed: CancellationToken,
}

#[derive(Default)]
struct Flow {
    queued: AtomicUsize,
    changed: Notify,
}

impl SimCluster {
    /// Starts a cluster on free ports.
    pub async fn start(options: ClusterOptions) -> io::Result<SimCluster> {
        Self::start_with(Cluster::new(options), None).await
    }

    /// Starts a prepared cluster; with `first_port`, broker N listens on `first_port` + N.
    pub async fn start_with(cluster: Cluster, first_port: Option<u16>) -> io::Result<SimCluster> {
        let state = State { cluster, listeners: BTreeMap::new(), peers: HashMap::new(), first_port, cuts: BTreeMap::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            moved: Notify::new(),
            started: Instant::now(),
            runtime: Handle::current(),
            ended: CancellationToken::new(),
        });
        let sim = SimCluster { shared };
        sim.shared.reconcile(&mut sim.shared.lock())?;
        tokio::spawn(keep_time(sim.shared.clone()));
        Ok(sim)
    }

    /// The addresses of all brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        let state = self.shared.lock();
        let brokers = state.cluster.brokers().map(|broker| format!("{}:{}", broker.host, broker.port));
        brokers.collect::<Vec<_>>().join(",")
    }

    /// The address of one broker.
    pub fn address(&self, broker: i32) -> Option<SocketAddr> {
        let state = self.shared.lock();
        state.listeners.get(&broker).map(|listener| SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port)))
    }

    /// Looks at the cluster or commands it; what follows for listeners and connections happens before this returns.
    pub fn control<T>(&self, command: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut state = self.shared.lock();
        state.cluster.tick(self.shared.now());
        let answer = command(&mut state.cluster);
        state.cluster.tick(self.shared.now());
        self.shared.carry_out(&mut state);
        state.peers.values().for_each(|peer| peer.flow.changed.notify_one());
        answer
    }

    /// The next request to a broker, on whichever connection, is read for `bytes` bytes (its length prefix included, and no more than it
    /// has); then the connection closes. Nothing of it is applied.
    pub fn cut_next_request(&self, broker: i32, bytes: usize) {
        self.shared.lock().cuts.insert(broker, bytes.max(1));
    }

    /// Ends everything.
    pub async fn shutdown(self) {
        drop(self);
        tokio::task::yield_now().await;
    }
}

impl Drop for SimCluster {
    fn drop(&mut self) {
        self.shared.ended.cancel();
        let mut state = self.shared.lock();
        state.listeners.clear();
        state.peers.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Hands out what the cluster wants done.
    fn carry_out(self: &Arc<Self>, state: &mut State) {
        while let Some(output) = state.cluster.poll() {
            match output {
                Output::Respond { conn, frame } => {
                    let Some(peer) = state.peers.get(&conn) else { continue };
                    peer.flow.queued.fetch_add(1, Ordering::Relaxed);
                    if peer.answers.try_send(frame).is_err() {
                        state.peers.remove(&conn);
                        state.cluster.disconnect(conn);
                    }
                }
                Output::Close { conn } => {
                    if let Some(peer) = state.peers.remove(&conn) {
                        peer.closed.cancel();
                    }
                }
            }
        }
        if let Err(error) = self.reconcile(state) {
            tracing::warn!(%error, "a simulated broker cannot listen");
        }
        self.moved.notify_one();
    }

    /// Brings the listeners to where the brokers are.
    fn reconcile(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if self.ended.is_cancelled() {
            return Ok(());
        }
        let wanted: BTreeMap<i32, (u64, bool)> =
            state.cluster.brokers().map(|broker| (broker.id, (broker.address_generation, broker.accepts()))).collect();
        state.listeners.retain(|id, listener| wanted.get(id).is_some_and(|(generation, _)| *generation == listener.address_generation));
        for (id, (generation, accepts)) in wanted {
            if !state.listeners.contains_key(&id) {
                let port = if generation == 0 {
                    state.first_port.and_then(|first| first.checked_add_signed(i16::try_from(id).ok()?))
                } else {
                    None
                };
                let listener = Listener::reserve(port.unwrap_or(0), generation)?;
                state.cluster.set_address(id, "127.0.0.1", listener.port);
                state.listeners.insert(id, listener);
            }
            let Some(listener) = state.listeners.get_mut(&id) else { continue };
            match (&listener.accepting, accepts) {
                (None, true) => {
                    let _context = self.runtime.enter();
                    let socket = TcpListener::from_std(listener.listen()?)?;
                    let stopped = self.ended.child_token();
                    listener.accepting = Some(stopped.clone());
                    self.runtime.spawn(accept(self.clone(), id, socket, stopped));
                }
                (Some(_), false) => listener.stop(),
                _ => {}
            }
        }
        Ok(())
    }
}

impl State {
    fn takes_cut(&mut self, broker: i32, arrived: usize) -> bool {
        let is_due = self.cuts.get(&broker).is_some_and(|bytes| arrived >= *bytes);
        if is_due {
            self.cuts.remove(&broker);
        }
        is_due
    }
}

impl Listener {
    fn reserve(port: u16, address_generation: u64) -> io::Result<Listener> {
        let reserved = bind(port)?;
        let address = reserved.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
        Ok(Listener { address_generation, _reserved: reserved, port: address.port(), accepting: None })
    }

    fn listen(&self) -> io::Result<std::net::TcpListener> {
        const BACKLOG: i32 = 1_024;
        let socket = bind(self.port)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.cancel();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

async fn keep_time(shared: Arc<Shared>) {
    const IDLE: Duration = Duration::from_secs(3_600);
    loop {
        let next = shared.lock().cluster.next_timeout();
        let sleep = next.map_or(IDLE, |at| at.saturating_sub(shared.now()));
        tokio::select! {
            () = shared.ended.cancelled() => return,
            () = shared.moved.notified() => continue,
            () = tokio::time::sleep(sleep) => {}
        }
        let mut state = shared.lock();
        state.cluster.tick(shared.now());
        shared.carry_out(&mut state);
    }
}

async fn accept(shared: Arc<Shared>, broker: i32, listener: TcpListener, stopped: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => open(&shared, broker, stream),
            // Out of file descriptors, most likely: the next one may have luck.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn open(shared: &Arc<Shared>, broker: i32, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut state = shared.lock();
    let Ok(conn) = state.cluster.connect(shared.now(), broker) else { return };
    let (reader, writer) = stream.into_split();
    let (answers, to_write) = mpsc::channel(4 * QUEUED_ANSWERS);
    let flow = Arc::new(Flow::default());
    let closed = shared.ended.child_token();
    state.peers.insert(conn, Peer { answers, flow: flow.clone(), closed: closed.clone() });
    tokio::spawn(read(shared.clone(), (broker, conn), reader, flow.clone(), closed.clone()));
    tokio::spawn(write(writer, to_write, flow, closed));
}

async fn read(shared: Arc<Shared>, (broker, conn): (i32, ConnId), mut socket: OwnedReadHalf, flow: Arc<Flow>, closed: CancellationToken) {
    let mut buffer = BytesMut::new();
    loop {
        let frame = tokio::select! {
            () = closed.cancelled() => return,
            frame = next_frame(&shared, (broker, conn), &mut socket, &mut buffer, &flow) => frame,
        };
        let mut state = shared.lock();
        match frame {
            Some(frame) => state.cluster.receive(shared.now(), conn, frame),
            None => {
                state.cluster.disconnect(conn);
                state.peers.remove(&conn);
            }
        }
        let is_open = state.peers.contains_key(&conn);
        shared.carry_out(&mut state);
        if !is_open {
            return;
        }
    }
}

/// The next whole frame; `None` at the end of the stream, or at a length that no broker takes.
async fn next_frame(
    shared: &Shared,
    (broker, conn): (i32, ConnId),
    socket: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    flow: &Flow,
) -> Option<Bytes> {
    loop {
        let wants_more = flow.queued.load(Ordering::Relaxed) < QUEUED_ANSWERS && shared.lock().cluster.wants_read(conn);
        if !wants_more {
            flow.changed.notified().await;
            continue;
        }
        if shared.lock().takes_cut(broker, buffer.len()) {
            return None;
        }
        if let Some(length) = buffer.first_chunk::<4>().map(|length| i32::from_be_bytes(*length)) {
            let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES)?;
            if buffer.len() >= 4 + length {
                buffer.advance(4);
                return Some(buffer.split_to(length).freeze());
            }
            // No more than a little ahead of what arrived: a length alone costs no memory.
            buffer.reserve((4 + length - buffer.len()).min(1 << 20));
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn write(mut socket: OwnedWriteHalf, mut answers: mpsc::Receiver<Bytes>, flow: Arc<Flow>, closed: CancellationToken) {
    let mut out = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = answers.recv() => frame,
            () = closed.cancelled() => None,
        };
        let Some(frame) = frame else { break };
        out.clear();
        out.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(&frame);
        let wrote = tokio::select! {
            wrote = socket.write_all(&out) => wrote.is_ok(),
            () = async { closed.cancelled().await; tokio::time::sleep(FLUSH_ON_CLOSE).await } => false,
        };
        flow.queued.fetch_sub(1, Ordering::Relaxed);
        flow.changed.notify_one();
        if !wrote {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};

    use super::*;
    use crate::sim::broker::Hang;
    use crate::sim::frame::{decode_response, encode_request};

    async fn connect(sim: &SimCluster, broker: i32) -> io::Result<TcpStream> {
        TcpStream::connect(sim.address(broker).expect("an address")).await
    }

    async fn metadata(stream: &mut TcpStream) -> io::Result<MetadataResponse> {
        let request = MetadataRequest::default().with_topics(None);
        let frame = encode_request(ApiKey::Metadata, 12, 1, "test", &request).expect("it encodes");
        stream.write_u32(u32::try_from(frame.len()).expect("small")).await?;
        stream.write_all(&frame).await?;
        let length = stream.read_u32().await?;
        let mut answer = vec![0; usize::try_from(length).expect("small")];
        stream.read_exact(&mut answer).await?;
        Ok(decode_response(ApiKey::Metadata, 12, &Bytes::from(answer)).expect("it decodes").1)
    }

    #[tokio::test]
    async fn listeners_close_with_their_broker_and_come_back_at_the_same_port() -> io::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        let port = sim.address(1).expect("an address").port();
        let mut stream = connect(&sim, 1).await?;
        let told = metadata(&mut stream).await?;
        assert!(told.brokers.iter().any(|broker| broker.node_id.0 == 1 && broker.port == i32::from(port)));

        sim.control(|cluster| cluster.stop_broker(1));
        assert!(metadata(&mut stream).await.is_err());
        assert!(connect(&sim, 1).await.is_err());

        sim.control(|cluster| cluster.start_broker(1));
        assert_eq!(sim.address(1).expect("an address").port(), port);
        assert_eq!(metadata(&mut connect(&sim, 1).await?).await?.brokers.len(), 3);

        sim.control(|cluster| cluster.readdress_broker(1));
        assert_ne!(sim.address(1).expect("an address").port(), port);
        metadata(&mut connect(&sim, 1).await?).await?;
        sim.shutdown().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_request_that_is_cut_off_closes_its_connection_and_the_next_one_is_whole() -> io::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        let mut stream = connect(&sim, 0).await?;
        metadata(&mut stream).await?;
        sim.cut_next_request(0, 6);
        assert!(metadata(&mut stream).await.is_err());
        metadata(&mut connect(&sim, 0).await?).await?;
        assert_eq!(sim.control(|cluster| cluster.requests_of(0, 3)), 2);
        Ok(())
    }

    #[tokio::test]
    async fn a_frozen_broker_accepts_and_answers_when_it_thaws() -> io::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        sim.control(|cluster| cluster.hang_broker(0, Hang::NotReading));
        let mut stream = connect(&sim, 0).await?;
        let asked = tokio::time::timeout(Duration::from_millis(50), metadata(&mut stream)).await;
        assert!(asked.is_err());
        sim.control(|cluster| cluster.thaw_broker(0));
        assert!(stream.read_u32().await? > 0);
        Ok(())
    }
}
