//! The door: who may talk to this server at all. It stands before routing, so that no route and no method can be
//! forgotten, and everything that it needs is in the request's head.
//!
//! The token is a shell for this user: whoever has it runs code. So the door asks for it even on loopback, where other
//! users and every web page in the user's own browser can knock. The checks of `Host`, `Origin` and `Sec-Fetch-Site` are
//! for those pages (DNS rebinding, cross-site requests); a `User-Agent` is never asked, since a page can choose it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, ORIGIN, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, Method, Uri, header, request::Parts};
use parking_lot::Mutex;

use super::error::ApiError;
use super::secret::{Digest, Secret};

/// Wrong tokens per second before all are answered with 429: a typing person stays far below, and guessing 256 bits
/// at this rate is hopeless either way.
const WRONG_TOKENS_PER_SECOND: u32 = 10;

/// Open browser sessions. The oldest goes when there are more; a person has a handful.
const MAX_SESSIONS: usize = 64;

/// One-time tokens that wait for their click. The oldest goes when there are more.
const MAX_LOGINS: usize = 16;

/// A one-time token that nobody clicked is void after this.
const LOGIN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Path, query and headers of a request, in bytes: room for a `get_results` that names a thousand ids.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The header by which the dashboard's script shows that it is not another site's form.
pub(super) const CSRF_HEADER: &str = "x-disttask-csrf";

/// Paths that answer without a key.
pub(super) const HEALTH_PATH: &str = "/healthz";
pub(super) const LOGIN_PATH: &str = "/login";
pub(super) const PROOF_PATH: &str = "/proof";

/// Who takes the requests, and so what the settings are called that errors speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Our own server: options of its command line.
    Native,
    /// A Flask application: keys of its `config`.
    Flask,
}

/// How the door is set up.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Values of `Host` that are let in, with the port where it is not the scheme's own. Exact.
    pub hosts: Vec<String>,
    /// The token; `None` lets everybody in who passes the other checks.
    pub token: Option<String>,
    /// Names the cookie: cookies are shared between the ports of a host.
    pub port: u16,
    /// The browser sees `https`.
    pub tls: bool,
    /// Who stands before it.
    pub front: Front,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Door {
    hosts: BTreeSet<String>,
    token: Option<Digest>,
    cookie: String,
    scheme: &'static str,
    pub(super) front: Front,
    guests: Mutex<Guests>,
}

#[derive(Debug)]
struct Guests {
    sessions: Vec<Session>,
    logins: Vec<(Digest, Instant)>,
    wrong: u32,
    wrong_since: Instant,
}

#[derive(Debug)]
struct Session {
    cookie: Digest,
    csrf: Secret,
}

/// Who was let in, for the handlers.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// With the token, or to an open server.
    Token,
    /// A browser, by its cookie; this is what its script must send with requests that change something.
    Session {
        /// See [`CSRF_HEADER`].
        csrf: Arc<str>,
    },
    /// Nobody in particular, to a path that is open.
    Nobody,
}

impl Door {
    pub(super) fn new(config: &DoorConfig) -> Self {
        let guests =
            Guests { sessions: Vec::new(), logins: Vec::new(), wrong: 0, wrong_since: Instant::now() };
        Self {
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            token: config.token.as_deref().map(Digest::of),
            cookie: format!("disttask-{}", config.port),
            scheme: if config.tls { "https" } else { "http" },
            front: config.front,
            guests: Mutex::new(guests),
        }
    }

    /// Whether a key is needed at all.
    pub(super) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// See [`super::proof`]; `None` where there is no token.
    pub(super) fn prove(&self, host: &[u8], nonce: &[u8]) -> Option<String> {
        self.token.as_ref().map(|token| token.prove(host, nonce))
    }

    /// Let the request in, or say why not.
    pub(super) fn check(&self, head: &Parts) -> Result<Caller, ApiError> {
        check_size(head)?;
        self.check_host(&head.uri, &head.headers)?;
        self.check_origin(&head.headers)?;
        let caller = self.identify(head)?;
        check_body(head)?;
        Ok(caller)
    }

    /// Exactly one `Host`, on the list. A rebound name, `0.0.0.0`, a foreign port and an absolute URI are not.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut values = headers.get_all(HOST).iter();
        let host = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() || uri.authority().is_some() {
            return Err(ApiError::misdirected(self.front));
        }
        match host {
            Some(host) if self.hosts.contains(&host.to_ascii_lowercase()) => Ok(()),
            _ => Err(ApiError::misdirected(self.front)),
        }
    }

    /// A browser says where a request comes from: only from this very host and port, or from the address bar. Another
    /// name on the list may be another application's, where the port is left out.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(HOST).map_or(&[][..], |host| host.as_bytes());
        for origin in headers.get_all(ORIGIN) {
            let ours =
                origin.to_str().ok().and_then(|origin| origin.strip_prefix(self.scheme)?.strip_prefix("://"));
            if !ours.is_some_and(|origin| origin.as_bytes().eq_ignore_ascii_case(host)) {
                return Err(ApiError::cross_origin());
            }
        }
        for site in headers.get_all("sec-fetch-site") {
            if !matches!(site.as_bytes(), b"same-origin" | b"none") {
                return Err(ApiError::cross_origin());
            }
        }
        Ok(())
    }

    fn identify(&self, head: &Parts) -> Result<Caller, ApiError> {
        let path = head.uri.path();
        let reading = matches!(head.method, Method::GET | Method::HEAD);
        let Some(token) = &self.token else { return Ok(Caller::Token) };
        if reading && [HEALTH_PATH, LOGIN_PATH, PROOF_PATH].contains(&path) {
            return Ok(Caller::Nobody);
        }
        let mut given = head.headers.get_all(AUTHORIZATION).iter();
        if let Some(value) = given.next() {
            let bearer = value.to_str().ok().and_then(bearer_token);
            let right = given.next().is_none() && bearer.is_some_and(|given| token.matches(given));
            return if right { Ok(Caller::Token) } else { Err(self.note_wrong()) };
        }
        let Some(csrf) = self.session(&head.headers) else {
            return Err(ApiError::unauthorized());
        };
        let sent = head.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if !reading && !sent.is_some_and(|sent| Digest::of(&csrf).matches(sent)) {
            return Err(ApiError::forbidden_without_csrf());
        }
        Ok(Caller::Session { csrf })
    }

    fn session(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let guests = self.guests.lock();
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(&self.cookie)?.strip_prefix('='))
            .find_map(|secret| guests.sessions.iter().find(|session| session.cookie.matches(secret)))
            .map(|session| session.csrf.share())
    }

    /// Count a wrong token; too many in a second are all refused, the answer to a right one included.
    fn note_wrong(&self) -> ApiError {
        let mut guests = self.guests.lock();
        if guests.wrong_since.elapsed() > Duration::from_secs(1) {
            guests.wrong_since = Instant::now();
            guests.wrong = 0;
        }
        guests.wrong += 1;
        if guests.wrong > WRONG_TOKENS_PER_SECOND {
            ApiError::too_many_wrong_tokens()
        } else {
            ApiError::wrong_token()
        }
    }

    /// A new one-time token, for the URL that is printed.
    pub(super) fn invite(&self) -> Result<Secret, ApiError> {
        let secret = Secret::random()?;
        let mut guests = self.guests.lock();
        if guests.logins.len() == MAX_LOGINS {
            guests.logins.remove(0);
        }
        guests.logins.push((Digest::of(secret.reveal()), Instant::now()));
        Ok(secret)
    }

    /// Trade a one-time token for a cookie: the value of `Set-Cookie`.
    pub(super) fn log_in(&self, token: &str) -> Result<String, ApiError> {
        let cookie = Secret::random()?;
        let csrf = Secret::random()?;
        let mut guests = self.guests.lock();
        guests.logins.retain(|(_, made)| made.elapsed() < LOGIN_LIFETIME);
        let Some(place) = guests.logins.iter().position(|(login, _)| login.matches(token)) else {
            drop(guests);
            let _ = self.note_wrong();
            return Err(ApiError::used_login());
        };
        guests.logins.remove(place);
        if guests.sessions.len() == MAX_SESSIONS {
            guests.sessions.remove(0);
        }
        let secure = if self.scheme == "https" { "; Secure" } else { "" };
        let set = format!("{}={}; HttpOnly; SameSite=Strict; Path=/{secure}", self.cookie, cookie.reveal());
        guests.sessions.push(Session { cookie: Digest::of(cookie.reveal()), csrf });
        Ok(set)
    }
}

fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The server under us has limits of its own, but lets more pass than it says.
fn check_size(head: &Parts) -> Result<(), ApiError> {
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if fields + head.uri.path().len() + head.uri.query().map_or(0, str::len) > MAX_HEAD_BYTES {
        return Err(ApiError::head_too_large(MAX_HEAD_BYTES));
    }
    Ok(())
}

/// A body must say that it is JSON: a form of another site cannot say so without asking first. Encoded bodies could grow
/// without bound when decoded, and are not taken.
fn check_body(head: &Parts) -> Result<(), ApiError> {
    let empty = head.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if empty && !head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::unsupported_media("encoded bodies are not taken: send it plain"));
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::unsupported_media("the body must be JSON, sent with Content-Type: application/json"))
}
