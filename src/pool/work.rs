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
