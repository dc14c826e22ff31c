//! What a worker is told of an outcome, in pieces that fit a message.

use super::failure::Failure;
use super::slot::Outcome;
use crate::ipc::{Ending, MAX_PIECE_BYTES, Response};

/// What there is to read of an outcome.
fn kind_and_size(outcome: &Outcome) -> (Ending, u64) {
    match outcome {
        Outcome::Value(payload) | Outcome::Values(payload, _) | Outcome::Described(payload) => {
            (Ending::Value, payload.len() as u64)
        }
        Outcome::Error(payload) => (Ending::Error, payload.len() as u64),
        Outcome::Failed(failure) => (Ending::Failed, json(failure).len() as u64),
        Outcome::Cancelled | Outcome::Released => (Ending::Cancelled, 0),
    }
}

fn json(failure: &Failure) -> Vec<u8> {
    serde_json::to_vec(failure).unwrap_or_default() // texts and numbers: that does not fail
}

/// Of its bytes, from there on, as many as a message takes.
pub(super) fn piece(outcome: &Outcome, at: u64) -> Option<Vec<u8>> {
    let size = kind_and_size(outcome).1;
    let left = size.checked_sub(at)?.min(MAX_PIECE_BYTES as u64) as usize;
    let at = usize::try_from(at).ok()?;
    match outcome {
        Outcome::Value(payload)
        | Outcome::Values(payload, _)
        | Outcome::Described(payload)
        | Outcome::Error(payload) => {
            let mut piece = vec![0; left];
            payload.read_at(at, &mut piece);
            Some(piece)
        }
        Outcome::Failed(failure) => Some(json(failure)[at..at + left].to_vec()),
        Outcome::Cancelled | Outcome::Released => Some(Vec::new()),
    }
}

/// How it has ended, and the first piece.
pub(super) fn done(outcome: &Outcome) -> Response {
    let (kind, bytes) = kind_and_size(outcome);
    let parts = if let Outcome::Value(payload) = outcome { payload.parts().to_vec() } else { Vec::new() };
    Response::Done { kind, bytes, parts, piece: piece(outcome, 0).unwrap_or_default() }
}
