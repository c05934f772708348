//! Stripe's balance transactions as lines of its books.
//!
//! They are read from the newest backwards until they are older than what is asked for: the night after costs a day's
//! pages of a hundred, an old day all pages since. What a hold was captured for less is the charge's amount less what
//! was refunded of it without a key of ours.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    objects::{Intent, List, Metadata},
    read as clear,
    transport::Transport,
};
use crate::{
    engine::{money::Money, time::UnixMs},
    payment::gateway::{BooksError, Line, Movement, books::LINES_MAX},
};

const PAGE: usize = 100;

/// Pages of one reading: twice the lines of a day, fees and payouts among them.
const PAGES_MAX: usize = 2 * LINES_MAX / PAGE;

#[derive(Debug, Deserialize)]
struct Transaction {
    id: String,
    r#type: String,
    amount: i64,
    currency: String,
    /// Unix seconds.
    created: u64,
    source: Option<Source>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Source {
    Expanded(Box<Object>),
    Name(#[expect(dead_code, reason = "of a fee or payout: nothing of ours")] String),
}

/// A charge or a refund, with its intent.
#[derive(Debug, Deserialize)]
struct Object {
    id: String,
    #[serde(default)]
    metadata: Metadata,
    /// Of a refund.
    charge: Option<String>,
    payment_intent: Option<Intent>,
}

pub(super) async fn read(transport: &Transport, from: UnixMs, until: UnixMs) -> Result<Vec<Line>, BooksError> {
    let mut day = Day::default();
    let mut after = String::new();
    for _ in 0..PAGES_MAX {
        let path = format!("balance_transactions?limit={PAGE}&expand[]=data.source.payment_intent{after}");
        let page = clear::<List<Transaction>>(&transport.get(&path).await);
        let page = page.ok_or_else(|| BooksError::Unavailable("a page of balance transactions did not come".into()))?;
        let Some(last) = page.data.last() else { return Ok(day.lines()) };
        after = format!("&starting_after={}", last.id);
        let is_past = UnixMs(last.created * 1_000 + 999) < from;
        page.data.into_iter().for_each(|transaction| day.take(transaction, from, until));
        if is_past || !page.has_more {
            return Ok(day.lines());
        }
        if day.lines.len() > LINES_MAX {
            return Err(BooksError::TooMany);
        }
    }
    Err(BooksError::TooMany)
}

#[derive(Default)]
struct Day {
    lines: Vec<Line>,
    /// Of each charge: what was refunded of it that bears no key of ours.
    keyless: HashMap<String, Vec<Line>>,
}

impl Day {
    fn take(&mut self, transaction: Transaction, from: UnixMs, until: UnixMs) {
        let at = UnixMs(transaction.created * 1_000);
        let is_refund = match transaction.r#type.as_str() {
            "charge" | "payment" => false,
            "refund" | "payment_refund" => true,
            _ => return,
        };
        let (Some(Source::Expanded(source)), Ok(currency)) =
            (transaction.source, transaction.currency.to_uppercase().parse())
        else {
            return;
        };
        if !(from..until).contains(&at) {
            return;
        }
        let intent = source.payment_intent.as_ref().map(|intent| &intent.metadata);
        let (movement, key) = match intent {
            _ if is_refund => (Movement::Refunded, source.metadata.key()),
            Some(intent) if intent.is_of_hold() => (Movement::Captured, intent.key()),
            intent => (Movement::Charged, intent.and_then(Metadata::key)),
        };
        let session = intent.and_then(Metadata::session).or(source.metadata.session());
        let amount = Money { minor: transaction.amount.abs(), currency };
        let line = Line { key, session, movement, amount, at, reference: source.id };
        match (key, source.charge) {
            (None, Some(charge)) if is_refund => self.keyless.entry(charge).or_default().push(line),
            _ => self.lines.push(line),
        }
    }

    fn lines(mut self) -> Vec<Line> {
        for line in self.lines.iter_mut().filter(|line| line.movement.takes_money()) {
            let released = self.keyless.remove(&line.reference).unwrap_or_default();
            line.amount.minor -= released.iter().map(|released| released.amount.minor).sum::<i64>();
        }
        self.lines.extend(self.keyless.into_values().flatten());
        self.lines
    }
}
