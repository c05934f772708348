//! The server's TLS: version 1.3 only, and nobody without a certificate of our authority.

use std::{path::Path, sync::Arc};

use quinn::{EndpointConfig, crypto::rustls::QuicServerConfig};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};

use sha2::{Digest as _, Sha256};

use super::{
    pki::{self, PkiError, Validity},
    reset,
};
use crate::engine::{control, id::StationId, time::UnixMs};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the certificate authority's file holds no usable certificate: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    #[error("the server's certificate and key do not work: {0}")]
    Server(#[from] rustls::Error),
    #[error("the certificate {0} has run out, or does not hold yet")]
    NotValid(&'static str),
    #[error("no cipher suite for QUIC's first packets: {0}")]
    Initial(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// What an endpoint takes of the certificates' folder.
pub(super) struct Tls {
    /// The server's own certificate, and the authority whose stations are let in.
    pub(super) server: QuicServerConfig,
    pub(super) endpoint: EndpointConfig,
    pub(super) validities: Validities,
    /// Of all of it, the key included.
    pub(super) fingerprint: [u8; 32],
}

/// For how long it serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validities {
    pub(super) authority: Validity,
    pub(super) server: Validity,
}

impl Validities {
    /// A server whose certificate has run out serves nobody; the authority's is not looked at in a handshake.
    pub(super) fn check(&self, now: UnixMs) -> Result<(), TlsError> {
        if self.server.holds(now) { Ok(()) } else { Err(TlsError::NotValid(pki::SERVER_FILE)) }
    }
}

/// Whether the certificates of a data folder would serve, with the key that lies beside them.
pub fn check(data: &Path) -> Result<(), TlsError> {
    read(data).map(drop)
}

pub(super) fn read(data: &Path) -> Result<Tls, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let (server, authority) = (pki::server(data), pki::authority(data));
    let authorities = read_certificates(&authority)?;
    let chain = read_certificates(&server.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&server.key).map_err(pem_error(&server.key))?;
    let validity = |chain: &[_], path: &Path| Validity::of(chain).ok_or(PkiError::NoCertificate { path: path.into() });
    let validities =
        Validities { authority: validity(&authorities, &authority)?, server: validity(&chain, &server.certificate)? };
    let mut fingerprint = Sha256::new();
    for part in authorities.iter().chain(&chain).map(AsRef::as_ref).chain([key.secret_der()]) {
        fingerprint.update((part.len() as u64).to_le_bytes());
        fingerprint.update(part);
    }
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let endpoint = reset::endpoint_config(key.secret_der());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![control::ALPN.to_vec()];
    Ok(Tls { server: config.try_into()?, endpoint, validities, fingerprint: fingerprint.finalize().into() })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(pem_error(path))
}

fn pem_error(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> PkiError {
    let path = path.into();
    move |source| PkiError::Pem { path, source }
}

/// Whether the certificate that the peer proved to hold names this station.
pub(super) fn names_station(connection: &quinn::Connection, station: StationId) -> bool {
    let Some(identity) = connection.peer_identity() else { return false };
    let Ok(chain) = identity.downcast::<Vec<CertificateDer<'static>>>() else { return false };
    chain.first().is_some_and(|certificate| certificate_names(certificate, station))
}

fn certificate_names(certificate: &CertificateDer<'_>, station: StationId) -> bool {
    let Ok(name) = ServerName::try_from(control::station_name(station)) else { return false };
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_certificate_names_its_station_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let server = pki::ensure(folder.path(), &[]).unwrap();
        let station = pki::issue_station(folder.path(), StationId(12)).unwrap();
        let named = |issued: &pki::Issued, station| {
            certificate_names(&read_certificates(&issued.certificate).unwrap()[0], StationId(station))
        };
        assert!(named(&station, 12));
        assert!(!named(&station, 1) && !named(&station, 120) && !named(&server, 12));
    }

    #[test]
    fn a_made_folder_serves_and_a_damaged_one_says_which_file() {
        let folder = tempfile::tempdir().unwrap();
        let server = pki::ensure(folder.path(), &[]).unwrap();
        assert!(check(folder.path()).is_ok());
        std::fs::write(&server.key, "not a key").unwrap();
        let refusal = check(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("server.key"), "{refusal}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [server, other] = [&folder, &other].map(|folder| pki::ensure(folder.path(), &[]).unwrap());
        std::fs::copy(other.key, server.key).unwrap();
        assert!(matches!(check(folder.path()), Err(TlsError::Server(_))));
    }
}
