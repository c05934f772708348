//! Counts over all sessions.

use crate::engine::session::{Effect, Notice, StateName};

/// Counts of sessions since the journal began, and of those open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Summary {
    pub opened: u64,
    /// Sessions that reached Paid at some time.
    pub paid: u64,
    pub collect_at_site: u64,
    pub proof_failed: u64,
    pub disputed: u64,
    /// Refunds that went through.
    pub refunded: u64,
    pub back_office: u64,
    /// Sessions that are in no end state now.
    pub open: u64,
    /// Sessions whose payment is in doubt now.
    pub in_doubt: u64,
}

impl Summary {
    /// One event took a session from `before` (`None` at its opening) to `now`.
    pub(super) fn count(&mut self, before: Option<StateName>, now: StateName, effects: &[Effect]) {
        self.opened += u64::from(before.is_none());
        let refunded = effects.contains(&Effect::NotifyPhone(Notice::Refunded));
        self.refunded += u64::from(refunded);
        if before == Some(now) {
            return;
        }
        let entered = match now {
            StateName::Paid => Some(&mut self.paid),
            StateName::CollectAtSite => Some(&mut self.collect_at_site),
            StateName::ProofFailed => Some(&mut self.proof_failed),
            StateName::Disputed => Some(&mut self.disputed),
            StateName::BackOffice => Some(&mut self.back_office),
            _ => None,
        };
        if let Some(count) = entered {
            *count += 1;
        }
        let was_open = before.is_some_and(|before| !before.is_end());
        self.open = self.open + u64::from(!now.is_end()) - u64::from(was_open);
        let was_in_doubt = before == Some(StateName::InDoubt);
        self.in_doubt = self.in_doubt + u64::from(now == StateName::InDoubt) - u64::from(was_in_doubt);
    }
}
