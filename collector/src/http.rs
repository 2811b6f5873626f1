//! `/metrics` and `/health`, over HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use tokio::runtime;
use tracing::{info, warn};

use crate::config::{Http, Listen};
use crate::failure::{Failure, Result};
use crate::metrics::Shown;

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct Server(TcpListener);

impl Server {
    /// Listens where the configuration says, or at the command's default. Only an address that is configured must be
    /// free.
    pub fn configured(http: &Http, default: SocketAddr) -> Result<Option<Self>> {
        let server = match http.address {
            Some(Listen::Off) => return Ok(None),
            Some(Listen::At(address)) => Some(Self::listen(address)?),
            None => Self::listen(default)
                .inspect_err(|failure| warn!("{failure}; nlringd works without /metrics"))
                .ok(),
        };
        if let Some(address) = server.as_ref().and_then(|server| server.address().ok()) {
            info!("/metrics and /health are at http://{address}");
        }
        Ok(server)
    }

    fn listen(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).map_err(|error| {
            Failure::Other(format!(
                "listen on {address}: {error}; set [http] address to another one, or to \"off\""
            ))
        })?;
        Ok(Self(listener))
    }

    /// The address, with the port that the kernel chose for port 0.
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers requests for as long as the process lives.
    pub fn run(self, metrics: impl Shown) -> Result<()> {
        let failed = |error: io::Error| Failure::Other(format!("answer over HTTP: {error}"));
        self.0.set_nonblocking(true).map_err(failed)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(failed)?.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.0).map_err(failed)?;
            axum::serve(listener, router(metrics)).await.map_err(failed)
        })
    }
}

fn router<S: Shown>(metrics: S) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics::<S>))
        .route("/health", get(show_health::<S>))
        .with_state(metrics)
}

async fn show_metrics<S: Shown>(State(metrics): State<S>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.text())
}

/// 200 and `{"status":"ok"}`, or 503 and the parts that do not work, each with its reason.
async fn show_health<S: Shown>(State(metrics): State<S>) -> impl IntoResponse {
    let problems = metrics.problems();
    let (code, body) = if problems.is_empty() {
        (StatusCode::OK, serde_json::json!({"status": "ok"}))
    } else {
        let body = serde_json::json!({"status": "failing", "problems": problems});
        (StatusCode::SERVICE_UNAVAILABLE, body)
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (code, json, format!("{body}\n"))
}
