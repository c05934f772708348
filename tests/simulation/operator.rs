//! The back office, and what it changes in the registrations.

use forecourt::session::{Command, StateName};

use crate::{
    letter::{Letter, OPERATOR, What},
    world::{Happening, World},
};

impl World {
    pub(crate) fn operator(&mut self) {
        if self.chance.percent(40) {
            let place = self.chance.below(self.cars.len() as u64) as usize;
            self.amend(place);
        }
        let sessions = self.oracle.sessions();
        if let Some(session) = self.chance.pick(&sessions).copied()
            && let Ok(view) = self.process.desk.view(session, OPERATOR)
        {
            let dice = self.chance.below(100);
            let part = view.paid.map(|mut paid| {
                paid.minor = self.chance.within(1..=paid.minor.max(1) as u64) as i64;
                paid
            });
            let command = match view.state {
                StateName::Paid | StateName::Cleared if dice < 25 => Some(Command::Refund { amount: part }),
                StateName::Paid | StateName::Cleared if dice < 40 => Some(Command::Refund { amount: None }),
                StateName::Cleared if dice < 80 => Some(Command::Settle),
                StateName::Settled if dice < 20 => Some(Command::Refund { amount: part }),
                _ if dice > 96 => Some(Command::HandOver),
                _ => None,
            };
            if let Some(command) = command {
                let what = What::Order { command, request: Some(self.request()) };
                let letter = Letter { by: OPERATOR, session, what };
                self.post(letter);
            }
        }
        self.again(20_000..=120_000, Happening::Operator);
    }
}
