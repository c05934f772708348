//! Cars: a dongle, a binding, and where they really are.

use ed25519_dalek::SigningKey;
use forecourt::engine::{
    id::{BindingId, DeviceId, ReceiverId},
    proof::ProofKey,
    session::{Standing, Vehicle},
};

use crate::{
    chance::Chance,
    process::Inside,
    world::{Happening, World},
};

/// What they do is in their names, and in the simulated PSP.
const TOKENS: [&str; 7] = ["tok_ok", "tok_ok2", "tok_decline", "tok_ok3", "tok_half", "tok_ok4", "tok_odd"];

/// One vehicle and its registration as it is now.
pub(crate) struct Car {
    pub(crate) device: DeviceId,
    pub(crate) dongle: ProofKey,
    pub(crate) binding: BindingId,
    pub(crate) phone: SigningKey,
    plate: String,
    fuel: Option<String>,
    epoch: u64,
    is_active: bool,
    means: Vec<String>,
    /// The station that it really stands at.
    pub(crate) at: Option<usize>,
    /// True time of the last hearing, by site.
    pub(crate) heard: Vec<Option<u64>>,
}

impl Car {
    pub(crate) fn draw(number: u64, chance: &mut Chance) -> Car {
        Car {
            device: DeviceId(number + 1),
            dongle: ProofKey::new(chance.bytes()),
            binding: BindingId([number as u8 + 1; 16]),
            phone: SigningKey::from_bytes(&chance.bytes()),
            plate: format!("12A345{number}"),
            fuel: chance.percent(50).then(|| "diesel".to_owned()),
            epoch: 1,
            is_active: true,
            means: means(chance),
            at: None,
            heard: vec![None; 2],
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            active: self.is_active,
            epoch: self.epoch,
            phone: Some(self.phone.verifying_key().to_bytes()),
            means: self.means.clone(),
            provable: true,
        }
    }

    pub(crate) fn vehicle(&self) -> Vehicle {
        let Standing { epoch, phone, means, provable, .. } = self.standing();
        let (device, binding, plate, fuel) = (self.device, self.binding, self.plate.clone(), self.fuel.clone());
        Vehicle { device, binding, epoch, plate, fuel, phone, means, provable }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.is_active
    }

    /// The owner or the bank changes something.
    pub(crate) fn amend(&mut self, chance: &mut Chance) {
        self.epoch += 1;
        match chance.below(4) {
            0 => self.is_active = false,
            1 => self.phone = SigningKey::from_bytes(&chance.bytes()),
            _ => self.means = means(chance),
        }
        if chance.percent(60) {
            self.is_active = true;
        }
    }
}

fn means(chance: &mut Chance) -> Vec<String> {
    let count = chance.within(1..=4) as usize;
    let first = chance.below(TOKENS.len() as u64) as usize;
    (0..count).map(|place| TOKENS[(first + place) % TOKENS.len()].to_owned()).collect()
}

impl World {
    /// A car comes, goes, or is heard where it stands.
    pub(crate) fn car(&mut self, place: usize) {
        let site = match self.cars[place].at {
            None => Some(self.chance.below(self.sites.len() as u64) as usize),
            Some(_) if self.chance.percent(4) => None,
            here => here,
        };
        self.cars[place].at = site;
        // With the ignition off the dongle is silent.
        if let Some(site) = site
            && self.chance.percent(70)
        {
            self.hear(place, site);
        }
        self.again(5_000..=60_000, Happening::Car(place));
    }

    fn hear(&mut self, place: usize, site: usize) {
        let device = self.cars[place].device;
        let (now, mut changes) = (self.site_time(), Vec::new());
        for ago in [2_000, 1_000, 0] {
            self.sites[site].presence.observe(device, ReceiverId(1), -60, now.minus(ago), now, &mut changes);
        }
        self.cars[place].heard[site] = Some(self.clock.now);
    }

    /// The binding changes, and the sessions of it hear of it if the process lives.
    pub(crate) fn amend(&mut self, place: usize) {
        let Self { cars, chance, .. } = self;
        cars[place].amend(chance);
        for session in self.process.desk.open_of_binding(self.cars[place].binding) {
            self.soon(500, Inside::BindingChanged(session));
        }
    }
}
