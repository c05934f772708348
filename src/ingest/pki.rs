//! The development authority: in the data folder's `pki`, one CA, the server's certificate and those of stations.
//!
//! A chain with an authority of its own puts `ca.pem`, `server.pem` and `server.key` there and no `ca.key`:
//! then nothing is ever made here. A certificate whose file is deleted is made anew at the next start.

mod validity;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zeroize::Zeroizing;

use crate::{
    engine::{control::station_name, id::StationId},
    telemetry,
};

pub use validity::Validity;

/// The server's certificate, in the folder of all.
pub(super) const SERVER_FILE: &str = "server.pem";

/// Names that the server's certificate always carries.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_DAYS: u32 = 3650;
/// Long enough for a pilot; a chain that runs longer has an authority that renews.
const CERTIFICATE_DAYS: u32 = 825;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "no certificate can be made without the authority's key {}; the first `forecourt serve` or `forecourt pki` \
         on this data folder makes one",
        authority.display()
    )]
    NoAuthority { authority: PathBuf },
    #[error("{}: {source}", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{}: no certificate that reads", path.display())]
    NoCertificate { path: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Issued {
    fn is_there(&self) -> bool {
        self.certificate.exists() && self.key.exists()
    }
}

/// Where the certificates of a data folder lie.
pub fn folder(data: &Path) -> PathBuf {
    data.join("pki")
}

/// The certificate of the authority whose stations are let in; there may be several in the file.
pub fn authority(data: &Path) -> PathBuf {
    folder(data).join("ca.pem")
}

/// The server's certificate and key.
pub fn server(data: &Path) -> Issued {
    paths(&folder(data), "server")
}

/// Makes what the data folder lacks of a CA and a server certificate; `names` are host names and addresses under
/// which uplinks reach this server, beside the local ones.
pub fn ensure(data: &Path, names: &[String]) -> Result<Issued, PkiError> {
    let folder = &folder(data);
    make_folder(folder)?;
    if !authority(data).exists() && !folder.join("ca.key").exists() {
        make_authority(folder)?;
    }
    let issued = server(data);
    if !issued.is_there() {
        let names = LOCAL_NAMES.iter().map(ToString::to_string).chain(names.iter().cloned()).collect();
        Authority::open(data)?.issue(&issued, names, ExtendedKeyUsagePurpose::ServerAuth)?;
    }
    Ok(issued)
}

/// Makes a station's certificate and key, or finds those made before.
pub fn issue_station(data: &Path, station: StationId) -> Result<Issued, PkiError> {
    match station_paths(&folder(data), station) {
        issued if issued.is_there() => Ok(issued),
        _ => Authority::open(data)?.issue_station(station),
    }
}

/// The CA's key, opened once for many certificates.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    pub fn open(data: &Path) -> Result<Authority, PkiError> {
        let folder = folder(data);
        let path = folder.join("ca.key");
        if !path.exists() {
            return Err(PkiError::NoAuthority { authority: path });
        }
        let pem = fs::read_to_string(&path).map(Zeroizing::new).map_err(|source| PkiError::File { path, source })?;
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&pem)?);
        Ok(Authority { folder, issuer })
    }

    /// As [`issue_station`].
    pub fn issue_station(&self, station: StationId) -> Result<Issued, PkiError> {
        let issued = station_paths(&self.folder, station);
        if !issued.is_there() {
            self.issue(&issued, vec![station_name(station)], ExtendedKeyUsagePurpose::ClientAuth)?;
        }
        Ok(issued)
    }

    fn issue(&self, to: &Issued, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Result<(), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("Forecourt");
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        limit(&mut params, CERTIFICATE_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_key(&to.key, &key)?;
        write(&to.certificate, certificate.pem().as_bytes(), 0o644)
    }
}

fn make_authority(folder: &Path) -> Result<(), PkiError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    limit(&mut params, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key)?;
    write_key(&folder.join("ca.key"), &key)?;
    write(&folder.join("ca.pem"), certificate.pem().as_bytes(), 0o644)
}

/// What an issuer repeats in the certificates it signs must be the same each time the authority is opened.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Forecourt development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Valid from yesterday, for clocks that are behind.
fn limit(params: &mut CertificateParams, days: u32) {
    let today = Duration::from_millis(telemetry::now().0);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + today.saturating_sub(DAY);
    params.not_after = epoch + today + DAY * days;
}

fn paths(folder: &Path, name: &str) -> Issued {
    Issued { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
}

fn station_paths(folder: &Path, station: StationId) -> Issued {
    paths(folder, &format!("station-{station}"))
}

fn make_folder(folder: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(folder).map_err(|source| PkiError::File { path: folder.into(), source })
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), PkiError> {
    let pem = Zeroizing::new(key.serialize_pem());
    write(path, pem.as_bytes(), 0o600)
}

/// Under another name first: a file is never there in part, and a key never readable by others.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let whole = || {
        let unfinished = path.with_extension("new");
        let _ = fs::remove_file(&unfinished);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    whole().map_err(|source| PkiError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pki(data: &tempfile::TempDir) -> PathBuf {
        folder(data.path())
    }

    #[test]
    fn what_is_there_is_kept_and_what_lacks_is_made() {
        let data = tempfile::tempdir().unwrap();
        let issued = ensure(data.path(), &["forecourt.example".into()]).unwrap();
        let (authority, server) =
            (fs::read(pki(&data).join("ca.pem")).unwrap(), fs::read(&issued.certificate).unwrap());
        fs::remove_file(&issued.key).unwrap();
        ensure(data.path(), &[]).unwrap();
        assert_eq!(fs::read(pki(&data).join("ca.pem")).unwrap(), authority);
        assert_ne!(fs::read(&issued.certificate).unwrap(), server, "a certificate without its key is of no use");
        let station = issue_station(data.path(), StationId(7)).unwrap();
        let first = fs::read(&station.certificate).unwrap();
        assert_eq!(issue_station(data.path(), StationId(7)).unwrap(), station);
        assert_eq!(fs::read(&station.certificate).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_a_key() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let issued = ensure(data.path(), &[]).unwrap();
        for key in [issued.key, pki(&data).join("ca.key")] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_foreign_authority_without_its_key_is_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(pki(&data)).unwrap();
        fs::write(pki(&data).join("ca.pem"), "a chain's own").unwrap();
        assert!(matches!(ensure(data.path(), &[]), Err(PkiError::NoAuthority { .. })));
        assert_eq!(fs::read_to_string(pki(&data).join("ca.pem")).unwrap(), "a chain's own");
    }
}
