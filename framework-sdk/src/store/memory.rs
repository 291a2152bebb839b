//! A store in memory.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Changes, Kept, Store, StoreError};

/// A store for tests and simulations: it outlives the scheduler, not the process. Clones share what is kept.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

impl Store for Memory {
    fn load(&self) -> Result<Kept, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(changes);
        Ok(())
    }
}
