//! The host's end of what connects it to one worker: a socket to get to know each other, another one for descriptors, and
//! the rings.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

use super::arena::{Arena, Block};
use super::asker::Asked;
use super::bell::{HostBell, wake};
use super::definitions::Definitions;
use super::foreign::{Descriptor, Foreign, ForeignBlock, Lease};
use super::frame::{FrameReader, HEADER_BYTES, KIND_CONFIG, Read, Ready, greeting};
use super::gifts::Gifts;
use super::host_lane::HostLane;
use super::lane::{LANE_BYTES, TaskHead};
use super::orders::{Answer, COPIED, LARGE, Order, SPOKE};
use super::output::OutputReceiver;
use super::parcels::{MESSAGE_FDS, receive_fd, send_fds};
use super::payload::Payload;
use super::shm::{Backing, Map, create};
use super::{HostFd, LinkError};
use crate::scheduler::types::Assignment;

/// The greeting that carries the descriptors.
pub(super) const GREETING: u8 = b'D';

/// Numbers links, from 1.
static NEXT_LINK: AtomicU32 = AtomicU32::new(1);

/// How many descriptors come with it: the lane, the bell, the driver's event, the socket for more descriptors, the one for
/// output.
pub(super) const GREETING_FDS: usize = 6;

/// Descriptors of the application's that a worker can be given.
pub const MAX_SHARED_FDS: usize = MESSAGE_FDS - GREETING_FDS;

/// What a worker has answered.
#[derive(Debug)]
pub struct Received {
    /// Which dispatch.
    pub run: Assignment,
    /// What the payload is.
    pub answer: Answer,
    /// How long the function ran, in nanoseconds.
    pub nanos: u64,
    /// The pickled value, or the exception.
    pub payload: Payload,
    /// The task has printed: that is to be taken first.
    pub spoke: bool,
}

/// The host's end.
#[derive(Debug)]
pub struct HostLink {
    socket: HostFd,
    parcels: HostFd,
    reader: FrameReader,
    /// Of the configuration, as far as the socket has not taken it.
    unsent: VecDeque<u8>,
    pub(super) lane: HostLane,
    /// Blocks of our arena that the worker has been sent.
    shown: HashSet<u32>,
    pub(super) definitions: Definitions,
    /// An answer could not be received: which dispatch it was of.
    garbled: Option<Assignment>,
    /// Blocks of the worker's arena.
    blocks: HashMap<u32, Arc<ForeignBlock>>,
    scratch: Vec<u8>,
    /// Marks what the worker looks at, in our arena.
    number: u32,
    pub(super) gifts: Gifts,
}

/// Both ends of a new connection.
#[derive(Debug)]
pub struct Ends {
    /// Keep this.
    pub host: HostLink,
    /// The worker's stdin.
    pub worker: OwnedFd,
    /// What tasks print comes here.
    pub output: OutputReceiver,
    /// And what they ask.
    pub asked: Asked,
}

impl HostLink {
    /// A new pair. The greeting is already in it, and with it the descriptors that the application shares with its workers.
    pub fn pair(
        bell: &HostBell,
        driver: impl AsFd,
        backing: Backing,
        shared: &[HostFd],
    ) -> rustix::io::Result<Ends> {
        let lane = create("disttask-lane", LANE_BYTES, backing)?;
        let map = Map::for_host(&lane, LANE_BYTES)?;
        let (host, worker) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let (parcels, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&parcels, true)?;
        let (output, printing) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (asked, asking) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let own: [_; GREETING_FDS] = [
            lane.as_fd(),
            bell.file().as_fd(),
            driver.as_fd(),
            theirs.as_fd(),
            printing.as_fd(),
            asking.as_fd(),
        ];
        let fds: Vec<_> = own.into_iter().chain(shared.iter().map(AsFd::as_fd)).collect();
        send_fds(&host, &[GREETING], &fds)?;
        rustix::io::ioctl_fionbio(&host, true)?;
        let number = NEXT_LINK.fetch_add(1, Ordering::Relaxed);
        let host = Self {
            socket: HostFd::new(host),
            parcels: HostFd::new(parcels),
            reader: FrameReader::new(),
            unsent: VecDeque::new(),
            lane: HostLane::new(map, number),
            shown: HashSet::new(),
            definitions: Definitions::new(),
            garbled: None,
            blocks: HashMap::new(),
            scratch: Vec::new(),
            number,
            gifts: Gifts::new(),
        };
        Ok(Ends { host, worker, output: OutputReceiver::new(output), asked: Asked::new(asked) })
    }

    /// Queue the configuration; [`Self::flush`] writes it.
    pub fn configure(&mut self, config: &[u8]) {
        let header: [u8; HEADER_BYTES] = greeting(KIND_CONFIG, config.len());
        self.unsent.extend(header);
        self.unsent.extend(config);
    }

    /// Write what is queued, as far as the socket takes it. Whether that was all.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        while !self.unsent.is_empty() {
            let slices = [IoSlice::new(self.unsent.as_slices().0)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Take what has arrived over the socket: the worker's description of itself, once. `Err(None)`: it is closed.
    pub fn greeted(&mut self) -> Result<Option<Vec<u8>>, Option<LinkError>> {
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                return Ok(Some(Ready::try_from(frame)?.0));
            }
            match self.reader.fill(&self.socket)? {
                Read::Nothing => return Ok(None),
                Read::Closed => return Err(None),
                Read::Bytes(_) => {}
            }
        }
    }

    /// Hand the worker an order. `false`: there is no room, try again when it has got on.
    pub fn send(&mut self, order: &Order<'_>) -> bool {
        match order {
            Order::Call { code, .. } if !self.definitions.has(code) => self.define(code) && self.push(order),
            _ => self.push(order),
        }
    }

    pub(super) fn push(&mut self, order: &Order<'_>) -> bool {
        self.lane.forget_refusal();
        let (run, function) = (order.run(), order.function());
        let head = |kind| TaskHead { run, kind, function, bytes: 0 };
        match order.payload() {
            None => self.lane.send(head(order.kind()), &[]),
            Some(Payload::Private(bytes)) => self.lane.send(head(order.kind()), bytes),
            Some(Payload::Ours(range)) => {
                if !self.show(range.block()) {
                    return false;
                }
                // A function is sent to many: it is copied out, and looked at by nobody afterwards.
                let copied = order.is_for_many() || order.must_copy();
                let flags = if copied { LARGE | COPIED } else { LARGE };
                self.lane.send(head(order.kind() | flags), &range.descriptor().encode())
            }
            Some(Payload::Theirs(foreign)) => {
                if !self.show_foreign(foreign.block()) {
                    return false;
                }
                self.lane.send(head(order.kind() | LARGE | COPIED), &foreign.descriptor().encode())
            }
        }
    }

    pub(super) fn parcels(&self) -> &HostFd {
        &self.parcels
    }

    /// Pass the block's descriptor on, unless that has been done.
    fn show(&mut self, block: &Block) -> bool {
        if self.shown.contains(&block.number) {
            return true;
        }
        let sent = send_fds(&self.parcels, &block.number.to_le_bytes(), &[block.file.as_fd()]).is_ok();
        if sent {
            self.shown.insert(block.number);
        }
        sent
    }

    /// Wake the worker if it sleeps. After orders, or after results were taken.
    pub fn wake(&self) {
        wake(self.lane.bell());
    }

    /// A task that one of this worker's tasks submitted has ended.
    pub fn tell_nested(&self) {
        self.lane.tell_nested();
    }

    /// Whether there is an answer.
    pub fn has_answer(&self) -> bool {
        self.lane.has_result()
    }

    /// The next answer.
    pub fn receive(&mut self) -> Result<Option<Received>, LinkError> {
        self.scratch.clear();
        let Some(head) = self.lane.receive(&mut self.scratch)? else { return Ok(None) };
        self.garbled = Some(head.run); // unless all goes well
        self.drop_read(); // before the next one is made: it may stand where this one stood
        let answer =
            Answer::from_kind(head.kind & !(LARGE | SPOKE)).ok_or(LinkError::Malformed("unknown kind"))?;
        let payload = if head.kind & LARGE == 0 {
            Payload::copied(&self.scratch)
        } else {
            let what = Descriptor::decode(&self.scratch).ok_or(LinkError::Malformed("no descriptor"))?;
            let foreign = Foreign::new(self.block(what.block)?, what, Lease::Given);
            Payload::Theirs(Arc::new(foreign.ok_or(LinkError::Malformed("a payload outside its block"))?))
        };
        self.garbled = None;
        let spoke = head.kind & SPOKE != 0;
        Ok(Some(Received { run: head.run, answer, nanos: head.nanos, payload, spoke }))
    }

    /// A block of the worker's arena. Its descriptor was sent before the first answer that needs it.
    fn block(&mut self, number: u32) -> Result<Arc<ForeignBlock>, LinkError> {
        while !self.blocks.contains_key(&number) {
            let (number, fd) = receive_fd(&self.parcels)?;
            self.blocks.insert(number, Arc::new(ForeignBlock::new(fd).map_err(|(errno, _)| errno)?));
        }
        Ok(Arc::clone(&self.blocks[&number]))
    }

    /// The worker is dead: it looks at nothing in our arena any more.
    pub fn bury(&self, arena: &Arena) {
        arena.bury(self.number);
    }

    /// Take back the newest orders, `count` at most, up to the first that the worker has begun. How many.
    pub fn retract_last(&mut self, count: usize) -> usize {
        self.lane.retract_last(count)
    }

    /// Take back this one. `false`: the worker has begun it.
    pub fn retract(&mut self, run: Assignment) -> bool {
        self.lane.retract(run)
    }

    /// The dispatch that the worker has begun and not answered.
    pub fn begun(&self) -> Option<Assignment> {
        self.garbled.or_else(|| self.lane.begun())
    }

    /// Whether an answer could not be received: there is no sense in trying again.
    pub fn is_garbled(&self) -> bool {
        self.garbled.is_some()
    }

    /// Whether an order that found no room may find some now.
    pub fn has_more_room(&self) -> bool {
        self.lane.has_more_room()
    }

    /// The host has nothing more for it: it need not call.
    pub fn call_never(&self) {
        self.lane.call_never();
    }

    /// Have the worker call when half of what waits is begun.
    pub fn call_at_half(&self) {
        self.lane.call_at_half();
    }

    /// The worker's heartbeat counter.
    pub fn beats(&self) -> u64 {
        self.lane.beats()
    }

    /// The most bytes that the worker had in memory. `counted` is what the kernel has counted, in the end: that includes the
    /// host's own peak, and is right where it is more. Else it is as of half a second before. `None`: nobody knows.
    pub fn peak_memory(&self, counted: Option<u64>) -> Option<u64> {
        let (noted, floor) = self.lane.peak();
        let counted = counted.filter(|&counted| floor > 0 && counted > floor);
        counted.or(if noted > 0 { Some(noted) } else { None })
    }

    /// How many items of the chunk that it is at the worker has begun.
    pub fn items(&self) -> u32 {
        self.lane.items()
    }
}

impl AsFd for HostLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
