//! Tasks that need the values of others. As the driver does, the schedule tells of each value, or that there will be none,
//! after it has dealt with the task's end: so the scheduler must bear that others happen in between.

use std::collections::VecDeque;

use super::event::{Answer, Event, Needs};
use super::schedule::Schedule;
use crate::scheduler::types::{Cancel, Completion, TaskId};

/// Tasks that somebody may need, and what is to be told of them.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Nothing has been told of their values.
    open: Vec<TaskId>,
    /// Ended: whether there is a value.
    due: VecDeque<(TaskId, bool)>,
}

impl Values {
    /// This task has ended.
    pub(super) fn ended(&mut self, id: TaskId, with_value: bool) {
        self.due.push_back((id, with_value));
    }
}

impl Schedule<'_> {
    /// An event was answered: which tasks are new, and which have ended by it?
    pub(super) fn follow(&mut self, event: Event, answer: Answer) {
        match (event, answer) {
            (event, Answer::Submitted(Ok(id))) => {
                let nested = matches!(event, Event::SubmitNested(_));
                self.tally.nested_draining += u64::from(nested && self.shut_down.is_some());
                self.values.open.push(id);
            }
            (Event::Completed(_, run, _), Answer::Completion(Completion::Final)) => {
                let raised = self.dice.one_in(5);
                self.values.ended(run.task, !raised);
            }
            (Event::Raised(_, run, _), Answer::Completion(Completion::Final)) => {
                self.values.ended(run.task, false);
            }
            (Event::Cancel(id) | Event::Withdraw(id), Answer::Cancel(Cancel::Cancelled)) => {
                self.values.ended(id, false);
            }
            (Event::TakenBack(_, run) | Event::WithdrawnTakenBack(_, run), _)
                if self.scheduler.is_running(run.task).is_none() =>
            {
                self.values.ended(run.task, false);
            }
            _ => {}
        }
    }

    /// Tell of one value. `false`: there is none to tell of.
    pub(super) fn tell_of_a_value(&mut self) -> bool {
        let Some((id, with_value)) = self.values.due.pop_front() else { return false };
        self.values.open.retain(|&open| open != id);
        self.tally.values += 1;
        self.feed(if with_value { Event::Value(id) } else { Event::NoValue(id) });
        true
    }

    /// What a new task needs: mostly nothing, else some of which nothing was told yet.
    pub(super) fn any_needs(&mut self) -> Needs {
        let mut needs = Needs::default();
        if self.dice.one_in(2) || self.values.open.is_empty() {
            return needs;
        }
        for need in &mut needs.0 {
            if !self.dice.one_in(3) {
                *need = Some(self.values.open[self.dice.index(self.values.open.len())]);
            }
        }
        needs
    }
}
