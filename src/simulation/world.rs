//! The fake world: worker processes as they really are, which is not what the scheduler has heard of them.
//!
//! Every message takes its time. A process can die at any point of its life; what it sent before is still in
//! its outbox then, and is delivered before its exit is reported, as the real driver does.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Event;
use crate::scheduler::types::{Action, Assignment, Time, WorkerId};

/// How often a healthy process counts its heartbeat up.
const BEAT: Duration = Duration::from_millis(100);

/// One thing that one process, or the system around it, can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// It turns out that the process cannot be started.
    Miscarry,
    /// Shake hands.
    Boot,
    /// Take the next dispatch from the inbox, and mark it as begun.
    Begin,
    /// Send the result.
    Finish,
    /// Raise something that is worth another try.
    Raise,
    /// Do as told and exit.
    Leave,
    /// Die for no reason of ours.
    Die,
    /// The kill that we ordered hits.
    Fall,
    /// The oldest message in the outbox arrives.
    Deliver,
    /// The exit is noticed, the outbox is drained.
    Reap,
    /// As `Reap`, but what the process sent arrives only after the exit, if at all.
    ReapDeaf,
    Freeze,
    Thaw,
}

impl Move {
    pub(super) const ALL: [Self; 13] = [
        Self::Miscarry,
        Self::Boot,
        Self::Begin,
        Self::Finish,
        Self::Raise,
        Self::Leave,
        Self::Die,
        Self::Fall,
        Self::Deliver,
        Self::Reap,
        Self::ReapDeaf,
        Self::Freeze,
        Self::Thaw,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run(Assignment),
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no process yet, and there will not be one.
    Stillborn {
        transient: bool,
    },
    Booting,
    Up,
    Dead,
}

/// What becomes of the start of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    Sound,
    /// It never shakes hands: for the start limit.
    Hangs,
    /// It says that it cannot be made ready, and goes.
    Unfit,
    /// It cannot be started.
    Fails {
        transient: bool,
    },
}

/// In which state of its life a process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Starting,
    Idle,
    Unbegun,
    Running,
    Answering,
    Sentenced,
    Leaving,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: WorkerId,
    stage: Stage,
    /// What becomes of its start.
    birth: Birth,
    inbox: VecDeque<Order>,
    outbox: VecDeque<Event>,
    running: Option<Assignment>,
    begun: Option<Assignment>,
    /// A kill of ours is on its way.
    sentenced: bool,
    frozen: bool,
    beats: u64,
    /// The next heartbeat comes no earlier. Thawed, a process counts up only after a while, and may well
    /// answer first.
    silent_until: Time,
}

impl Process {
    fn new(id: WorkerId, birth: Birth) -> Self {
        Self {
            id,
            stage: match birth {
                Birth::Sound | Birth::Hangs | Birth::Unfit => Stage::Booting,
                Birth::Fails { transient } => Stage::Stillborn { transient },
            },
            birth,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            running: None,
            begun: None,
            sentenced: false,
            frozen: false,
            beats: 0,
            silent_until: Time::ZERO,
        }
    }

    pub(super) fn can(&self, what: Move) -> bool {
        if let Stage::Stillborn { .. } = self.stage {
            return what == Move::Miscarry;
        }
        let awake = self.stage == Stage::Up && !self.frozen;
        let free = awake && self.running.is_none();
        match what {
            Move::Miscarry => false,
            Move::Boot => self.stage == Stage::Booting && !self.frozen && self.birth != Birth::Hangs,
            Move::Begin => free && matches!(self.inbox.front(), Some(Order::Run(_))),
            Move::Leave => free && self.inbox.front() == Some(&Order::Leave),
            Move::Finish | Move::Raise => awake && self.running.is_some(),
            Move::Die | Move::Freeze if self.frozen => what == Move::Die && self.stage != Stage::Dead,
            Move::Die | Move::Freeze => self.stage != Stage::Dead,
            Move::Fall => self.stage != Stage::Dead && self.sentenced,
            Move::Deliver => self.stage != Stage::Dead && !self.outbox.is_empty(),
            Move::Reap => self.stage == Stage::Dead,
            Move::ReapDeaf => self.stage == Stage::Dead && !self.outbox.is_empty(),
            Move::Thaw => self.stage != Stage::Dead && self.frozen,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    pub(super) fn is_at_work(&self) -> bool {
        self.running.is_some()
    }

    /// What it is in the middle of.
    pub(super) fn running(&self) -> Option<Assignment> {
        self.running
    }

    fn death(&self) -> Death {
        let answering =
            self.outbox.iter().any(|message| matches!(message, Event::Completed(..) | Event::Raised(..)));
        match self.inbox.front() {
            _ if self.sentenced => Death::Sentenced,
            _ if self.stage == Stage::Booting => Death::Starting,
            _ if self.running.is_some() => Death::Running,
            _ if answering => Death::Answering,
            Some(Order::Run(_)) => Death::Unbegun,
            Some(Order::Leave) => Death::Leaving,
            None => Death::Idle,
        }
    }

    pub(super) fn boot(&mut self) {
        if self.birth == Birth::Unfit {
            self.stage = Stage::Dead;
            self.outbox.push_back(Event::Unfit(self.id));
            return;
        }
        self.stage = Stage::Up;
        self.outbox.push_back(Event::Ready(self.id));
    }

    pub(super) fn begin(&mut self) -> Assignment {
        let Some(Order::Run(run)) = self.inbox.pop_front() else { unreachable!("`can` was asked") };
        self.running = Some(run);
        self.begun = Some(run);
        run
    }

    pub(super) fn finish(&mut self, ran: Option<Duration>) {
        let run = self.running.take().expect("`can` was asked");
        self.outbox.push_back(Event::Completed(self.id, run, ran));
    }

    pub(super) fn raise(&mut self, ran: Option<Duration>) {
        let run = self.running.take().expect("`can` was asked");
        self.outbox.push_back(Event::Raised(self.id, run, ran));
    }

    pub(super) fn die(&mut self) -> Death {
        let death = self.death();
        self.stage = Stage::Dead;
        death
    }

    pub(super) fn deliver(&mut self) -> Event {
        self.outbox.pop_front().expect("`can` was asked")
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(super) fn thaw(&mut self, quiet: Duration, now: Time) {
        self.frozen = false;
        self.silent_until = now + quiet;
    }

    /// What the driver reads from the shared counter. It can read a dead process's, too.
    pub(super) fn beat(&mut self, now: Time) -> Event {
        if self.stage != Stage::Dead && !self.frozen && now >= self.silent_until {
            self.beats = (now.as_millis() / BEAT.as_millis()) as u64;
        }
        let unread = |event: &Event| matches!(event, Event::Completed(..) | Event::Raised(..));
        let at_work = self.running.is_some() || self.outbox.iter().any(unread);
        Event::Beat(self.id, self.beats, at_work)
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    /// Those whose exit has not been reported.
    pub(super) processes: Vec<Process>,
    /// What dead processes had sent, and nobody read in time.
    pub(super) late: Vec<Event>,
    /// No new process will hang or fail.
    pub(super) calm: bool,
}

impl World {
    pub(super) const BEAT: Duration = BEAT;

    /// What the driver does with an action. Orders to a process that is gone go nowhere.
    pub(super) fn carry_out(&mut self, action: Action, birth: Birth) {
        match action {
            Action::Spawn(id) => {
                let there = self.processes.iter().filter(|process| process.id.slot == id.slot).count();
                assert!(there < 2, "{id:?} starts in a place that has two processes");
                self.processes.push(Process::new(id, if self.calm { Birth::Sound } else { birth }));
            }
            Action::Dispatch(id, run) => self.order(id, Order::Run(run)),
            Action::Stop(id) => self.order(id, Order::Leave),
            Action::Kill(id, _) => {
                if let Some(process) = self.process(id) {
                    process.sentenced = true;
                }
            }
            Action::Retract(..) => unreachable!("it is answered: see `retract`"),
            Action::Fail(..) | Action::Broken | Action::Finished => {}
        }
    }

    fn process(&mut self, id: WorkerId) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.id == id)
    }

    /// Take back so many dispatches that were not begun, the newest first; how many there were. A dead process lies
    /// there with what it was sent until its exit is noticed.
    pub(super) fn retract(&mut self, id: WorkerId, count: usize) -> usize {
        let Some(process) = self.process(id) else { return 0 };
        let unbegun = process.inbox.iter().rev().take_while(|order| matches!(order, Order::Run(_))).count();
        let back = unbegun.min(count);
        process.inbox.truncate(process.inbox.len() - back);
        back
    }

    /// Take back this one, if it was not begun.
    pub(super) fn take_back(&mut self, id: WorkerId, run: Assignment) -> bool {
        let Some(process) = self.process(id) else { return false };
        let at = process.inbox.iter().position(|&order| order == Order::Run(run));
        at.is_some_and(|at| process.inbox.remove(at).is_some())
    }

    fn order(&mut self, id: WorkerId, order: Order) {
        if let Some(process) = self.process(id) {
            process.inbox.push_back(order);
        }
    }

    /// Take out of the world what never really was in it. Whether the cause may pass, and how the driver says so.
    pub(super) fn miscarry(&mut self, index: usize) -> (bool, Event) {
        let process = self.processes.remove(index);
        let Stage::Stillborn { transient } = process.stage else { unreachable!("`can` was asked") };
        (transient, Event::SpawnFailed(process.id, transient))
    }

    /// Take a dead process out of the world: what it still had to say, in order, and its exit.
    pub(super) fn reap(&mut self, index: usize) -> (VecDeque<Event>, Event) {
        let process = self.processes.remove(index);
        (process.outbox, Event::Exit(process.id, process.begun))
    }

    /// From here on nobody dies, hangs or freezes.
    pub(super) fn calm_down(&mut self, now: Time) {
        self.calm = true;
        for process in self.processes.iter_mut().filter(|process| process.birth == Birth::Hangs) {
            process.birth = Birth::Sound;
        }
        for process in self.processes.iter_mut().filter(|process| process.frozen) {
            process.thaw(Duration::ZERO, now);
        }
    }
}
