//! Who changes a binding, and why.

use std::fmt;

use super::REASON_BYTES_MAX;
use super::error::Error;
use super::tokens::OperatorName;
use super::vehicle::holds_card_number;

/// Who changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Operator(OperatorName),
    Phone,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Operator(name) if name.is_folder() => f.write_str("operator"),
            Who::Operator(name) => write!(f, "operator {name}"),
            Who::Phone => f.write_str("phone"),
        }
    }
}

/// By whom and for what reason a binding is changed.
#[derive(Debug, Clone)]
pub struct Mandate {
    pub(super) who: Who,
    pub(super) why: String,
}

impl Mandate {
    /// An operator's. A reason is required: whoever reads the history later has nothing else to go by.
    pub fn operator(name: OperatorName, reason: &str) -> Result<Mandate, Error> {
        Ok(Mandate { who: Who::Operator(name), why: reason_text(reason)? })
    }

    pub fn why(&self) -> &str {
        &self.why
    }

    /// A phone's, which said what it wants by its signature.
    pub(super) fn phone(why: &str) -> Mandate {
        Mandate { who: Who::Phone, why: why.to_owned() }
    }
}

fn reason_text(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if holds_card_number(text) {
        return Err(Error::CardNumber);
    }
    if text.is_empty() || text.len() > REASON_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Error::Reason);
    }
    Ok(text.to_owned())
}

/// What stands in the journal of who did what and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author<'a> {
    pub(super) who: &'a str,
    pub(super) why: &'a str,
    pub(super) what: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_bounded_line_without_a_card_number() {
        assert_eq!(reason_text("  stolen, case 7 "), Ok("stolen, case 7".into()));
        for refused in ["", "  ", "two\nlines", &"x".repeat(REASON_BYTES_MAX + 1)] {
            assert_eq!(reason_text(refused), Err(Error::Reason), "{refused:?}");
        }
        assert_eq!(reason_text("card 4111 1111 1111 1111 was stolen"), Err(Error::CardNumber));
    }

    #[test]
    fn an_operator_is_known_by_the_name_of_the_token() {
        let kim = Who::Operator(OperatorName::parse("kim").unwrap());
        assert_eq!(kim.to_string(), "operator kim");
        assert_eq!(Who::Operator(OperatorName::FOLDER).to_string(), "operator");
    }
}
