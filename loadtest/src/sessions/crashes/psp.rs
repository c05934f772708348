//! The PSP of a run: the engine's own simulator, or localstripe behind a proxy with faults.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use forecourt::payment::SessionCharges;

use super::{super::simulators_books, Config, SessionsError};
use crate::{
    fault_proxy::{FaultProxy, Faults},
    local_stripe::{LocalStripe, SECRET},
};

pub(super) enum Psp {
    /// Its books lie in the engine's data folder, and nothing of the engine's own state is in them.
    Simulator(PathBuf),
    Stripe {
        stripe: Box<LocalStripe>,
        proxy: FaultProxy,
    },
}

impl Psp {
    pub(super) async fn start(config: &Config, data: &Path) -> Result<Psp, SessionsError> {
        let Some(environment) = &config.stripe else { return Ok(Psp::Simulator(data.into())) };
        let stripe = Box::new(LocalStripe::start(environment).await?);
        let proxy = FaultProxy::start(stripe.address(), faults(config.place.seed)).await?;
        Ok(Psp::Stripe { stripe, proxy })
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let set = |name: &str, value: String| (format!("FORECOURT_PAYMENT_{name}"), value);
        match self {
            Psp::Simulator(_) => Vec::new(),
            Psp::Stripe { proxy, .. } => vec![
                set("GATEWAY", "stripe".into()),
                set("STRIPE_URL", proxy.url()),
                set("STRIPE_SECRET", SECRET.into()),
                // A lost answer is looked up within a life of the engine.
                set("ANSWER_MS", "1000".into()),
            ],
        }
    }

    pub(super) fn means(&self) -> &'static str {
        match self {
            Psp::Simulator(_) => "tok_ok",
            Psp::Stripe { .. } => "pm_card_visa",
        }
    }

    /// No more faults.
    pub(super) fn calm_down(&self) {
        if let Psp::Stripe { proxy, .. } = self {
            proxy.calm_down();
        }
    }

    /// Per session, what was charged and not given back.
    pub(super) async fn charges(&self) -> Result<Vec<SessionCharges>, SessionsError> {
        match self {
            Psp::Simulator(data) => simulators_books(data),
            Psp::Stripe { stripe, .. } => Ok(stripe.charges().await?),
        }
    }

    /// Requests that were spoilt, and keys that came with two requests that differ.
    pub(super) fn faults(&self) -> (u64, u64) {
        match self {
            Psp::Simulator(_) => (0, 0),
            Psp::Stripe { proxy, .. } => {
                let report = proxy.report();
                (report.struck.values().sum(), report.conflicts.len() as u64)
            }
        }
    }
}

/// In the mean of a thousand requests; a third of all meet one.
fn faults(seed: u64) -> Faults {
    Faults {
        seed,
        request_lost: 50,
        answer_lost: 80,
        delayed: 80,
        doubled: 40,
        reset: 40,
        refused: 40,
        delay_max: Duration::from_millis(500),
        // localstripe keeps no keys, and would give back twice what Stripe gives once.
        once_only: Some("/v1/refunds"),
        only: None,
    }
}
