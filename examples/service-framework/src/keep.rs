//! Where a scheduler keeps its table: on disk, or wherever a simulation lets it survive.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    state::Table,
    store::{Store, StoreError},
};

/// Keeps a service's table beyond the end of its scheduler.
pub trait Keep: Send {
    /// Replaces the table. When this returns, the next scheduler will find it.
    fn save(&mut self, table: &Table) -> Result<(), StoreError>;
}

impl Keep for Store {
    fn save(&mut self, table: &Table) -> Result<(), StoreError> {
        Store::save(self, table)
    }
}

/// A table in memory, for tests and simulations: it outlives the scheduler, not the process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Option<Table>>>);

impl Memory {
    /// The table that was saved last; none when none ever was.
    pub fn load(&self) -> Option<Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keep for Memory {
    fn save(&mut self, table: &Table) -> Result<(), StoreError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(table.clone());
        Ok(())
    }
}
