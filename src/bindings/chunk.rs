//! A chunk of `map` in the worker: items one after another, and none of them sees anything of another.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::guarded::AGAIN;
use super::numbers;
use super::reply::Reply;
use super::worker::{Loop, stage_of_loading};
use crate::ipc::{Answer, Payload, Taken, WorkerLink};

/// Whether this value cannot change, and is quickly told so.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyBytes>()
}

impl<'py> Loop<'py> {
    /// Run a chunk of `map`: an item that raises is one answer among the others.
    pub(super) fn run_chunk(
        &mut self,
        link: &WorkerLink,
        taken: &Taken,
        payload: &[u8],
        large: Option<Payload>,
    ) -> PyResult<Reply<'py>> {
        link.set_items(0);
        let loaded = (|| {
            let function = self.function(taken.function)?;
            if large.is_none()
                && let Some(items) = numbers::decode(self.py, payload)
            {
                return Ok((function, false, false, items));
            }
            let (spread, apart, items): (bool, bool, Bound<'py, PyList>) =
                self.load(taken, payload, large.as_ref())?.extract()?;
            drop(large);
            Ok((function, spread, apart, items))
        })();
        let (function, spread, apart, items) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return self.error(stage_of_loading(self.py, &error), error, None),
        };
        let (function, guard) = self.unwrapped(function)?;
        let mut values = Vec::with_capacity(items.len());
        let (errors, pickles) = (PyList::empty(self.py), PyList::empty(self.py));
        for (item, index) in items.iter().zip(1_u32..) {
            link.set_items(index);
            let place = index - 1;
            let result = self.run_item((&function, guard.as_ref()), item, spread, apart);
            self.check_fork(result.as_ref().err().map(|(_, error)| error)); // a child has no business with the others
            match result {
                // Plain values cannot change while the others are computed.
                Ok(value) if is_plain(&value) => values.push(value),
                Ok(value) => {
                    values.push(self.py.None().into_bound(self.py));
                    match self.helpers.dump.call1((&value,)) {
                        Ok(pickle) => pickles.append((place, pickle))?,
                        Err(error) => errors.append((place, self.described("dump", error, Some(&value))?))?,
                    }
                }
                // The item is the whole chunk: `map` sees to that.
                Err((AGAIN, error)) => {
                    link.set_items(0);
                    return Ok(Reply::Bytes(Answer::Raised, self.described("run", error, None)?));
                }
                Err((stage, error)) => {
                    values.push(self.py.None().into_bound(self.py));
                    errors.append((place, self.described(stage, error, None)?))?;
                }
            }
        }
        link.set_items(0); // what kills the worker from here on is no item
        self.check_fork(None);
        let values = PyList::new(self.py, values)?;
        if errors.is_empty()
            && pickles.is_empty()
            && let Some(packed) = numbers::encode(&values)
        {
            return Ok(Reply::Packed(Answer::Values, packed));
        }
        let bytes = self.helpers.dump_chunk.call1((errors, values, pickles))?;
        Ok(Reply::Bytes(Answer::Values, bytes.cast_into()?))
    }

    fn run_item(
        &self,
        (function, guard): (&Bound<'py, PyAny>, Option<&Bound<'py, PyAny>>),
        item: Bound<'py, PyAny>,
        spread: bool,
        apart: bool,
    ) -> Result<Bound<'py, PyAny>, (&'static str, PyErr)> {
        let py = self.py;
        let at_load = |error| (stage_of_loading(py, &error), error);
        let item = if apart { self.helpers.load.call1((item,)).map_err(at_load)? } else { item };
        let result = if spread {
            let args = item.cast_into::<PyTuple>().map_err(|error| at_load(error.into()))?;
            self.called(guard, || function.call1(args))
        } else {
            self.called(guard, || function.call1((item,)))
        };
        result.map_err(|error| self.judged(guard, error))
    }
}
