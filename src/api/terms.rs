//! What a submission says of how its task is run and shown, checked as `disttask._options` does it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::pool::Manner;
use crate::scheduler::types::Backoff;

/// Characters of a name or a tag. As in `disttask._options`.
const MAX_CHARS: usize = 255;

/// Words for finding a task again; more than a line of a table shows. As in `disttask._options`.
const MAX_TAGS: usize = 16;

/// Seconds between retries, 49 days: the scheduler counts milliseconds in 32 bits. As in `disttask._options`.
const MAX_WAIT_SECONDS: f64 = 4_294_967.295;

/// Seconds. As in `src/scheduler/retry.rs`.
const BACKOFF_CAP: f64 = 30.0;

/// Seconds before a retry.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "backoff must be a number of seconds, or a pair of them")]
pub(super) enum Waits {
    /// At most before the first retry; twice as long before each further one, up to 30.
    First(f64),
    /// That, and the longest of all.
    Pair([f64; 2]),
}

/// In the words of `disttask._options`.
pub(super) fn backoff(waits: Option<Waits>, retries: u16) -> Result<Backoff, ApiError> {
    let [base, cap] = match waits {
        None => return Ok(Backoff::default()),
        Some(Waits::First(base)) => [base, base.max(BACKOFF_CAP)],
        Some(Waits::Pair(pair)) => pair,
    };
    if !(0.0 <= base && base <= cap && cap <= MAX_WAIT_SECONDS) {
        return Err(ApiError::bad_request(format!(
            "backoff must be 0 <= base <= cap <= {MAX_WAIT_SECONDS:.0} seconds, not {base} and {cap}"
        )));
    }
    if retries == 0 {
        return Err(ApiError::bad_request("backoff needs retries=n, how often the task may run again"));
    }
    Ok(Backoff { base_ms: milliseconds(base), cap_ms: milliseconds(cap) })
}

fn milliseconds(seconds: f64) -> u32 {
    let wait = Duration::from_secs_f64(seconds) + Duration::from_micros(500); // the nearest one
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn crash_limit(limit: Option<u32>) -> Result<Option<NonZeroU32>, ApiError> {
    let refused = || ApiError::bad_request(format!("crash_limit must be between 1 and {}, not 0", u32::MAX));
    limit.map(|limit| NonZeroU32::new(limit).ok_or_else(refused)).transpose()
}

pub(super) fn manner(name: Option<&str>, tags: Option<&[String]>) -> Result<Manner, ApiError> {
    if let Some(name) = name {
        check_length("name", name)?;
    }
    let tags = tags.unwrap_or_default();
    if tags.len() > MAX_TAGS {
        return Err(ApiError::bad_request(format!("at most {MAX_TAGS} tags for a task, not {}", tags.len())));
    }
    for tag in tags {
        check_length("a tag", tag)?;
    }
    let tags = if tags.is_empty() { None } else { Some(Arc::new(tags.to_vec())) };
    Ok(Manner { name: name.map(Arc::from), tags, kill_on_cancel: false })
}

/// Of a name or a tag, given or looked for.
pub(super) fn check_length(what: &str, text: &str) -> Result<(), ApiError> {
    match text.chars().count() {
        1..=MAX_CHARS => Ok(()),
        other => {
            Err(ApiError::bad_request(format!("{what} must have 1 to {MAX_CHARS} characters, not {other}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(json: &str) -> Result<(u32, u32), String> {
        let waits = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let backoff = backoff(waits, 1).map_err(|error| format!("{error:?}"))?;
        Ok((backoff.base_ms, backoff.cap_ms))
    }

    #[test]
    fn seconds_become_milliseconds() {
        let default = Backoff::default();
        assert_eq!(waits("null"), Ok((default.base_ms, default.cap_ms)));
        assert_eq!(waits("0"), Ok((0, 30_000)));
        assert_eq!(waits("0.0006"), Ok((1, 30_000)));
        assert_eq!(waits("45.5"), Ok((45_500, 45_500)));
        assert_eq!(waits("[0.1, 4294967.295]"), Ok((100, u32::MAX)));
    }

    #[test]
    fn what_is_no_backoff_is_refused() {
        for bad in ["-1", "[2, 1]", "[0, 4294967.3]", "[1]", "[1, 2, 3]", "true", "\"1\"", "{}"] {
            assert!(waits(bad).is_err_and(|error| error.contains("backoff must be")), "{bad}");
        }
    }
}
