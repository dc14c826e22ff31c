//! Deliberate bugs, for the simulation to find: a check that has never caught anything is not known to work.
//! Outside the crate's own tests none of them can be switched on.

use super::Scheduler;
use super::types::{Assignment, WorkerId};

/// One line of the scheduler left out or put wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A completion is believed whatever attempt it names.
    DropsTheFence,
    /// A worker becomes ready and gets nothing to do.
    ForgetsToDispatch,
    /// The time-out of a finished attempt stays armed, and hits whatever the worker runs next.
    ForgetsToClearTheDeadline,
    /// A death is charged to a task that the worker had not begun.
    ChargesWhatNeverBegan,
    /// Retries are not used up.
    RetriesForEver,
    /// A worker that left is waited for.
    ForgetsToRetire,
    /// A cancelled task's retry is not called off.
    ForgetsToClearTheRetry,
    /// What a killed worker had finished before it died is thrown away.
    IgnoresDrainedResults,
    /// A completed task does not end the row of early deaths.
    KeepsTheRow,
    /// What waited at a worker that died is forgotten.
    ForgetsWhatWaited,
    /// A worker is killed for a time-out with tasks that wait behind the one that is meant.
    KillsWithoutTakingBack,
    /// What was sent ahead goes before what is more urgent.
    PrefetchOvertakes,
    /// A task that needs several values goes as soon as one of them is there.
    StartsWithoutAllValues,
    /// Whoever needs the value of a task that failed waits on.
    ForgetsTheDependants,
    /// A worker that is to leave keeps what waits behind what it is at.
    DismissesWithoutTakingBack,
    /// The next worker is started while the one that leaves is still at work.
    RefillsTooEarly,
    /// A task that was given to whoever waits for it is run by a worker as well.
    RunsWhatWasGivenAway,
    /// A worker is killed for a task to be stopped that it may not have come to, or has left behind.
    KillsWhoeverIsInFront,
    /// A place is vacant, and its standby is left standing.
    ForgetsTheStandby,
    /// A worker is killed for the memory of something that it has answered.
    BlamesWhoeverIsInFront,
}

impl Scheduler {
    /// The dispatch that a message speaks of; with the bug planted, whatever the worker is at.
    pub(super) fn fenced(&mut self, id: WorkerId, done: Assignment) -> Assignment {
        let deaf = self.has(Bug::DropsTheFence);
        self.workers.current(id).filter(|_| deaf).and_then(|worker| worker.front()).unwrap_or(done)
    }

    #[cfg(test)]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "same shape as in tests")]
    pub(super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}

#[cfg(test)]
impl Bug {
    pub(crate) const ALL: [Self; 20] = [
        Self::DropsTheFence,
        Self::ForgetsToDispatch,
        Self::ForgetsToClearTheDeadline,
        Self::ChargesWhatNeverBegan,
        Self::RetriesForEver,
        Self::ForgetsToRetire,
        Self::ForgetsToClearTheRetry,
        Self::IgnoresDrainedResults,
        Self::KeepsTheRow,
        Self::ForgetsWhatWaited,
        Self::KillsWithoutTakingBack,
        Self::PrefetchOvertakes,
        Self::StartsWithoutAllValues,
        Self::ForgetsTheDependants,
        Self::DismissesWithoutTakingBack,
        Self::RefillsTooEarly,
        Self::RunsWhatWasGivenAway,
        Self::KillsWhoeverIsInFront,
        Self::ForgetsTheStandby,
        Self::BlamesWhoeverIsInFront,
    ];
}
