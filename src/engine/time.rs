//! Instants and slots. Time is an argument everywhere in the engine; only the stages read a clock.

use core::fmt;

pub const DAY_MS: u64 = 24 * 3600 * 1000;

/// Milliseconds since the Unix epoch, on the server's clock.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is the later one.
    pub fn since(self, earlier: UnixMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn plus(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_add(ms))
    }

    pub fn minus(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_sub(ms))
    }

    /// Shifted by a signed number of milliseconds, as a learned clock offset is.
    pub fn shifted(self, ms: i64) -> UnixMs {
        UnixMs(self.0.saturating_add_signed(ms))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The number of a code's period: Unix seconds divided by the slot length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u64);

/// How long one code is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLength {
    seconds: u32,
}

impl SlotLength {
    pub const DEFAULT: SlotLength = SlotLength { seconds: 300 };

    /// `None` unless `seconds` is one of 15 to 900.
    pub const fn from_seconds(seconds: u32) -> Option<SlotLength> {
        match seconds {
            15..=900 => Some(SlotLength { seconds }),
            _ => None,
        }
    }

    pub fn seconds(self) -> u32 {
        self.seconds
    }

    pub fn ms(self) -> u64 {
        u64::from(self.seconds) * 1000
    }

    pub fn slot_at(self, at: UnixMs) -> Slot {
        Slot(at.0 / self.ms())
    }

    pub fn start_of(self, slot: Slot) -> UnixMs {
        UnixMs(slot.0.saturating_mul(self.ms()))
    }
}
