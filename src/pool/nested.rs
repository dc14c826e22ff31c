//! Tasks that the workers' tasks submit: what a worker asks, and the answers. The driver's thread serves them.
//!
//! A worker that waits for such a task is given it, if nobody has begun it, and runs it where it stands. So whoever waits,
//! waits for something that runs: see ARCHITECTURE.md, "Nested tasks".

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::pieces::{done, piece};
use super::slot::{Outcome, Slot};
use super::waker::{Topic, Waker};
use super::work::Work;
use crate::ipc::{Asked, Form, Payload, Range, Request, Response};
use crate::scheduler::SubmitError;
use crate::scheduler::types::{Assignment, Attempt, Cancel, FailReason, TaskId, TaskSpec, Tries, WorkerId};

/// Requests of one worker that are served in a row; then it is the others' turn.
const REQUESTS_PER_TURN: usize = 16;

/// More than fit a socket. A process that a task has started, and that has its end, could go on for ever.
const MAX_LAST_REQUESTS: usize = 10_000;

/// Of the whole pool.
#[derive(Debug, Default)]
pub(super) struct Nested {
    /// Whose tasks have submitted those that have not ended, and are not run by their submitter.
    submitters: HashMap<TaskId, WorkerId>,
    /// Tasks that a worker runs within another.
    pub(super) given: usize,
    /// Of these, how many have returned or raised.
    pub(super) answered: u64,
    /// And how many have ended with their worker.
    pub(super) lost: u64,
    buffer: Vec<u8>,
}

/// Of one worker.
#[derive(Debug, Default)]
pub(super) struct Nest {
    asked: Option<Asked>,
    tasks: HashMap<u64, Child>,
}

/// One of its tasks' tasks.
#[derive(Debug)]
enum Child {
    /// Its payload is still coming.
    Coming { range: Range, filled: usize, name: Box<str>, spec: TaskSpec },
    /// The pool's.
    Accepted(Arc<Slot>),
    /// The worker runs it, as this attempt.
    Given(Assignment),
}

impl Nest {
    pub(super) fn install(&mut self, asked: Asked, waker: &Waker, id: WorkerId) {
        waker.watch(asked.as_fd(), Topic::Asked, id, true);
        self.asked = Some(asked);
    }

    /// Nothing more will be asked. What is left.
    pub(super) fn close(&mut self, waker: &Waker, id: WorkerId) -> Self {
        self.mute(waker, id);
        std::mem::take(self)
    }

    fn mute(&mut self, waker: &Waker, id: WorkerId) {
        if let Some(asked) = self.asked.take() {
            waker.watch(asked.as_fd(), Topic::Asked, id, false);
        }
    }
}

impl Core {
    /// A worker has something to ask.
    pub(super) fn asked(&mut self, id: WorkerId) {
        let waker = Arc::clone(&self.waker);
        let mut buffer = std::mem::take(&mut self.nested.buffer);
        for _ in 0..REQUESTS_PER_TURN {
            let Some(asked) = self.seat(id).and_then(|seat| seat.nest.asked.as_ref()) else { break };
            let read = match asked.receive(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => 0,
            };
            if read == 0 {
                if let Some(nest) = self.nest(id) {
                    nest.mute(&waker, id); // it is dying, or a task has closed it
                }
                break;
            }
            let sound = match Request::decode(&buffer[..read]) {
                Some(request) => self.serve(id, request).is_none_or(|response| {
                    let asked = self.seat(id).and_then(|seat| seat.nest.asked.as_ref());
                    asked.is_some_and(|asked| asked.answer(&response))
                }),
                None => false,
            };
            if !sound {
                if let Some(seat) = self.seat(id) {
                    seat.nest.mute(&waker, id);
                    seat.give_up("a task garbled what the worker asks of the host");
                }
                break;
            }
        }
        self.nested.buffer = buffer;
        let now = self.now();
        self.run_actions(now);
    }

    fn serve(&mut self, id: WorkerId, request: Request<'_>) -> Option<Response> {
        match request {
            Request::Submit { key, priority, retries, bytes, name, piece } => {
                let spec = TaskSpec { priority, retries, ..TaskSpec::default() };
                if bytes == piece.len() as u64 {
                    return Some(self.accept(id, key, Payload::copied(piece), name, spec));
                }
                Some(self.begin_payload(id, key, bytes, piece, name, spec))
            }
            Request::More(key, piece) => Some(self.more_payload(id, key, piece)),
            Request::Look { key, claim } => Some(self.look_after(id, key, claim)),
            Request::Read(key, at) => {
                let slot = self.slot_of(id, key);
                let piece = slot.and_then(|slot| slot.with_outcome(|outcome| piece(outcome?, at)));
                Some(piece.map_or(Response::Unknown, Response::Piece))
            }
            Request::Cancel(key) => {
                let Some(slot) = self.slot_of(id, key) else { return Some(Response::Cancelled(false)) };
                if !slot.is_resolved() {
                    self.cancel(slot.id());
                }
                Some(Response::Cancelled(slot.kind() == Some(Outcome::Cancelled.kind())))
            }
            Request::Drop(key) => {
                match self.nest(id)?.tasks.remove(&key)? {
                    Child::Accepted(slot) => drop(self.forget_submitter(slot.id())),
                    Child::Given(run) => self.lose(id, run), // it was to be run, and was not
                    Child::Coming { .. } => {}
                }
                None
            }
            Request::Ran(key, error) => {
                self.ran(id, key, error);
                None
            }
        }
    }

    fn nest(&mut self, id: WorkerId) -> Option<&mut Nest> {
        self.seat(id).map(|seat| &mut seat.nest)
    }

    fn note_child(&mut self, id: WorkerId, key: u64, child: Child) {
        let nest = self.nest(id).expect("it asks");
        nest.tasks.insert(key, child);
    }

    fn slot_of(&mut self, id: WorkerId, key: u64) -> Option<Arc<Slot>> {
        match self.nest(id)?.tasks.get(&key)? {
            Child::Accepted(slot) => Some(Arc::clone(slot)),
            Child::Coming { .. } | Child::Given(_) => None,
        }
    }

    fn begin_payload(
        &mut self,
        id: WorkerId,
        key: u64,
        bytes: u64,
        piece: &[u8],
        name: &str,
        spec: TaskSpec,
    ) -> Response {
        let size = usize::try_from(bytes).ok().filter(|&size| size > piece.len());
        // Nobody waits for room here: what takes it may be the arguments of the very task that asks.
        let Some(range) = size.and_then(|size| self.arena.take(size).ok()) else {
            let why = format!("no memory for a payload of {bytes} bytes now: pass less from task to task");
            return Response::Refused { broken: false, why };
        };
        range.write(0, piece);
        let child = Child::Coming { range, filled: piece.len(), name: name.into(), spec };
        self.note_child(id, key, child);
        Response::Continue
    }

    fn more_payload(&mut self, id: WorkerId, key: u64, piece: &[u8]) -> Response {
        let Some(nest) = self.nest(id) else { return Response::Unknown };
        let Some(Child::Coming { range, mut filled, name, spec }) = nest.tasks.remove(&key) else {
            return Response::Unknown;
        };
        if piece.is_empty() || piece.len() > range.len() - filled {
            return Response::Unknown;
        }
        range.write(filled, piece);
        filled += piece.len();
        if filled == range.len() {
            return self.accept(id, key, Payload::Ours(Arc::new(range)), &name, spec);
        }
        nest.tasks.insert(key, Child::Coming { range, filled, name, spec });
        Response::Continue
    }

    fn accept(
        &mut self,
        id: WorkerId,
        key: u64,
        payload: Payload,
        name: &str,
        mut spec: TaskSpec,
    ) -> Response {
        let now = self.now();
        let work = Work { form: Form::Whole, code: None, payload, needs: Box::default() };
        let (name, function) = self.names.get(name, work.form);
        spec.function = function;
        let task = match self.scheduler.submit_nested(spec, now) {
            Ok(task) => task,
            Err(SubmitError::Broken) => {
                let why = self.broken.as_deref().unwrap_or("the pool is broken").to_owned();
                return Response::Refused { broken: true, why };
            }
            Err(SubmitError::ShutDown) => {
                let why = "cannot schedule new futures after shutdown: the pool is cancelling its tasks";
                return Response::Refused { broken: false, why: why.to_owned() };
            }
        };
        let slot = Slot::new(task, false, false);
        self.enter(work, name, None, &slot, spec, now);
        self.nested.submitters.insert(task, id);
        self.attention.fetch_add(1, Ordering::SeqCst); // nobody in this process may be in `result()`
        self.note_child(id, key, Child::Accepted(slot));
        self.run_actions(now);
        Response::Accepted(task.0)
    }

    /// How did it end? If nobody has begun it, the worker may have it.
    fn look_after(&mut self, id: WorkerId, key: u64, claim: bool) -> Response {
        let Some(slot) = self.slot_of(id, key) else { return Response::Unknown };
        if let Some(done) = slot.with_outcome(|outcome| outcome.map(done)) {
            return done;
        }
        let task = slot.id();
        let Some(run) = claim.then(|| self.withdraw(task)).flatten() else {
            return Response::Pending(self.scheduler.is_running(task) == Some(true));
        };
        self.forget_submitter(task);
        let now = self.now();
        if let Some(entry) = self.entries.get_mut(task) {
            entry.dispatched = Some((now, id));
        }
        self.nested.given += 1;
        self.note_child(id, key, Child::Given(run));
        Response::Yours
    }

    /// Take a task out of the pool that no worker has begun: as the next attempt, or the one that a worker was sent.
    fn withdraw(&mut self, task: TaskId) -> Option<Assignment> {
        let now = self.now();
        let attempt = Attempt(self.scheduler.attempts(task)? + 1);
        match self.scheduler.withdraw(task, now) {
            Cancel::Cancelled => Some(Assignment { task, attempt }),
            Cancel::TooLate => None,
            Cancel::Sent(worker, run) => {
                let back = self.seat(worker).is_some_and(|seat| seat.retract(run));
                if back {
                    self.scheduler.withdraw_taken_back(worker, run, now);
                }
                back.then_some(run)
            }
        }
    }

    fn ran(&mut self, id: WorkerId, key: u64, error: Option<&[u8]>) {
        let Some(nest) = self.nest(id) else { return };
        let Some(Child::Given(Assignment { task, .. })) = nest.tasks.remove(&key) else { return };
        self.nested.given -= 1;
        self.nested.answered += 1;
        self.raised += u64::from(error.is_some());
        let now = self.now();
        // The value stays where it is wanted.
        let outcome = error
            .map_or(Outcome::Value(Payload::copied(&[])), |error| Outcome::Error(Payload::copied(error)));
        self.resolve(task, outcome, now);
    }

    /// A task has ended: tell the worker whose task has submitted it.
    pub(super) fn tell_submitter(&mut self, task: TaskId) {
        if self.nested.submitters.is_empty() {
            return; // the usual case
        }
        if let Some(id) = self.forget_submitter(task)
            && let Some(link) = self.seat(id).and_then(|seat| seat.link.as_ref())
        {
            link.tell_nested();
        }
    }

    fn forget_submitter(&mut self, task: TaskId) -> Option<WorkerId> {
        let submitter = self.nested.submitters.remove(&task);
        if submitter.is_some() {
            self.attention.fetch_sub(1, Ordering::SeqCst);
        }
        submitter
    }

    /// It was given to a worker that has not run it to its end.
    fn lose(&mut self, id: WorkerId, run: Assignment) {
        self.nested.given -= 1;
        self.nested.lost += 1;
        let now = self.now();
        let tries = Tries { made: run.attempt.0, allowed: run.attempt.0 };
        self.fail(run.task, FailReason::Crashed { worker: id, tries, killed: None }, now);
    }

    /// The worker is dead. What it has said of tasks before that counts; who only asks gets no answer any more.
    pub(super) fn hear_last_of_nest(&mut self, id: WorkerId) {
        let mut buffer = std::mem::take(&mut self.nested.buffer);
        for _ in 0..MAX_LAST_REQUESTS {
            let read = self.nest(id).and_then(|nest| nest.asked.as_ref()?.receive(&mut buffer).ok());
            match read.filter(|&read| read > 0).map(|read| Request::decode(&buffer[..read])) {
                Some(Some(request @ (Request::Ran(..) | Request::Drop(_)))) => drop(self.serve(id, request)),
                Some(Some(_)) => {}
                Some(None) | None => break,
            }
        }
        self.nested.buffer = buffer;
    }

    /// The worker is dead. Nobody can ask any more for what its tasks have submitted: what was not begun is cancelled, what
    /// others run comes to its end unseen. What it ran itself has died with it.
    pub(super) fn bury_nest(&mut self, id: WorkerId, nest: Nest) {
        let mut tasks: Vec<_> = nest.tasks.into_values().collect();
        tasks.sort_unstable_by_key(|child| match child {
            Child::Coming { .. } => TaskId(0),
            Child::Accepted(slot) => slot.id(),
            Child::Given(run) => run.task,
        });
        for child in tasks {
            match child {
                Child::Coming { .. } => {}
                Child::Accepted(slot) if slot.is_resolved() => {}
                Child::Accepted(slot) => {
                    self.forget_submitter(slot.id());
                    self.cancel(slot.id());
                }
                Child::Given(run) => self.lose(id, run),
            }
        }
        let now = self.now();
        self.run_actions(now);
    }
}
