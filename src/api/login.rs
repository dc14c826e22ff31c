//! Logging a browser in: a one-time token in the printed URL becomes a cookie, and the URL becomes clean.

use std::sync::Arc;

use axum::extract::{Extension, Query, State as Extract, rejection::QueryRejection};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::{Json, Router, routing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Caller, LOGIN_PATH};
use super::error::{ApiError, ErrorBody};
use super::secret::Secret;
use super::{Shares, State};

#[derive(Deserialize)]
struct Asked {
    token: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Send it as `x-disttask-csrf` with every request that changes something; null where a token does.
    csrf: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Invitation {
    /// Open this path in a browser, once.
    path: String,
}

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(LOGIN_PATH, routing::get(login))
}

pub(super) fn path(secret: &Secret) -> String {
    format!("{LOGIN_PATH}?token={}", secret.reveal())
}

async fn login(
    Extract(state): Shares,
    method: Method,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let token = match asked {
        // A preview of the link (HEAD) must not use it up.
        Ok(Query(Asked { token: Some(token) })) if method == Method::GET => token,
        Ok(_) | Err(_) => {
            return (StatusCode::UNAUTHORIZED, Html(include_str!("assets/login.html"))).into_response();
        }
    };
    match state.door.log_in(&token) {
        Ok(cookie) => match HeaderValue::from_str(&cookie) {
            Ok(cookie) => {
                let to = HeaderValue::from_static("./");
                (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, to)])
                    .into_response()
            }
            Err(_) => ApiError::internal("the cookie is no header").into_response(),
        },
        Err(_) => (StatusCode::FORBIDDEN, Html(include_str!("assets/login.html"))).into_response(),
    }
}

/// The answer to whom the door refuses: a person at the address gets a page that says what to do.
pub(super) fn refused(head: &Parts, refusal: ApiError) -> Response {
    let reads = matches!(head.method, Method::GET | Method::HEAD) && head.uri.path() == "/";
    let accepts =
        head.headers.get_all(header::ACCEPT).iter().any(|accept| {
            accept.to_str().is_ok_and(|accept| accept.to_ascii_lowercase().contains("text/html"))
        });
    let page = reads && accepts && refusal.is_unauthorized();
    let mut answer = refusal.into_response();
    if page {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        *answer.body_mut() = include_str!("assets/login.html").into();
    }
    answer
}

/// What the dashboard's script needs to know of its log-in.
#[utoipa::path(get, path = "/api/v1/session", responses((status = 200, body = Session)))]
pub(super) async fn session(Extension(caller): Extension<Caller>) -> Json<Session> {
    let csrf = match caller {
        Caller::Session { csrf } => Some(csrf.to_string()),
        Caller::Token | Caller::Nobody => None,
    };
    Json(Session { csrf })
}

/// A new one-time log-in link.
#[utoipa::path(
    post, path = "/api/v1/login", responses((status = 200, body = Invitation), (status = 409, body = ErrorBody))
)]
pub(super) async fn invite(Extract(state): Shares) -> Result<Json<Invitation>, ApiError> {
    if !state.door.wants_token() {
        return Err(ApiError::no_login_needed());
    }
    state.door.invite().map(|secret| Json(Invitation { path: path(&secret) }))
}
