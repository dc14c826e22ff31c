//! What a task asks of the host while it runs: to accept another task, how that one ended, whether it may run it itself.
//!
//! A socket that keeps messages apart, besides the rings, which only the worker's loop may read. A request has one answer,
//! and the next request comes after it: so no answer ever finds the socket full, and the host never waits. Here are the
//! messages; who sends them when is in `asker`.

use super::foreign::{MAX_PARTS, Part};

/// What of a payload goes in one message: enough that a large one takes few, little enough for any socket's buffer.
pub const MAX_PIECE_BYTES: usize = 64 * 1024;

/// A piece, and whatever goes with one.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_PIECE_BYTES + 16 * MAX_PARTS + 4096;

/// A longer name is cut.
const MAX_NAME_BYTES: usize = 1024;

/// From a worker. A `key` is its own number for a task that it has submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Accept a task.
    Submit {
        /// Not used before.
        key: u64,
        /// As in `TaskSpec`.
        priority: i32,
        /// As in `TaskSpec`.
        retries: u32,
        /// Of the whole payload.
        bytes: u64,
        /// The function's.
        name: &'a str,
        /// The payload's beginning.
        piece: &'a [u8],
    },
    /// More of its payload.
    More(u64, &'a [u8]),
    /// How did it end?
    Look {
        /// Which.
        key: u64,
        /// If nobody has begun it, the worker runs it.
        claim: bool,
    },
    /// More of its value, from there on.
    Read(u64, u64),
    /// Cancel it.
    Cancel(u64),
    /// Nobody will ask for it any more. There is no answer.
    Drop(u64),
    /// The worker has run it; the description of what it raised, if it did. There is no answer.
    Ran(u64, Option<&'a [u8]>),
}

/// From the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Go on: the next piece.
    Continue,
    /// The task is accepted, under this number.
    Accepted(u64),
    /// It is not: the pool is broken, or it takes no more.
    Refused {
        /// For good.
        broken: bool,
        /// Why.
        why: String,
    },
    /// It has not ended; whether somebody runs it.
    Pending(bool),
    /// The worker is to run it.
    Yours,
    /// It has ended.
    Done {
        /// What the bytes are.
        kind: Ending,
        /// How many there are.
        bytes: u64,
        /// Where the parts of a value stand.
        parts: Vec<Part>,
        /// The beginning of them.
        piece: Vec<u8>,
    },
    /// More of the bytes.
    Piece(Vec<u8>),
    /// Whether it is cancelled.
    Cancelled(bool),
    /// There is no such task, or it makes no sense to ask that of it.
    Unknown,
}

/// How a task has ended, and so what the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A pickle.
    Value,
    /// The description of an exception.
    Error,
    /// A failure's facts, as JSON.
    Failed,
    /// Nothing.
    Cancelled,
}

impl Ending {
    const ALL: [Self; 4] = [Self::Value, Self::Error, Self::Failed, Self::Cancelled];

    /// As Python calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

const SUBMIT: u8 = 1;
const MORE: u8 = 2;
const LOOK: u8 = 3;
const CLAIM: u8 = 4;
const READ: u8 = 5;
const CANCEL: u8 = 6;
const DROP: u8 = 7;
const RETURNED: u8 = 8;
const RAISED: u8 = 9;

const CONTINUE: u8 = 1;
const ACCEPTED: u8 = 2;
const REFUSED: u8 = 3;
const BROKEN: u8 = 4;
const PENDING: u8 = 5;
const RUNNING: u8 = 6;
const YOURS: u8 = 7;
const DONE: u8 = 8;
const PIECE: u8 = 9;
const YES: u8 = 10;
const NO: u8 = 11;
const UNKNOWN: u8 = 12;

/// As much of the text as fits, in whole characters.
fn head_of(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Takes numbers off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }
}

impl<'a> Request<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = |kind: u8, key: u64| [&[kind][..], &key.to_le_bytes()].concat();
        match *self {
            Self::Submit { key, priority, retries, bytes, name, piece } => {
                let name = head_of(name, MAX_NAME_BYTES);
                let mut message = head(SUBMIT, key);
                message.extend(priority.to_le_bytes());
                message.extend(retries.to_le_bytes());
                message.extend(bytes.to_le_bytes());
                message.extend((name.len() as u32).to_le_bytes());
                message.extend(name.as_bytes());
                message.extend(piece);
                message
            }
            Self::More(key, piece) => [&head(MORE, key)[..], piece].concat(),
            Self::Look { key, claim } => head(if claim { CLAIM } else { LOOK }, key),
            Self::Read(key, at) => [&head(READ, key)[..], &at.to_le_bytes()].concat(),
            Self::Cancel(key) => head(CANCEL, key),
            Self::Drop(key) => head(DROP, key),
            Self::Ran(key, None) => head(RETURNED, key),
            Self::Ran(key, Some(error)) => [&head(RAISED, key)[..], error].concat(),
        }
    }

    /// `None`: it is none.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        let (kind, key) = (reader.u8()?, reader.u64()?);
        Some(match kind {
            SUBMIT => {
                let (priority, retries) = (reader.u32()?.cast_signed(), reader.u32()?);
                let (bytes, length) = (reader.u64()?, reader.u32()?);
                let name = std::str::from_utf8(reader.bytes(length as usize)?).ok()?;
                Self::Submit { key, priority, retries, bytes, name, piece: reader.0 }
            }
            MORE => Self::More(key, reader.0),
            LOOK | CLAIM => Self::Look { key, claim: kind == CLAIM },
            READ => Self::Read(key, reader.u64()?),
            CANCEL => Self::Cancel(key),
            DROP => Self::Drop(key),
            RETURNED => Self::Ran(key, None),
            RAISED => Self::Ran(key, Some(reader.0)),
            _ => return None,
        })
    }

    pub(super) fn has_answer(&self) -> bool {
        !matches!(self, Self::Drop(_) | Self::Ran(..))
    }
}

impl Response {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Continue => vec![CONTINUE],
            Self::Accepted(task) => [&[ACCEPTED][..], &task.to_le_bytes()].concat(),
            Self::Refused { broken, why } => {
                let why = head_of(why, MAX_PIECE_BYTES).as_bytes();
                [&[if *broken { BROKEN } else { REFUSED }][..], why].concat()
            }
            Self::Pending(running) => vec![if *running { RUNNING } else { PENDING }],
            Self::Yours => vec![YOURS],
            Self::Done { kind, bytes, parts, piece } => {
                let mut message = vec![DONE, *kind as u8];
                message.extend(bytes.to_le_bytes());
                message.extend((parts.len() as u32).to_le_bytes());
                for &(at, length) in parts {
                    message.extend((at as u64).to_le_bytes());
                    message.extend((length as u64).to_le_bytes());
                }
                message.extend(piece);
                message
            }
            Self::Piece(piece) => [&[PIECE][..], piece].concat(),
            Self::Cancelled(cancelled) => vec![if *cancelled { YES } else { NO }],
            Self::Unknown => vec![UNKNOWN],
        }
    }

    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let mut reader = Reader(message);
        Some(match reader.u8()? {
            CONTINUE => Self::Continue,
            ACCEPTED => Self::Accepted(reader.u64()?),
            kind @ (REFUSED | BROKEN) => {
                Self::Refused { broken: kind == BROKEN, why: String::from_utf8_lossy(reader.0).into_owned() }
            }
            kind @ (PENDING | RUNNING) => Self::Pending(kind == RUNNING),
            YOURS => Self::Yours,
            DONE => {
                let kind = *Ending::ALL.get(usize::from(reader.u8()?))?;
                let (bytes, count) = (reader.u64()?, reader.u32()?);
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push((reader.u64()? as usize, reader.u64()? as usize));
                }
                Self::Done { kind, bytes, parts, piece: reader.0.to_vec() }
            }
            PIECE => Self::Piece(reader.0.to_vec()),
            kind @ (YES | NO) => Self::Cancelled(kind == YES),
            UNKNOWN => Self::Unknown,
            _ => return None,
        })
    }
}

#[cfg(test)]
pub(super) fn round_trip(request: &Request<'_>) {
    assert_eq!(Request::decode(&request.encode()).as_ref(), Some(request));
}

#[cfg(test)]
pub(super) fn round_trip_answer(response: &Response) {
    assert_eq!(Response::decode(&response.encode()).as_ref(), Some(response));
}
