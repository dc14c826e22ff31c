//! What a search did, in figures. A storm that killed nobody proves nothing, so the test asks for each of them
//! to be above zero.

use std::fmt;

use super::event::{Answer, Event};
use super::oracle::Corners;
use super::world::Death;
use crate::scheduler::types::{Action, Cancel, Completion, FailReason, KillReason, Shutdown};

macro_rules! tally {
    ($($field:ident: $label:literal,)*) => {
        #[derive(Clone, Debug, Default)]
        pub(super) struct Tally {
            $(pub(super) $field: u64,)*
        }

        impl Tally {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($label, self.$field)),*].into_iter()
            }
        }
    };
}

tally! {
    schedules: "schedules",
    steps: "steps",
    events: "events fed",
    submits: "submitted",
    refused: "refused by a closed pool",
    dispatches: "dispatches",
    begun: "begun",
    values: "values told of",
    released: "tasks that waited for values, and went",
    cancelled_waiting: "tasks that waited for values, and were cancelled",
    unmet: "failed for want of a value",
    retried: "retried",
    completed: "completed",
    raised: "raised, and tried again",
    sentenced: "to be stopped where they run",
    sentenced_in_vain: "... and had ended",
    stopped: "stopped where they ran",
    stopped_with_more: "... with something waiting behind",
    spared: "to be stopped, and answered first",
    standbys: "started ahead of a deadline",
    standbys_refused: "... or not, there being enough",
    standbys_unused: "... and sent away unused",
    standbys_frozen: "... and frozen",
    standbys_released: "... and given up with their place",
    standbys_unfit: "... and their initializer failed",
    took_over: "... and took over",
    took_over_early: "... before it was ready",
    kill_cancelled: "kills: cancelled",
    cancelled: "cancelled",
    cancel_too_late: "cancelled too late",
    cancel_sent: "cancelled when sent",
    cancelled_prefetched: "cancelled where they waited at a worker",
    withdrawn: "given to whoever waited for them",
    withdrawn_sent: "... and had been sent to a worker",
    nested_draining: "submitted by tasks while the pool drained",
    prefetched: "dispatches ahead of time",
    packed: "... while another worker was idle",
    retractions: "retractions",
    taken_back: "retractions that took something back",
    refused_in_part: "retractions refused in part",
    stuck: "retractions from a worker that did not get on",
    shared: "tasks taken back and sent to an idle worker",
    timeouts_with_more: "time-outs with something waiting behind",
    timeouts_spared: "... and the worker had gone on",
    over_memory_with_more: "too much memory, with something waiting behind",
    over_memory_in_vain: "... and what had taken it had ended",
    died_prefetched: "deaths with prefetched tasks",
    crashed: "failed as crashed",
    timed_out: "failed as timed out",
    over_memory: "failed for their memory",
    cut_off: "failed by shutdown",
    dropped: "cancelled by shutdown",
    failed_broken: "failed by a broken pool",
    died_starting: "deaths before ready",
    died_idle: "deaths when idle",
    died_unsettled: "deaths when idle, not settled",
    died_unbegun: "deaths, dispatch not begun",
    died_running: "deaths at work",
    died_answering: "deaths, result in flight",
    died_sentenced: "deaths before the kill came",
    died_leaving: "deaths when told to stop",
    failed_transient: "starts that failed, may pass",
    failed_for_good: "starts that failed for good",
    rows_ended_by_work: "rows of early deaths ended by a task",
    rows_ended_by_age: "rows of early deaths ended by age",
    left: "left when told to stop",
    kill_timeout: "kills: time-out",
    kill_memory: "kills: memory",
    kill_frozen: "kills: frozen",
    kill_start: "kills: start limit",
    kill_shutdown: "kills: shutdown",
    kill_requested: "kills: requested",
    timeouts_returned: "time-outs before the task was begun",
    last_words: "results of killed workers that won",
    stale: "stale completions dropped",
    echoed_ready: "ready, said twice",
    echoed_completed: "completed, said twice",
    echoed_exit: "exit, said twice",
    late: "messages after the exit",
    frozen: "workers frozen",
    timeouts: "handle_timeout calls",
    pauses: "pauses forgiven",
    drain: "shutdowns: drain",
    cancel_pending: "shutdowns: cancel pending",
    at_once: "shutdowns: now",
    stricter: "shutdowns, a stricter second",
    broken: "broken pools",
    broken_transient: "broken pools, by what might have passed",
    long_rows_after_ready: "long rows forgiven: it had been ready",
    spared_by_the_doomed: "long rows forgiven: a killed one is up",
    finished: "pools finished",
    recycled: "workers that were dismissed",
    recycled_at_work: "... in the middle of a task",
    used_up: "workers that had had all their tasks",
    overlaps: "workers started while another one left",
    full_houses: "workers not started: too many leave",
    grown: "pools that grew",
    shrunk: "pools that shrank",
    restarted: "pools restarted",
    unfit: "initializers that failed",
    spared_for_starters: "tasks not cancelled: a worker starts for them",
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().try_for_each(|(label, count)| writeln!(f, "  {count:>10}  {label}"))
    }
}

impl Tally {
    pub(super) fn count_death(&mut self, death: Death) {
        *match death {
            Death::Starting => &mut self.died_starting,
            Death::Idle => &mut self.died_idle,
            Death::Unbegun => &mut self.died_unbegun,
            Death::Running => &mut self.died_running,
            Death::Answering => &mut self.died_answering,
            Death::Sentenced => &mut self.died_sentenced,
            Death::Leaving => &mut self.died_leaving,
        } += 1;
    }

    pub(super) fn count_failed_start(&mut self, transient: bool) {
        *if transient { &mut self.failed_transient } else { &mut self.failed_for_good } += 1;
    }

    pub(super) fn count_corners(&mut self, corners: &Corners) {
        self.died_unsettled += corners.died_unsettled;
        self.rows_ended_by_work += corners.rows_ended_by_work;
        self.rows_ended_by_age += corners.rows_ended_by_age;
        self.long_rows_after_ready += corners.long_rows_after_ready;
        self.spared_by_the_doomed += corners.spared_by_the_doomed;
        self.broken_transient += corners.broken_transient;
        self.timeouts_returned += corners.timeouts_returned;
        self.died_prefetched += corners.died_prefetched;
        self.prefetched += corners.prefetched;
        self.packed += corners.packed;
        self.taken_back += corners.taken_back;
        self.refused_in_part += corners.refused_in_part;
        self.timeouts_with_more += corners.timeouts_with_more;
        self.timeouts_spared += corners.timeouts_spared;
        self.over_memory_with_more += corners.over_memory_with_more;
        self.over_memory_in_vain += corners.over_memory_in_vain;
        self.cancelled_prefetched += corners.cancelled_prefetched;
        self.shared += corners.shared;
        self.stuck += corners.stuck;
        self.released += corners.released;
        self.cancelled_waiting += corners.cancelled_waiting;
        self.recycled += corners.recycled;
        self.recycled_at_work += corners.recycled_at_work;
        self.used_up += corners.used_up;
        self.overlaps += corners.overlaps;
        self.full_houses += corners.full_houses;
        self.grown += corners.grown;
        self.shrunk += corners.shrunk;
        self.restarted += corners.restarted;
        self.unfit += corners.unfit;
        self.spared_for_starters += corners.spared_for_starters;
        self.standbys += corners.standbys;
        self.standbys_refused += corners.standbys_refused;
        self.standbys_unused += corners.standbys_unused;
        self.standbys_frozen += corners.standbys_frozen;
        self.standbys_released += corners.standbys_released;
        self.standbys_unfit += corners.standbys_unfit;
        self.took_over += corners.took_over;
        self.took_over_early += corners.took_over_early;
        self.stopped += corners.stopped;
        self.stopped_with_more += corners.stopped_with_more;
        self.spared += corners.spared;
    }

    pub(super) fn count_answer(&mut self, answer: Answer) {
        *match answer {
            Answer::Nothing | Answer::Restarted(_) => return,
            Answer::Submitted(Ok(_)) => &mut self.submits,
            Answer::Submitted(Err(_)) => &mut self.refused,
            Answer::Sentenced(true) => &mut self.sentenced,
            Answer::Sentenced(false) => &mut self.sentenced_in_vain,
            Answer::Completion(Completion::Again) => &mut self.raised,
            Answer::Cancel(Cancel::Cancelled) => &mut self.cancelled,
            Answer::Cancel(Cancel::Sent(..)) => &mut self.cancel_sent,
            Answer::Cancel(Cancel::TooLate) => &mut self.cancel_too_late,
            Answer::Completion(Completion::Final) => &mut self.completed,
            Answer::Completion(Completion::Stale) => &mut self.stale,
        } += 1;
    }

    pub(super) fn count_action(&mut self, action: Action) {
        *match action {
            Action::Spawn(_) | Action::Stop(_) => return,
            Action::Dispatch(..) => &mut self.dispatches,
            Action::Retract(..) => &mut self.retractions,
            Action::Kill(_, KillReason::Timeout) => &mut self.kill_timeout,
            Action::Kill(_, KillReason::Memory) => &mut self.kill_memory,
            Action::Kill(_, KillReason::Cancelled) => &mut self.kill_cancelled,
            Action::Kill(_, KillReason::Frozen) => &mut self.kill_frozen,
            Action::Kill(_, KillReason::StartTimeout) => &mut self.kill_start,
            Action::Kill(_, KillReason::Shutdown) => &mut self.kill_shutdown,
            Action::Kill(_, KillReason::Requested) => &mut self.kill_requested,
            Action::Fail(_, FailReason::Crashed { .. }) => &mut self.crashed,
            Action::Fail(_, FailReason::TimedOut { .. }) => &mut self.timed_out,
            Action::Fail(_, FailReason::OverMemory { .. }) => &mut self.over_memory,
            Action::Fail(_, FailReason::DependencyFailed(_)) => &mut self.unmet,
            Action::Fail(_, FailReason::Cancelled) => &mut self.dropped,
            Action::Fail(_, FailReason::PoolBroken) => &mut self.failed_broken,
            Action::Fail(_, FailReason::PoolShutdown) => &mut self.cut_off,
            Action::Broken => &mut self.broken,
            Action::Finished => &mut self.finished,
        } += 1;
    }

    pub(super) fn count_echo(&mut self, message: Event) {
        *match message {
            Event::Ready(_) => &mut self.echoed_ready,
            Event::Completed(..) | Event::Raised(..) => &mut self.echoed_completed,
            Event::Exit(..) | Event::SpawnFailed(..) => &mut self.echoed_exit,
            Event::Submit(..)
            | Event::SubmitNested(_)
            | Event::Withdraw(_)
            | Event::WithdrawnTakenBack(..)
            | Event::Value(_)
            | Event::NoValue(_)
            | Event::Cancel(_)
            | Event::Restart(_)
            | Event::Recycle(_)
            | Event::RestartAll
            | Event::Resize(_)
            | Event::Unfit(_)
            | Event::Shutdown(_)
            | Event::Beat(..)
            | Event::OverMemory(..)
            | Event::Retracted(..)
            | Event::TakenBack(..)
            | Event::KillTask(..)
            | Event::Pause(_)
            | Event::Timeout => return,
        } += 1;
    }

    pub(super) fn count_shutdown(&mut self, mode: Shutdown) {
        *match mode {
            Shutdown::Drain => &mut self.drain,
            Shutdown::CancelPending => &mut self.cancel_pending,
            Shutdown::Now => &mut self.at_once,
        } += 1;
    }
}
