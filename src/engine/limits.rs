//! Every bound of the engine, with its arithmetic. What grows without one of these is a bug.

/// Receivers of one station: 16 islands with two each. A window keeps 2 bytes for each (64 bytes a window).
pub const RECEIVERS_MAX: usize = 32;

/// Presence windows of one station. A forecourt holds tens of cars; the road beside it some hundreds.
/// 1,024 windows of 128 bytes are 128 KiB a station, 440 MiB if all of 3,500 stations were full at once.
pub const WINDOWS_MAX: usize = 1024;

/// A presence window: 60 bytes about the dongle, 2 for each receiver, rounded up to whole cache lines.
pub const WINDOW_BYTES: usize = (60 + RECEIVERS_MAX * 2).next_multiple_of(64);

/// Hearings in one batch; the count of a group is one byte.
pub const HEARINGS_MAX: usize = 250;

/// Codes in one uplink's table: 20 times the cars that a full forecourt shows in a slot, 192 KiB a table.
pub const CODES_MAX: usize = 4096;

/// The largest batch body: the header, and every hearing in a group of its own under a newly introduced code.
pub const BATCH_BYTES_MAX: usize = 22 + HEARINGS_MAX * (16 + 4 + 4);

/// Hearings further in the future than this are an error of the sender's clock.
pub const FUTURE_MS_MAX: u64 = 2_000;

const _: () = assert!(BATCH_BYTES_MAX <= u16::MAX as usize, "the length prefix of a batch is a u16");
const _: () = assert!(HEARINGS_MAX <= u8::MAX as usize, "a group counts its hearings in a u8");
const _: () = assert!(RECEIVERS_MAX <= 32, "sets of receivers are kept in a u32");
