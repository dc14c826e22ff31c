//! Submitting: a task text is checked by its header, decoded, and queued as opaque bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{JsonBody, Object};
use super::error::{ApiError, ErrorBody};
use super::terms::{self, Waits};
use super::{Shares, State};
use crate::ipc::{Form, Purpose};
use crate::pool::{Backlog, Keep, NewTask, PoolError, Work};
use crate::scheduler::types::TaskSpec;

/// What may wait, since the server takes tasks faster than workers end them, and memory is bounded: a million tasks take
/// some 500 MB beside their pickles, and of pickles 1 GiB is sixteen of the largest requests.
const BACKLOG: Backlog = Backlog { tasks: 1_000_000, bytes: 1 << 30 };

/// Tasks in one request: a larger batch would hold its answer back for too long.
const MAX_BATCH: usize = 10_000;

/// What is kept of a task's name, in bytes: as long as the longest dotted name that a person would want to read. Each
/// task that the history remembers keeps one.
const MAX_NAME_BYTES: usize = 256;

/// A task that kills a thousand workers is no bad luck any more.
const MAX_RETRIES: u16 = 1000;

/// What accepting a task costs beside its text, in bytes that could be decoded in that time.
const TASK_OVERHEAD_BYTES: usize = 1024;

/// The text format of `disttask.serialize_task` that this server knows.
const FORMAT: &str = "disttask-1";

const BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new());

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Submission {
    /// What `disttask.serialize_task` returned.
    task: String,
    /// Higher goes first.
    #[serde(default)]
    priority: Option<i32>,
    /// How often it may run again after its worker died.
    #[serde(default)]
    #[schema(maximum = 1000)]
    retries: Option<u16>,
    /// Seconds that one attempt may take.
    #[serde(default)]
    #[schema(exclusive_minimum = 0.0)]
    timeout: Option<f64>,
    /// Bytes that its worker may grow by while it runs.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_memory: Option<u64>,
    /// Seconds before a retry: at most so many before the first, twice as many before each further one. 0.1 and 30 where
    /// nothing is said. Only together with `retries`.
    #[serde(default)]
    backoff: Option<Waits>,
    /// After so many dead workers it is given up, though it has retries left.
    #[serde(default)]
    #[schema(minimum = 1)]
    crash_limit: Option<u32>,
    /// What to call it, instead of its function's name.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Words to find it by, each of 1 to 255 characters.
    #[serde(default)]
    #[schema(max_items = 16)]
    tags: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Names the task from now on.
    task_id: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// At most 10,000.
    #[schema(value_type = Vec<Submission>)]
    tasks: Vec<Object<Submission>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedBatch {
    /// In the order of the request.
    task_ids: Vec<String>,
}

/// Submit a task.
#[utoipa::path(
    post, path = "/submit_task", request_body = Submission,
    responses(
        (status = 200, body = Accepted),
        (status = 400, body = ErrorBody, description = "not the JSON expected"),
        (status = 413, body = ErrorBody, description = "over the limit"),
        (status = 415, body = ErrorBody, description = "not sent as JSON"),
        (status = 422, body = ErrorBody, description = "not a task text"),
        (status = 503, body = ErrorBody, description = "the pool takes no tasks"),
    )
)]
pub(super) async fn submit_task(
    Extract(state): Shares,
    JsonBody(submission): JsonBody<Submission>,
) -> Result<Json<Accepted>, ApiError> {
    let mut task_ids = submit(state, vec![submission], false).await?;
    Ok(Json(Accepted { task_id: task_ids.pop().unwrap_or_default() }))
}

/// Submit many tasks: all are accepted, or none.
#[utoipa::path(
    post, path = "/api/v1/tasks", request_body = Batch,
    responses(
        (status = 200, body = AcceptedBatch),
        (status = 400, body = ErrorBody, description = "not the JSON expected"),
        (status = 413, body = ErrorBody, description = "over the limit"),
        (status = 415, body = ErrorBody, description = "not sent as JSON"),
        (status = 422, body = ErrorBody, description = "one is not a task text"),
        (status = 503, body = ErrorBody, description = "the pool takes no tasks"),
    )
)]
pub(super) async fn submit_many(
    Extract(state): Shares,
    JsonBody(batch): JsonBody<Batch>,
) -> Result<Json<AcceptedBatch>, ApiError> {
    if batch.tasks.len() > MAX_BATCH {
        return Err(ApiError::bad_request(format!("at most {MAX_BATCH} tasks in one request")));
    }
    let tasks = batch.tasks.into_iter().map(|Object(task)| task).collect();
    Ok(Json(AcceptedBatch { task_ids: submit(state, tasks, true).await? }))
}

/// Check them all, then queue them all. Which of a batch is wrong is told.
async fn submit(state: Arc<State>, tasks: Vec<Submission>, batch: bool) -> Result<Vec<String>, ApiError> {
    let bytes = tasks.iter().map(|task| task.task.len() + TASK_OVERHEAD_BYTES).sum();
    let shares = Arc::clone(&state);
    let queue = move || {
        let told = |index, error: ApiError| if batch { error.at(&format!("tasks[{index}]")) } else { error };
        let parsed = tasks.iter().enumerate();
        let parsed = parsed.map(|(index, task)| parse(&state, task).map_err(|error| told(index, error)));
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        let ids = state.pool.submit_all(parsed, Keep::ForEverybody, BACKLOG)?;
        Ok(ids.into_iter().map(|id| state.pool.id_text(id)).collect())
    };
    shares.heavy.run(bytes, queue).await?
}

fn parse<'a>(state: &State, submission: &'a Submission) -> Result<NewTask<'a>, ApiError> {
    let timeout = match submission.timeout {
        None => None,
        Some(seconds) if seconds > 0.0 => std::time::Duration::try_from_secs_f64(seconds).ok(),
        Some(_) => return Err(ApiError::bad_request("timeout must be more than 0 seconds")),
    };
    if submission.max_memory == Some(0) {
        return Err(ApiError::bad_request("max_memory must be at least 1 byte"));
    }
    let retries = submission.retries.unwrap_or(0);
    if retries > MAX_RETRIES {
        return Err(ApiError::bad_request(format!(
            "retries must be between 0 and {MAX_RETRIES}, not {retries}"
        )));
    }
    let spec = TaskSpec {
        priority: submission.priority.unwrap_or(0),
        retries: u32::from(retries),
        timeout,
        max_memory: submission.max_memory,
        backoff: terms::backoff(submission.backoff, retries)?,
        crash_limit: terms::crash_limit(submission.crash_limit)?,
        ..TaskSpec::default()
    };
    let manner = terms::manner(submission.name.as_deref(), submission.tags.as_deref())?;
    let (name, body) = parse_text(&submission.task, &state.python)?;
    let payload = BASE64.decode(body).map_err(|error| {
        ApiError::invalid_task(format!("the task is damaged: its body is not base64 ({error})"))
    })?;
    if payload.is_empty() {
        return Err(ApiError::invalid_task("the task is damaged: its body is empty"));
    }
    let payload = state.pool.payload(Purpose::Passing, &payload)?.ok_or(PoolError::Full(payload.len()))?;
    Ok(NewTask {
        work: Work { form: Form::ToDescribe, code: None, payload, needs: Box::default() },
        name,
        spec,
        manner,
    })
}

/// The function's name and the base64 body of `disttask-1;py=3.11;code=value;name=f;BODY`.
fn parse_text<'a>(text: &'a str, python: &str) -> Result<(&'a str, &'a str), ApiError> {
    let not_a_task =
        || ApiError::invalid_task("not a task: expected the text that disttask.serialize_task() returns");
    let mut parts = text.trim().splitn(5, ';'); // a line of a file, say
    let mut next =
        |prefix: &str| parts.next().and_then(|part| part.strip_prefix(prefix)).ok_or_else(not_a_task);
    let format = next("disttask-")?;
    let (version, code, name, body) = (next("py=")?, next("code=")?, next("name=")?, next("")?);
    if Some(format) != FORMAT.strip_prefix("disttask-") {
        let message =
            format!("the task has format {format:.20}, which this server does not know: update disttask");
        return Err(ApiError::invalid_task(message));
    }
    match code {
        "value" if version != python => Err(ApiError::invalid_task(format!(
            "the task holds code of Python {version:.20}, and the workers run Python {python}: serialize it with that \
             version, or put the function into a module that both can import"
        ))),
        "value" | "ref" => Ok((shortened(name), body)),
        _ => Err(not_a_task()),
    }
}

fn shortened(name: &str) -> &str {
    let end = (0..=MAX_NAME_BYTES).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_texts() {
        assert_eq!(parse_text("disttask-1;py=3.11;code=ref;name=f;QUJD", "3.12"), Ok(("f", "QUJD")));
        assert_eq!(
            parse_text("disttask-1;py=3.11;code=ref;name=f;QUJD\n", "3.12"),
            Ok(("f", "QUJD")),
            "a line of a file"
        );
        assert_eq!(
            parse_text("disttask-1;py=3.12;code=value;name=<lambda>;A;B", "3.12"),
            Ok(("<lambda>", "A;B"))
        );
        let long = format!("disttask-1;py=3.12;code=ref;name=f{};QQ==", "é".repeat(1000));
        assert_eq!(parse_text(&long, "3.12").map(|(name, _)| name.len()), Ok(255));
        for bad in [
            "",
            "x",
            "disttask-1",
            "disttask-2;py=3.12;code=ref;name=f;QUJD",
            "disttask-1;py=3.11;code=value;name=f;QQ==",
            "disttask-1;py=3.12;code=what;name=f;QQ==",
            "disttask-1;code=ref;py=3.12;name=f;QQ==",
        ] {
            assert!(parse_text(bad, "3.12").is_err(), "{bad}");
        }
    }
}
