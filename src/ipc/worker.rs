//! The worker's end of what connects it to the host. One thread uses it, but for the heartbeat.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};

use super::LinkError;
use super::arena::{Arena, NO_BUDGET};
use super::asker::Asker;
use super::bell::WorkerBell;
use super::fds::move_up;
use super::foreign::{Descriptor, Foreign, ForeignBlock, Lease};
use super::frame::{FrameReader, HEADER_BYTES, KIND_CONFIG, KIND_READY, Raw, Read, greeting};
use super::host::{GREETING, GREETING_FDS};
use super::lane::{BEAT, LANE_BYTES, MAX_INLINE_BYTES, PEAK, PEAK_FLOOR, RING_BYTES, ResultHead};
use super::orders::{Answer, COPIED, LARGE, SPOKE, Task};
use super::output::OutputSender;
use super::parcels::{MESSAGE_FDS, receive_fd, send_fds};
use super::payload::Payload;
use super::range::Range;
use super::rusage::own_peak;
use super::shm::{Backing, Map};
use super::worker_lane::{TakenFrame, WorkerLane};
use crate::scheduler::types::Assignment;

/// Who looks at what a worker has handed over: there is one host.
const HOST: u32 = 1;

/// The longest that a worker with nothing to do looks for the next task before it sleeps: about what going to sleep and
/// being woken costs.
const MAX_SPIN: Duration = Duration::from_micros(30);

/// And the shortest, so that it notices when looking begins to pay.
const MIN_SPIN: Duration = Duration::from_micros(1);

/// Looks at the ring between two looks at the clock.
const LOOKS_PER_CLOCK: usize = 32;

/// The worker's end.
#[derive(Debug)]
pub struct WorkerLink {
    socket: OwnedFd,
    reader: FrameReader,
    parcels: OwnedFd,
    bell: WorkerBell,
    lane: WorkerLane,
    arena: Arc<Arena>,
    output: Arc<OutputSender>,
    asker: Arc<Asker>,
    /// Goes with the next answer.
    spoke: u32,
    /// Blocks of our arena that the host has been sent.
    shown: Vec<u32>,
    /// Blocks of the host's arena.
    blocks: HashMap<u32, Arc<ForeignBlock>>,
    /// What was shown and could not be mapped as a whole, for want of addresses (`RLIMIT_AS`).
    unmapped: HashMap<u32, OwnedFd>,
    /// How long it is worth to look for the next task before sleeping.
    spin: Duration,
    can_spin: bool,
}

/// The payload of an order, where it stands in an arena.
#[derive(Debug)]
pub enum Large {
    /// It does not.
    None,
    /// Here it is.
    Here(Payload),
    /// It has so many bytes, and this process no addresses left to look at them (`RLIMIT_AS`).
    NoAddresses(u64),
}

/// A task that was taken up.
#[derive(Debug)]
pub struct Taken {
    /// What to do.
    pub task: Task,
    /// To be named in the answer.
    pub run: Assignment,
    /// Which function, where it travels by number.
    pub function: u32,
    /// A large payload must be copied before it is used.
    pub copied: bool,
}

impl Taken {
    /// Which input, where it is about one.
    pub fn key(&self) -> u64 {
        u64::from(self.run.attempt.0) << 32 | u64::from(self.function)
    }
}

/// Counts the worker's life signs, from a thread of its own.
#[derive(Debug)]
pub struct Heart(Map);

impl Heart {
    /// Still alive.
    pub fn beat(&self) {
        self.0.u64(BEAT).fetch_add(1, Ordering::Relaxed);
    }

    /// Before the first task: with what the kernel's count of our memory begins.
    pub fn note_floor(&self) {
        self.0.u64(PEAK_FLOOR).store(own_peak(), Ordering::Relaxed);
    }

    /// The most bytes that we have had in memory.
    pub fn note_peak(&self, bytes: u64) {
        self.0.u64(PEAK).store(bytes, Ordering::Relaxed);
    }
}

impl WorkerLink {
    /// Take the greeting from the socket.
    ///
    /// The third value are the descriptors that the application shares.
    pub fn attach(socket: OwnedFd) -> Result<(Self, Heart, Vec<OwnedFd>), LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut hello = [0];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut hello)], &mut control, flags)?;
        if got.bytes != 1 || hello != [GREETING] {
            return Err(LinkError::NotAWorker("no greeting: this process was not started by a pool"));
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        let mut fds = fds.into_iter();
        let own: Vec<_> = fds.by_ref().take(GREETING_FDS).collect();
        let Ok([lane, bell, driver, parcels, output, asking]) = <[OwnedFd; GREETING_FDS]>::try_from(own)
        else {
            return Err(LinkError::NotAWorker("descriptors are missing: is their number limited?"));
        };
        let (driver, parcels) = (move_up(driver)?, move_up(parcels)?);
        let heart = Heart(Map::new(&lane, LANE_BYTES)?);
        let link = Self {
            socket,
            reader: FrameReader::new(),
            parcels,
            bell: WorkerBell::new(bell, driver)?,
            lane: WorkerLane::new(Map::new(&lane, LANE_BYTES)?),
            // Results may use as much memory as there is: what is too much is an error of the task that returns it.
            arena: Arena::new(Backing::Memfd, NO_BUDGET),
            output: Arc::new(OutputSender::new(move_up(output)?)),
            asker: Arc::new(Asker::new(move_up(asking)?, Map::new(&lane, LANE_BYTES)?)),
            spoke: 0,
            shown: Vec::new(),
            blocks: HashMap::new(),
            unmapped: HashMap::new(),
            spin: MAX_SPIN,
            can_spin: std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1),
        };
        Ok((link, heart, fds.collect()))
    }

    /// The socket, for watching its other end.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The first frame: what the host wants the worker to know.
    pub fn config(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            match self.reader.next_frame()? {
                Some(Raw { kind: KIND_CONFIG, payload, .. }) => return Ok(Some(payload)),
                Some(_) => return Err(LinkError::Malformed("expected the configuration")),
                None => {}
            }
            if self.reader.fill(&self.socket)? == Read::Closed {
                return Ok(None);
            }
        }
    }

    /// Say that the worker is ready, and what it is.
    pub fn ready(&self, description: &[u8]) -> Result<(), LinkError> {
        let header: [u8; HEADER_BYTES] = greeting(KIND_READY, description.len());
        let mut parts = [&header[..], description];
        while parts.iter().any(|part| !part.is_empty()) {
            let slices = parts.map(std::io::IoSlice::new);
            match sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                Ok(mut sent) => {
                    for part in &mut parts {
                        let here = sent.min(part.len());
                        *part = &part[here..];
                        sent -= here;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Take up the next order, if there is one; its payload replaces what is in `payload`. A large payload is returned.
    pub fn take(&mut self, payload: &mut Vec<u8>) -> Result<Option<(Taken, Large)>, LinkError> {
        let Some(frame) = self.lane.take()? else { return Ok(None) };
        if frame.wants_call {
            self.bell.call();
        }
        payload.clear();
        self.lane.payload(&frame, payload);
        self.lane.release(&frame);
        let TakenFrame { head, .. } = frame;
        let task =
            Task::from_kind(head.kind & !(LARGE | COPIED)).ok_or(LinkError::Malformed("unknown kind"))?;
        let copied = head.kind & COPIED != 0;
        let lease = if copied { Lease::None } else { Lease::Taken(self.lane.link()) };
        if task == Task::Unmap {
            self.blocks.remove(&head.function);
            self.unmapped.remove(&head.function);
        }
        let large = if head.kind & LARGE == 0 { Large::None } else { self.large(payload, lease)? };
        Ok(Some((Taken { task, run: head.run, function: head.function, copied }, large)))
    }

    fn large(&mut self, descriptor: &[u8], lease: Lease) -> Result<Large, LinkError> {
        let what = Descriptor::decode(descriptor).ok_or(LinkError::Malformed("no descriptor"))?;
        let bytes = what.bytes;
        let Some((block, what)) = self.block(what)? else { return Ok(Large::NoAddresses(bytes)) };
        let foreign = Foreign::new(block, what, lease);
        let foreign = foreign.ok_or(LinkError::Malformed("a payload outside its block"))?;
        Ok(Large::Here(Payload::Theirs(Arc::new(foreign))))
    }

    /// The block of a payload, or what that needs of it; `None`: there are no addresses left for that.
    fn block(&mut self, what: Descriptor) -> Result<Option<(Arc<ForeignBlock>, Descriptor)>, LinkError> {
        let number = what.block;
        while !self.blocks.contains_key(&number) && !self.unmapped.contains_key(&number) {
            let (came, fd) = receive_fd(&self.parcels)?;
            self.unmapped.insert(came, move_up(&fd).unwrap_or(fd));
        }
        let Some(fd) = self.unmapped.remove(&number) else {
            return Ok(Some((Arc::clone(&self.blocks[&number]), what)));
        };
        match ForeignBlock::new(fd) {
            Ok(block) => {
                let block = self.blocks.entry(number).insert_entry(Arc::new(block));
                Ok(Some((Arc::clone(block.get()), what)))
            }
            Err((Errno::NOMEM, fd)) => {
                let part = ForeignBlock::part(move_up(&fd)?, what);
                self.unmapped.insert(number, fd);
                match part {
                    Ok((part, what)) => Ok(Some((Arc::new(part), what))),
                    Err(Errno::NOMEM) => Ok(None),
                    Err(errno) => Err(errno.into()),
                }
            }
            Err((errno, _)) => Err(errno.into()),
        }
    }

    /// Look for the next order for as long as that is worth it, and allowed. Whether there is one.
    pub fn spin(&mut self, limit: Duration) -> bool {
        if self.lane.has_task() {
            return true;
        }
        if !self.can_spin {
            return false;
        }
        let limit = limit.min(self.spin);
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.lane.has_task() {
                    self.spin = MAX_SPIN;
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= limit {
                return false;
            }
        }
    }

    /// Sleep until there is an order, or a signal, or for no reason: look again.
    pub fn wait(&mut self) {
        let start = Instant::now();
        self.lane.sleep_for_task(|| self.bell.call());
        self.spin = if start.elapsed() < MAX_SPIN * 2 {
            MAX_SPIN // a little longer, and there would have been no need to sleep
        } else {
            (self.spin / 2).max(MIN_SPIN)
        };
    }

    /// This many items of the chunk have been begun.
    pub fn set_items(&self, items: u32) {
        self.lane.set_items(items);
    }

    /// Room in our arena for an answer that is too large for the ring, to be filled.
    pub fn room(&self, bytes: usize) -> Result<Range, LinkError> {
        self.arena.take(bytes).map_err(|_| LinkError::NoMemory(bytes as u64))
    }

    /// Our arena: its owner may have it rest.
    pub fn arena(&self) -> Arc<Arena> {
        Arc::clone(&self.arena)
    }

    /// Where tasks print.
    pub fn output(&self) -> Arc<OutputSender> {
        Arc::clone(&self.output)
    }

    /// Through which tasks ask the host.
    pub fn asker(&self) -> Arc<Asker> {
        Arc::clone(&self.asker)
    }

    /// The next answer's task has printed: the host takes that before the answer.
    pub fn note_spoke(&mut self) {
        self.spoke = SPOKE;
    }

    /// Answer. `false`: there is no room; call [`Self::wait_for_room`] and try again. A result is visible at once: one that
    /// waited for company would be lost with the worker.
    pub fn reply(
        &mut self,
        run: Assignment,
        answer: Answer,
        nanos: u64,
        bytes: &[u8],
    ) -> Result<bool, LinkError> {
        if bytes.len() > MAX_INLINE_BYTES {
            let range = self.room(bytes.len())?;
            range.write(0, bytes);
            return self.reply_large(run, answer, nanos, &range);
        }
        let head = ResultHead { run, kind: answer.kind() | self.spoke, nanos, bytes: bytes.len() };
        let done = self.lane.publish(head, &[bytes]);
        self.tell(done);
        Ok(done)
    }

    /// As [`Self::reply`], with what stands in our arena.
    pub fn reply_large(
        &mut self,
        run: Assignment,
        answer: Answer,
        nanos: u64,
        range: &Range,
    ) -> Result<bool, LinkError> {
        let block = range.block();
        if !self.shown.contains(&block.number) {
            send_fds(&self.parcels, &block.number.to_le_bytes(), &[block.file.as_fd()])?;
            self.shown.push(block.number);
        }
        let descriptor = range.descriptor().encode();
        let head =
            ResultHead { run, kind: answer.kind() | LARGE | self.spoke, nanos, bytes: descriptor.len() };
        // From here on the host ends the lease.
        range.lease(HOST);
        let done = self.lane.publish(head, &[&descriptor]);
        if !done {
            range.lease(0);
        }
        self.tell(done);
        Ok(done)
    }

    fn tell(&mut self, done: bool) {
        if done {
            self.spoke = 0;
        }
        if done && self.lane.unread() > RING_BYTES / 2 {
            self.bell.call();
        } else if done {
            self.bell.tell();
        }
    }

    /// Sleep until the host has taken results, after a reply found no room.
    pub fn wait_for_room(&mut self) {
        self.lane.sleep_for_room(|| self.bell.call());
    }
}
