//! The last tasks that ended, and how: for dashboards. Bounded, and made of text only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{error_text, shown, value_repr};
use super::look::Filter;
use super::slot::Outcome;
use super::work::tag_bytes;
use crate::scheduler::types::{TaskId, Time};

/// Tasks kept. More than a page shows.
const HISTORY_TASKS: usize = 1000;

/// Their texts, in bytes: a thousand long tracebacks in ASCII. In other scripts, they could be four times as much.
const HISTORY_BYTES: usize = 10 << 20;

/// What is kept of a traceback: its end says what happened.
const TRACEBACK_CHARS: usize = 8 * 1024;

/// What is kept of a message or a repr.
const LINE_CHARS: usize = 1024;

/// One task that has ended.
#[derive(Clone, Debug)]
pub struct Past {
    /// Counts endings, from 1: the cursor of whoever reads on.
    pub number: u64,
    /// The task.
    pub task: TaskId,
    /// Its function's name.
    pub name: Arc<str>,
    /// The submitter's words for it.
    pub tags: Option<Arc<Vec<String>>>,
    /// `succeeded`, `failed` or `cancelled`.
    pub status: &'static str,
    /// Where it failed: `raised`, `worker_crashed`, `task_timeout`, `task_memory_exceeded`, `pool_broken` or `pool_shutdown`.
    pub failure: Option<&'static str>,
    /// From the last dispatch to the end; zero where it was never dispatched.
    pub ran: Duration,
    /// From submission to the last dispatch, or to the end.
    pub waited: Duration,
    /// Since the pool began.
    pub ended: Time,
    /// Who ran it last.
    pub pid: Option<i32>,
    /// A repr of the value, or the error in one line.
    pub summary: Arc<str>,
    /// The error's traceback or the worker's last words.
    pub details: Arc<str>,
}

impl Past {
    fn size(&self) -> usize {
        self.name.len() + tag_bytes(self.tags.as_ref()) + self.summary.len() + self.details.len()
    }
}

/// What the pool knew of a task when it ended.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) task: TaskId,
    pub(super) name: Arc<str>,
    pub(super) tags: Option<Arc<Vec<String>>>,
    pub(super) submitted: Time,
    pub(super) dispatched: Option<Time>,
    pub(super) ended: Time,
    pub(super) pid: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    past: VecDeque<Past>,
    bytes: usize,
    ended: u64,
}

impl History {
    pub(super) fn record(&mut self, facts: Facts, outcome: &Outcome) {
        self.ended += 1;
        let (status, summary, details) = tell(outcome);
        let begun = facts.dispatched.unwrap_or(facts.ended);
        let past = Past {
            number: self.ended,
            task: facts.task,
            name: facts.name,
            tags: facts.tags,
            status,
            failure: failure_of(outcome),
            ran: facts.ended.saturating_sub(begun),
            waited: begun.saturating_sub(facts.submitted),
            ended: facts.ended,
            pid: facts.pid,
            summary: shared(summary),
            details: shared(details),
        };
        self.bytes += past.size();
        self.past.push_back(past);
        while self.past.len() > HISTORY_TASKS || self.bytes > HISTORY_BYTES {
            self.bytes -= self.past.pop_front().map_or(0, |oldest| oldest.size());
        }
    }

    /// The last ones, newest first, that ended after the cursor.
    pub(super) fn latest(&self, after: u64, limit: usize, filter: &Filter) -> Vec<Past> {
        let new = self.past.iter().rev().take_while(|past| past.number > after);
        new.filter(|past| filter.admits(&past.name, past.tags.as_ref())).take(limit).cloned().collect()
    }

    pub(super) fn find(&self, task: TaskId) -> Option<Past> {
        self.past.iter().rev().find(|past| past.task == task).cloned()
    }
}

/// Most tasks leave no words behind, and what is empty takes no memory as an `Arc`'s default.
fn shared(text: String) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

fn failure_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Error(_) => Some("raised"),
        Outcome::Failed(failure) => Some(failure.kind.name()),
        Outcome::Value(_)
        | Outcome::Values(..)
        | Outcome::Described(_)
        | Outcome::Cancelled
        | Outcome::Released => None,
    }
}

fn tell(outcome: &Outcome) -> (&'static str, String, String) {
    match outcome {
        Outcome::Value(_) | Outcome::Values(..) | Outcome::Released => {
            ("succeeded", String::new(), String::new())
        }
        Outcome::Described(bytes) => {
            ("succeeded", head(&value_repr(&shown(bytes)), LINE_CHARS), String::new())
        }
        Outcome::Error(bytes) => {
            let error = error_text(&shown(bytes));
            let line = head(&format!("{}: {}", error.type_name, error.message), LINE_CHARS);
            ("failed", line, tail(&error.traceback, TRACEBACK_CHARS))
        }
        Outcome::Failed(failure) => {
            ("failed", head(&failure.message, LINE_CHARS), tail(&failure.details(), TRACEBACK_CHARS))
        }
        Outcome::Cancelled => ("cancelled", String::new(), String::new()),
    }
}

fn head(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn tail(text: &str, chars: usize) -> String {
    let from = text.char_indices().rev().nth(chars - 1).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;

    #[test]
    fn the_past_is_bounded_and_newest_first() {
        let mut history = History::default();
        for id in 1..=HISTORY_TASKS as u64 + 5 {
            let at = Duration::from_millis(id);
            let facts = Facts {
                task: TaskId(id),
                name: Arc::from("f"),
                tags: None,
                submitted: at,
                dispatched: None,
                ended: at,
                pid: None,
            };
            history.record(facts, &Outcome::Cancelled);
        }
        assert_eq!(history.past.len(), HISTORY_TASKS);
        let latest = history.latest(HISTORY_TASKS as u64 + 2, 2, &Filter::default());
        assert_eq!(latest.iter().map(|past| past.task.0).collect::<Vec<_>>(), [1005, 1004]);
        assert!(history.find(TaskId(1)).is_none());
    }

    #[test]
    fn its_bytes_are_bounded_whatever_the_script() {
        let mut history = History::default();
        for id in 1..=HISTORY_TASKS as u64 {
            let failure = Failure::broken(&"😀".repeat(2 * LINE_CHARS).into(), id, "f");
            let failure = Failure { stderr: "😀".repeat(2 * TRACEBACK_CHARS), ..failure };
            let at = Duration::from_millis(id);
            let (task, name) = (TaskId(id), Arc::from("f"));
            let facts =
                Facts { task, name, tags: None, submitted: at, dispatched: None, ended: at, pid: None };
            history.record(facts, &Outcome::Failed(Arc::new(failure)));
        }
        let bytes: usize = history.past.iter().map(Past::size).sum();
        assert_eq!(bytes, history.bytes);
        assert!(bytes <= HISTORY_BYTES && bytes > HISTORY_BYTES / 2, "{bytes}");
        assert!(history.find(TaskId(HISTORY_TASKS as u64)).is_some(), "the last one is there");
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(head("äöü", 2), "äö");
        assert_eq!(tail("äöü", 2), "öü");
        assert_eq!(tail("ä", 2), "ä");
    }
}
