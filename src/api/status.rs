//! `/status` and `/healthz`.

use axum::Json;
use axum::extract::State as Extract;

use super::Shares;
use crate::pool::PoolStatus;

/// The workers, the queue and the totals.
#[utoipa::path(get, path = "/status", responses((status = 200, body = PoolStatus)))]
pub(super) async fn status(Extract(state): Shares) -> Json<PoolStatus> {
    Json(state.pool.status())
}

/// Whether the server answers. Needs no token, tells nothing else.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}
