//! Who owns a code: the truth store, the near cache, the codebook, coupling and bearer tokens.
//!
//! ```text
//! import, coupling, operator --> truth (SQLite, one writer) --after the commit--> near cache, roller, changes()
//!                                                                                        |
//! station: codebook() -> Hit -> cached() / find()                    codebook <--swapped-'
//! ```
//!
//! Rules:
//! - The truth is written first; the near cache, the codebook and the subscribers learn of a change after its commit,
//!   on the writer's thread, so that a caller who goes away in between leaves nothing half done.
//! - The codebook holds the dongles of live bindings (active or suspended) and no others: an unbound dongle is a
//!   stranger to the stations, and coupling finds it by its activation code. A suspended one stays in, so that the
//!   attendant sees why the car cannot be served.
//! - Keys leave the store sealed (`envelope`), and memory zeroised; a bearer token is kept as its hash only.
//!
//! Redis has its place between the near cache and the truth; it comes with several nodes.

mod binding;
mod error;

pub use binding::{BindingStatus, Change, Registration};
pub use error::{Error, StartError, Unavailable};

/// The longest name of a fuel, in bytes.
pub const FUEL_BYTES_MAX: usize = 32;
