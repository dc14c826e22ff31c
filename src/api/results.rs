//! Fetching results: by id, or all that have finished after a cursor. Reading does not consume.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Extract, rejection::QueryRejection};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::views::ResultView;
use super::{Shares, State};
use crate::pool::{Lookup, Outcome, Slot, value_pickle};

/// A longer wait is asked for again: proxies cut idle requests after a minute.
const MAX_WAIT_SECONDS: f64 = 60.0;

/// Results in one answer; `more` tells that there are others.
const MAX_RESULTS: usize = 1000;

/// Bytes after which an answer is full, so that a thousand large results do not make one huge answer.
const FULL_BYTES: usize = 16 << 20;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Task ids, separated by commas. Without it: all finished tasks, in order of completion.
    ids: Option<String>,
    /// Only what finished after this: the `cursor` of the last answer.
    after: Option<u64>,
    /// At most so many, up to 1000.
    limit: Option<usize>,
    /// Seconds to wait, up to 60: for all ids, or for the first result after the cursor.
    #[serde(default)]
    wait: f64,
    /// Send the pickles as well, in base64.
    #[serde(default)]
    pickle: bool,
}

#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the field's name is the interface's")]
pub(super) struct Results {
    results: Vec<ResultView>,
    /// Pass it as `after` to go on from here.
    cursor: u64,
    /// Whether there are more already.
    more: bool,
    /// How many results after the cursor asked for are no longer kept.
    missed: u64,
}

/// Results by id, or those that have finished after a cursor.
#[utoipa::path(
    get, path = "/get_results", params(Asked),
    responses(
        (status = 200, body = Results),
        (status = 400, body = ErrorBody, description = "a parameter is wrong"),
        (status = 404, body = ErrorBody, description = "no task has that id"),
        (status = 410, body = ErrorBody, description = "a result is no longer kept, or the cursor is another run's"),
    )
)]
pub(super) async fn get_results(
    Extract(state): Shares,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Results>, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(0.0..=MAX_WAIT_SECONDS).contains(&asked.wait) {
        return Err(ApiError::bad_request("wait must be between 0 and 60 seconds"));
    }
    let deadline = Instant::now() + Duration::from_secs_f64(asked.wait);
    match &asked.ids {
        Some(ids) => by_id(&state, ids, asked.pickle, deadline).await,
        None => after_cursor(&state, &asked, deadline).await,
    }
}

async fn by_id(
    state: &Arc<State>,
    ids: &str,
    pickle: bool,
    deadline: Instant,
) -> Result<Json<Results>, ApiError> {
    let ids: Vec<_> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.len() > MAX_RESULTS {
        return Err(ApiError::bad_request(format!("at most {MAX_RESULTS} ids in one request")));
    }
    let slots: Vec<_> = ids.iter().map(|id| find(state, id)).collect::<Result<_, _>>()?;
    wait_until(state, deadline, || slots.iter().all(|slot| slot.is_resolved())).await;
    let results = slots.iter().map(|slot| ResultView::of(&state.pool, slot, pickle)).collect();
    Ok(Json(Results { results, cursor: 0, more: false, missed: 0 }))
}

async fn after_cursor(
    state: &Arc<State>,
    asked: &Asked,
    deadline: Instant,
) -> Result<Json<Results>, ApiError> {
    let after = asked.after.unwrap_or(0);
    if after > state.pool.finished_count() {
        return Err(ApiError::stale_cursor());
    }
    let limit = asked.limit.unwrap_or(MAX_RESULTS).clamp(1, MAX_RESULTS);
    wait_until(state, deadline, || state.pool.finished_count() > after).await;
    let page = state.pool.finished_after(after, limit)?;
    let mut results = Vec::with_capacity(page.finished.len());
    let (mut cursor, mut bytes) = (after.max(page.before), 0);
    let (mut more, mut missed) = (page.more, page.missed);
    for (number, slot) in page.finished {
        if bytes > FULL_BYTES {
            more = true;
            break;
        }
        let Some(slot) = slot else {
            cursor = number;
            missed += 1;
            continue;
        };
        let view = ResultView::of(&state.pool, &slot, asked.pickle);
        bytes += view.size();
        cursor = number;
        results.push(view);
    }
    Ok(Json(Results { results, cursor, more, missed }))
}

/// Wait, at most until the deadline. Looks again whenever a task has finished.
async fn wait_until(state: &State, deadline: Instant, done: impl Fn() -> bool) {
    let mut finished = state.finished.clone();
    loop {
        finished.mark_unchanged();
        if done() || tokio::time::timeout_at(deadline, finished.changed()).await.is_err() {
            return;
        }
    }
}

pub(super) fn find(state: &State, id: &str) -> Result<Arc<Slot>, ApiError> {
    let task = state.pool.parse_id(id).ok_or_else(|| ApiError::unknown_task(id))?;
    match state.pool.lookup(task)? {
        Lookup::Kept(slot) => Ok(slot),
        Lookup::Evicted => Err(ApiError::evicted(id)),
        Lookup::Unknown => Err(ApiError::unknown_task(id)),
    }
}

/// A value's pickle, as it came from the worker. Unpickle only what you trust.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/pickle", params(("id" = String, Path)),
    responses(
        (status = 200, body = [u8], content_type = "application/octet-stream"),
        (status = 404, body = ErrorBody, description = "no task has that id, or it has no value (yet)"),
        (status = 410, body = ErrorBody, description = "the result is no longer kept"),
    )
)]
pub(super) async fn pickle(Extract(state): Shares, Path(id): Path<String>) -> Result<Response, ApiError> {
    let bytes = match find(&state, &id)?.outcome() {
        Some(Outcome::Described(bytes)) => value_pickle(&bytes).to_vec(),
        Some(Outcome::Value(bytes)) => bytes.to_vec(),
        None | Some(Outcome::Error(_) | Outcome::Failed(_) | Outcome::Cancelled | Outcome::Released) => {
            return Err(ApiError::no_value(&id));
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"result.pickle\""),
    ];
    Ok((headers, bytes).into_response())
}
