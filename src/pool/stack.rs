//! The Python stack of a running task, while it runs: the worker's `faulthandler` writes it, from a signal handler that
//! needs neither the GIL nor the task's help.
//!
//! Nothing marks its end. It is there when the oldest thread's outermost frame is (that is the worker's program, which
//! comes last), or, where a task has disguised that, when nothing has come for a while.

use std::time::{Duration, Instant};

use super::{PoolError, Shared};
use crate::ipc::HostLink;
use crate::scheduler::types::{Assignment, TaskId, WorkerId};

/// How often whoever waits for a stack looks: it takes a millisecond or so to write.
pub const STACK_LOOKS: Duration = Duration::from_millis(2);

/// The end of the last frame: the program that `python -c` runs, or the mark of one that is too deep to be shown.
const LAST_LINES: [&[u8]; 2] = [b"  File \"<string>\", line 1 in <module>\n", b"  ...\n"];

/// After what looks like the end, nothing may come for so long: another thread's stack can end in the same way.
const QUIET: Duration = Duration::from_millis(10);

/// The end, however it looks: a busy machine may take its time between two lines.
const SILENCE: Duration = Duration::from_millis(500);

/// A stack that has been asked for.
#[derive(Debug)]
pub struct StackRequest {
    worker: WorkerId,
    run: Assignment,
    asked: bool,
    seen: usize,
    seen_at: Instant,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackLook {
    /// Look again in a moment.
    NotYet,
    /// Here it is.
    Stack(String),
    /// The task does not run any more.
    Ended,
}

impl Shared {
    /// Ask for the stack of a task; [`Self::look_for_stack`] has it in a moment. `None`: no worker runs it.
    pub fn ask_for_stack(&self, task: TaskId) -> Result<Option<StackRequest>, PoolError> {
        self.check_owner()?;
        let mut core = self.core.lock();
        core.turn();
        let runs = |link: &HostLink| link.begun().filter(|run| run.task == task);
        let found = core.seats.iter().find_map(|seat| Some((seat.id, runs(seat.link.as_ref()?)?)));
        Ok(found.map(|(worker, run)| StackRequest {
            worker,
            run,
            asked: false,
            seen: 0,
            seen_at: Instant::now(),
        }))
    }

    /// Whether it is there. Look again every [`STACK_LOOKS`].
    pub fn look_for_stack(&self, request: &mut StackRequest) -> StackLook {
        let mut core = self.core.lock();
        core.turn();
        let Some(seat) = core.seat(request.worker) else { return StackLook::Ended };
        if seat.link.as_ref().and_then(HostLink::begun) != Some(request.run) {
            if request.asked {
                seat.streams.stack = None;
            }
            return StackLook::Ended;
        }
        if !request.asked {
            if seat.streams.stack.is_some() {
                return StackLook::NotYet; // somebody else's is on its way
            }
            if !seat.process.as_ref().is_some_and(crate::supervisor::Process::ask_for_stack) {
                return StackLook::Ended;
            }
            seat.streams.stack = Some(Vec::new());
            (request.asked, request.seen_at) = (true, Instant::now());
            return StackLook::NotYet;
        }
        let text = seat.streams.stack.as_deref().unwrap_or_default();
        if text.len() != request.seen {
            (request.seen, request.seen_at) = (text.len(), Instant::now());
        }
        let looks_whole = LAST_LINES.iter().any(|line| text.ends_with(line));
        let quiet = request.seen_at.elapsed();
        let whole = !text.is_empty() && quiet >= if looks_whole { QUIET } else { SILENCE };
        if !whole {
            return StackLook::NotYet;
        }
        let text = seat.streams.stack.take().unwrap_or_default();
        StackLook::Stack(String::from_utf8_lossy(&text).into_owned())
    }

    /// Nobody waits for it any more.
    pub fn drop_stack(&self, request: &StackRequest) {
        if request.asked
            && let Some(seat) = self.core.lock().seat(request.worker)
        {
            seat.streams.stack = None;
        }
    }
}
