//! What is handed to a pool.

use std::sync::Arc;

use super::needs::Need;
use crate::ipc::{Code, Form, Payload};

/// Who will want a task's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Only whoever holds the future.
    ForTheFuture,
    /// Whoever has its id, in this process.
    ForItsId,
    /// Whoever has its id, anywhere: the worker describes the value as well.
    ForEverybody,
}

/// How a task is shown, and what its future's `cancel` means: what does not concern the scheduler.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// What to call it, instead of its function's name.
    pub name: Option<Arc<str>>,
    /// Words of the submitter's, to find it by. Behind one thin pointer, for most tasks have none.
    pub tags: Option<Arc<Vec<String>>>,
    /// `cancel` stops it where it runs.
    pub kill_on_cancel: bool,
}

/// Tags as they are shown.
pub(super) fn tags_of(tags: Option<&Arc<Vec<String>>>) -> Vec<String> {
    tags.map(|tags| tags.to_vec()).unwrap_or_default()
}

/// Bytes of tags.
pub(super) fn tag_bytes(tags: Option<&Arc<Vec<String>>>) -> usize {
    tags.map_or(0, |tags| tags.iter().map(String::len).sum())
}

/// Bytes that a task keeps while it has not ended, as far as its submitter chooses how many.
pub(super) fn weight(work: &Work, name: &str, tags: Option<&Arc<Vec<String>>>) -> usize {
    work.payload.len() + name.len() + tag_bytes(tags)
}

/// What a worker is to run.
#[derive(Clone, Debug)]
pub struct Work {
    /// What the payload is.
    pub form: Form,
    /// The function, where it is not in the payload.
    pub code: Option<Arc<Code>>,
    /// The arguments, or everything.
    pub payload: Payload,
    /// What its pickle names: its worker is given that first.
    pub needs: Box<[Need]>,
}
