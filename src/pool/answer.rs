//! What a worker says of a result besides its pickle, in texts that the host can show without unpickling anything.
//!
//! A *described* value and every exception travel as sections: a count (u32), that many lengths (u64), then the bytes;
//! little-endian. `disttask._pickling` writes them.

use crate::ipc::{MAX_INLINE_BYTES, Payload};

/// Where a value's sections stand.
const JSON: usize = 0;
const REPR: usize = 1;
const PICKLE: usize = 2;

/// Where an exception's sections stand.
const STAGE: usize = 0;
const TYPE_NAME: usize = 1;
const MESSAGE: usize = 2;
const TRACEBACK: usize = 3;
/// What we have noted on it, if anything. The pickle is the last in any case.
const NOTE: usize = 4;
const WITHOUT_NOTE: usize = 5;
const WITH_NOTE: usize = 6;

/// More sections than anything here has: a larger count is garbage.
const MAX_SECTIONS: usize = 16;

/// The sections of an answer; `None` where it is garbage.
fn sections(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MAX_SECTIONS {
        return None;
    }
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<8>()?;
        lengths.push(usize::try_from(u64::from_le_bytes(*length)).ok()?);
        rest = after;
    }
    let mut found = Vec::with_capacity(count);
    for length in lengths {
        let (section, after) = rest.split_at_checked(length)?;
        found.push(section);
        rest = after;
    }
    Some(found)
}

/// The bytes of sections.
fn joined(sections: &[&[u8]]) -> Vec<u8> {
    let mut bytes = (sections.len() as u32).to_le_bytes().to_vec();
    bytes.extend(sections.iter().flat_map(|section| (section.len() as u64).to_le_bytes()));
    bytes.extend(sections.concat());
    bytes
}

/// An exception's answer, with something noted on it that its task does not know. One that is very long stays as it is.
pub(super) fn with_note(error: Payload, note: &str) -> Payload {
    if error.len() > MAX_INLINE_BYTES {
        return error;
    }
    let bytes = error.to_vec();
    let Some(mut found) = sections(&bytes) else { return error };
    let both;
    match found.len() {
        WITHOUT_NOTE => found.insert(NOTE, note.as_bytes()),
        WITH_NOTE => {
            both = [note.as_bytes(), b"\n", found[NOTE]].concat();
            found[NOTE] = &both;
        }
        _ => return error,
    }
    let noted = joined(&found);
    if noted.len() > MAX_INLINE_BYTES { error } else { Payload::copied(&noted) }
}

fn section(bytes: &[u8], index: usize) -> Option<&[u8]> {
    sections(bytes)?.get(index).copied()
}

fn text(bytes: &[u8], index: usize) -> String {
    String::from_utf8_lossy(section(bytes, index).unwrap_or_default()).into_owned()
}

/// A described value or an exception without its pickle, which is the last section and can be large.
pub(super) fn shown(payload: &Payload) -> Vec<u8> {
    let mut head = vec![0; payload.len().min(4 + 8 * MAX_SECTIONS)];
    payload.read(&mut head);
    let lengths = head.split_first_chunk::<4>().and_then(|(count, rest)| {
        let count = u32::from_le_bytes(*count) as usize;
        let lengths: Vec<_> = rest.chunks_exact(8).take(count).collect();
        (lengths.len() == count).then_some(lengths)
    });
    let texts = lengths.and_then(|lengths| {
        let (_, texts) = lengths.split_last()?;
        let sizes = texts.iter().map(|length| u64::from_le_bytes((*length).try_into().expect("eight bytes")));
        usize::try_from(sizes.fold(4 + 8 * lengths.len() as u64, u64::saturating_add)).ok()
    });
    let mut bytes = vec![0; texts.unwrap_or(0).min(payload.len())];
    payload.read(&mut bytes);
    // The section that was left out is an empty one now.
    if let Some(count) = bytes.first_chunk::<4>().map(|count| u32::from_le_bytes(*count) as usize)
        && let Some(last) = bytes.get_mut(8 * count - 4..8 * count + 4)
    {
        last.fill(0);
    }
    bytes
}

/// The texts of an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorText {
    /// Where it was raised: `load`, `run` or `dump`.
    pub stage: String,
    /// Its type, with the module.
    pub type_name: String,
    /// Its `str()`.
    pub message: String,
    /// The formatted traceback in the worker, and what was noted on it.
    pub traceback: String,
}

/// The texts of an exception's answer.
pub fn error_text(bytes: &[u8]) -> ErrorText {
    let mut traceback = text(bytes, TRACEBACK);
    if sections(bytes).is_some_and(|sections| sections.len() == WITH_NOTE) {
        let line = if traceback.is_empty() || traceback.ends_with('\n') { "" } else { "\n" };
        traceback = format!("{traceback}{line}{}\n", text(bytes, NOTE));
    }
    ErrorText {
        stage: text(bytes, STAGE),
        type_name: text(bytes, TYPE_NAME),
        message: text(bytes, MESSAGE),
        traceback,
    }
}

/// The value as JSON, where it can be JSON.
pub fn value_json(described: &[u8]) -> Option<&str> {
    let json = section(described, JSON)?;
    if json.is_empty() { None } else { std::str::from_utf8(json).ok() }
}

/// The value's `repr`, shortened.
pub fn value_repr(described: &[u8]) -> String {
    text(described, REPR)
}

/// The value's pickle.
pub fn value_pickle(described: &[u8]) -> &[u8] {
    section(described, PICKLE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back() {
        let described = joined(&[b"[1]", b"[1]", b"\x80pickle"]);
        assert_eq!(value_json(&described), Some("[1]"));
        assert_eq!(value_repr(&described), "[1]");
        assert_eq!(value_pickle(&described), b"\x80pickle");
        assert_eq!(value_json(&joined(&[b"", b"<object>", b"p"])), None);
    }

    #[test]
    fn the_pickle_is_left_out_and_nothing_else() {
        let pickle = vec![7; 100_000];
        let parts = shown(&Payload::copied(&joined(&[b"[1]", b"<list>", &pickle])));
        assert_eq!(parts, joined(&[b"[1]", b"<list>", b""]));
        assert_eq!(value_repr(&parts), "<list>");
        for garbage in [&b""[..], b"x", &[0; 4], &[255; 40], &[1, 0, 0, 0], &[3, 0, 0, 0, 9]] {
            assert_eq!(value_repr(&shown(&Payload::copied(garbage))), "");
        }
    }

    #[test]
    fn a_note_stands_beside_the_rest() {
        let error = joined(&[b"run", b"ValueError", b"x", b"tb\nValueError: x\n", b"pickle"]);
        let noted = with_note(Payload::copied(&error), "attempt 3 of 3").to_vec();
        let text = error_text(&noted);
        assert_eq!((&*text.message, &*text.traceback), ("x", "tb\nValueError: x\nattempt 3 of 3\n"));
        assert_eq!(sections(&noted).unwrap().last(), Some(&&b"pickle"[..]));
        assert_eq!(error_text(&shown(&Payload::copied(&noted))), text);
        let twice = error_text(&with_note(Payload::copied(&noted), "and more").to_vec());
        assert_eq!(twice.traceback, "tb\nValueError: x\nand more\nattempt 3 of 3\n");
        for other in [&b"x"[..], &joined(&[b"run"])] {
            assert_eq!(with_note(Payload::copied(other), "attempt 3 of 3").to_vec(), other);
        }
    }

    #[test]
    fn garbage_is_empty_and_no_panic() {
        let whole = joined(&[b"run", b"ValueError", b"x", b"tb", b""]);
        assert_eq!(error_text(&whole).type_name, "ValueError");
        for cut in 0..whole.len() - 1 {
            assert_eq!(error_text(&whole[..cut]).stage, "", "cut at {cut}");
        }
        assert_eq!(value_pickle(&[0xFF; 40]), b"");
    }
}
