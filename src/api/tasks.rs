//! Tasks: list, look at one, cancel or kill.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Extract};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::terms::check_length;
use super::views::TaskView;
use super::{Shares, results};
use crate::pool::{Filter, Outcome, dropped_notice};

/// Tasks in one list.
const MAX_LISTED: usize = 1000;

/// Tasks in a list where no number is asked for: a page.
const LISTED: usize = 100;

/// A killed process is gone in milliseconds. One that is not after so long hangs in the kernel, as on a dead network disk.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// At most so many of each kind, 1 to 1000.
    limit: Option<usize>,
    /// Only tasks that are called so.
    name: Option<String>,
    /// Only tasks that have this tag.
    tag: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TaskList {
    /// On workers, and next in the queue.
    pub(super) present: Vec<TaskView>,
    /// Ended, the last one first. The server remembers the last thousand.
    pub(super) past: Vec<TaskView>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Manner {
    /// Stop it where a worker runs it, too.
    #[serde(default)]
    kill: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Cancelled {
    task_id: String,
    cancelled: bool,
}

/// Tasks that run, wait and have ended. Of a longer queue, the next ten thousand are looked at for a name or a tag.
#[utoipa::path(
    get, path = "/api/v1/tasks", params(Asked),
    responses((status = 200, body = TaskList), (status = 400, body = ErrorBody))
)]
pub(super) async fn list(
    Extract(state): Shares,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let limit = asked.limit.unwrap_or(LISTED);
    if !(1..=MAX_LISTED).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit must be between 1 and {MAX_LISTED}")));
    }
    let filter = Filter { name: asked.name, tag: asked.tag };
    for (what, wanted) in [("name", &filter.name), ("tag", &filter.tag)] {
        wanted.as_deref().map_or(Ok(()), |wanted| check_length(what, wanted))?;
    }
    let pool = &state.pool;
    let present = pool.present(limit, &filter).iter().map(|task| TaskView::present(pool, task)).collect();
    let past: Vec<_> =
        pool.past(0, limit, &filter).into_iter().map(|past| TaskView::past(pool, past)).collect();
    let bytes = past.iter().map(|task| task.summary.len() + task.details.len()).sum();
    let text = state.heavy.run(bytes, move || serde_json::to_vec(&TaskList { present, past })).await?;
    let text = text.map_err(|_| ApiError::internal("the tasks cannot be written as JSON"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// One task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", params(("id" = String, Path)),
    responses(
        (status = 200, body = TaskView),
        (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody, description = "it ended too long ago"),
    )
)]
pub(super) async fn one(Extract(state): Shares, Path(id): Path<String>) -> Result<Json<TaskView>, ApiError> {
    let pool = &state.pool;
    let task = pool.parse_id(&id).ok_or_else(|| ApiError::unknown_task(&id))?;
    let (output, dropped) = pool.ident().output.of_task(task, None);
    let output = Some(if dropped > 0 { dropped_notice(dropped) + &output } else { output });
    if let Some(present) = pool.find_present(task) {
        return Ok(Json(TaskView { output, ..TaskView::present(pool, &present) }));
    }
    match pool.find_past(task) {
        Some(past) => Ok(Json(TaskView { output, ..TaskView::past(pool, past) })),
        None if pool.was_submitted(task) => Err(ApiError::evicted(&id)),
        None => Err(ApiError::unknown_task(&id)),
    }
}

/// Cancel a task that waits, or, with `kill`, one that runs as well: its worker is killed, with what it has started, and
/// replaced. The answer comes when that process is gone.
#[utoipa::path(
    delete, path = "/api/v1/tasks/{id}", params(("id" = String, Path), Manner),
    responses(
        (status = 200, body = Cancelled),
        (status = 400, body = ErrorBody, description = "a parameter is wrong"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "it has ended, or it runs and was not to be killed"),
        (status = 410, body = ErrorBody, description = "it ended too long ago"),
        (status = 503, body = ErrorBody, description = "it is killed, but its process does not end yet"),
    )
)]
pub(super) async fn cancel(
    Extract(state): Shares,
    Path(id): Path<String>,
    manner: Result<Query<Manner>, QueryRejection>,
) -> Result<Json<Cancelled>, ApiError> {
    let Query(Manner { kill }) = manner.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let pool = &state.pool;
    let task = pool.parse_id(&id).ok_or_else(|| ApiError::unknown_task(&id))?;
    let slot = pool.find_slot(task);
    let taken = if kill { pool.kill(task)? } else { pool.cancel(task)? };
    if let Some(slot) = slot.filter(|_| taken) {
        // One that runs is resolved when its process is gone: as cancelled, unless its answer came first.
        results::wait_until(&state, Instant::now() + KILL_PATIENCE, || slot.is_resolved()).await;
        match slot.kind() {
            Some(kind) if kind == Outcome::Cancelled.kind() => {
                return Ok(Json(Cancelled { task_id: id, cancelled: true }));
            }
            Some(_) => return Err(ApiError::too_late(kill)),
            None => return Err(ApiError::still_there(&id)),
        }
    }
    if !pool.was_submitted(task) {
        return Err(ApiError::unknown_task(&id));
    }
    if pool.find_present(task).is_none() && pool.find_past(task).is_none() {
        results::find(&state, &id)?;
    }
    Err(ApiError::too_late(kill))
}
