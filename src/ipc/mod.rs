//! Moves bytes between the host and its workers. All `unsafe` of the crate lives in this folder.
//!
//! ```text
//!  host                                             worker process
//!  HostLink  ── orders ──►  ring in shared memory ──►  WorkerLink
//!  HostLink  ◄── answers ─  ring in shared memory ◄──  WorkerLink
//!  Arena     ── large payloads ──►                ◄──  Arena
//!  HostBell  ◄──────────────── "come and look" ──────  (futex, or the driver's eventfd)
//!            ── control socket (the worker's stdin): greeting, configuration, end of file
//!            ── parcel socket: descriptors of arena blocks
//!            ── nested socket: what tasks ask of the host
//!            ── output socket: what tasks print, as records
//! ```
//!
//! The layers above see orders, answers and payloads: [`HostLink::send`], [`HostLink::receive`] and
//! [`HostLink::retract`] on one side, [`WorkerLink::take`] and [`WorkerLink::reply`] on the other.

mod arena;
mod asker;
mod atomic;
mod bell;
mod copy;
mod definitions;
#[cfg(test)]
mod definitions_tests;
mod exposed;
mod extents;
mod fds;
mod foreign;
mod frame;
mod gifts;
mod heap;
mod host;
mod host_lane;
mod huge;
mod input;
mod lane;
#[cfg(test)]
mod lane_tests;
mod nested;
#[cfg(test)]
mod nested_tests;
mod orders;
mod output;
mod parcels;
mod payload;
mod per_process;
#[cfg(test)]
mod protocol_check;
#[cfg(test)]
mod protocol_model;
mod range;
mod rusage;
mod shm;
mod signals;
mod soft;
mod worker;
mod worker_lane;

pub use arena::{Arena, NoRoom, Obstacle, Purpose};
pub use asker::{Asked, Asker, Ended, Refusal, Standing};
pub use bell::HostBell;
pub use exposed::{after_fork_in_parent, before_fork, make_private};
pub use fds::{ClosedInChildren, HostFd, duplicate, fork_generation, move_up};
pub use foreign::{Foreign, MAX_PARTS, PART_ALIGN, Part};
pub use heap::{note_freed, trim};
pub use host::{Ends, HostLink, MAX_SHARED_FDS, Received};
pub use input::Input;
pub use lane::MAX_INLINE_BYTES;
pub use nested::{Ending, MAX_PIECE_BYTES, Request, Response};
pub use orders::{Answer, Code, Form, Order, Task};
pub use output::{MAX_RECORD_BYTES, OutputReceiver, OutputSender, Said, Stream};
pub use payload::{Payload, SmallBytes};
pub use range::Range;
pub use rusage::{Reaped, reap};
pub use shm::{Backing, FileId};
pub use signals::{block_all_signals, reset_signal_mask, soft_signal, stack_signal};
pub use soft::SoftTimer;
pub use worker::{Heart, Large, Taken, WorkerLink};

/// What can go wrong on a link. Each ends the worker on the other side; none ends the pool.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("the control socket failed: {0}")]
    Io(#[from] rustix::io::Errno),
    /// The other side sent something that is no frame: user code wrote to the descriptor, or memory is corrupt.
    #[error(
        "the worker sent something that is not a frame ({0}); did a task write to an unknown descriptor?"
    )]
    Malformed(&'static str),
    /// This process is not what a worker must be.
    #[error("{0}")]
    NotAWorker(&'static str),
    /// There is no memory for what comes.
    #[error("no memory for a payload of {0} bytes")]
    NoMemory(u64),
}

/// Called in each forked child, before any other Python code runs there.
pub fn after_fork_in_child() {
    fds::after_fork_in_child();
    exposed::after_fork_in_child();
}

impl From<lane::Garbled> for LinkError {
    fn from(_: lane::Garbled) -> Self {
        Self::Malformed("the rings make no sense")
    }
}
