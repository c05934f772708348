//! Whether a grade may go into a vehicle.

/// Words of registrations and forecourt controllers for the same fuel, lower-case.
const FAMILIES: [&[&str]; 5] = [
    // With the Korean words for petrol and premium petrol.
    &[
        "petrol",
        "gasoline",
        "e5",
        "e10",
        "e85",
        "super",
        "unleaded",
        "premium",
        "regular",
        "\u{d718}\u{bc1c}\u{c720}",
        "\u{ace0}\u{ae09}\u{d718}\u{bc1c}\u{c720}",
    ],
    &["diesel", "b7", "b10", "xtl", "hvo", "hvo100", "\u{acbd}\u{c720}"],
    &["lpg", "autogas"],
    &["cng", "lng"],
    &["hydrogen", "h2"],
];

/// A word that no family knows is no evidence against a sale: the attendant saw the nozzle, and this table did not.
pub(super) fn fits(fuel: Option<&str>, grade: &str) -> bool {
    let family = |word: &str| {
        let word = word.trim().to_lowercase();
        FAMILIES.iter().position(|family| family.contains(&word.as_str()))
    };
    match (fuel.and_then(family), family(grade)) {
        (Some(fuel), Some(grade)) => fuel == grade,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn diesel_does_not_go_into_a_petrol_car() {
        assert!(!fits(Some("petrol"), "Diesel"));
        assert!(fits(Some("Gasoline"), "E10"));
    }

    #[test]
    fn an_unknown_word_disputes_no_sale() {
        assert!(fits(None, "diesel"));
        assert!(fits(Some("diesel"), "Ultimate 102"));
    }
}
