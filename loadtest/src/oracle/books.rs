//! What was sold, and what the PSP has booked for it.

use std::collections::{HashMap, HashSet};

use forecourt::{
    engine::id::{DeviceId, SessionId},
    payment::SessionCharges,
};

use super::Oracle;

/// Sales that are held against the books, about 100 bytes each; what is more is not, and said so.
const SALES_MAX: usize = 2_000_000;

/// What was sold, as the pump showed it.
#[derive(Debug, Clone, Copy)]
struct Sale {
    device: DeviceId,
    minor: Option<i64>,
    /// The terminal was told that it is paid.
    paid: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sales {
    by_session: HashMap<SessionId, Sale>,
    left_out: u64,
}

impl Oracle {
    /// A session was opened for the car that `device` is in; the engine says it is for `selected`.
    pub fn opened(&mut self, session: SessionId, device: DeviceId, selected: DeviceId) {
        self.counts.sessions_opened += 1;
        if device != selected {
            self.wrong(format!("session {session} selected dongle {selected} in place of {device}"));
        }
        if self.sales.by_session.len() < SALES_MAX {
            self.sales.by_session.insert(session, Sale { device, minor: None, paid: false });
        } else {
            self.sales.left_out += 1;
        }
    }

    /// The nozzle is back: what the pump shows.
    pub fn sold(&mut self, session: SessionId, minor: i64) {
        if let Some(sale) = self.sales.by_session.get_mut(&session) {
            sale.minor = Some(minor);
        }
    }

    /// The driver reads what the phone shows before approving it.
    pub fn is_asked_rightly(&mut self, session: SessionId, device: DeviceId, minor: i64) -> bool {
        let sale = self.sales.by_session.get(&session);
        let is_right = sale.is_some_and(|sale| sale.device == device && sale.minor == Some(minor));
        if !is_right {
            self.wrong(format!("the phone of dongle {device} was asked for {minor} in session {session}"));
        }
        is_right
    }

    pub fn paid(&mut self, session: SessionId) {
        self.counts.sessions_paid += 1;
        if let Some(sale) = self.sales.by_session.get_mut(&session) {
            sale.paid = true;
        }
    }

    /// Compares the PSP's own books with what was sold.
    pub fn audit(&mut self, books: &[SessionCharges]) {
        if self.sales.left_out > 0 {
            let left_out = self.sales.left_out;
            return self.note(format!("the books were not audited: {left_out} sales past {SALES_MAX} were not kept"));
        }
        for charged in books.iter().filter(|charged| charged.net > 0) {
            let sold = self.sales.by_session.get(&charged.session).and_then(|sale| sale.minor);
            if charged.net > 1 {
                self.counts.double_charged += 1;
                self.note(format!("session {} was charged {} times", charged.session, charged.net));
            } else if sold != Some(charged.net_minor) {
                let (session, minor) = (charged.session, charged.net_minor);
                self.wrong(format!("session {session} was charged {minor}, and {sold:?} was sold"));
            }
        }
        let charged: HashSet<SessionId> =
            books.iter().filter(|charged| charged.net > 0).map(|charged| charged.session).collect();
        let sales = self.sales.by_session.iter();
        let unpaid: Vec<SessionId> =
            sales.filter(|(id, sale)| sale.paid && !charged.contains(id)).map(|(id, _)| *id).collect();
        for session in unpaid {
            self.wrong(format!("session {session} was told to be paid, and nothing was charged"));
        }
    }
}
