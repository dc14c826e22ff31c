//! The dashboard's files, compiled in.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::State;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(|| async { asset("text/html; charset=utf-8", include_str!("assets/index.html")) }))
        .route(
            "/dashboard.js",
            get(|| async { asset("text/javascript; charset=utf-8", include_str!("assets/dashboard.js")) }),
        )
        .route(
            "/text.js",
            get(|| async { asset("text/javascript; charset=utf-8", include_str!("assets/text.js")) }),
        )
        .route("/icon.svg", get(|| async { asset("image/svg+xml", include_str!("assets/icon.svg")) }))
        .route(
            "/dashboard.css",
            get(|| async { asset("text/css; charset=utf-8", include_str!("assets/dashboard.css")) }),
        )
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}
