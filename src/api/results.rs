//! Fetching results: by id, or all that have finished after a cursor. Reading does not consume.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State as Extract, rejection::QueryRejection};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::views::ResultView;
use super::{Shares, State};
use crate::pool::{ForeignCursor, Lookup, Outcome, Page, Slot, value_pickle};

/// A longer wait is asked for again: proxies cut idle requests after a minute.
const MAX_WAIT_SECONDS: f64 = 60.0;

/// Results in one answer; `more` tells that there are others.
const MAX_RESULTS: usize = 1000;

/// Bytes after which an answer is full, so that a thousand large results do not make one huge answer.
const FULL_BYTES: usize = 16 << 20;

/// A result of this size goes into a full answer as well: leaving it out would save nothing, and cost a request.
const SMALL_BYTES: usize = 1024;

/// How often a waiting request looks at most: thousands of tasks a second, and as many requests, must not multiply.
const LOOK_EVERY: Duration = Duration::from_millis(2);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Task ids, separated by commas; one that is named twice is answered once. Without it: all finished tasks, in order
    /// of completion.
    ids: Option<String>,
    /// Only what finished after this: the `cursor` of the last answer.
    after: Option<String>,
    /// At most so many, 1 to 1000. With `ids`, all of them are answered.
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
    /// Pass it as `after` to go on from here; null in an answer to `ids`.
    cursor: Option<String>,
    /// Whether there are more already. In an answer to `ids`: ask again for those that are `omitted`.
    more: bool,
    /// How many results after the cursor asked for are no longer kept.
    missed: u64,
}

/// Results by id, or those that have finished after a cursor. An answer is full after 16 MiB.
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
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(0.0..=MAX_WAIT_SECONDS).contains(&asked.wait) {
        return Err(ApiError::bad_request("wait must be between 0 and 60 seconds"));
    }
    if asked.limit.is_some_and(|limit| !(1..=MAX_RESULTS).contains(&limit)) {
        return Err(ApiError::bad_request(format!("limit must be between 1 and {MAX_RESULTS}")));
    }
    let deadline = Instant::now() + Duration::from_secs_f64(asked.wait);
    match &asked.ids {
        Some(ids) => by_id(&state, ids, asked.pickle, deadline).await,
        None => after_cursor(&state, &asked, deadline).await,
    }
}

async fn by_id(state: &Arc<State>, ids: &str, pickle: bool, deadline: Instant) -> Result<Response, ApiError> {
    let mut seen = HashSet::new();
    let ids = ids.split(',').map(str::trim).filter(|id| !id.is_empty() && seen.insert(*id));
    let ids: Vec<_> = ids.take(MAX_RESULTS + 1).collect();
    if ids.len() > MAX_RESULTS {
        return Err(ApiError::bad_request(format!("at most {MAX_RESULTS} ids in one request")));
    }
    let slots: Vec<_> = ids.iter().map(|id| find(state, id)).collect::<Result<_, _>>()?;
    let mut ended = 0; // of the first ones; a look does not begin again with them
    let all_ended = || {
        ended += slots[ended..].iter().take_while(|slot| slot.is_resolved()).count();
        ended == slots.len()
    };
    wait_until(state, deadline, all_ended).await;
    let size = slots.iter().map(|slot| size_of(slot)).sum();
    let shares = Arc::clone(state);
    answer(state, size, move || {
        let (mut bytes, mut more) = (0, false);
        let views = slots.iter().map(|slot| {
            if bytes > FULL_BYTES && size_of(slot) > SMALL_BYTES {
                more = true;
                return ResultView::omitted(&shares.pool, slot);
            }
            let view = ResultView::of(&shares.pool, slot, pickle);
            bytes += view.size();
            view
        });
        let results = views.collect();
        Results { results, cursor: None, more, missed: 0 }
    })
    .await
}

async fn after_cursor(state: &Arc<State>, asked: &Asked, deadline: Instant) -> Result<Response, ApiError> {
    let after = match asked.after.as_deref().map(|text| state.pool.parse_cursor(text)) {
        None => 0,
        Some(Some(Ok(number))) => number,
        Some(Some(Err(ForeignCursor))) => return Err(ApiError::stale_cursor()),
        Some(None) => return Err(ApiError::bad_request("after must be the cursor of an earlier answer")),
    };
    let limit = asked.limit.unwrap_or(MAX_RESULTS);
    wait_until(state, deadline, || state.pool.finished_count() > after).await;
    let page = state.pool.finished_after(after, limit)?;
    let size = page.finished.iter().filter_map(|(_, slot)| slot.as_deref()).map(size_of).sum();
    let (shares, pickle) = (Arc::clone(state), asked.pickle);
    answer(state, size, move || gather(&shares, page, after, pickle)).await
}

fn gather(state: &State, page: Page, after: u64, pickle: bool) -> Results {
    let mut results = Vec::with_capacity(page.finished.len());
    let (mut cursor, mut bytes) = (after.max(page.before), 0);
    let (mut more, mut missed) = (page.more, page.missed);
    for (number, slot) in page.finished {
        if bytes > FULL_BYTES {
            more = true;
            break;
        }
        cursor = number;
        let Some(slot) = slot else {
            missed += 1;
            continue;
        };
        let view = ResultView::of(&state.pool, &slot, pickle);
        bytes += view.size();
        results.push(view);
    }
    Results { results, cursor: Some(state.pool.cursor_text(cursor)), more, missed }
}

/// Make the answer and encode it, beside the serving thread if it is large.
async fn answer(
    state: &State,
    bytes: usize,
    make: impl FnOnce() -> Results + Send + 'static,
) -> Result<Response, ApiError> {
    let encode = move || serde_json::to_vec(&make());
    let text = state.heavy.run(bytes, encode).await?;
    let text = text.map_err(|_| ApiError::internal("the results cannot be written as JSON"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn size_of(slot: &Slot) -> usize {
    slot.outcome().map_or(0, |outcome| outcome.size())
}

/// Wait, at most until the deadline or the server's end. Looks again when tasks have finished.
pub(super) async fn wait_until(state: &State, deadline: Instant, mut done: impl FnMut() -> bool) {
    let mut finished = state.finished.clone();
    let mut stopping = state.stopping.subscribe();
    let mut pause = Duration::ZERO; // the first one to finish is seen at once
    loop {
        finished.mark_unchanged();
        if done() {
            return;
        }
        let look_again = async {
            tokio::time::sleep(pause).await;
            finished.changed().await
        };
        tokio::select! {
            waited = tokio::time::timeout_at(deadline, look_again) => {
                if waited.is_err() {
                    return;
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        pause = LOOK_EVERY;
    }
}

pub(super) fn find(state: &State, id: &str) -> Result<Arc<Slot>, ApiError> {
    let task = state.pool.parse_id(id).ok_or_else(|| ApiError::unknown_task(id))?;
    match state.pool.lookup(task)? {
        Lookup::Kept(slot) => Ok(slot),
        Lookup::Evicted => Err(match state.pool.oversized(task) {
            Some((bytes, limit)) => ApiError::too_large_to_keep(id, bytes, limit),
            None if state.pool.is_private(task) => ApiError::not_kept(id),
            None => ApiError::evicted(id),
        }),
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
        Some(Outcome::Described(payload)) => {
            let whole = Bytes::from(payload.to_vec());
            whole.slice_ref(value_pickle(&whole))
        }
        Some(Outcome::Value(payload) | Outcome::Values(payload, _)) => Bytes::from(payload.to_vec()),
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
