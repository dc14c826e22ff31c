//! The server shows that it knows the token, so that a client need not send it to whoever holds the port.
//!
//! The proof is `HMAC-SHA256(SHA-256(token), PURPOSE ‖ host ‖ 0 ‖ nonce)`. The client chooses the nonce, so an old proof
//! is of no use. `host` is what the client calls this server: somebody else on another port who passes the nonce on to
//! the real server would have to call it by the real one's name, and gets a proof for that name. A proof tells nothing of
//! a token of 256 bits; whoever tries to guess one from it faces the same 256 bits.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::{HeaderMap, header::HOST};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shares;
use super::error::{ApiError, ErrorBody};

/// Of a nonce, in characters: 16 random bytes as hexadecimal digits, and as much again and more for other habits.
const NONCE_CHARS: std::ops::RangeInclusive<usize> = 32..=128;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Random, for this request only: 32 to 128 letters and digits.
    nonce: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Proof {
    /// HMAC-SHA256 in hexadecimal digits; the key is SHA-256 of the token, the message is `disttask-proof-1`, a zero
    /// byte, the value of `Host`, a zero byte, and the nonce.
    proof: String,
}

/// Whether this is the server that has the token. Needs no token, tells nothing of it.
#[utoipa::path(
    get, path = "/proof", params(Asked),
    responses(
        (status = 200, body = Proof),
        (status = 400, body = ErrorBody, description = "the nonce is none"),
        (status = 409, body = ErrorBody, description = "this server has no token"),
    )
)]
pub(super) async fn proof(
    Extract(state): Shares,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Proof>, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let random = NONCE_CHARS.contains(&asked.nonce.len())
        && asked.nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !random {
        return Err(ApiError::bad_request("the nonce must have 32 to 128 letters and digits"));
    }
    let host = headers.get(HOST).map_or(&[][..], |host| host.as_bytes()).to_ascii_lowercase();
    let proof = state.door.prove(&host, asked.nonce.as_bytes()).ok_or_else(ApiError::no_token_here)?;
    Ok(Json(Proof { proof }))
}
