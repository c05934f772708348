//! Drivers: what their phones show them, and what they say to it.

use ed25519_dalek::Signer as _;
use forecourt::{
    engine::proof::{PayTerms, Terms as _},
    session::{By, ChallengeView, Command},
};

use crate::{
    letter::{Letter, What},
    oracle::Approval,
    world::{Happening, World},
};

impl World {
    /// A driver looks at the phone.
    pub(crate) fn driver(&mut self, place: usize) {
        let binding = self.cars[place].binding;
        for view in self.process.desk.told_phone(binding, None) {
            let session = view.id;
            let dice = self.chance.below(100);
            let command = match &view.challenge {
                Some(_) if dice < 10 => Some(Command::Notice { version: None }),
                Some(challenge) if dice < 75 => Some(self.prove(place, challenge)),
                _ if dice > 98 => Some(Command::Reject),
                _ => None,
            };
            if let Some(command) = command {
                // Mostly at once; sometimes when the amount has changed, or the counter has been paid, meanwhile.
                let hesitates = self.chance.percent(15);
                let delay = if hesitates { self.chance.within(0..=400_000) } else { self.chance.within(100..=5_000) };
                let request = (!matches!(command, Command::Notice { .. })).then(|| self.request());
                let what = What::Order { command, request };
                self.after(delay, Happening::Post(Letter { by: By::Phone(binding), session, what }));
            }
        }
        self.again(3_000..=40_000, Happening::Driver(place));
    }

    /// The dongle answers, the phone signs; sometimes one of them is another's.
    fn prove(&mut self, place: usize, challenge: &ChallengeView) -> Command {
        let car = &self.cars[place];
        let terms = terms(challenge);
        let mac = terms.mac(&car.dongle);
        let signature = car.phone.sign(&terms.phone_message(&mac)).to_bytes();
        match self.chance.below(12) {
            0 => Command::Prove { mac: self.chance.bytes(), signature },
            1 => Command::Prove { mac, signature: [7; 64] },
            _ => {
                let PayTerms { session, nonce, amount, .. } = terms;
                self.oracle.on_approval(Approval { session, nonce, amount, mac });
                Command::Prove { mac, signature }
            }
        }
    }
}

fn terms(challenge: &ChallengeView) -> PayTerms {
    let mut nonce = [0; 32];
    hex::decode_to_slice(&challenge.nonce, &mut nonce).expect("a nonce is 64 hexadecimal digits");
    let &ChallengeView { device, binding, session, station, pump, amount, epoch, .. } = challenge;
    PayTerms { nonce, device, binding, session, station, pump, amount, epoch }
}
