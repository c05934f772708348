//! The names of things: one newtype each, so that no two can be mixed up.

use core::{fmt, str::FromStr};

/// Text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

/// An id that is a number, printed in decimal.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self).map_err(|_| IdError { text: text.into(), expected: $expected })
            }
        }
    };
}

/// An id of 16 bytes, printed as 32 hexadecimal digits.
macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[derive(utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| IdError { text: text.into(), expected: $expected })?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

number_id!(
    /// A dongle, as its maker numbered it.
    DeviceId(u64), "a device id (a whole number)"
);
number_id!(
    /// A station (site) of the chain.
    StationId(u32), "a station id (a whole number)"
);
number_id!(
    /// A receiver within its station: the number that its hearings carry. Below [`RECEIVERS_MAX`].
    ///
    /// [`RECEIVERS_MAX`]: super::limits::RECEIVERS_MAX
    ReceiverId(u8), "a receiver number (0 to 31)"
);
number_id!(
    /// A pump (fuelling point) within its station.
    PumpNumber(u16), "a pump number"
);
number_id!(
    /// One start of a station's gateway, random: batch sequences are counted within it.
    SpoolId(u64), "a spool id"
);
bytes_id!(
    /// The binding of a dongle, a vehicle, a phone and its payment means.
    BindingId, "a binding id (32 hexadecimal digits)"
);
bytes_id!(
    /// An open claim of a phone to a dongle.
    CouplingId, "a coupling id (32 hexadecimal digits)"
);
bytes_id!(
    /// One fuelling of one vehicle at one pump, from selection to settlement.
    SessionId, "a session id (32 hexadecimal digits)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_as_it_was_printed() {
        let id = SessionId([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn a_refusal_names_what_was_expected() {
        let refusal = "x7".parse::<StationId>().unwrap_err().to_string();
        assert_eq!(refusal, "\"x7\" is not a station id (a whole number)");
    }
}
