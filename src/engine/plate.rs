//! Number plates: one written form for each, and what part of one an attendant types.
//!
//! A plate is normalised once, when it is registered, and a query in the same way: Unicode NFC (a Korean letter typed
//! as its parts becomes one character), full-width forms to ASCII, spaces and punctuation out, upper case.
//! Korean plates are recognised by their grammar, `[region] 1-3 digits, a letter of use, 4 digits` (`12가3456`,
//! `서울 12 가 3456`); any other plate is plain text.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// Longest plate in characters, with room to spare: the longest Korean form has 10, the longest European ones 9.
const CHARS_MAX: usize = 16;

/// Fewer characters than this would list half a forecourt.
const QUERY_CHARS_MIN: usize = 2;

/// The digits by which attendants ask for a Korean plate.
const SERIAL_DIGITS: usize = 4;

/// A plate in its normalised form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plate(String);

/// Part of a plate, normalised like a plate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(String);

/// How a query fits a plate, the best first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    utoipa::ToSchema,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    Whole,
    /// The end of the plate: by custom its last four digits.
    End,
    Inside,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlateError {
    #[error("the plate is empty")]
    Empty,
    #[error("a plate has at most {CHARS_MAX} characters")]
    TooLong,
    #[error("{0:?} does not occur on a plate")]
    Character(char),
    #[error("enter at least {QUERY_CHARS_MIN} characters of the plate")]
    TooShort,
}

impl Plate {
    pub fn parse(text: &str) -> Result<Plate, PlateError> {
        normalise(text).map(Plate)
    }

    /// The normalised form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the plate follows the Korean grammar.
    pub fn is_korean(&self) -> bool {
        let prefix = self.0.trim_start_matches(is_hangul);
        let region = self.0[..self.0.len() - prefix.len()].chars().count();
        let number = prefix.trim_start_matches(|c: char| c.is_ascii_digit());
        let class = prefix.len() - number.len();
        let mut serial = number.chars();
        let letter = serial.next().is_some_and(is_hangul);
        matches!(region, 0 | 2) && (1..=3).contains(&class) && letter && is_serial(serial.as_str())
    }

    /// The plate with all but its last four characters (and a Korean letter of use) hidden: enough to tell two cars
    /// apart that one is looking at, too little to write a list of who was here.
    pub fn masked(&self) -> String {
        let chars: Vec<char> = self.0.chars().collect();
        let shown = match chars.len() {
            _ if self.is_korean() => SERIAL_DIGITS + 1,
            length => (length / 2).clamp(1, SERIAL_DIGITS),
        };
        let hidden = chars.len() - shown;
        chars.iter().enumerate().map(|(at, &c)| if at < hidden { '*' } else { c }).collect()
    }

    pub fn fit(&self, query: &Query) -> Option<Fit> {
        match self.0.find(&query.0)? {
            0 if self.0.len() == query.0.len() => Some(Fit::Whole),
            _ if self.0.ends_with(&query.0) => Some(Fit::End),
            _ => Some(Fit::Inside),
        }
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, PlateError> {
        let text = normalise(text)?;
        if text.chars().count() < QUERY_CHARS_MIN {
            return Err(PlateError::TooShort);
        }
        Ok(Query(text))
    }

    /// As a plate of the same characters would be.
    pub fn masked(&self) -> String {
        Plate(self.0.clone()).masked()
    }
}

/// Plates are personal data: what is printed by accident is masked.
impl fmt::Debug for Plate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plate({})", self.masked())
    }
}

fn normalise(text: &str) -> Result<String, PlateError> {
    // Four times the bound in raw characters: spaces and decomposed letters, and an end to what is looked at.
    let typed = text.chars().take(4 * CHARS_MAX + 1).map(narrow).filter(|c| !c.is_whitespace() && !is_separator(*c));
    // Composed once more at the end: the capital of one letter may be a letter and a mark.
    let plate: String = typed.nfc().flat_map(char::to_uppercase).nfc().collect();
    if let Some(c) = plate.chars().find(|c| !c.is_alphanumeric()) {
        return Err(PlateError::Character(c));
    }
    match plate.chars().count() {
        0 => Err(PlateError::Empty),
        1..=CHARS_MAX => Ok(plate),
        _ => Err(PlateError::TooLong),
    }
}

/// The ASCII character of a full-width form (U+FF01 to U+FF5E).
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).expect("an ASCII character"),
        c => c,
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '_' | '\u{b7}' | '\u{2010}'..='\u{2015}' | '\u{200b}' | '\u{feff}')
}

fn is_hangul(c: char) -> bool {
    ('\u{ac00}'..='\u{d7a3}').contains(&c)
}

fn is_serial(text: &str) -> bool {
    text.len() == SERIAL_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plate(text: &str) -> Plate {
        Plate::parse(text).unwrap()
    }

    fn fit(text: &str, query: &str) -> Option<Fit> {
        plate(text).fit(&Query::parse(query).unwrap())
    }

    #[test]
    fn one_plate_has_one_form_however_it_is_typed() {
        for typed in ["12가3456", " 12 가 3456 ", "１２가３４５６", "12\u{1100}\u{1161}3456", "12-가-3456"] {
            assert_eq!(plate(typed).as_str(), "12가3456", "{typed:?}");
        }
        assert_eq!(plate("b-fc 1234e").as_str(), "BFC1234E");
    }

    #[test]
    fn korean_forms_are_recognised_and_others_are_plain_text() {
        for korean in ["12가3456", "123가4567", "서울12가3456", "부산1다7890", "임시123가1234", "12배3456"]
        {
            assert!(plate(korean).is_korean(), "{korean}");
        }
        for other in ["BFC1234", "가12-3456", "1234가567", "12가345", "서12가3456", "12가34567", "123456"] {
            assert!(!plate(other).is_korean(), "{other}");
        }
    }

    #[test]
    fn the_last_four_digits_fit_at_the_end() {
        assert_eq!(fit("12가3456", "3456"), Some(Fit::End));
        assert_eq!(fit("12가3456", "12가 3456"), Some(Fit::Whole));
        assert_eq!(fit("12가3456", "가34"), Some(Fit::Inside));
        assert_eq!(fit("12가3456", "３４５６"), Some(Fit::End));
        assert_eq!(fit("12가3456", "3457"), None);
        assert_eq!(fit("3456가3456", "3456"), Some(Fit::End), "found at the start, but it is the end that counts");
    }

    #[test]
    fn what_is_no_plate_is_refused_with_a_reason() {
        assert_eq!(Plate::parse(" - "), Err(PlateError::Empty));
        assert_eq!(Plate::parse("12가3456';--"), Err(PlateError::Character('\'')));
        assert_eq!(Plate::parse("\u{1ff6}"), Err(PlateError::Character('\u{342}')), "its capital is two characters");
        assert_eq!(Plate::parse(&"1".repeat(17)), Err(PlateError::TooLong));
        assert_eq!(Plate::parse(&" ".repeat(1_000_000)), Err(PlateError::Empty));
        assert_eq!(Query::parse("7"), Err(PlateError::TooShort));
    }

    #[test]
    fn a_masked_plate_shows_the_serial_only() {
        assert_eq!(plate("서울12가3456").masked(), "****가3456");
        assert_eq!(plate("BFC1234E").masked(), "****234E");
        assert_eq!(plate("AB1").masked(), "**1");
        assert_eq!(format!("{:?}", plate("12가3456")), "Plate(**가3456)");
    }

    proptest! {
        #[test]
        fn a_plate_read_again_is_the_same(text in "\\PC{0,24}") {
            if let Ok(plate) = Plate::parse(&text) {
                prop_assert_eq!(Plate::parse(plate.as_str()), Ok(plate.clone()));
                prop_assert_eq!(plate.masked().chars().count(), plate.as_str().chars().count());
            }
        }

        #[test]
        fn every_part_of_a_plate_fits_it(text in "[A-Z0-9]{2,16}", from in 0_usize..8, length in 2_usize..8) {
            let part: String = text.chars().skip(from).take(length).collect();
            prop_assume!(part.len() >= QUERY_CHARS_MIN);
            prop_assert!(fit(&text, &part).is_some());
        }
    }
}
