//! Errors as callers see them: a status and one JSON object with a sentence that helps.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::door::Front;
use crate::pool::PoolError;

/// What every error answer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// A word for programs, such as `unknown_task`.
    pub(super) error: &'static str,
    /// A sentence for people: what is wrong, and what to do.
    pub(super) message: String,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    /// What the status asks for.
    header: Option<(HeaderName, &'static str)>,
}

impl ApiError {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error, message: message.into() }, header: None }
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// With the place in the body that it is about.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.body.message = format!("{place}: {}", self.body.message);
        self
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    pub(super) fn unauthorized() -> Self {
        let message = "a token is needed: send 'Authorization: Bearer TOKEN' ('disttask token' prints it), or open \
                       the URL that the server printed";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"disttask\"")
    }

    pub(super) fn wrong_token() -> Self {
        let message = "the token is wrong: 'disttask token', where the server runs, prints the right one";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"disttask\", error=\"invalid_token\"")
    }

    pub(super) fn too_many_wrong_tokens() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_wrong_tokens",
            "too many wrong tokens: wait a second",
        )
        .with(header::RETRY_AFTER, "1")
    }

    pub(super) fn used_login() -> Self {
        let message = "this log-in link was used or is too old: 'disttask token --link' prints a new one";
        Self::new(StatusCode::FORBIDDEN, "used_login", message)
    }

    pub(super) fn forbidden_without_csrf() -> Self {
        let message = "a cookie alone may only read: send the token, or the header x-disttask-csrf";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn misdirected(front: Front) -> Self {
        let message = match front {
            Front::Native => {
                "this Host is not served here: use the address that the server printed (or --allow-host NAME)"
            }
            Front::Flask => {
                "this Host is not served here: app.config has to say which port browsers see (DISTTASK_PORT, or else \
                 5000), and under which other names than localhost (DISTTASK_ALLOW_HOSTS)"
            }
        };
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message)
    }

    pub(super) fn cross_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross_origin", "requests from other sites are refused")
    }

    pub(super) fn unsupported_media(message: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn invalid_task(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_task", message)
    }

    pub(super) fn too_large(limit: usize, front: Front) -> Self {
        let setting = match front {
            Front::Native => "--max-body",
            Front::Flask => "DISTTASK_MAX_BODY",
        };
        let message = format!("the body is over the limit of {limit} bytes: split it, or raise {setting}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn head_too_large(limit: usize) -> Self {
        let message = format!("the request's headers are over the limit of {limit} bytes");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", message)
    }

    pub(super) fn unknown_task(id: &str) -> Self {
        let id: String = id.chars().take(80).collect();
        Self::new(StatusCode::NOT_FOUND, "unknown_task", format!("no task has the id {id:?}"))
    }

    pub(super) fn evicted(id: &str) -> Self {
        let message =
            format!("the result of task {id} is no longer kept: fetch results sooner, or keep more");
        Self::new(StatusCode::GONE, "evicted", message)
    }

    pub(super) fn too_large_to_keep(id: &str, bytes: usize, limit: usize) -> Self {
        let message = format!(
            "the result of task {id} has {bytes} bytes, and at most {limit} are kept: raise --keep-bytes, or return less"
        );
        Self::new(StatusCode::GONE, "evicted", message)
    }

    pub(super) fn not_kept(id: &str) -> Self {
        let message = format!(
            "the result of task {id} is not kept: it was submitted to the executor itself, and is its future's alone"
        );
        Self::new(StatusCode::GONE, "evicted", message)
    }

    pub(super) fn stale_cursor() -> Self {
        let message =
            "this cursor is another run's (the server was started anew): begin again without 'after'";
        Self::new(StatusCode::GONE, "stale_cursor", message)
    }

    pub(super) fn unknown_worker() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_worker", "no such worker, or that process is gone already")
    }

    pub(super) fn too_late(kill: bool) -> Self {
        let message = if kill {
            "the task has ended, or it is run by the task that waits for it: kill that one"
        } else {
            "the task runs or has ended: only a waiting task can be cancelled; '?kill=true' stops one that runs, too"
        };
        Self::new(StatusCode::CONFLICT, "too_late", message)
    }

    pub(super) fn still_there(id: &str) -> Self {
        let message = format!(
            "the worker of task {id} is killed, but its process does not end: it hangs in a system call. The task is \
             cancelled when it does"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "still_there", message)
    }

    pub(super) fn not_running(id: &str) -> Self {
        let message = format!("no worker runs task {id} at this moment: it waits, or it has ended");
        Self::new(StatusCode::CONFLICT, "not_running", message)
    }

    pub(super) fn no_stack(id: &str) -> Self {
        let message = format!("the worker of task {id} shows no stack: it is stopped, or not scheduled");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_stack", message)
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time")
    }

    pub(super) fn no_value(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_value", format!("task {id} has no value: it has not returned"))
    }

    pub(super) fn no_token_here() -> Self {
        let message = "this server asks for no token, so it has none to prove: talk to it without one";
        Self::new(StatusCode::CONFLICT, "no_token_here", message)
    }

    pub(super) fn backlog_full() -> Self {
        let message = "too many tasks wait already: submit this again when some have ended";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "backlog_full", message).with(header::RETRY_AFTER, "5")
    }

    pub(super) fn no_login_needed() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "no_login_needed",
            "this server asks for no token: just open its address",
        )
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path: /openapi.json lists what there is",
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
    }

    pub(super) fn internal(message: &'static str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        let word = match error {
            PoolError::Backlog | PoolError::QueueFull(_) => return Self::backlog_full(),
            PoolError::ShutDown | PoolError::Leaving => {
                let message = "the workers were shut down, as when a server stops: it takes no more tasks";
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "shut_down", message);
            }
            PoolError::Broken(_) => "pool_broken",
            PoolError::Forked => "forked",
            PoolError::Full(_) | PoolError::Kept { .. } => "overloaded",
            PoolError::TooLarge(..) => "too_large",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, word, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut answer = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}
