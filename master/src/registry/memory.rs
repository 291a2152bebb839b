use std::sync::{Mutex, MutexGuard, PoisonError};

use apportion_master_core::RegistryOp;
use async_trait::async_trait;

use super::{Contents, Registry, RegistryError};

/// A registry that lasts as long as the process: for development and tests. After a restart agents and frameworks are
/// unknown, and register and subscribe anew.
#[derive(Debug, Default)]
pub struct InMemory {
    contents: Mutex<Contents>,
}

impl InMemory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for InMemory {
    async fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), RegistryError> {
        let mut contents = self.lock();
        ops.into_iter().for_each(|op| contents.apply(op));
        Ok(())
    }

    async fn load(&self) -> Result<Contents, RegistryError> {
        Ok(self.lock().clone())
    }
}
