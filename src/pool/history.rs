//! The last tasks that ended, and how: for dashboards. Bounded, and made of text only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{error_text, value_repr};
use super::slot::Outcome;
use crate::scheduler::types::{TaskId, Time};

/// Tasks kept. More than a page shows; with tracebacks cut as below, 10 MB at the most.
const HISTORY_TASKS: usize = 1000;

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
    /// `succeeded`, `failed` or `cancelled`.
    pub status: &'static str,
    /// From the last dispatch to the end; zero where it was never dispatched.
    pub ran: Duration,
    /// From submission to the last dispatch, or to the end.
    pub waited: Duration,
    /// Since the pool began.
    pub ended: Time,
    /// Who ran it last.
    pub pid: Option<i32>,
    /// A repr of the value, or the error in one line.
    pub summary: String,
    /// The error's traceback or the worker's last words.
    pub details: String,
}

/// What the pool knew of a task when it ended.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) task: TaskId,
    pub(super) name: Arc<str>,
    pub(super) submitted: Time,
    pub(super) dispatched: Option<Time>,
    pub(super) ended: Time,
    pub(super) pid: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    past: VecDeque<Past>,
    ended: u64,
}

impl History {
    pub(super) fn record(&mut self, facts: Facts, outcome: &Outcome) {
        self.ended += 1;
        let (status, summary, details) = tell(outcome);
        if self.past.len() == HISTORY_TASKS {
            self.past.pop_front();
        }
        let begun = facts.dispatched.unwrap_or(facts.ended);
        self.past.push_back(Past {
            number: self.ended,
            task: facts.task,
            name: facts.name,
            status,
            ran: facts.ended.saturating_sub(begun),
            waited: begun.saturating_sub(facts.submitted),
            ended: facts.ended,
            pid: facts.pid,
            summary,
            details,
        });
    }

    /// The last ones, newest first, that ended after the cursor.
    pub(super) fn latest(&self, after: u64, limit: usize) -> Vec<Past> {
        self.past.iter().rev().take_while(|past| past.number > after).take(limit).cloned().collect()
    }

    pub(super) fn find(&self, task: TaskId) -> Option<Past> {
        self.past.iter().rev().find(|past| past.task == task).cloned()
    }
}

fn tell(outcome: &Outcome) -> (&'static str, String, String) {
    match outcome {
        Outcome::Value(_) | Outcome::Values(_) | Outcome::Released => {
            ("succeeded", String::new(), String::new())
        }
        Outcome::Described(bytes) => {
            ("succeeded", head(&value_repr(&bytes.to_vec()), LINE_CHARS), String::new())
        }
        Outcome::Error(bytes) => {
            let error = error_text(&bytes.to_vec());
            let line = head(&format!("{}: {}", error.type_name, error.message), LINE_CHARS);
            ("failed", line, tail(&error.traceback, TRACEBACK_CHARS))
        }
        Outcome::Failed(failure) => {
            ("failed", head(&failure.message, LINE_CHARS), tail(&failure.stderr, TRACEBACK_CHARS))
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
    use super::*;

    #[test]
    fn the_past_is_bounded_and_newest_first() {
        let mut history = History::default();
        for id in 1..=HISTORY_TASKS as u64 + 5 {
            let at = Duration::from_millis(id);
            let facts = Facts {
                task: TaskId(id),
                name: Arc::from("f"),
                submitted: at,
                dispatched: None,
                ended: at,
                pid: None,
            };
            history.record(facts, &Outcome::Cancelled);
        }
        assert_eq!(history.past.len(), HISTORY_TASKS);
        let latest = history.latest(HISTORY_TASKS as u64 + 2, 2);
        assert_eq!(latest.iter().map(|past| past.task.0).collect::<Vec<_>>(), [1005, 1004]);
        assert!(history.find(TaskId(1)).is_none());
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(head("äöü", 2), "äö");
        assert_eq!(tail("äöü", 2), "öü");
        assert_eq!(tail("ä", 2), "ä");
    }
}
