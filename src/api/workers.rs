//! Workers: list, restart.

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shares;
use super::error::{ApiError, ErrorBody};
use crate::pool::WorkerStatus;

#[derive(Serialize, ToSchema)]
pub(super) struct WorkerList {
    workers: Vec<WorkerStatus>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Restarted {
    /// The process that was killed.
    pid: i32,
}

/// The workers.
#[utoipa::path(get, path = "/api/v1/workers", responses((status = 200, body = WorkerList)))]
pub(super) async fn list(Extract(state): Shares) -> Json<WorkerList> {
    Json(WorkerList { workers: state.pool.status().workers })
}

/// Kill the worker with this process id and start another in its place. What it runs loses an attempt.
#[utoipa::path(
    post, path = "/api/v1/workers/{pid}/restart", params(("pid" = i32, Path)),
    responses((status = 200, body = Restarted), (status = 404, body = ErrorBody))
)]
pub(super) async fn restart(
    Extract(state): Shares,
    Path(pid): Path<String>,
) -> Result<Json<Restarted>, ApiError> {
    let pid: i32 = pid.parse().map_err(|_| ApiError::unknown_worker())?;
    if state.pool.restart_worker(pid)? {
        Ok(Json(Restarted { pid }))
    } else {
        Err(ApiError::unknown_worker())
    }
}
