//! `/metrics`, in Prometheus' text format. Gauges and counters are read from the pool when they are asked for.

use axum::extract::State as Extract;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Shares;
use super::error::ApiError;
use crate::pool::{PoolStatus, WorkerStateName};

/// Metrics of the pool and of the process tree, in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(Extract(state): Shares) -> Result<impl IntoResponse, ApiError> {
    let mut registry = Registry::with_prefix("disttask");
    registry.register_collector(Box::new(Snapshot {
        status: state.pool.status(),
        uptime: state.began.elapsed(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| ApiError::internal("the metrics cannot be encoded"))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

#[derive(Debug)]
struct Snapshot {
    status: PoolStatus,
    uptime: std::time::Duration,
}

impl Collector for Snapshot {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no queue or memory reaches")]
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let totals = &self.status.totals;
        for (name, help, value) in [
            ("tasks_submitted", "Tasks accepted", totals.submitted),
            ("tasks_succeeded", "Tasks that returned", totals.succeeded),
            ("tasks_failed", "Tasks that raised, crashed, timed out or were cut off", totals.failed),
            ("tasks_cancelled", "Tasks cancelled before they ran", totals.cancelled),
            ("task_retries", "Attempts granted after one that failed", totals.retried),
            ("worker_deaths", "Workers that died without having been asked to", totals.worker_deaths),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let workers = &self.status.workers;
        let busy = workers.iter().filter(|worker| worker.state == WorkerStateName::Busy).count();
        let memory: u64 = workers.iter().map(|worker| worker.memory_bytes).sum();
        for (name, help, unit, value) in [
            ("queued_tasks", "Tasks that wait", None, self.status.queued as f64),
            ("running_tasks", "Tasks on workers", None, self.status.running as f64),
            ("workers", "Worker places", None, workers.len() as f64),
            ("busy_workers", "Workers that run a task", None, busy as f64),
            ("worker_memory", "Resident memory of all workers", Some(Unit::Bytes), memory as f64),
            ("uptime", "Since the server began", Some(Unit::Seconds), self.uptime.as_secs_f64()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}
