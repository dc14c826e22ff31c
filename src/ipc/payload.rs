//! The bytes of a task or an answer, wherever they stand.

use std::sync::Arc;

use smallvec::SmallVec;

use super::foreign::{Foreign, Part};
use super::lane::MAX_INLINE_BYTES;
use super::range::Range;

/// What most calls and answers need: a payload up to this size takes no allocation of its own.
const SMALL: usize = 48;

/// Few bytes, being written.
pub type SmallBytes = SmallVec<[u8; SMALL]>;

/// Bytes, in private memory or in an arena.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Up to [`MAX_INLINE_BYTES`].
    Private(SmallBytes),
    /// In the host's arena.
    Ours(Arc<Range>),
    /// In the arena of the worker that answered.
    Theirs(Arc<Foreign>),
}

impl Payload {
    /// A copy of these few bytes.
    ///
    /// # Panics
    /// With more than [`MAX_INLINE_BYTES`].
    pub fn copied(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= MAX_INLINE_BYTES);
        Self::Private(SmallVec::from_slice(bytes))
    }

    /// Its size.
    pub fn len(&self) -> usize {
        match self {
            Self::Private(bytes) => bytes.len(),
            Self::Ours(range) => range.len(),
            Self::Theirs(foreign) => foreign.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copy its beginning.
    pub fn read(&self, into: &mut [u8]) {
        match self {
            Self::Private(bytes) => into.copy_from_slice(&bytes[..into.len()]),
            Self::Ours(range) => range.read(into),
            Self::Theirs(foreign) => foreign.read(0, into),
        }
    }

    /// Copy some of it.
    ///
    /// # Panics
    /// Outside of it.
    pub fn read_at(&self, from: usize, into: &mut [u8]) {
        match self {
            Self::Private(bytes) => into.copy_from_slice(&bytes[from..from + into.len()]),
            Self::Ours(range) => range.read_at(from, into),
            Self::Theirs(foreign) => foreign.read(from, into),
        }
    }

    /// Where its parts stand; empty where it is one run of bytes.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Private(_) => &[],
            Self::Ours(range) => range.parts(),
            Self::Theirs(foreign) => foreign.parts(),
        }
    }

    /// A copy of it all.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len()];
        self.read(&mut copy);
        copy
    }

    /// The bytes, where they are few and need no allocation to be copied.
    pub fn as_small(&self) -> Option<&SmallBytes> {
        match self {
            Self::Private(bytes) if !bytes.spilled() => Some(bytes),
            Self::Private(_) | Self::Ours(_) | Self::Theirs(_) => None,
        }
    }

    /// The bytes, where they stand in private memory.
    pub fn as_private(&self) -> Option<&[u8]> {
        match self {
            Self::Private(bytes) => Some(bytes),
            Self::Ours(_) | Self::Theirs(_) => None,
        }
    }
}
