//! What is known of the cache, for those who look something up and for those who ask how the engine is.

use std::sync::{Mutex, PoisonError};

/// ```text
/// Connecting -> Behind -> Current
///      ^           |         |
///      '-- Down <--'---------'
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheState {
    /// Redis has not been reached yet.
    Connecting,
    /// Redis is brought up to the truth; until then nobody asks it.
    Behind,
    Current,
    /// Why Redis is not asked; it is tried again.
    Down(String),
}

impl CacheState {
    pub fn is_current(&self) -> bool {
        *self == CacheState::Current
    }
}

/// Written by the cache's thread alone.
pub(super) struct State(Mutex<CacheState>);

impl Default for State {
    fn default() -> State {
        State(Mutex::new(CacheState::Connecting))
    }
}

impl State {
    pub(super) fn get(&self) -> CacheState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, state: CacheState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
