//! What a running listener takes over: certificates, and the bounds on newcomers. No connection notices.
//!
//! Handshakes that begin afterwards see the new certificate and are checked against the new authority; nobody resumes an
//! older one. An uplink that is connected stays, whatever its certificate. The key of the stateless resets ([`reset`])
//! is the one of the start: after a crash, uplinks are told at once only if the server's key is still that one.
//!
//! [`reset`]: super::reset

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use quinn::{Endpoint, ServerConfig};

use super::{
    Config, TlsError,
    admission::Admission,
    metrics::Expiries,
    socket,
    tls::{self, Tls, Validities},
};
use crate::telemetry;

/// A hold on the running listener.
pub struct Renewal {
    endpoint: Endpoint,
    in_force: InForce,
    admission: Admission,
    data: PathBuf,
    expiries: Expiries,
}

pub(super) struct InForce {
    /// Its successors keep its key of address tokens, so that who was asked to come again may.
    pub(super) server: ServerConfig,
    pub(super) fingerprint: [u8; 32],
    pub(super) validities: Validities,
}

/// Certificates that were read and are good.
pub struct Certificates {
    tls: Tls,
    /// Whether they are others than those in force.
    pub are_new: bool,
}

impl Renewal {
    pub(super) fn new(endpoint: Endpoint, in_force: InForce, admission: Admission, data: &Path) -> Renewal {
        let expiries = Expiries::new();
        expiries.show(&in_force.validities);
        Renewal { endpoint, in_force, admission, data: data.into(), expiries }
    }

    /// Looks whether what lies in the data folder would serve. Nothing is made there, and nothing changes.
    pub fn read(&self) -> Result<Certificates, TlsError> {
        let tls = tls::read(&self.data)?;
        tls.validities.check(telemetry::now())?;
        let are_new = tls.fingerprint != self.in_force.fingerprint;
        Ok(Certificates { tls, are_new })
    }

    /// Takes certificates and bounds over.
    pub fn take_over(&mut self, certificates: Certificates, config: &Config) {
        let Tls { server, validities, fingerprint, .. } = certificates.tls;
        let in_force = &mut self.in_force;
        in_force.server.crypto = Arc::new(server);
        socket::bound_newcomers(&mut in_force.server, config.waiting_max);
        (in_force.fingerprint, in_force.validities) = (fingerprint, validities);
        self.endpoint.set_server_config(Some(in_force.server.clone()));
        self.admission.set(config.into());
        self.expiries.show(&validities);
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("data", &self.data).finish_non_exhaustive()
    }
}
