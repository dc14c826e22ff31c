//! The conversation about nested tasks (see `nested`): the two ends of the socket, and what is asked in several messages.
//!
//! That some task has ended the worker learns from a number in shared memory, which counts such events and can be slept on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::futex;

use super::foreign::Part;
use super::lane::NESTED;
use super::nested::{Ending, MAX_MESSAGE_BYTES, MAX_PIECE_BYTES, Request, Response};
use super::shm::Map;
use super::{HostFd, LinkError};

/// An answer that does not fit its request: our bug, or a task that plays with our descriptors.
const NONSENSE: LinkError = LinkError::Malformed("an answer about a nested task");

/// A task was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For good.
    pub broken: bool,
    /// Why.
    pub why: String,
}

/// How a task stands that this worker's tasks have submitted.
#[derive(Debug)]
pub enum Standing {
    /// It has not ended; whether somebody runs it.
    Pending(bool),
    /// The worker is to run it.
    Yours,
    /// It has ended.
    Ended(Ended),
}

/// What became of a task.
#[derive(Debug)]
pub struct Ended {
    /// What the bytes are.
    pub kind: Ending,
    /// All of them.
    pub bytes: Vec<u8>,
    /// Where the parts of a value stand; none: it is all one pickle.
    pub parts: Vec<Part>,
}

/// The worker's end. Any thread may use it.
#[derive(Debug)]
pub struct Asker {
    socket: Mutex<OwnedFd>,
    lane: Map,
}

impl Asker {
    pub(super) fn new(socket: OwnedFd, lane: Map) -> Self {
        Self { socket: Mutex::new(socket), lane }
    }

    /// Submit a task, a pickled call. Its number in the pool. `key` was not used before.
    pub fn submit(
        &self,
        key: u64,
        priority: i32,
        retries: u32,
        name: &str,
        call: &[u8],
    ) -> Result<Result<u64, Refusal>, LinkError> {
        let bytes = call.len() as u64;
        let (mut piece, mut rest) = call.split_at(call.len().min(MAX_PIECE_BYTES));
        let mut request = Request::Submit { key, priority, retries, bytes, name, piece };
        loop {
            match self.ask(&request)? {
                Some(Response::Accepted(task)) => return Ok(Ok(task)),
                Some(Response::Refused { broken, why }) => return Ok(Err(Refusal { broken, why })),
                Some(Response::Continue) if !rest.is_empty() => {
                    (piece, rest) = rest.split_at(rest.len().min(MAX_PIECE_BYTES));
                    request = Request::More(key, piece);
                }
                _ => return Err(NONSENSE),
            }
        }
    }

    /// How does a task stand? With `claim`, the worker is to run it if nobody has begun it. What has ended can be asked for
    /// again until it is dropped.
    pub fn look(&self, key: u64, claim: bool) -> Result<Standing, LinkError> {
        match self.ask(&Request::Look { key, claim })? {
            Some(Response::Pending(running)) => Ok(Standing::Pending(running)),
            Some(Response::Yours) => Ok(Standing::Yours),
            Some(Response::Done { kind, bytes, parts, piece }) => {
                let bytes = self.read(key, bytes, piece)?;
                Ok(Standing::Ended(Ended { kind, bytes, parts }))
            }
            _ => Err(NONSENSE),
        }
    }

    /// The rest of an outcome, behind its first piece.
    fn read(&self, key: u64, bytes: u64, mut data: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        let missing = bytes.checked_sub(data.len() as u64).ok_or(NONSENSE)?;
        let missing = usize::try_from(missing).map_err(|_| LinkError::NoMemory(bytes))?;
        data.try_reserve_exact(missing).map_err(|_| LinkError::NoMemory(bytes))?;
        while (data.len() as u64) < bytes {
            match self.ask(&Request::Read(key, data.len() as u64))? {
                Some(Response::Piece(piece)) if !piece.is_empty() => data.extend(piece),
                _ => return Err(NONSENSE),
            }
        }
        Ok(data)
    }

    /// Cancel a task that nobody has begun. Whether it is cancelled.
    pub fn cancel(&self, key: u64) -> Result<bool, LinkError> {
        match self.ask(&Request::Cancel(key))? {
            Some(Response::Cancelled(cancelled)) => Ok(cancelled),
            _ => Err(NONSENSE),
        }
    }

    /// Nobody here will ask for it again.
    pub fn forget(&self, key: u64) -> Result<(), LinkError> {
        self.ask(&Request::Drop(key)).map(drop)
    }

    /// One that was ours to run has returned, or raised what is described here, in no more than a piece.
    pub fn ran(&self, key: u64, error: Option<&[u8]>) -> Result<(), LinkError> {
        self.ask(&Request::Ran(key, error)).map(drop)
    }

    /// Ask, and wait for the answer: the host is quick. `None`: there is none to this.
    fn ask(&self, request: &Request<'_>) -> Result<Option<Response>, LinkError> {
        let message = request.encode();
        let socket = self.socket.lock();
        loop {
            match send(&*socket, &message, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if !request.has_answer() {
            return Ok(None);
        }
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let read = loop {
            match recv(&*socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((read, _)) => break read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        Response::decode(&buffer[..read]).map(Some).ok_or(NONSENSE)
    }

    /// How many of our tasks have ended, in all. Look at it before asking whether one has.
    pub fn ended(&self) -> u32 {
        self.lane.u32(NESTED).load(Ordering::SeqCst)
    }

    /// Sleep until it is more than that, or a signal comes, or for no reason; at most so long.
    pub fn sleep(&self, seen: u32, timeout: Duration) {
        let timeout = timeout.try_into().ok();
        let _ = futex::wait(self.lane.u32(NESTED), futex::Flags::empty(), seen, timeout.as_ref());
    }
}

/// The host's end.
#[derive(Debug)]
pub struct Asked(HostFd);

impl Asked {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(HostFd::new(socket))
    }

    /// The next request, in `buffer`: its length. `Err(WouldBlock)`: none now. 0: there will be no more.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
        buffer.resize(MAX_MESSAGE_BYTES, 0);
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Ok(read),
                // It has died with an answer unread. That is said once, and does not end what it has asked before.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Answer it. `false`: the worker does not keep to the rules. One that is gone has kept to them.
    pub fn answer(&self, response: &Response) -> bool {
        match send(&self.0, &response.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => true,
            Err(_) => false,
        }
    }
}

impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
