//! What the application, the clock and the network come up with.

use std::time::Duration;

use super::event::{Answer, Event, Needs};
use super::schedule::Schedule;
use super::weather::{Whim, any_spec};
use crate::scheduler::types::{Assignment, Cancel, Completion, Shutdown, TaskId, WorkerId};

/// Tasks in a burst: so many that four workers with a few each are not all.
const BURST: u64 = 24;

impl Schedule<'_> {
    pub(super) fn indulge(&mut self, whim: Whim) {
        match whim {
            Whim::Submit => {
                let spec = any_spec(&mut self.dice);
                if self.dice.one_in(4) {
                    self.feed(Event::SubmitNested(spec));
                } else {
                    let needs = self.any_needs();
                    self.feed(Event::Submit(spec, needs));
                }
            }
            Whim::Burst => self.burst(),
            Whim::Cancel if self.dice.one_in(3) => self.withdraw(),
            Whim::Cancel => self.cancel(),
            Whim::Stop => self.stop(),
            Whim::Swell => self.swell(),
            Whim::Restart => {
                let worker = self.any_worker();
                self.feed(Event::Restart(worker));
            }
            Whim::Turnover => self.turn_over(),
            Whim::Shutdown => self.shut_down(),
            Whim::Echo => self.echo(),
            Whim::Late => self.deliver_late(),
            Whim::Beats => self.read_beats(),
            Whim::Wait => {
                let time = self.dice.up_to(Duration::from_millis(300));
                self.wait(time);
            }
            Whim::Sleep => {
                self.read_beats();
                let time = self.dice.up_to(Duration::from_secs(90));
                self.wait(time);
                self.read_beats();
            }
            Whim::Pause => self.pause(),
            Whim::Timeout => self.time_out(),
        }
    }

    /// Workers go and others come, and nobody has died.
    fn turn_over(&mut self) {
        let what = match self.dice.below(6) {
            0 => Event::RestartAll,
            1 | 2 => Event::Resize(1 + self.dice.below(5) as u32),
            _ => Event::Recycle(self.any_worker()),
        };
        self.feed(what);
    }

    /// Many at once: more than the workers can begin.
    fn burst(&mut self) {
        let mut spec = any_spec(&mut self.dice);
        if !self.dice.one_in(4) {
            spec.timeout = None;
            spec.max_memory = None;
        }
        for _ in 0..2 + self.dice.below(BURST) {
            let needs = if self.dice.one_in(4) { self.any_needs() } else { Needs::default() };
            self.feed(Event::Submit(spec, needs));
            if self.dice.one_in(16) {
                spec.priority = any_spec(&mut self.dice).priority;
            }
        }
    }

    /// The driver answers at once whether a worker has begun it. It cannot take back what it has not yet sent.
    fn cancel(&mut self) {
        let task = self.any_task();
        let Answer::Cancel(Cancel::Sent(worker, run)) = self.feed(Event::Cancel(task)) else { return };
        if self.world.take_back(worker, run) {
            self.feed(Event::TakenBack(worker, run));
        } else if self.dice.one_in(2) {
            self.feed(Event::KillTask(worker, run));
        }
    }

    /// What a process runs is to be stopped; or something that it has said to have ended.
    fn stop(&mut self) {
        let targets = self.runs();
        if !targets.is_empty() {
            let (worker, run) = self.dice.pick(&targets);
            self.feed(Event::KillTask(worker, run));
        }
    }

    /// Nobody looks at what has no limit.
    fn swell(&mut self) {
        let mut targets = self.runs();
        targets.retain(|(_, run)| self.oracle.spec(run.task).max_memory.is_some());
        if !targets.is_empty() {
            let (worker, run) = self.dice.pick(&targets);
            self.feed(Event::OverMemory(worker, run));
        }
    }

    /// What processes run, and something that one has said to have ended.
    fn runs(&self) -> Vec<(WorkerId, Assignment)> {
        let at_work =
            self.world.processes.iter().filter_map(|process| Some((process.id, process.running()?)));
        let ended = self.said.iter().filter_map(|message| match *message {
            Event::Completed(id, run, _) | Event::Raised(id, run, _) => Some((id, run)),
            _ => None,
        });
        at_work.chain(ended.take(1)).collect()
    }

    /// As a cancellation, but the task is run by whoever waits for it.
    fn withdraw(&mut self) {
        let task = self.any_task();
        match self.feed(Event::Withdraw(task)) {
            Answer::Cancel(Cancel::Cancelled) => self.tally.withdrawn += 1,
            Answer::Cancel(Cancel::Sent(worker, run)) if self.world.take_back(worker, run) => {
                self.tally.withdrawn_sent += 1;
                self.feed(Event::WithdrawnTakenBack(worker, run));
            }
            _ => {}
        }
    }

    /// Time passes, and the driver wakes up whenever it asked to. What it starts then, it starts.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.scheduler.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.time_out();
            self.carry_out();
            self.miscarry_all();
        }
        self.now = end;
    }

    /// Nobody ran for a while. The driver sees it from its own clock, and says so first.
    fn pause(&mut self) {
        let limit = self.dice.pick(&[1, 30, 1000]);
        let gap = self.dice.up_to(Duration::from_secs(limit));
        self.now += gap;
        self.tally.pauses += 1;
        self.feed(Event::Pause(gap));
        self.time_out();
    }

    fn read_beats(&mut self) {
        for index in 0..self.world.processes.len() {
            let beat = self.world.processes[index].beat(self.now);
            self.feed(beat);
        }
    }

    pub(super) fn deliver_late(&mut self) {
        if self.world.late.is_empty() {
            return;
        }
        let message = self.world.late.swap_remove(self.dice.index(self.world.late.len()));
        self.tally.late += 1;
        self.say_in_vain(message);
    }

    /// Messages that come twice or too late must change nothing at all.
    fn say_in_vain(&mut self, message: Event) {
        let pending = self.pending.len();
        let answer = self.feed(message);
        let counts = matches!(answer, Answer::Completion(Completion::Final | Completion::Again));
        assert!(!counts, "{message:?} counts, and may not");
        assert_eq!(self.pending.len(), pending, "{message:?} is acted on, and may not");
    }

    fn echo(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let mut message = self.said[self.dice.index(self.said.len())];
        self.tally.count_echo(message);
        if let Event::Completed(_, run, _) | Event::Raised(_, run, _) = &mut message
            && self.dice.one_in(4)
        {
            run.attempt.0 = run.attempt.0.wrapping_sub(1); // one that was given up, after all
        }
        self.say_in_vain(message);
    }

    /// Stop the pool, or stop it harder: a milder second call is made as well, and must change nothing.
    fn shut_down(&mut self) {
        let mode = self.dice.pick(&[Shutdown::Drain, Shutdown::CancelPending, Shutdown::Now]);
        let rank = |mode| match mode {
            Shutdown::Drain => 0,
            Shutdown::CancelPending => 1,
            Shutdown::Now => 2,
        };
        match self.shut_down {
            Some(last) => self.tally.stricter += u64::from(rank(mode) > rank(last)),
            None => self.tally.count_shutdown(mode),
        }
        if self.shut_down.is_none_or(|last| rank(last) < rank(mode)) {
            self.shut_down = Some(mode);
        }
        self.feed(Event::Shutdown(mode));
    }

    /// Any worker that there is, was, or never was.
    fn any_worker(&mut self) -> WorkerId {
        let slot = self.dice.below(5) as u32;
        let living = self.world.processes.iter().find(|process| process.id.slot == slot);
        match living {
            Some(process) if !self.dice.one_in(8) => process.id,
            Some(_) | None => WorkerId { slot, incarnation: self.dice.below(3) as u32 },
        }
    }

    /// Any task that there is, was, or never was; one that waits more often than not.
    fn any_task(&mut self) -> TaskId {
        let next: Vec<_> = self.scheduler.next_in_queue(BURST as usize).collect();
        if next.is_empty() || self.dice.one_in(3) {
            return TaskId(self.dice.below(self.scheduler.submitted() + 2));
        }
        self.dice.pick(&next)
    }
}
