//! The chain's dongles: as many as are asked for, each with a key that follows from the seed and its number.
//!
//! Nothing of them is kept: a million keys are computed as they are needed, when the import is written and when a
//! vehicle drives onto a forecourt.

use std::io::{self, Write};

use forecourt::engine::{code::Secret, id::DeviceId};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dongles {
    pub seed: u64,
    pub count: u64,
}

impl Dongles {
    pub fn device(index: u64) -> DeviceId {
        DeviceId(index + 1)
    }

    /// What the dongle's codes follow from.
    pub fn secret(&self, index: u64) -> Secret {
        Secret::from_root(&self.root(index))
    }

    /// The file that `forecourt import devices` reads: every dongle with a vehicle of its own, since one without is
    /// not in the codebook. `written` is told of every line.
    pub fn write_csv(&self, mut out: impl Write, mut written: impl FnMut(u64)) -> io::Result<()> {
        writeln!(out, "device_id,scheme,key_hex,plate,fuel")?;
        for index in 0..self.count {
            let (device, root) = (Dongles::device(index), self.root_hex(index));
            writeln!(out, "{device},hmac,{root},FC{device:08},diesel", device = device.0)?;
            written(index + 1);
        }
        out.flush()
    }

    pub fn root_hex(&self, index: u64) -> String {
        hex::encode(self.root(index))
    }

    pub(crate) fn root(&self, index: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&index.to_le_bytes());
        StdRng::from_seed(seed).random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_the_seed_and_the_number() {
        let (one, other) = (Dongles { seed: 1, count: 9 }, Dongles { seed: 2, count: 9 });
        assert_eq!(one.root(3), Dongles { count: 500, ..one }.root(3));
        assert_ne!(one.root(3), one.root(4));
        assert_ne!(one.root(3), other.root(3));
    }

    #[test]
    fn every_dongle_has_its_line() {
        let mut csv = Vec::new();
        let mut told = 0;
        Dongles { seed: 1, count: 3 }.write_csv(&mut csv, |lines| told = lines).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        assert_eq!((csv.lines().count(), told), (4, 3));
        assert!(csv.lines().nth(1).unwrap().starts_with("1,hmac,") && csv.contains(",FC00000003,"), "{csv}");
    }
}
