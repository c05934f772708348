//! The outbox under a clock of the test's own.

use proptest::prelude::*;

use super::{
    outbox::{Lost, Message, Outbox, Policy, Verdict},
    *,
};
use crate::{
    engine::{
        id::{BindingId, SessionId},
        time::UnixMs,
    },
    session::{Notice, Unseen},
};

const START: UnixMs = UnixMs(1_700_000_000_000);
const POLICY: Policy =
    Policy { after_ms: 10_000, retry_ms_min: 1_000, retry_ms_max: 8_000, give_up_ms: 60_000, words_max: 3 };

fn outbox() -> Outbox {
    Outbox::new(POLICY)
}

fn unseen(version: u32, at: UnixMs) -> Unseen {
    Unseen { notice: Notice::PleaseProve, version, at }
}

/// The word of session `number`; a session whose last byte is 0 has the longest pauses.
fn word(number: u8, unseen: impl Into<Option<Unseen>>) -> Word {
    let mut session = [0; 16];
    session[0] = number;
    Word { session: SessionId(session), binding: BindingId([1; 16]), unseen: unseen.into() }
}

fn numbers(outbox: &mut Outbox, now: UnixMs) -> Vec<u8> {
    std::iter::from_fn(|| outbox.take_due(now)).map(|message| message.session.0[0]).collect()
}

#[test]
fn a_word_is_pushed_when_no_phone_shows_it_in_time_and_not_before() {
    let mut outbox = outbox();
    outbox.tell(word(1, unseen(1, START)), START);
    outbox.tell(word(2, unseen(1, START)), START);
    assert_eq!(outbox.next_due(), Some(START.plus(10_000)));
    assert_eq!(outbox.take_due(START.plus(9_999)), None);
    outbox.tell(word(2, None), START.plus(9_999));
    assert_eq!(numbers(&mut outbox, START.plus(10_000)), [1]);
    assert_eq!(outbox.next_due(), None, "it is being sent");
}

#[test]
fn a_delivered_word_is_not_pushed_again_when_its_session_changes_but_a_new_one_is() {
    let mut outbox = outbox();
    let due = START.plus(10_000);
    outbox.tell(word(1, unseen(1, START)), START);
    let message = outbox.take_due(due).unwrap();
    outbox.settle(&message, Verdict::Delivered, due);
    outbox.tell(word(1, unseen(1, START)), due);
    assert_eq!(outbox.next_due(), None);
    outbox.tell(word(1, unseen(2, due)), due);
    assert_eq!(outbox.next_due(), Some(due.plus(10_000)));
}

#[test]
fn what_becomes_of_an_older_word_says_nothing_of_a_newer_one() {
    let mut outbox = outbox();
    let due = START.plus(10_000);
    outbox.tell(word(1, unseen(1, START)), START);
    let old = outbox.take_due(due).unwrap();
    outbox.tell(word(1, unseen(2, due)), due);
    outbox.settle(&old, Verdict::Delivered, due);
    assert_eq!(outbox.next_due(), Some(due.plus(10_000)));
}

#[test]
fn tries_come_after_twice_as_long_each_up_to_a_bound_until_the_word_is_old() {
    let mut outbox = outbox();
    outbox.tell(word(1, unseen(1, START)), START);
    let (mut pauses, mut last) = (Vec::new(), START);
    while let Some(due) = outbox.next_due() {
        pauses.push(due.since(last) / 1_000);
        last = due;
        match outbox.take_due(due) {
            Some(message) => outbox.settle(&message, Verdict::Failed, due),
            None => break,
        }
    }
    assert_eq!(pauses, [10, 1, 2, 4, 8, 8, 8, 8, 8, 8], "the last of them is after a minute");
    assert_eq!(outbox.take_lost(), Lost { dropped: 0, given_up: 1 });
}

#[test]
fn a_start_does_not_push_what_is_old_and_forgets_what_was_seen_meanwhile() {
    let mut outbox = outbox();
    let now = START.plus(60_000);
    outbox.tell_all(&[word(1, unseen(1, START)), word(2, unseen(1, START.plus(1)))], now);
    assert_eq!(numbers(&mut outbox, now), [2]);
    outbox.tell_all(&[word(3, unseen(1, now))], now);
    assert_eq!(outbox.next_due(), Some(now.plus(10_000)));
}

#[test]
fn past_the_bound_the_oldest_goes_and_is_counted() {
    let mut outbox = outbox();
    for number in [2, 1, 3, 4] {
        outbox.tell(word(number, unseen(1, START.plus(number.into()))), START.plus(10));
    }
    assert_eq!(numbers(&mut outbox, START.plus(20_000)), [2, 3, 4]);
    assert_eq!(outbox.take_lost(), Lost { dropped: 1, given_up: 0 });
}

proptest! {
    /// Against a list that is searched from end to end.
    #[test]
    fn no_history_pushes_a_word_that_was_seen_or_too_early_or_twice(
        steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_u64..9_000), 1..80)
    ) {
        let mut outbox = Outbox::new(Policy { words_max: 100, ..POLICY });
        let (mut now, mut version) = (START, 0);
        let mut open: Vec<Option<Unseen>> = vec![None; 4];
        let mut delivered: Vec<Message> = Vec::new();
        for (number, what, pause) in steps {
            now = now.plus(pause);
            version += 1;
            match what {
                0 | 1 => open[usize::from(number)] = Some(unseen(version, now)),
                2 => open[usize::from(number)] = None,
                _ => {}
            }
            outbox.tell(word(number, open[usize::from(number)]), now);
            while let Some(message) = outbox.take_due(now) {
                let known = open[usize::from(message.session.0[0])];
                prop_assert_eq!(known, Some(message.word));
                prop_assert!(now.since(message.word.at) >= 10_000 && now.since(message.word.at) < 60_000);
                prop_assert!(!delivered.contains(&message));
                let verdict = if what == 5 { Verdict::Delivered } else { Verdict::Failed };
                if verdict == Verdict::Delivered {
                    delivered.push(message);
                }
                outbox.settle(&message, verdict, now);
            }
        }
    }
}
