//! Functions that a worker was sent, as the host keeps them in mind: each is sent once, and what nobody can call any more is
//! taken from the worker as well.
//!
//! That is done when another one is sent, if those that came since the last time are many or large; and by every tick of the
//! pool, for a worker that is sent no more.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use super::host::HostLink;
use super::orders::{Code, Order};

/// Functions that a worker has before it is looked which of them nobody can call any more; then at twice as many as live.
const MIN_SWEEP: usize = 32;

/// ... or when those that were sent since the last look have so many bytes: copying and loading them takes the worker
/// a millisecond at least, beside which a look at all that it has is nothing. Less than this is no burden for 32 of them.
pub(super) const SWEEP_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Definitions {
    /// What the worker has.
    sent: FxHashMap<u32, Weak<Code>>,
    /// So many of them, and it is looked which are dead.
    sweep_at: usize,
    /// Bytes of those that were sent since the last look.
    fresh_bytes: usize,
    /// [`Code::gone`] when all that were dead had been taken from the worker.
    gone: u64,
    /// Those whose definition may not have been read, and where it ends in the ring.
    unread: VecDeque<(u64, Arc<Code>)>,
}

impl Definitions {
    pub(super) fn new() -> Self {
        Self {
            sent: FxHashMap::default(),
            sweep_at: MIN_SWEEP,
            fresh_bytes: 0,
            gone: Code::gone(),
            unread: VecDeque::new(),
        }
    }

    /// Whether the worker has this one.
    pub(super) fn has(&self, code: &Code) -> bool {
        self.sent.contains_key(&code.number)
    }
}

impl HostLink {
    /// Send a function, and have the worker forget those that nobody can call any more. `false`: there is no room.
    pub(super) fn define(&mut self, code: &Arc<Code>) -> bool {
        self.drop_read();
        let Definitions { sent, sweep_at, fresh_bytes, .. } = &self.definitions;
        if sent.len() >= *sweep_at || *fresh_bytes >= SWEEP_BYTES {
            if !self.sweep() {
                return false;
            }
            self.definitions.sweep_at = MIN_SWEEP.max(2 * self.definitions.sent.len());
            self.definitions.fresh_bytes = 0;
        }
        let sent = self.push(&Order::Define(code));
        if sent {
            let up_to = self.lane.sent_up_to();
            let definitions = &mut self.definitions;
            definitions.sent.insert(code.number, Arc::downgrade(code));
            definitions.fresh_bytes += code.pickle.len();
            // The call may be taken back, and the function go; what the ring names must be there until it is read.
            definitions.unread.push_back((up_to, Arc::clone(code)));
        }
        sent
    }

    /// Have the worker forget the functions that nobody can call any more, if there are any. `false`: there is no room for all of
    /// that, try again later.
    pub fn forget_dead(&mut self) -> bool {
        self.drop_read();
        self.sweep()
    }

    /// Let go of the functions that the worker has read: their memory may be free with that. A large one it copies after it has
    /// taken the frame, so it has read it when it has got on to the next one, which is a call mostly.
    #[inline]
    pub(super) fn drop_read(&mut self) {
        let unread = &mut self.definitions.unread;
        while unread.front().is_some_and(|(at, _)| *at < self.lane.taken_up_to()) {
            unread.pop_front();
        }
    }

    fn sweep(&mut self) -> bool {
        let gone = Code::gone(); // before looking: what goes meanwhile is found by the next look
        if gone == self.definitions.gone {
            return true;
        }
        let dead = self.definitions.sent.iter().filter(|(_, code)| code.strong_count() == 0);
        for number in dead.map(|(&number, _)| number).collect::<Vec<_>>() {
            if !self.push(&Order::Forget(number)) {
                return false;
            }
            self.definitions.sent.remove(&number);
        }
        self.definitions.gone = gone;
        true
    }
}
