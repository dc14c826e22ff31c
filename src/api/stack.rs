//! The stack of a running task.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::Shares;
use super::error::{ApiError, ErrorBody};
use crate::pool::{STACK_LOOKS, StackLook};

/// A worker that shows nothing for so long is stopped, or not scheduled.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize, ToSchema)]
pub(super) struct Stack {
    task_id: String,
    /// The Python stacks of the task's worker, most recent call first.
    stack: String,
}

/// The Python stacks of the worker that runs a task, at this moment.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/stack", params(("id" = String, Path)),
    responses(
        (status = 200, body = Stack),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "no worker runs it"),
        (status = 503, body = ErrorBody, description = "the worker shows nothing: it is stopped"),
    )
)]
pub(super) async fn stack(Extract(state): Shares, Path(id): Path<String>) -> Result<Json<Stack>, ApiError> {
    let pool = &state.pool;
    let task = pool.parse_id(&id).filter(|&task| pool.was_submitted(task));
    let task = task.ok_or_else(|| ApiError::unknown_task(&id))?;
    let mut request = pool.ask_for_stack(task)?.ok_or_else(|| ApiError::not_running(&id))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match pool.look_for_stack(&mut request) {
            StackLook::NotYet => sleep(STACK_LOOKS).await,
            StackLook::Stack(stack) => return Ok(Json(Stack { task_id: id, stack })),
            StackLook::Ended => return Err(ApiError::not_running(&id)),
        }
    }
    pool.drop_stack(&request);
    Err(ApiError::no_stack(&id))
}
