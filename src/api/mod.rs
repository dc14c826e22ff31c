//! The HTTP interface: one router, behind one door, for the native server and for whoever hands requests over (Flask).
//!
//! It runs on threads of its own and never takes the GIL. Nothing that came from outside is unpickled here: a task is
//! opaque bytes until its worker has it, and what is shown of a result (JSON, repr, traceback) was made there.
//!
//! ```text
//!  server (hyper) ─┐
//!                  ├─► Api::answer ─► Door ─► router ─► handlers ─► pool ─► harden ─► answer
//!  Flask ──────────┘
//! ```

mod assets;
mod body;
mod description;
mod door;
mod error;
mod events;
mod heavy;
mod login;
mod metrics;
mod proof;
mod results;
mod secret;
mod server;
mod socket;
mod stack;
mod status;
mod submit;
mod tasks;
mod terms;
mod views;
mod workers;

pub use door::{DoorConfig, Front};
pub use server::{Running, Server, ServerConfig, ServerError, Tls};

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, header};
use axum::response::Response;
use tokio::sync::watch;
use tower::ServiceExt;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::pool::Shared;
use description::Description;
use door::{Caller, Door};
use error::ApiError;
use heavy::Heavy;

/// Largest body that is taken, by default: 64 MiB.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// What every answer carries, errors included. The page may load from here only, and run nothing inline.
pub const HARDENING: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the handlers share.
#[derive(Debug)]
struct State {
    pool: Arc<Shared>,
    door: Door,
    max_body: usize,
    /// The version of Python that the workers run, as in a task's header: `3.11`.
    python: String,
    /// Counts finished tasks; waiting requests watch it.
    finished: watch::Receiver<u64>,
    /// Waiting requests are answered as things are, and streams end.
    stopping: watch::Sender<bool>,
    heavy: Heavy,
    began: Instant,
}

/// Marks the answer to somebody who has shown no key: the server does not keep the connection for them.
#[derive(Clone, Copy, Debug)]
struct Stranger;

type Shares = axum::extract::State<Arc<State>>;

/// The interface, ready to answer requests.
#[derive(Clone, Debug)]
pub struct Api {
    state: Arc<State>,
    router: Router,
}

impl Api {
    /// An interface to this pool.
    pub fn new(pool: Arc<Shared>, door: &DoorConfig, max_body: usize, python: String) -> Self {
        let (finish, finished) = watch::channel(0);
        let (stopping, stopped) = watch::channel(false);
        pool.on_finish(Box::new(move || {
            finish.send_modify(|count| *count += 1);
            !*stopped.borrow() && !finish.is_closed()
        }));
        let state = Arc::new(State {
            pool,
            door: Door::new(door),
            max_body,
            python,
            finished,
            stopping,
            heavy: Heavy::new(),
            began: Instant::now(),
        });
        let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
            .routes(routes!(submit::submit_task))
            .routes(routes!(results::get_results))
            .routes(routes!(status::status))
            .routes(routes!(status::healthz))
            .routes(routes!(proof::proof))
            .routes(routes!(submit::submit_many, tasks::list))
            .routes(routes!(tasks::one, tasks::cancel))
            .routes(routes!(results::pickle))
            .routes(routes!(stack::stack))
            .routes(routes!(workers::list))
            .routes(routes!(workers::restart))
            .routes(routes!(metrics::metrics))
            .routes(routes!(login::session))
            .routes(routes!(login::invite))
            .routes(routes!(events::events))
            .split_for_parts();
        description::complete(&mut description);
        let description = description.to_json().unwrap_or_default();
        let router = router
            .merge(assets::router())
            .merge(login::router())
            .route(
                "/openapi.json",
                axum::routing::get(
                    || async move { ([(header::CONTENT_TYPE, "application/json")], description) },
                ),
            )
            .fallback(|| async { ApiError::not_found() })
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .with_state(Arc::clone(&state));
        Self { state, router }
    }

    /// Answer one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let (mut answer, stranger) = match self.state.door.check(&head) {
            Ok(caller) => {
                let stranger = matches!(caller, Caller::Nobody);
                head.extensions.insert(caller);
                let request = Request::from_parts(head, Body::new(body));
                let answer = self.router.clone().oneshot(request).await;
                (answer.unwrap_or_else(|never| match never {}), stranger)
            }
            Err(refusal) => (login::refused(&head, refusal), true),
        };
        if stranger {
            answer.extensions_mut().insert(Stranger);
        }
        harden(&mut answer);
        answer
    }

    /// What the door says to this request, where it does not let it in: asked before there is a body.
    pub fn refusal(&self, head: &axum::http::request::Parts) -> Option<Response> {
        let mut answer = login::refused(head, self.state.door.check(head).err()?);
        harden(&mut answer);
        Some(answer)
    }

    /// Answer waiting requests as things are, end streams, and have no more of the pool.
    pub fn stop(&self) {
        self.state.stopping.send_replace(true);
        self.state.pool.sweep_on_finish();
    }

    /// A path with a one-time token that logs a browser in; `None` where no token is asked for.
    pub fn login_path(&self) -> Option<String> {
        self.state
            .door
            .wants_token()
            .then(|| self.state.door.invite().ok())
            .flatten()
            .map(|secret| login::path(&secret))
    }
}

fn harden(answer: &mut Response) {
    for (name, value) in &HARDENING {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if !answer.headers().contains_key(header::CACHE_CONTROL) {
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
