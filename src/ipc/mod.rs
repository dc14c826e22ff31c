//! Moves bytes between the host and its workers. All `unsafe` of the crate lives in this folder.
//!
//! ```text
//!  host                                             worker process
//!  HostLink  ── task frames ──► control socket ──►  WorkerLink   (the socket is the worker's stdin)
//!  HostLink  ◄── answers ─────  control socket ◄──  WorkerLink
//!  Page      ◄──── shared memory: heartbeat, what was begun ── Page
//! ```
//!
//! The layers above see frames and payloads, never the socket: [`HostLink::push`], [`HostLink::flush`] and
//! [`HostLink::receive`] on one side, [`WorkerLink::next_task`] and [`WorkerLink::reply`] on the other. A payload is
//! copied once into Rust on its way in and written to the socket from there; on its way back it is read
//! straight into the allocation that the future keeps (payloads that fit the read buffer are copied out of it).

mod fds;
mod frame;
mod host;
mod page;
mod signals;
mod worker;

pub use fds::{ClosedInChildren, HostFd, after_fork_in_child, fork_generation};
pub use frame::{Incoming, MAX_PAYLOAD_BYTES, Outgoing};
pub use host::{Ends, Flushed, HostLink, Received};
pub use page::Page;
pub use signals::{block_all_signals, reset_signal_mask};
pub use worker::{Answer, Job, WorkerLink};

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
