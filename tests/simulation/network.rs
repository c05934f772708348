//! The way to the PSP and back: requests and answers that are lost, late, doubled or out of order.

use forecourt::engine::{
    charge::{ChargeKey, Event, Instruction},
    time::UnixMs,
};

use crate::{
    process::ARRIVAL_MS,
    world::{Happening, World},
};

/// How long the engine waits for an answer.
const LIMIT_MS: u64 = 5_000;

/// What is under way outside of the process, and outlives it.
#[derive(Debug, Clone)]
pub(crate) enum Outside {
    /// A request reaches the PSP; its answer goes back to the life that sent it.
    Request(Instruction, u32),
    LookUp {
        key: ChargeKey,
        asked_at: UnixMs,
        life: u32,
    },
    Answer {
        key: ChargeKey,
        event: Event,
        life: u32,
    },
    /// The PSP tells whoever runs now that there is something to ask about.
    Webhook(ChargeKey),
}

impl World {
    pub(crate) fn outside(&mut self, message: Outside) {
        match message {
            Outside::Request(instruction, life) => self.perform(&instruction, life),
            Outside::LookUp { key, asked_at, life } => {
                let event = self.psp.look_up(key).unwrap_or(Event::NotFound { asked_at });
                if !self.chance.fault("look-up lost", 150) {
                    self.answer(key, event, life);
                }
            }
            Outside::Answer { key, event, life } => {
                if life == self.process.life {
                    self.on_charge_event(key, event);
                }
            }
            Outside::Webhook(key) => self.on_charge_event(key, Event::Hinted),
        }
    }

    pub(crate) fn send(&mut self, instruction: Instruction) {
        let (key, life) = (instruction.key(), self.process.life);
        if self.chance.fault("request refused at the door", 60) {
            let event = Event::NotSent;
            return self.after(5, Happening::Outside(Outside::Answer { key, event, life }));
        }
        if !self.chance.fault("request lost", 100) {
            let delay = self.travel("request delayed");
            self.after(delay, Happening::Outside(Outside::Request(instruction.clone(), life)));
        }
        if self.chance.fault("request doubled", 60) {
            let delay = self.travel("request delayed");
            self.after(delay, Happening::Outside(Outside::Request(instruction, life)));
        }
        self.silence(key, life);
    }

    pub(crate) fn look_up(&mut self, key: ChargeKey) {
        let (life, asked_at) = (self.process.life, self.steady());
        let delay = self.travel("look-up delayed");
        self.after(delay, Happening::Outside(Outside::LookUp { key, asked_at, life }));
        self.silence(key, life);
    }

    fn perform(&mut self, instruction: &Instruction, life: u32) {
        let key = instruction.key();
        self.oracle.on_request(instruction);
        let event = self.psp.perform(instruction);
        self.oracle.on_books(instruction.session, &self.psp);
        if !self.chance.fault("answer lost", 120) {
            self.answer(key, event.clone(), life);
        }
        if self.chance.fault("answer doubled", 50) {
            self.answer(key, event, life);
        }
        if self.chance.fault("webhook", 50) {
            let delay = self.chance.within(0..=600_000);
            self.after(delay, Happening::Outside(Outside::Webhook(key)));
        }
    }

    fn answer(&mut self, key: ChargeKey, event: Event, life: u32) {
        let late = self.chance.fault("answer late", 100);
        let delay = if late { self.chance.within(1_000..=20_000) } else { self.chance.within(5..=300) };
        self.after(delay, Happening::Outside(Outside::Answer { key, event, life }));
    }

    /// The engine waits no longer than this. Sometimes the connection breaks before.
    fn silence(&mut self, key: ChargeKey, life: u32) {
        let broken = self.chance.fault("connection broken", 80);
        let limit = if broken { self.chance.within(0..=LIMIT_MS) } else { LIMIT_MS };
        self.after(limit, Happening::Outside(Outside::Answer { key, event: Event::NoAnswer, life }));
    }

    fn travel(&mut self, slow: &'static str) -> u64 {
        let is_slow = self.chance.fault(slow, 150);
        if is_slow { self.chance.within(0..=ARRIVAL_MS - 1) } else { self.chance.within(5..=100) }
    }
}
