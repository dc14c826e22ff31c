//! Pickles of the plainest values, written and read without the pickle machinery: what most calls of short functions take
//! and return. What is written is an ordinary pickle of protocol 5, and what is read may have been written by anybody;
//! everything else is left to `pickle`, by saying so.
//!
//! Only values of exactly these types: `None`, `bool`, `int` of 64 bits, `float`, short `str` and `bytes`, and one tuple of
//! them. They have no identity that anybody could rely on, and cannot contain themselves.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

use crate::ipc::SmallBytes;

/// A longer string is not what this is for: copying it takes longer than what is saved.
const MAX_TEXT: usize = 255;

/// As for a longer tuple.
const MAX_TUPLE: usize = 16;

const PROTO: [u8; 2] = [0x80, 5];
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const BININT: u8 = b'J';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const SHORT_BINUNICODE: u8 = 0x8c;
const SHORT_BINBYTES: u8 = b'C';
const EMPTY_TUPLE: u8 = b')';
const TUPLE1: u8 = 0x85;
const TUPLE2: u8 = 0x86;
const TUPLE3: u8 = 0x87;
const MARK: u8 = b'(';
const TUPLE: u8 = b't';

/// The value's pickle; `None`: it is not one of the plainest.
pub(super) fn encode(value: &Bound<'_, PyAny>) -> Option<SmallBytes> {
    let mut out = SmallBytes::from_slice(&PROTO);
    let done = match value.cast_exact::<PyTuple>() {
        Ok(tuple) => put_tuple(&mut out, tuple),
        Err(_) => put_scalar(&mut out, value),
    };
    done.map(|()| {
        out.push(STOP);
        out
    })
}

/// As [`encode`], for the arguments of a call.
pub(super) fn encode_tuple(tuple: &Bound<'_, PyTuple>) -> Option<SmallBytes> {
    let mut out = SmallBytes::from_slice(&PROTO);
    put_tuple(&mut out, tuple)?;
    out.push(STOP);
    Some(out)
}

fn put_tuple(out: &mut SmallBytes, tuple: &Bound<'_, PyTuple>) -> Option<()> {
    let count = tuple.len();
    if count > MAX_TUPLE {
        return None;
    }
    if count > 3 {
        out.push(MARK);
    }
    for index in 0..count {
        put_scalar(out, &*tuple.get_borrowed_item(index).ok()?)?;
    }
    out.push(match count {
        0 => EMPTY_TUPLE,
        1 => TUPLE1,
        2 => TUPLE2,
        3 => TUPLE3,
        _ => TUPLE,
    });
    Some(())
}

fn put_scalar(out: &mut SmallBytes, value: &Bound<'_, PyAny>) -> Option<()> {
    if let Ok(number) = value.cast_exact::<PyInt>() {
        put_int(out, number.extract().ok()?);
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        out.push(BINFLOAT);
        out.extend_from_slice(&number.value().to_be_bytes());
    } else if value.is_none() {
        out.push(NONE);
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        let text = text.to_str().ok()?;
        put_short(out, SHORT_BINUNICODE, text.as_bytes())?;
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { TRUE } else { FALSE });
    } else {
        put_short(out, SHORT_BINBYTES, value.cast_exact::<PyBytes>().ok()?.as_bytes())?;
    }
    Some(())
}

fn put_int(out: &mut SmallBytes, number: i64) {
    if let Ok(byte) = u8::try_from(number) {
        out.extend_from_slice(&[BININT1, byte]);
    } else if let Ok(short) = u16::try_from(number) {
        out.push(BININT2);
        out.extend_from_slice(&short.to_le_bytes());
    } else if let Ok(int) = i32::try_from(number) {
        out.push(BININT);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        out.extend_from_slice(&[LONG1, 8]);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_short(out: &mut SmallBytes, opcode: u8, bytes: &[u8]) -> Option<()> {
    if bytes.len() > MAX_TEXT {
        return None;
    }
    out.extend_from_slice(&[opcode, bytes.len() as u8]);
    out.extend_from_slice(bytes);
    Some(())
}

/// The value of a pickle that [`encode`] wrote; `None`: it holds something else.
pub(super) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut rest = Reader(bytes.strip_prefix(&PROTO)?.strip_suffix(&[STOP])?);
    let first = rest.scalar(py);
    if rest.0.is_empty() {
        return first; // the usual answer
    }
    Reader(&bytes[PROTO.len()..bytes.len() - 1]).tuple(py).map(Bound::into_any)
}

/// As [`decode`], for the arguments of a call.
pub(super) fn decode_tuple<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyTuple>> {
    Reader(bytes.strip_prefix(&PROTO)?.strip_suffix(&[STOP])?).tuple(py)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn short(&mut self) -> Option<&[u8]> {
        let length = usize::from(self.byte()?);
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn scalar<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        Some(match self.byte()? {
            BININT1 => int(py, self.byte()?.into()),
            BININT2 => int(py, u16::from_le_bytes(self.array()?).into()),
            BININT => int(py, i32::from_le_bytes(self.array()?).into()),
            LONG1 if self.byte()? == 8 => int(py, i64::from_le_bytes(self.array()?)),
            BINFLOAT => PyFloat::new(py, f64::from_be_bytes(self.array()?)).into_any(),
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            SHORT_BINUNICODE => PyString::new(py, std::str::from_utf8(self.short()?).ok()?).into_any(),
            SHORT_BINBYTES => PyBytes::new(py, self.short()?).into_any(),
            _ => return None,
        })
    }

    /// The rest, if it is one tuple.
    fn tuple<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyTuple>> {
        let (&last, body) = self.0.split_last()?;
        let (count, body) = match last {
            EMPTY_TUPLE => (Some(0), body),
            TUPLE1 => (Some(1), body),
            TUPLE2 => (Some(2), body),
            TUPLE3 => (Some(3), body),
            TUPLE => (None, body.strip_prefix(&[MARK])?),
            _ => return None,
        };
        let mut inner = Reader(body);
        let mut items = smallvec::SmallVec::<[Bound<'py, PyAny>; 4]>::new();
        while !inner.0.is_empty() {
            items.push(inner.scalar(py)?);
        }
        if count.is_some_and(|count| count != items.len()) {
            return None;
        }
        PyTuple::new(py, items).ok()
    }
}

fn int(py: Python<'_>, number: i64) -> Bound<'_, PyAny> {
    match number.into_pyobject(py) {
        Ok(int) => int.into_any(),
        Err(never) => match never {},
    }
}
