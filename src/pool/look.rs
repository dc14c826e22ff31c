//! Looking at a pool from outside: ids as text, lists of tasks, finished results after a cursor.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, OnFinish};
use super::history::Past;
use super::results::Page;
use super::slot::Slot;
use super::work::tags_of;
use super::{PoolError, Shared};
use crate::scheduler::types::{TaskId, Time, WorkerPhase};

/// A task that has not ended.
#[derive(Clone, Debug)]
pub struct Present {
    /// The task.
    pub task: TaskId,
    /// Its function's name.
    pub name: Arc<str>,
    /// The submitter's words for it.
    pub tags: Option<Arc<Vec<String>>>,
    /// A worker has it.
    pub running: bool,
    /// From submission to the last dispatch, or to now.
    pub waited: Duration,
    /// Since the last dispatch; zero where it waits.
    pub ran: Duration,
    /// The worker that has it.
    pub pid: Option<i32>,
}

/// Tasks of the queue that are looked at for those that a list is asked for: some hundred microseconds under the lock.
const SEARCHED: usize = 10_000;

/// Which tasks a list is to have: all, where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Called just so.
    pub name: Option<String>,
    /// One of their tags.
    pub tag: Option<String>,
}

impl Filter {
    pub(super) fn admits(&self, name: &str, tags: Option<&Arc<Vec<String>>>) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
            && self.tag.as_ref().is_none_or(|wanted| tags.is_some_and(|tags| tags.contains(wanted)))
    }
}

/// A cursor of another pool, mostly that of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignCursor;

impl Shared {
    /// See [`super::Ident::id_text`].
    pub fn id_text(&self, task: TaskId) -> String {
        self.ident.id_text(task)
    }

    /// The task that such a text names, if it is one of this pool's.
    pub fn parse_id(&self, text: &str) -> Option<TaskId> {
        let number = text.strip_prefix(&*self.ident.prefix)?.strip_prefix('-')?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if plain { number.parse().ok().map(TaskId) } else { None }
    }

    /// Call this whenever a task has ended, for as long as it returns `true`; it must be short, and must not call the
    /// pool.
    pub fn on_finish(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.core.lock().on_finish.push(OnFinish(call));
        self.attend();
    }

    /// Call them now, and so forget those that want no more calls.
    pub fn sweep_on_finish(&self) -> usize {
        let mut core = self.core.lock();
        core.call_hooks();
        core.on_finish.len()
    }

    /// The bytes of a result that was too large to be kept, and the limit; `None`: that is not why it is gone.
    pub fn oversized(&self, task: TaskId) -> Option<(usize, usize)> {
        self.core.lock().results.oversized(task)
    }

    /// Whether a task's result is its future's alone: it is not kept, and nothing has ever been dropped.
    pub fn is_private(&self, task: TaskId) -> bool {
        let core = self.core.lock();
        core.entries.contains(task) || core.results.is_complete()
    }

    /// A place in the order of completion, as text: like a task's id, it names the pool that it belongs to.
    pub fn cursor_text(&self, number: u64) -> String {
        format!("{}.{number}", self.ident.prefix)
    }

    /// The place that such a text names; `Err`: another pool's.
    pub fn parse_cursor(&self, text: &str) -> Option<Result<u64, ForeignCursor>> {
        let (prefix, number) = text.split_once('.')?;
        let plain =
            !prefix.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { number.parse().ok()? } else { return None };
        Some(if prefix == &*self.ident.prefix && number <= self.finished_count() {
            Ok(number)
        } else {
            Err(ForeignCursor)
        })
    }

    /// Names this pool among all others, of this process and earlier ones.
    pub fn run(&self) -> &str {
        &self.ident.prefix
    }

    /// How many retained tasks have finished.
    pub fn finished_count(&self) -> u64 {
        self.core.lock().results.count()
    }

    /// Retained tasks that finished after the one with this number.
    pub fn finished_after(&self, cursor: u64, limit: usize) -> Result<Page, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        let now = core.now();
        core.results.evict(now);
        Ok(core.results.after(cursor, limit))
    }

    /// The last tasks that ended after a cursor (see [`Past::number`]), newest first.
    pub fn past(&self, after: u64, limit: usize, filter: &Filter) -> Vec<Past> {
        self.core.lock().history.latest(after, limit, filter)
    }

    /// A task that ended, among the last thousand.
    pub fn find_past(&self, task: TaskId) -> Option<Past> {
        self.core.lock().history.find(task)
    }

    /// Tasks that have not ended: those on workers, then the next in the queue.
    pub fn present(&self, limit: usize, filter: &Filter) -> Vec<Present> {
        let core = self.core.lock();
        let on_workers = core.scheduler.workers().filter_map(|(_, phase, _)| match phase {
            WorkerPhase::Busy(job) => Some(job.task),
            WorkerPhase::Starting
            | WorkerPhase::Idle
            | WorkerPhase::Draining
            | WorkerPhase::Restarting
            | WorkerPhase::Gone => None,
        });
        on_workers
            .chain(core.scheduler.next_in_queue(SEARCHED))
            .filter(|&task| {
                core.entries.get(task).is_some_and(|entry| filter.admits(&entry.name, entry.tags.as_ref()))
            })
            .take(limit)
            .filter_map(|task| core.present(task))
            .collect()
    }

    /// A task that has not ended.
    pub fn find_present(&self, task: TaskId) -> Option<Present> {
        self.core.lock().present(task)
    }

    /// The slot of a task that has not ended, whoever's it is.
    pub fn find_slot(&self, task: TaskId) -> Option<Arc<Slot>> {
        self.core.lock().entries.get(task).map(|entry| Arc::clone(&entry.slot))
    }

    /// Whether the pool has ever given out this id.
    pub fn was_submitted(&self, task: TaskId) -> bool {
        (1..=self.core.lock().scheduler.submitted()).contains(&task.0)
    }

    /// How long ago that was.
    pub fn age(&self, at: Time) -> Duration {
        self.core.lock().now().saturating_sub(at)
    }

    /// Kill the worker with this process id and start another in its place; `false`: there is none.
    pub fn restart_worker(&self, pid: i32) -> Result<bool, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        let seat =
            core.seats.iter().find(|seat| seat.process.as_ref().is_some_and(|process| process.pid() == pid));
        let Some(id) = seat.map(|seat| seat.id) else { return Ok(false) };
        let now = core.now();
        // One that is on its way out already is replaced as well: whoever has just read its pid is told so.
        core.scheduler.restart_worker(id, now);
        core.run_actions(now);
        Ok(true)
    }
}

impl Core {
    /// A task that has not been resolved.
    pub(super) fn present(&self, task: TaskId) -> Option<Present> {
        let entry = self.entries.get(task)?;
        let now = self.now();
        let running = self.scheduler.is_running(task) == Some(true);
        let begun = entry.dispatched.filter(|_| running);
        Some(Present {
            task,
            name: Arc::clone(&entry.name),
            tags: entry.tags.clone(),
            running,
            waited: begun.map_or(now, |(at, _)| at).saturating_sub(entry.submitted),
            ran: begun.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at)),
            pid: begun.and_then(|(_, worker)| self.pid_of(worker)),
        })
    }

    /// The name and the tags of a task that has not been resolved.
    pub(super) fn task_title(&self, task: TaskId) -> Option<(Arc<str>, Vec<String>)> {
        self.entries.get(task).map(|entry| (Arc::clone(&entry.name), tags_of(entry.tags.as_ref())))
    }
}
