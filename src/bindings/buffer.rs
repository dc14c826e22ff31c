//! Buffers of Python objects, out of band (pickle protocol 5): copied once into memory that the other side can see, and used
//! there where they stand.
//!
//! One of two places outside `src/ipc/` with `unsafe` in them (the other is `tracking.rs`): the buffer protocol hands out bare
//! pointers.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyBufferError, PyMemoryError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList};

use super::memory::payload_bytes;
use crate::ipc::{Foreign, MAX_PARTS, PART_ALIGN, Part, Payload, Range};

/// A smaller buffer is copied into the pickle: standing alone it would cost more than it saves.
const MIN_BUFFER_BYTES: usize = 32 * 1024;

/// To search so much takes some 100 us: other threads run meanwhile.
const ASIDE_BYTES: usize = 1 << 20;

/// In each pickle that has a bound method in it, which may be one that is to go by name: see `disttask._references`.
const BOUND: &[u8] = b"\x8c\x07getattr";

/// `_native.Buffers`: what `pickle.dumps` calls for each buffer that it meets.
#[pyclass(frozen, module = "disttask._native")]
struct Buffers(Mutex<Vec<Py<PyAny>>>);

#[pymethods]
impl Buffers {
    /// `True`: put it into the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(raw) = buffer.call_method0(intern!(buffer.py(), "raw")) else { return Ok(true) }; // not contiguous
        let bytes: usize = raw.getattr(intern!(buffer.py(), "nbytes"))?.extract()?;
        let mut buffers = self.0.lock();
        if bytes < MIN_BUFFER_BYTES || buffers.len() + 1 >= MAX_PARTS {
            return Ok(true);
        }
        buffers.push(raw.unbind());
        Ok(false)
    }
}

/// `_native.mentions`: as `name in data`, which takes Python a millisecond for a megabyte.
#[pyfunction]
#[pyo3(signature = (data, name, /))]
pub(super) fn mentions(py: Python<'_>, data: &[u8], name: &[u8]) -> bool {
    let search = || memchr::memmem::find(data, name).is_some();
    if data.len() < ASIDE_BYTES { search() } else { py.detach(search) }
}

/// A pickle, and the buffers that it refers to.
pub(super) struct Pickled<'py> {
    pub(super) pickle: Bound<'py, PyBytes>,
    buffers: Vec<Py<PyAny>>,
}

/// Pickle, with buffers out of band.
pub(super) fn dumps<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let pickled = dumps_by(&py.import(intern!(py, "_pickle"))?.getattr(intern!(py, "dumps"))?, value)?;
    if memchr::memmem::find(pickled.pickle.as_bytes(), BOUND).is_none() {
        return Ok(pickled);
    }
    dumps_by(&py.import(intern!(py, "disttask._references"))?.getattr(intern!(py, "dumps"))?, value)
}

fn dumps_by<'py>(dumps: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = value.py();
    let buffers = Bound::new(py, Buffers(Mutex::default()))?;
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "buffer_callback"), &buffers)?;
    let pickle = dumps.call((value, 5), Some(&kwargs))?.cast_into::<PyBytes>()?;
    let buffers = std::mem::take(&mut *buffers.get().0.lock());
    Ok(Pickled { pickle, buffers })
}

impl Pickled<'_> {
    /// Whether it is one run of bytes.
    pub(super) fn is_plain(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Whether Python has to see to it: something in it is of `__main__` (which a child of `multiprocessing` knows as
    /// `__mp_main__`), another module on the other side; or is a connection, whose descriptor has to be sent as well, or
    /// the proxy of something that a manager holds.
    pub(super) fn needs_care(&self) -> bool {
        let mentions = |name| memchr::memmem::find(self.pickle.as_bytes(), name).is_some();
        mentions(b"_main__")
            || mentions(b"multiprocessing.connection")
            || mentions(b"multiprocessing.managers")
    }

    /// Bytes of all its parts.
    pub(super) fn size(&self, py: Python<'_>) -> PyResult<usize> {
        let views = self.views(py)?;
        Ok(layout(&self.pickle, &views).1)
    }

    fn views(&self, py: Python<'_>) -> PyResult<Vec<View>> {
        self.buffers.iter().map(|buffer| View::new(buffer.bind(py))).collect()
    }

    /// Copy all parts into a range of that size; other threads run meanwhile.
    pub(super) fn fill(&self, py: Python<'_>, range: Range) -> PyResult<Range> {
        let views = self.views(py)?;
        let (parts, _) = layout(&self.pickle, &views);
        let copies: Vec<_> = parts[1..].iter().zip(&views).collect();
        let pickle = self.pickle.as_bytes();
        py.detach(|| {
            range.write(0, pickle); // which may have to look for huge pages for all of it
            for (&(at, bytes), view) in copies {
                // SAFETY: the view keeps the buffer exported, so the address stays readable for `bytes`.
                unsafe { range.fill(at, view.address(), bytes) };
            }
        });
        Ok(range.with_parts(parts))
    }
}

fn layout(pickle: &Bound<'_, PyBytes>, views: &[View]) -> (Vec<Part>, usize) {
    let mut end = pickle.as_bytes().len();
    let mut parts = vec![(0, end)];
    for view in views {
        let at = end.next_multiple_of(PART_ALIGN);
        parts.push((at, view.bytes()));
        end = at + view.bytes();
    }
    (parts, end)
}

/// A contiguous buffer, exported for as long as this lives.
struct View(Box<ffi::Py_buffer>);

// SAFETY: the exporter keeps the memory in place until the release, which needs the GIL and gets it (`drop`).
unsafe impl Send for View {}
// SAFETY: as above; only the address and the size are read.
unsafe impl Sync for View {}

impl View {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `view` is a fresh `Py_buffer`, in a place that does not move.
        let status = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        if status != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    fn address(&self) -> *const u8 {
        self.0.buf.cast_const().cast()
    }

    fn bytes(&self) -> usize {
        self.0.len.unsigned_abs()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled by `PyObject_GetBuffer`, released once, with the GIL.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
        });
    }
}

/// The format of plain bytes.
const BYTES: &CStr = c"B";

/// `_native.Lent`: a buffer in the other side's arena. Arrays are made upon it; when the last of them is gone, so is the lease.
#[pyclass(frozen, module = "disttask._native")]
struct Lent {
    payload: Arc<Foreign>,
    part: Part,
}

#[pymethods]
impl Lent {
    /// # Safety
    /// Called by Python, with a `Py_buffer` to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let this = slf.get();
        let (_, bytes) = this.part;
        // SAFETY: `view` is Python's to be filled; the memory stays mapped and leased while `obj`, which is us, lives; `shape`
        // and `strides` point into the view itself, which is where `PyBuffer_FillInfo` has them point, too.
        unsafe {
            (*view).buf = this.payload.address(this.part).cast();
            (*view).len = bytes.cast_signed();
            (*view).readonly = 0;
            (*view).itemsize = 1;
            (*view).format = if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                BYTES.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).ndim = 1;
            (*view).shape = if flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
                &raw mut (*view).len
            } else {
                std::ptr::null_mut()
            };
            (*view).strides = if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                &raw mut (*view).itemsize
            } else {
                std::ptr::null_mut()
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }
}

/// The pickle of a payload, and its buffers: lent where they stand, or copied (`copied`: others will look at them, too).
pub(super) fn parts<'py>(
    py: Python<'py>,
    payload: &Payload,
    copied: bool,
) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyList>>)> {
    let (Some((&pickle, buffers)), Payload::Theirs(foreign)) = (payload.parts().split_first(), payload)
    else {
        return Ok((payload_bytes(py, payload)?, None));
    };
    py.detach(|| foreign.map_in());
    let pickle = PyBytes::new_with(py, pickle.1, |place| {
        foreign.read(pickle.0, place);
        Ok(())
    })?;
    if !copied && !buffers.is_empty() {
        foreign.expose();
    }
    let list = PyList::empty(py);
    for &part in buffers {
        if copied {
            let copy = PyByteArray::new_with(py, part.1, |place| {
                foreign.read(part.0, place);
                Ok(())
            });
            list.append(
                copy.map_err(|_| PyMemoryError::new_err(format!("no memory for {} bytes", part.1)))?,
            )?;
        } else {
            list.append(Bound::new(py, Lent { payload: Arc::clone(foreign), part })?)?;
        }
    }
    Ok((pickle, Some(list)))
}
