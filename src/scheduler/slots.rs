//! Sets of places in the pool.

/// A set of places with constant-time changes, whose last member is at hand.
#[derive(Debug, Default)]
pub(crate) struct SlotSet {
    members: Vec<u32>,
    /// Where a place stands in `members`, plus one; 0: it does not.
    at: Vec<u32>,
}

impl SlotSet {
    pub(crate) fn new(places: u32) -> Self {
        Self { members: Vec::new(), at: vec![0; places as usize] }
    }

    /// One more place.
    pub(crate) fn grow(&mut self) {
        self.at.push(0);
    }

    pub(crate) fn set(&mut self, slot: u32, member: bool) {
        let at = self.at[slot as usize];
        match (at, member) {
            (0, true) => {
                self.members.push(slot);
                self.at[slot as usize] = self.members.len() as u32;
            }
            (at, false) if at > 0 => {
                let index = at as usize - 1;
                self.members.swap_remove(index);
                if let Some(&moved) = self.members.get(index) {
                    self.at[moved as usize] = at;
                }
                self.at[slot as usize] = 0;
            }
            _ => {}
        }
    }

    pub(crate) fn last(&self) -> Option<u32> {
        self.members.last().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set() {
        let mut set = SlotSet::new(50);
        let mut reference = std::collections::BTreeSet::new();
        let mut rng = crate::scheduler::rng::Rng::new(1);
        for _ in 0..10_000 {
            let slot = rng.below(50) as u32;
            let member = rng.below(2) == 0;
            set.set(slot, member);
            if member {
                reference.insert(slot)
            } else {
                reference.remove(&slot)
            };
            let mut members = set.as_slice().to_vec();
            members.sort_unstable();
            assert_eq!(members, reference.iter().copied().collect::<Vec<_>>());
            assert_eq!(set.last().is_none(), set.is_empty());
        }
    }
}
