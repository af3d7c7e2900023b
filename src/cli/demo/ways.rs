//! The two ways to a cluster: straight, and through the proxy. Each has a cluster of its own, and both the same story.
//!
//! Invariant: client, proxy and brokers meet only over TCP; what arrived is read in the cluster's log, not asked of the proxy.
//! Deliberately absent: judging.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::story::{self, Chapter};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy;
use crate::sim::client::legacy::load::{self, Options, Progress, Ready, Report, Stamp};
use crate::sim::cluster::Options as ClusterOptions;
use crate::sim::tcp::SimCluster;

/// What one way's load came to.
pub struct Travelled {
    pub report: Report,
    /// What lies in the log, by partition; `None`: a record that is not the load's.
    pub log: Vec<Vec<Option<Stamp>>>,
}

/// What the proxy counted, and what it should have kept to itself.
#[derive(Debug, serde::Serialize)]
pub struct Relayed {
    pub connections: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Addresses that the client was told.
    pub addresses_told: BTreeSet<String>,
    /// Those among them that are not the proxy's.
    pub addresses_leaked: BTreeSet<String>,
}

/// A way whose cluster and client are ready.
pub struct Way {
    cluster: SimCluster,
    ready: Ready,
    proxy: Option<RunningProxy>,
}

struct RunningProxy {
    addresses: Vec<SocketAddr>,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), proxy::RunError>>,
}

impl Way {
    pub async fn direct(cluster: &ClusterOptions, load: &Options) -> anyhow::Result<Way> {
        let cluster = start(cluster).await?;
        let ready = load::prepare(&cluster.bootstrap(), load.clone()).await.context("the load could not begin")?;
        Ok(Way { cluster, ready, proxy: None })
    }

    pub async fn proxied(cluster: &ClusterOptions, load: &Options) -> anyhow::Result<Way> {
        let cluster = start(cluster).await?;
        let proxy = RunningProxy::start(&cluster.bootstrap()).await?;
        let bootstrap = proxy.addresses.first().map(ToString::to_string).unwrap_or_default();
        let ready = load::prepare(&bootstrap, load.clone()).await.context("the load through the proxy could not begin")?;
        Ok(Way { cluster, ready, proxy: Some(proxy) })
    }

    /// The story and the load, both from `origin` on.
    pub async fn travel(
        self,
        chapters: &[Chapter],
        origin: Instant,
        tell: impl FnMut(&Progress) + Send,
    ) -> anyhow::Result<(Travelled, Option<Relayed>)> {
        let Way { cluster, ready, proxy } = self;
        cluster.control(|cluster| {
            let start = cluster.now() + origin.saturating_duration_since(Instant::now());
            story::schedule(chapters, cluster, start);
        });
        let report = ready.run(origin, tell).await;
        let log = (0..story::PARTITIONS).map(|partition| read_back(&cluster, partition)).collect();
        let relayed = match proxy {
            Some(proxy) => Some(proxy.stop(&report).await?),
            None => None,
        };
        cluster.shutdown().await;
        Ok((Travelled { report, log }, relayed))
    }
}

async fn start(options: &ClusterOptions) -> anyhow::Result<SimCluster> {
    SimCluster::start(options.clone()).await.context("cannot start the simulated cluster")
}

fn read_back(cluster: &SimCluster, partition: i32) -> Vec<Option<Stamp>> {
    let records = cluster.control(|cluster| cluster.records(story::TOPIC, partition));
    let stamps = records.iter().map(|record| Stamp::read(record.value.as_ref()?));
    stamps.map(|stamp| stamp.filter(|stamp| stamp.partition == partition)).collect()
}

impl RunningProxy {
    async fn start(upstream: &str) -> anyhow::Result<RunningProxy> {
        let addresses = free_addresses(1 + usize::try_from(story::BROKERS)?).context("no free ports")?;
        let config = config(upstream, &addresses)?;
        let metrics = Metrics::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let (start, started) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let tell = move |_| {
            // Nobody may wait for it any more.
            let _ = start.send(());
        };
        let mut running = tokio::spawn(proxy::run_with(config, metrics.clone(), shutdown, tell));
        tokio::select! {
            ended = &mut running => {
                ended.context("the proxy broke down")?.context("the proxy did not start")?;
                Err(anyhow!("the proxy ended before it began"))
            }
            begun = started => {
                begun.context("the proxy did not start")?;
                Ok(RunningProxy { addresses, metrics, stop, running })
            }
        }
    }

    async fn stop(self, report: &Report) -> anyhow::Result<Relayed> {
        let own: BTreeSet<String> = self.addresses.iter().map(ToString::to_string).collect();
        let relayed = Relayed {
            connections: self.metrics.sessions_total.get(),
            request_bytes: self.metrics.relayed_bytes.with_label_values(&["request"]).get(),
            response_bytes: self.metrics.relayed_bytes.with_label_values(&["response"]).get(),
            addresses_leaked: report.told.difference(&own).cloned().collect(),
            addresses_told: report.told.clone(),
        };
        // The receiver lives as long as the proxy runs.
        let _ = self.stop.send(());
        const DRAIN_MAX: Duration = Duration::from_secs(10);
        let ended = tokio::time::timeout(DRAIN_MAX, self.running).await.context("the proxy does not stop")?;
        ended.context("the proxy broke down")??;
        Ok(relayed)
    }
}

/// Addresses of the loopback interface that were free a moment ago.
fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

fn config(upstream: &str, addresses: &[SocketAddr]) -> anyhow::Result<Config> {
    let (bootstrap, nodes) = addresses.split_first().context("no address to listen on")?;
    let ports: Vec<String> = nodes.iter().enumerate().map(|(node, address)| format!("{node}: {}", address.port())).collect();
    let yaml = format!(
        "upstream: {{bootstrap: '{upstream}'}}\n\
         listen: {{bootstrap: '{bootstrap}', node_ids: [], ports: {{{}}}, overflow_ports: none}}\n\
         admin: {{listen: none}}\n\
         timeouts: {{drain: 2s}}\n",
        ports.join(", ")
    );
    Ok(Config::from_yaml(&yaml, &[])?)
}
