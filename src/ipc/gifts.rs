//! What a worker was given besides tasks (see `input`), as the host keeps it in mind: nothing is sent twice, and what
//! nobody can need any more is taken from the worker as well.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use super::foreign::ForeignBlock;
use super::host::HostLink;
use super::input::Input;
use super::orders::Order;
use super::parcels::send_fds;

/// Gifts that a worker has before it is looked which of them nobody needs any more; then at twice as many as are needed.
const MIN_SWEEP: usize = 32;

#[derive(Debug)]
pub(super) struct Gifts {
    inputs: HashMap<u64, Weak<Input>>,
    /// Parts of other workers' arenas, which large inputs stand in.
    blocks: HashMap<u32, Weak<ForeignBlock>>,
    sweep_at: usize,
}

impl Gifts {
    pub(super) fn new() -> Self {
        Self { inputs: HashMap::new(), blocks: HashMap::new(), sweep_at: MIN_SWEEP }
    }
}

impl HostLink {
    /// Give the worker this, unless it has it; its value must be there. `false`: there is no room, try again later.
    pub fn give(&mut self, input: &Arc<Input>) -> bool {
        if self.gifts.inputs.contains_key(&input.key()) {
            return true;
        }
        if self.gifts.inputs.len() >= self.gifts.sweep_at {
            if !self.take_away() {
                return false;
            }
            self.gifts.sweep_at = MIN_SWEEP.max(2 * self.gifts.inputs.len());
        }
        let given = self.push(&Order::Give(input));
        if given {
            self.gifts.inputs.insert(input.key(), Arc::downgrade(input));
        }
        given
    }

    /// Have the worker forget what nobody needs any more. `false`: there is no room for all of that.
    pub fn take_away(&mut self) -> bool {
        let dead = self.gifts.inputs.iter().filter(|(_, input)| input.strong_count() == 0);
        for key in dead.map(|(&key, _)| key).collect::<Vec<_>>() {
            if !self.push(&Order::TakeAway(key)) {
                return false;
            }
            self.gifts.inputs.remove(&key);
        }
        let dead = self.gifts.blocks.iter().filter(|(_, block)| block.strong_count() == 0);
        for number in dead.map(|(&number, _)| number).collect::<Vec<_>>() {
            if !self.push(&Order::Unmap(number)) {
                return false;
            }
            self.gifts.blocks.remove(&number);
        }
        true
    }

    /// Pass on the descriptor of a block of another worker's arena, unless that has been done.
    pub(super) fn show_foreign(&mut self, block: &Arc<ForeignBlock>) -> bool {
        let number = block.number();
        if self.gifts.blocks.contains_key(&number) {
            return true;
        }
        let Some(file) = block.file() else { return false };
        let sent = send_fds(self.parcels(), &number.to_le_bytes(), &[file.as_fd()]).is_ok();
        if sent {
            self.gifts.blocks.insert(number, Arc::downgrade(block));
        }
        sent
    }
}
