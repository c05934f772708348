//! The people who use Forecourt: attendants at their terminals, and drivers with their phones. Everything that they do
//! goes through the HTTP door.

pub mod attendant;
pub mod client;
pub mod events;
pub mod phone;
pub mod setup;
pub mod terminal;

pub use attendant::{Habits, Visit};
pub use client::{CallError, Client};
pub use phone::Phone;
pub use terminal::Terminal;
