//! A picture of the pool, for people and dashboards.

use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::seat::SEATS_PER_SLOT;
use crate::scheduler::types::WorkerPhase;
use crate::supervisor::usage;

/// What one worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStateName {
    /// Its process is not ready yet.
    Starting,
    /// Ready, nothing to do.
    Idle,
    /// Runs a task.
    Busy,
    /// Told to stop, or killed and not gone yet.
    Draining,
    /// Its process died, and the next one waits before it starts.
    Restarting,
}

/// The task on a worker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CurrentTask {
    /// Its number.
    pub id: u64,
    /// Its name: its function's, or the submitter's own.
    pub name: String,
    /// The submitter's words for it.
    pub tags: Vec<String>,
    /// Which attempt this is: going back to the queue unbegun costs none.
    pub attempt: u32,
}

/// One worker.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerStatus {
    /// Its place in the pool, from 0.
    pub worker: u32,
    /// `None` between two processes.
    pub pid: Option<i32>,
    /// What it does.
    pub state: WorkerStateName,
    /// What it runs.
    pub task: Option<CurrentTask>,
    /// Tasks that came with an answer in this place.
    pub tasks_done: u64,
    /// Processes of this place before this one.
    pub restarts: u32,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Processor time of this process.
    pub cpu_seconds: f64,
}

/// Since the pool began.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct TotalsStatus {
    /// Tasks accepted.
    pub submitted: u64,
    /// Tasks that returned.
    pub succeeded: u64,
    /// Tasks that raised, crashed, timed out or were cut off.
    pub failed: u64,
    /// Tasks cancelled before they ran.
    pub cancelled: u64,
    /// Attempts granted again, after a worker's death or an exception.
    pub retried: u64,
    /// Workers that died without having been asked to.
    pub worker_deaths: u64,
}

/// The whole pool.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PoolStatus {
    /// One entry per place that has not been given up.
    pub workers: Vec<WorkerStatus>,
    /// Tasks that wait.
    pub queued: usize,
    /// Tasks on workers.
    pub running: usize,
    /// Totals.
    pub totals: TotalsStatus,
    /// Whether `submit` is answered with anything but an error.
    pub accepting: bool,
    /// Why the pool is broken, if it is.
    pub broken: Option<String>,
}

impl Shared {
    /// The picture. Reads `/proc` after the lock is released.
    pub fn status(&self) -> PoolStatus {
        let mut status = self.snapshot();
        for worker in &mut status.workers {
            if let Some(usage) = worker.pid.and_then(usage) {
                worker.memory_bytes = usage.memory_bytes;
                worker.cpu_seconds = usage.cpu.as_secs_f64();
            }
        }
        status
    }

    fn snapshot(&self) -> PoolStatus {
        let core = self.core.lock();
        let mut workers = Vec::with_capacity(core.seats.len() / SEATS_PER_SLOT);
        for (id, phase, tasks_done) in core.scheduler.workers() {
            let (state, job) = match phase {
                WorkerPhase::Starting => (WorkerStateName::Starting, None),
                WorkerPhase::Idle => (WorkerStateName::Idle, None),
                WorkerPhase::Busy(job) => (WorkerStateName::Busy, Some(job)),
                WorkerPhase::Draining => (WorkerStateName::Draining, None),
                WorkerPhase::Restarting => (WorkerStateName::Restarting, None),
                WorkerPhase::Gone => continue,
            };
            let task = job.map(|job| {
                let (name, tags) = core.task_title(job.task).unwrap_or_else(|| ("".into(), Vec::new()));
                CurrentTask {
                    id: job.task.0,
                    name: name.to_string(),
                    tags,
                    attempt: core.scheduler.tries(job.task).map_or(1, |tries| tries.made),
                }
            });
            workers.push(WorkerStatus {
                worker: id.slot,
                pid: core.seats[core.place(id)].process.as_ref().map(crate::supervisor::Process::pid),
                state,
                task,
                tasks_done,
                restarts: id.incarnation.saturating_sub(1),
                memory_bytes: 0,
                cpu_seconds: 0.0,
            });
        }
        let totals = core.scheduler.totals();
        PoolStatus {
            workers,
            queued: core.scheduler.queued(),
            running: core.scheduler.running() + core.nested.given,
            totals: TotalsStatus {
                submitted: core.scheduler.submitted(),
                succeeded: totals.completed + core.nested.answered - core.raised,
                failed: totals.failed + core.nested.lost + core.raised,
                cancelled: totals.cancelled,
                retried: totals.retried,
                worker_deaths: totals.worker_deaths,
            },
            // A pool whose driver has died is finished, whatever its scheduler thinks.
            accepting: core.scheduler.is_accepting() && !core.finished,
            broken: core.broken.as_deref().map(str::to_owned),
        }
    }
}
