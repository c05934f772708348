//! Amounts, volumes and unit prices, all whole numbers.

use core::{fmt, str::FromStr};

/// An ISO 4217 currency code, upper-case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, utoipa::ToSchema)]
#[schema(value_type = String)]
pub struct Currency([u8; 3]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three capital letters of ISO 4217, such as EUR")]
pub struct CurrencyError;

impl Currency {
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let bytes: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        if !bytes.iter().all(u8::is_ascii_uppercase) {
            return Err(CurrencyError);
        }
        Ok(Currency(bytes))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.0).expect("three ASCII letters, checked at construction"))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in the minor unit of its currency (cents; won, which has no smaller unit).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (minor units)", self.minor, self.currency)
    }
}

/// `volume_ml` at `unit_price_milli` (thousandths of a minor unit per litre: 1.799 EUR is 179 900), in minor units,
/// rounded half up. `None` when it does not fit.
pub fn amount_minor(volume_ml: u32, unit_price_milli: i64) -> Option<i64> {
    let micro = i128::from(volume_ml) * i128::from(unit_price_milli);
    i64::try_from((micro + 500_000).div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_litres_at_1_799_eur_cost_71_96_eur() {
        assert_eq!(amount_minor(40_000, 179_900), Some(7_196));
        assert_eq!(amount_minor(1, 500_000), Some(1), "half a cent rounds up");
        assert_eq!(amount_minor(u32::MAX, i64::MAX), None);
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!("KRW".parse::<Currency>().unwrap().to_string(), "KRW");
        assert!("eur".parse::<Currency>().is_err());
        assert!("EURO".parse::<Currency>().is_err());
    }
}
