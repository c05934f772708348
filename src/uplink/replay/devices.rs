//! The dongles of a replay, from the file that `import devices` takes. Only what a code is computed from is read.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::engine::{
    code::{Code, Secret},
    id::DeviceId,
};

/// A code of 1,024 s, as beacons are usually configured.
const EID_EXPONENT_DEFAULT: u8 = 10;
const EID_EXPONENT_MAX: u8 = 15;

#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: csv::Error },
    #[error("{}: no column {column}", path.display())]
    Column { path: PathBuf, column: &'static str },
}

/// A line that names no dongle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} refused: {reason}")]
pub(super) struct Refusal {
    line: u64,
    reason: String,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) secret: Secret,
}

/// The dongles of a file, and the lines that are none.
pub(super) fn read(path: &Path) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
    let file_error = |source| DevicesError::File { path: path.into(), source };
    let file = File::open(path).map_err(|error| file_error(error.into()))?;
    parse(path, file)
}

fn parse(path: &Path, file: impl Read) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
    let file_error = |source| DevicesError::File { path: path.into(), source };
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(file_error)?.clone();
    let column = |column| {
        let place = header.iter().position(|name| name == column);
        place.ok_or_else(|| DevicesError::Column { path: path.into(), column })
    };
    let columns = [column("device_id")?, column("scheme")?, column("key_hex")?];
    let (mut devices, mut refusals) = (Vec::new(), Vec::new());
    for row in reader.records() {
        let row = row.map_err(file_error)?;
        match device(columns.map(|column| row.get(column).unwrap_or_default())) {
            Ok(device) => devices.push(device),
            Err(reason) => refusals.push(Refusal { line: row.position().map_or(0, csv::Position::line), reason }),
        }
    }
    Ok((devices, refusals))
}

fn device([id, scheme, key]: [&str; 3]) -> Result<Device, String> {
    let id = id.parse().map_err(|error| format!("{error}"))?;
    Ok(Device { id, secret: secret(&scheme.to_ascii_lowercase(), key)? })
}

fn secret(scheme: &str, key: &str) -> Result<Secret, String> {
    match scheme.split_once('/') {
        None if scheme == "hmac" => Ok(Secret::from_root(&*bytes(key)?)),
        None if scheme == "fixed" => Ok(Secret::Fixed { code: Code(*bytes(key)?) }),
        None if scheme == "eddystone-eid" => {
            Ok(Secret::EddystoneEid { identity_key: *bytes(key)?, exponent: EID_EXPONENT_DEFAULT })
        }
        Some(("eddystone-eid", exponent)) => {
            let exponent = exponent.parse().ok().filter(|exponent| *exponent <= EID_EXPONENT_MAX);
            let exponent = exponent.ok_or_else(|| format!("the K of eddystone-eid/K is 0 to {EID_EXPONENT_MAX}"))?;
            Ok(Secret::EddystoneEid { identity_key: *bytes(key)?, exponent })
        }
        _ => Err("the scheme is one of hmac, eddystone-eid, eddystone-eid/K, fixed".into()),
    }
}

/// The reason never repeats the key.
fn bytes<const N: usize>(key: &str) -> Result<Zeroizing<[u8; N]>, String> {
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(key, &mut *bytes).map_err(|_| format!("key_hex is not {} hexadecimal digits", 2 * N))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
        parse(Path::new("devices.csv"), text.as_bytes())
    }

    #[test]
    fn every_scheme_is_read_and_other_columns_may_lack() {
        let text = format!(
            "plate,device_id,scheme,key_hex\nx,1,hmac,{h}\nx,2,fixed,{f}\nx,3,eddystone-eid,{f}\n,4,Eddystone-EID/12,{f}",
            h = "ab".repeat(32),
            f = "07".repeat(16),
        );
        let (devices, refused) = read_text(&text).unwrap();
        assert_eq!(refused, []);
        assert!(devices[0].secret == Secret::from_root(&[0xab; 32]));
        assert!(devices[1].secret == Secret::Fixed { code: Code([7; 16]) });
        assert!(devices[2].secret == Secret::EddystoneEid { identity_key: [7; 16], exponent: 10 });
        assert!(devices[3].secret == Secret::EddystoneEid { identity_key: [7; 16], exponent: 12 });
    }

    #[test]
    fn a_wrong_line_is_refused_with_its_number_and_the_others_count() {
        let text = format!("device_id,scheme,key_hex\n1,fixed,{}\n2,fixed,00\nx,hmac,\n3,magic,00", "07".repeat(16));
        let (devices, refused) = read_text(&text).unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(refused.iter().map(|refusal| refusal.line).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(refused[0].to_string(), "line 3 refused: key_hex is not 32 hexadecimal digits");
    }

    #[test]
    fn a_file_without_a_column_says_which() {
        let refusal = read_text("device_id,scheme\n1,fixed").unwrap_err().to_string();
        assert_eq!(refusal, "devices.csv: no column key_hex");
    }
}
