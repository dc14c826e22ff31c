//! Live updates for the dashboard, as server-sent events. A picture is made only while somebody looks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::Serialize;

use super::views::TaskView;
use super::{Shares, State};
use crate::pool::{Filter, PoolStatus};

/// Twice a second looks live, and reading `/proc` for a thousand workers costs less than a percent of a core.
const EVERY: Duration = Duration::from_millis(500);

/// Ended tasks that one event tells of: as many as the page keeps.
const PAST_PER_EVENT: usize = 200;

/// Tasks that run or wait, in one event.
const PRESENT_PER_EVENT: usize = 50;

#[derive(Serialize)]
struct Picture {
    /// Names the pool: another one means that the server was started anew.
    run: String,
    status: PoolStatus,
    present: Vec<TaskView>,
    /// Ended since the last event, the last one first.
    past: Vec<TaskView>,
    uptime_seconds: f64,
}

/// The status, twice a second, with the tasks that have ended since: events named `picture`.
#[utoipa::path(get, path = "/api/v1/events", responses((status = 200, content_type = "text/event-stream")))]
pub(super) async fn events(
    Extract(state): Shares,
) -> Sse<impl futures_core::Stream<Item = Result<Event, Infallible>>> {
    let pictures = futures_util::stream::unfold((state, 0, false), |(state, cursor, waited)| async move {
        let mut stopping = state.stopping.subscribe();
        if waited {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
        let (event, cursor) = picture(&state, cursor);
        Some((Ok(event), (state, cursor, true)))
    });
    Sse::new(pictures).keep_alive(KeepAlive::default())
}

fn picture(state: &Arc<State>, cursor: u64) -> (Event, u64) {
    let (pool, all) = (&state.pool, Filter::default());
    let past = pool.past(cursor, PAST_PER_EVENT, &all);
    let cursor = past.first().map_or(cursor, |newest| newest.number);
    let picture = Picture {
        run: pool.run().to_owned(),
        status: pool.status(),
        present: pool
            .present(PRESENT_PER_EVENT, &all)
            .iter()
            .map(|task| TaskView::present(pool, task))
            .collect(),
        past: past.into_iter().map(|past| TaskView::past(pool, past)).collect(),
        uptime_seconds: state.began.elapsed().as_secs_f64(),
    };
    let event = Event::default().event("picture").json_data(&picture);
    (event.unwrap_or_else(|_| Event::default().comment("not JSON")), cursor)
}
