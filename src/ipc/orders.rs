//! What the host can ask of a worker, and what the worker can answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::input::Input;
use super::payload::Payload;
use crate::scheduler::types::{Assignment, Attempt, TaskId};

/// In a frame's kind: the payload is a descriptor, and what it describes stands in the sender's arena.
pub(super) const LARGE: u32 = 1 << 31;

/// And: the receiver copies it, for others will look at it, too, and must not see what this one writes.
pub(super) const COPIED: u32 = 1 << 30;

/// In an answer's kind: the task has printed, and the host is to take that first.
pub(super) const SPOKE: u32 = 1 << 29;

const CALL: u32 = 1;
const CHUNK: u32 = 2;
const TASK: u32 = 3;
const TASK_TO_DESCRIBE: u32 = 4;
const DEFINE: u32 = 5;
const STOP: u32 = 6;
const FORGET: u32 = 7;
const GIVE: u32 = 8;
const GIVE_CONSTANT: u32 = 9;
const TAKE_AWAY: u32 = 10;
const UNMAP: u32 = 11;

/// What a task is made of, and so how its worker runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The arguments; the function is one that was defined before.
    Call,
    /// Many arguments; the function, again, was defined before.
    Chunk,
    /// Function and arguments in one pickle.
    Whole,
    /// As [`Self::Whole`], and the answer is to be a value that can be shown.
    ToDescribe,
}

/// A function that travels by number; its pickle is sent to each worker once.
#[derive(Debug)]
pub struct Code {
    /// Not 0.
    pub number: u32,
    /// What defines it.
    pub pickle: Payload,
}

/// How many [`Code`]s there have been that are gone, of all pools of this process.
static GONE: AtomicU64 = AtomicU64::new(0);

impl Code {
    /// A number that has changed when one has gone: as long as it is the same, there is no need to look for dead ones.
    pub(super) fn gone() -> u64 {
        GONE.load(Ordering::Acquire)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        GONE.fetch_add(1, Ordering::Release); // nobody can upgrade a weak reference any more, at this point
    }
}

/// From the host to a worker.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// Run this.
    Call {
        /// Which dispatch.
        run: Assignment,
        /// [`Form::Call`] or [`Form::Chunk`].
        form: Form,
        /// The function; sent before, if the worker does not have it.
        code: &'a Arc<Code>,
        /// The arguments.
        payload: &'a Payload,
        /// It may be run again with the same arguments.
        again: bool,
    },
    /// Run this, which is complete.
    Whole {
        /// It may be run again with the same arguments.
        again: bool,
        /// Which dispatch.
        run: Assignment,
        /// Whether to describe the value.
        describe: bool,
        /// Function and arguments.
        payload: &'a Payload,
    },
    /// Remember a function.
    Define(&'a Arc<Code>),
    /// Forget the function with this number: no task will name it.
    Forget(u32),
    /// Keep this for tasks that name it.
    Give(&'a Arc<Input>),
    /// Drop the input with this key: no task will name it.
    TakeAway(u64),
    /// Let go of a block of another worker's arena: no input stands in it.
    Unmap(u32),
    /// Nothing more will come: leave.
    Stop,
}

const NOBODY: Assignment = Assignment { task: TaskId(0), attempt: Attempt(0) };

/// What a frame that speaks of an input says instead of a dispatch; the lower half of the key stands where a function does.
fn keyed(key: u64) -> Assignment {
    Assignment { attempt: Attempt((key >> 32) as u32), ..NOBODY }
}

impl Order<'_> {
    pub(super) fn run(&self) -> Assignment {
        match self {
            Self::Call { run, .. } | Self::Whole { run, .. } => *run,
            // A key takes two fields of a frame. It is of no task, or it could be taken back.
            Self::Give(input) => keyed(input.key()),
            Self::TakeAway(key) => keyed(*key),
            Self::Define(_) | Self::Forget(_) | Self::Unmap(_) | Self::Stop => NOBODY,
        }
    }

    pub(super) fn function(&self) -> u32 {
        match self {
            Self::Call { code, .. } | Self::Define(code) => code.number,
            Self::Forget(number) | Self::Unmap(number) => *number,
            Self::Give(input) => input.key() as u32,
            Self::TakeAway(key) => *key as u32,
            Self::Whole { .. } | Self::Stop => 0,
        }
    }

    /// Whether it is for many tasks, or for other workers as well.
    pub(super) fn is_for_many(&self) -> bool {
        matches!(self, Self::Define(_) | Self::Give(_))
    }

    /// Whether what the worker does to the arguments must not be seen by who runs it again.
    pub(super) fn must_copy(&self) -> bool {
        match self {
            Self::Call { again, .. } | Self::Whole { again, .. } => *again,
            Self::Define(_)
            | Self::Forget(_)
            | Self::Give(_)
            | Self::TakeAway(_)
            | Self::Unmap(_)
            | Self::Stop => false,
        }
    }

    pub(super) fn kind(&self) -> u32 {
        match self {
            Self::Call { form: Form::Chunk, .. } => CHUNK,
            Self::Call { .. } => CALL,
            Self::Whole { describe: false, .. } => TASK,
            Self::Whole { describe: true, .. } => TASK_TO_DESCRIBE,
            Self::Define(_) => DEFINE,
            Self::Forget(_) => FORGET,
            Self::Give(input) if input.is_constant() => GIVE_CONSTANT,
            Self::Give(_) => GIVE,
            Self::TakeAway(_) => TAKE_AWAY,
            Self::Unmap(_) => UNMAP,
            Self::Stop => STOP,
        }
    }

    pub(super) fn payload(&self) -> Option<&Payload> {
        match self {
            Self::Call { payload, .. } | Self::Whole { payload, .. } => Some(payload),
            Self::Define(code) => Some(&code.pickle),
            Self::Give(input) => input.value(),
            Self::Forget(_) | Self::TakeAway(_) | Self::Unmap(_) | Self::Stop => None,
        }
    }
}

/// What the worker's end makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Run it.
    Run(Form),
    /// Remember the function.
    Define,
    /// Forget it.
    Forget,
    /// Keep an input.
    Give {
        /// The same object may be given to several tasks.
        constant: bool,
    },
    /// Drop it.
    TakeAway,
    /// Let go of a block.
    Unmap,
    /// Leave.
    Stop,
}

impl Task {
    pub(super) fn from_kind(kind: u32) -> Option<Self> {
        match kind {
            CALL => Some(Self::Run(Form::Call)),
            CHUNK => Some(Self::Run(Form::Chunk)),
            TASK => Some(Self::Run(Form::Whole)),
            TASK_TO_DESCRIBE => Some(Self::Run(Form::ToDescribe)),
            DEFINE => Some(Self::Define),
            STOP => Some(Self::Stop),
            FORGET => Some(Self::Forget),
            GIVE => Some(Self::Give { constant: false }),
            GIVE_CONSTANT => Some(Self::Give { constant: true }),
            TAKE_AWAY => Some(Self::TakeAway),
            UNMAP => Some(Self::Unmap),
            _ => None,
        }
    }
}

const VALUE: u32 = 1;
const DESCRIBED: u32 = 2;
const ERROR: u32 = 3;
const VALUES: u32 = 4;
const RAISED: u32 = 5;

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A pickled value.
    Value,
    /// A value that can be shown.
    Described,
    /// An exception.
    Error,
    /// An exception after which the submitter wants the task tried again.
    Raised,
    /// What became of each item of a chunk.
    Values,
}

impl Answer {
    pub(super) fn kind(self) -> u32 {
        match self {
            Self::Value => VALUE,
            Self::Described => DESCRIBED,
            Self::Error => ERROR,
            Self::Raised => RAISED,
            Self::Values => VALUES,
        }
    }

    pub(super) fn from_kind(kind: u32) -> Option<Self> {
        match kind {
            VALUE => Some(Self::Value),
            DESCRIBED => Some(Self::Described),
            ERROR => Some(Self::Error),
            RAISED => Some(Self::Raised),
            VALUES => Some(Self::Values),
            _ => None,
        }
    }
}
