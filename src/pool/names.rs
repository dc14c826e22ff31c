//! Names of functions, each kept once, and numbered: tasks of one name are expected to take about as long as each other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ipc::Form;
use crate::scheduler::types::FunctionId;

/// Names that are told apart. A program that makes up names without end (closures in a loop have one each, at most) gets
/// no estimates for the later ones.
const MAX_NAMES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Arc<str>, FunctionId>,
    /// Most tasks have the name of the one before.
    last: Option<(Arc<str>, FunctionId)>,
}

impl Names {
    /// The name, and the number of what has it. A chunk of `map` takes longer than a call of the same function.
    pub(super) fn get(&mut self, name: &str, form: Form) -> (Arc<str>, FunctionId) {
        let (name, first) = match &self.last {
            Some((last, first)) if &**last == name => (Arc::clone(last), *first),
            _ => {
                let found = self.look_up(name);
                self.last = Some(found.clone());
                found
            }
        };
        let function = match (first.0, form) {
            (0, _) => first,
            (first, Form::Chunk) => FunctionId(first + 1),
            (first, Form::Call | Form::Whole | Form::ToDescribe) => FunctionId(first),
        };
        (name, function)
    }

    fn look_up(&mut self, name: &str) -> (Arc<str>, FunctionId) {
        if let Some((name, &first)) = self.known.get_key_value(name) {
            return (Arc::clone(name), first);
        }
        let name: Arc<str> = Arc::from(name);
        if self.known.len() >= MAX_NAMES {
            return (name, FunctionId(0));
        }
        let first = FunctionId(2 * self.known.len() as u32 + 1); // two numbers each: calls, and chunks
        self.known.insert(Arc::clone(&name), first);
        (name, first)
    }
}
