//! Tasks and results as JSON.

use std::sync::Arc;

use base64::Engine;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::pool::{FailureKind, Outcome, Past, Shared, Slot, error_text, value_json, value_repr};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// An exception, as text: nothing is rebuilt from it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ErrorView {
    /// Its type, with the module.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// Its text.
    pub(super) message: String,
    /// The traceback in the worker; or the worker's stack at a fatal signal, and its last lines of stderr.
    pub(super) traceback: String,
    /// Where the task ended without an answer of its own: why, and what is known of its worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<FailureView>,
}

/// How a task ended that never answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FailureView {
    /// `worker_crashed`, `task_timeout`, `task_memory_exceeded`, `pool_broken` or `pool_shutdown`.
    #[schema(value_type = String)]
    kind: FailureKind,
    /// The task's number in its pool.
    task: u64,
    /// The function's name.
    name: String,
    /// The submitter's words for it.
    tags: Vec<String>,
    /// How often it was begun.
    attempts: u32,
    /// The worker that ran it last.
    pid: Option<i32>,
    /// Its exit status, where it left by itself.
    exit_status: Option<i32>,
    /// The signal that ended it.
    signal: Option<i32>,
    /// Whether the kernel's out-of-memory killer ended it, if that is known.
    oom_killed: Option<bool>,
    /// The most bytes that it had in memory, as far as is known.
    peak_memory: Option<u64>,
    /// By how many bytes it was to grow at most, where it was ended for that.
    memory_limit: Option<u64>,
    /// By how many it had.
    memory_growth: Option<u64>,
    /// The last lines that it wrote to its stderr: 8 KiB at most.
    stderr: String,
    /// Its Python stacks when a fatal signal came: about 32 KiB at most.
    stack: String,
    /// How the earlier attempts ended, the last ten at most.
    earlier_attempts: Vec<String>,
}

/// What became of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultView {
    pub(super) task_id: String,
    pub(super) status: TaskStatus,
    /// The value, where JSON can hold it; else null, and `result_repr` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable)]
    pub(super) result: Option<Box<RawValue>>,
    /// The value's `repr()`, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result_repr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorView>,
    /// The pickled value or error description in base64, where `pickle=true` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "byte")]
    pub(super) pickle: Option<String>,
    /// The answer was full: ask again for this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) omitted: bool,
}

impl ResultView {
    fn empty(pool: &Shared, slot: &Slot) -> Self {
        Self {
            task_id: pool.id_text(slot.id()),
            status: TaskStatus::Queued,
            result: None,
            result_repr: None,
            error: None,
            pickle: None,
            omitted: false,
        }
    }

    /// Only that it has ended, and how.
    pub(super) fn omitted(pool: &Shared, slot: &Slot) -> Self {
        let failed = matches!(slot.outcome(), Some(Outcome::Error(_) | Outcome::Failed(_)));
        let status = if failed { TaskStatus::Failed } else { TaskStatus::Succeeded };
        Self { status, omitted: true, ..Self::empty(pool, slot) }
    }

    pub(super) fn of(pool: &Shared, slot: &Slot, with_pickle: bool) -> Self {
        let mut view = Self::empty(pool, slot);
        match slot.outcome() {
            None if pool.is_running(slot.id()) => view.status = TaskStatus::Running,
            None => {}
            Some(Outcome::Described(bytes)) => {
                let bytes = bytes.to_vec();
                view.status = TaskStatus::Succeeded;
                let json = value_json(&bytes).unwrap_or("null").to_owned();
                view.result = RawValue::from_string(json).ok();
                view.result_repr = Some(value_repr(&bytes));
                view.pickle = with_pickle.then(|| encode(crate::pool::value_pickle(&bytes)));
            }
            Some(Outcome::Value(bytes) | Outcome::Values(bytes, _)) => {
                view.status = TaskStatus::Succeeded;
                view.pickle = with_pickle.then(|| encode(&bytes.to_vec()));
            }
            Some(Outcome::Error(bytes)) => {
                let bytes = bytes.to_vec();
                view.status = TaskStatus::Failed;
                let text = error_text(&bytes);
                view.error = Some(ErrorView {
                    type_name: text.type_name,
                    message: text.message,
                    traceback: text.traceback,
                    failure: None,
                });
                view.pickle = with_pickle.then(|| encode(&bytes));
            }
            Some(Outcome::Failed(failure)) => {
                view.status = TaskStatus::Failed;
                view.error = Some(ErrorView {
                    type_name: failure.kind.exception_name().to_owned(),
                    message: failure.message.to_string(),
                    traceback: failure.details(),
                    failure: Some(FailureView {
                        kind: failure.kind,
                        task: failure.task,
                        name: failure.name.clone(),
                        tags: failure.tags.clone(),
                        attempts: failure.attempts,
                        pid: failure.pid,
                        exit_status: failure.exit_status,
                        signal: failure.signal,
                        oom_killed: failure.oom_killed,
                        peak_memory: failure.peak_memory,
                        memory_limit: failure.memory_limit,
                        memory_growth: failure.memory_growth,
                        stderr: failure.stderr.clone(),
                        stack: failure.stack.clone(),
                        earlier_attempts: failure.earlier_attempts.clone(),
                    }),
                });
            }
            Some(Outcome::Cancelled) => view.status = TaskStatus::Cancelled,
            Some(Outcome::Released) => view.status = TaskStatus::Succeeded,
        }
        view
    }

    /// About how many bytes it will make.
    pub(super) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let error = self.error.as_ref().map_or(0, |error| error.message.len() + error.traceback.len());
        self.result.as_ref().map_or(0, |json| json.get().len())
            + text(&self.result_repr)
            + text(&self.pickle)
            + error
    }
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// One task in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskView {
    pub(super) task_id: String,
    #[schema(value_type = String)]
    pub(super) name: Arc<str>,
    /// The submitter's words for it.
    pub(super) tags: Vec<String>,
    pub(super) status: TaskStatus,
    /// How it failed: `raised`, `worker_crashed`, `task_timeout`, `task_memory_exceeded`, `pool_broken` or `pool_shutdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<&'static str>,
    /// Seconds from the submission to the (last) dispatch, or to now, or to the end.
    pub(super) waited_seconds: f64,
    /// Seconds since the (last) dispatch, or to the end.
    pub(super) ran_seconds: f64,
    /// Seconds since it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_seconds_ago: Option<f64>,
    /// The worker's process id.
    pub(super) pid: Option<i32>,
    /// A repr of the value, or the error in one line.
    #[schema(value_type = String)]
    pub(super) summary: Arc<str>,
    /// The traceback, or the worker's last lines of stderr.
    #[schema(value_type = String)]
    pub(super) details: Arc<str>,
    /// What it has printed and logged; in the view of one task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
}

impl TaskView {
    pub(super) fn past(pool: &Shared, past: Past) -> Self {
        let status = match past.status {
            "succeeded" => TaskStatus::Succeeded,
            "cancelled" => TaskStatus::Cancelled,
            _ => TaskStatus::Failed,
        };
        Self {
            task_id: pool.id_text(past.task),
            name: past.name,
            tags: past.tags.map(|tags| tags.to_vec()).unwrap_or_default(),
            status,
            failure: past.failure,
            waited_seconds: past.waited.as_secs_f64(),
            ran_seconds: past.ran.as_secs_f64(),
            ended_seconds_ago: Some(pool.age(past.ended).as_secs_f64()),
            pid: past.pid,
            summary: past.summary,
            details: past.details,
            output: None,
        }
    }

    pub(super) fn present(pool: &Shared, task: &crate::pool::Present) -> Self {
        Self {
            task_id: pool.id_text(task.task),
            name: Arc::clone(&task.name),
            tags: task.tags.as_ref().map(|tags| tags.to_vec()).unwrap_or_default(),
            status: if task.running { TaskStatus::Running } else { TaskStatus::Queued },
            failure: None,
            waited_seconds: task.waited.as_secs_f64(),
            ran_seconds: task.ran.as_secs_f64(),
            ended_seconds_ago: None,
            pid: task.pid,
            summary: Arc::default(),
            details: Arc::default(),
            output: None,
        }
    }
}
