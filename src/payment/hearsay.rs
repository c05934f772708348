//! Announcements of the PSP that were taken, so that one which comes again is known.

use std::collections::{HashSet, VecDeque};

/// Ids that are remembered, 128 bytes each and twice (17 MB at most). Signatures are good for five minutes, so 200
/// announcements a second are all known; past that the oldest is forgotten, and would be one look-up more.
const REMEMBERED_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Hearsay {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Hearsay {
    /// Whether it is new.
    pub(super) fn remember(&mut self, event: String) -> bool {
        if !self.known.insert(event.clone()) {
            return false;
        }
        self.order.push_back(event);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_new_once() {
        let mut hearsay = Hearsay::default();
        assert!(hearsay.remember("evt_1".into()));
        assert!(hearsay.remember("evt_2".into()));
        assert!(!hearsay.remember("evt_1".into()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut hearsay = Hearsay::default();
        (0..=REMEMBERED_MAX).for_each(|number| assert!(hearsay.remember(number.to_string())));
        assert_eq!((hearsay.known.len(), hearsay.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(hearsay.remember("0".into()), "the oldest is forgotten");
    }
}
