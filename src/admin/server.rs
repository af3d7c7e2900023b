//! The HTTP server of the admin port and its few pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::Status;
use super::rehearsal::{self, Rehearse};

/// More visitors wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
const MAX_HEADERS: usize = 64;
/// A request's line and headers, together.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Also how long a kept-alive connection may rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection takes no further request after this time, and has `HEAD_TIMEOUT` more to finish its last one.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(120);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (admin.listen)")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// The bound admin port, not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

impl Admin {
    pub async fn bind(address: SocketAddr) -> Result<Admin, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
        Ok(Admin { listener })
    }

    /// The address that it really has.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` ends; then the port closes at once, and with it every connection.
    pub async fn serve(
        self,
        registry: Registry,
        status: Arc<dyn Status>,
        rehearsals: Arc<dyn Rehearse>,
        shutdown: impl Future<Output = ()>,
    ) {
        let pages = pages(registry, status, rehearsals);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        let accept = async {
            loop {
                // The semaphore is never closed.
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        let pages = pages.clone();
                        connections.spawn(async move {
                            serve_connection(stream, peer, pages).await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "the admin port cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, pages: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let mut connection = std::pin::pin!(connection);
    let served = match tokio::time::timeout(CONNECTION_LIFETIME, connection.as_mut()).await {
        Ok(served) => served,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(HEAD_TIMEOUT, connection).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        debug!(%peer, %error, "a connection to the admin port failed");
    }
}

#[derive(Clone)]
struct Shown {
    registry: Registry,
    status: Arc<dyn Status>,
}

fn pages(registry: Registry, status: Arc<dyn Status>, rehearsals: Arc<dyn Rehearse>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/status.json", get(status_json))
        .with_state(Shown { registry, status })
        .merge(rehearsal::pages(rehearsals))
        .layer(from_fn(with_safe_headers))
}

async fn with_safe_headers(request: Request, next: Next) -> Response {
    const SAFE: [(HeaderName, HeaderValue); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
    ];
    let mut response = next.run(request).await;
    response.headers_mut().extend(SAFE.map(|(name, value)| (Some(name), value)));
    response
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><title>Evenkeel</title><h1>Evenkeel ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul>",
        "<li><a href=\"/metrics\">/metrics</a>: for Prometheus",
        "<li><a href=\"/healthz\">/healthz</a>: is the process alive",
        "<li><a href=\"/readyz\">/readyz</a>: do the ports listen, and did a broker answer lately",
        "<li><a href=\"/status.json\">/status.json</a>: the cluster as seen, virtual brokers, sessions, the last departures, limits",
        "<li><a href=\"/rehearsal\">/rehearsal</a>: the last rehearsal of a departure (see evenkeel rehearse --help)",
        "</ul>\n"
    ))
}

async fn metrics(State(shown): State<Shown>) -> Response {
    shown.status.before_scrape();
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&shown.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response(),
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    match shown.status.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn status_json(State(shown): State<Shown>) -> Response {
    match serde_json::to_vec_pretty(&shown.status.status()) {
        Ok(mut json) => {
            json.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the status cannot be written: {error}\n")).into_response(),
    }
}
