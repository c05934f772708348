//! What is bound to a dongle, read from the outside: the same checks for an import and for a phone's claim.

use super::binding::Registration;
use super::error::Error;
use super::{FUEL_BYTES_MAX, MEANS_BYTES_MAX, MEANS_MAX};
use crate::engine::plate::Plate;

/// The vehicle, phone and payment means of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vehicle {
    pub(super) plate: Plate,
    pub(super) fuel: Option<String>,
    pub(super) phone: Option<[u8; 32]>,
    /// PSP tokens, in the order in which they are charged.
    pub(super) means: Vec<String>,
}

impl Vehicle {
    pub(super) fn of(registration: &Registration) -> Vehicle {
        Vehicle {
            plate: registration.plate.clone(),
            fuel: registration.fuel.clone(),
            phone: registration.phone,
            means: registration.means.clone(),
        }
    }
}

pub(super) fn parse_plate(text: &str) -> Result<Plate, Error> {
    if holds_card_number(text) {
        return Err(Error::CardNumber);
    }
    Plate::parse(text).map_err(|refusal| Error::Plate(refusal.to_string()))
}

pub(super) fn parse_fuel(text: &str) -> Result<Option<String>, Error> {
    if holds_card_number(text) {
        return Err(Error::CardNumber);
    }
    match text.trim() {
        "" => Ok(None),
        fuel if fuel.len() > FUEL_BYTES_MAX || fuel.chars().any(char::is_control) => Err(Error::Fuel),
        fuel => Ok(Some(fuel.to_owned())),
    }
}

/// Payment means are tokens of the payment provider: printable ASCII, no blanks, none twice.
pub(super) fn check_means(means: &[String]) -> Result<(), Error> {
    if means.len() > MEANS_MAX {
        return Err(Error::Means("too many payment means"));
    }
    for (at, token) in means.iter().enumerate() {
        if holds_card_number(token) {
            return Err(Error::CardNumber);
        }
        if token.is_empty() || token.len() > MEANS_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Means("a payment means is a token of 1 to 128 printable ASCII characters"));
        }
        if means[..at].contains(token) {
            return Err(Error::Means("a payment means is named twice"));
        }
    }
    Ok(())
}

/// Card numbers have 13 to 19 digits.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether the text holds a run of digits, blanks and dashes between them passed over, that could be a card number.
/// Such a number must never reach the store: whoever keeps one is in the scope of PCI DSS with all that is his.
pub(super) fn holds_card_number(text: &str) -> bool {
    // Both readings: a number in groups of four, and one that a blank parts from another number.
    has_card_run(text, true) || has_card_run(text, false)
}

fn has_card_run(text: &str, joins_groups: bool) -> bool {
    let mut digits = Vec::new();
    let mut is_gap = false;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                is_gap = false;
            }
            b' ' | b'-' if joins_groups && !is_gap && !digits.is_empty() => is_gap = true,
            _ => {
                if is_card_number(&digits) {
                    return true;
                }
                digits.clear();
                is_gap = false;
            }
        }
    }
    is_card_number(&digits)
}

/// The Luhn check of ISO/IEC 7812-1: from the right, every second digit is doubled and its own digits are summed.
fn is_card_number(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum =
        digits.iter().rev().enumerate().map(|(at, &digit)| u32::from(if at % 2 == 1 { doubled(digit) } else { digit }));
    CARD_DIGITS.contains(&digits.len()) && sum.sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_is_found_however_it_is_written() {
        for text in ["4111111111111111", "4111 1111 1111 1111", "tok_4111-1111-1111-1111", "3 378282246310005."] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn what_fails_the_check_digit_or_the_length_is_no_card_number() {
        for text in ["4111111111111112", "411111111111", "12\u{ac00}3456", "tok_visa", "", "411111111111111111111111"] {
            assert!(!holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn payment_means_are_distinct_tokens() {
        let means = |tokens: &[&str]| check_means(&tokens.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(means(&["tok_a", "tok_b"]), Ok(()));
        assert!(matches!(means(&["tok_a", "tok_a"]), Err(Error::Means(_))));
        assert!(matches!(means(&["tok a"]), Err(Error::Means(_))));
        assert!(matches!(means(&[""]), Err(Error::Means(_))));
        assert_eq!(means(&["5555555555554444"]), Err(Error::CardNumber));
    }
}
