//! Lists of numbers, as chunks of `map` have them: packed, which is several times quicker than a pickle both ways.
//!
//! A tag (no pickle begins so), then the numbers, little-endian. Only for lists of exactly `int` (64 bits) or exactly `float`.

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyList};

const INT32: u8 = b'i';
const INT64: u8 = b'q';
const FLOAT: u8 = b'd';

/// The packed list; `None`: it holds something else.
pub(super) fn encode(list: &Bound<'_, PyList>) -> Option<Vec<u8>> {
    let first = list.get_item(0).ok()?;
    if first.is_exact_instance_of::<PyFloat>() { encode_floats(list) } else { encode_ints(list) }
}

fn encode_floats(list: &Bound<'_, PyList>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1 + 8 * list.len());
    out.push(FLOAT);
    for item in list {
        out.extend_from_slice(&item.cast_exact::<PyFloat>().ok()?.value().to_le_bytes());
    }
    Some(out)
}

fn encode_ints(list: &Bound<'_, PyList>) -> Option<Vec<u8>> {
    let mut numbers = Vec::with_capacity(list.len());
    let mut narrow = true;
    for item in list {
        let number: i64 = item.cast_exact::<PyInt>().ok()?.extract().ok()?;
        narrow &= i32::try_from(number).is_ok();
        numbers.push(number);
    }
    let mut out = Vec::with_capacity(1 + numbers.len() * if narrow { 4 } else { 8 });
    if narrow {
        out.push(INT32);
        out.extend(numbers.iter().flat_map(|&number| (number as i32).to_le_bytes()));
    } else {
        out.push(INT64);
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    Some(out)
}

/// The list; `None`: it was not packed here.
pub(super) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyList>> {
    let (&tag, packed) = bytes.split_first()?;
    match tag {
        INT32 => {
            PyList::new(py, whole(packed.as_chunks())?.iter().map(|four| i32::from_le_bytes(*four))).ok()
        }
        INT64 => {
            PyList::new(py, whole(packed.as_chunks())?.iter().map(|eight| i64::from_le_bytes(*eight))).ok()
        }
        FLOAT => {
            PyList::new(py, whole(packed.as_chunks())?.iter().map(|eight| f64::from_le_bytes(*eight))).ok()
        }
        _ => None,
    }
}

/// Numbers without a rest.
fn whole<'a, const N: usize>((numbers, rest): (&'a [[u8; N]], &'a [u8])) -> Option<&'a [[u8; N]]> {
    rest.is_empty().then_some(numbers)
}
