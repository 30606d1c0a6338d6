//! The models that C programs hold: a table of numbers, which are handed out as pointers and never followed.
//!
//! A number is given once, so one that was freed is told from every other without a look at memory that may be gone.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use library::Model;

use crate::outcome::Failure;

/// A model. The pointer is a name and leads to nothing.
pub struct OptcModel {
    _private: [u8; 0],
}

struct Table {
    models: HashMap<usize, Arc<Model>>,
    next: usize,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn table<T>(work: impl FnOnce(&mut Table) -> T) -> T {
    // What is done here leaves nothing half done where it panics.
    let mut table: MutexGuard<'_, _> = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    work(table.get_or_insert_with(|| Table {
        models: HashMap::new(),
        next: 0,
    }))
}

/// A handle for a model.
pub fn add(model: Model) -> *mut OptcModel {
    table(|table| {
        // Handles look like pointers that are aligned, as programs may use the lowest bits.
        table.next += 16;
        table.models.insert(table.next, Arc::new(model));
        ptr::without_provenance_mut(table.next)
    })
}

/// The model of a handle, which stays while it is used.
pub fn find(handle: *const OptcModel) -> Result<Arc<Model>, Failure> {
    if handle.is_null() {
        return Err(crate::pointers::null("model"));
    }
    table(|table| table.models.get(&handle.addr()).cloned()).ok_or_else(gone)
}

/// Takes a handle back.
pub fn remove(handle: *mut OptcModel) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    // Dropped when the table is free again: a caller's release may run.
    let model = table(|table| table.models.remove(&handle.addr()));
    model.map(drop).ok_or_else(gone)
}

fn gone() -> Failure {
    Failure::argument("the model is none of this library's, or was freed")
}
