//! Who a station is on the wire: its certificate and key, and the authority that the server must be of.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quinn::{ClientConfig, IdleTimeout, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use rustls::pki_types::pem::PemObject;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem},
};

use crate::engine::control;

const IDLE: VarInt = VarInt::from_u32(30_000);

/// Keeps the mapping of a carrier's NAT alive, and tells the server that we are.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{}: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("the certificates and key do not work: {0}")]
    Tls(#[from] rustls::Error),
    #[error("no cipher suite for QUIC's first packets: {0}")]
    Initial(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Cheap to clone; the key is read once.
#[derive(Clone)]
pub struct Identity {
    client: ClientConfig,
    cipher: &'static str,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads PEM files: the authority's certificate, the station's, and the station's key.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(authority)? {
            roots.add(certificate)?;
        }
        let chain = read_certificates(certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|source| IdentityError::Pem { path: key.into(), source })?;
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![control::ALPN.to_vec()];
        let first = tls.crypto_provider().cipher_suites.first();
        let cipher = first.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(Arc::new(transport()));
        Ok(Identity { client, cipher })
    }

    /// The cipher suite that is offered first, and so the one that a server of ours takes.
    pub fn cipher(&self) -> &'static str {
        self.cipher
    }

    /// The QUIC configuration under which this identity connects.
    pub fn client_config(&self) -> ClientConfig {
        self.client.clone()
    }
}

/// The server opens no stream: all it says comes on the control stream that we opened.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(IDLE)))
        .keep_alive_interval(Some(SIGN_OF_LIFE));
    transport
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| IdentityError::Pem { path: path.into(), source })
}
